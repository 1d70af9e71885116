"""iLISI and kBET of scib-metrics, run in an environment of its own: `python scib.py cells.npz result.json`.

The .npz holds ``batch (n,)``, ``cell_type (n,)`` and representations ``(n, d)`` named ``rep:<name>``. Both metrics are
between 0 and 1, and higher is better. kBET is judged within cell types, iLISI over all cells, as in scib.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from scib_metrics import ilisi_knn, kbet_per_label
from scib_metrics.nearest_neighbors import pynndescent

N_NEIGHBORS = 90


def main(source: Path, target: Path) -> None:
    """Judge every representation of the file."""
    warnings.simplefilter("ignore")
    cells = np.load(source)
    batch = np.unique(cells["batch"], return_inverse=True)[1]
    cell_type = cells["cell_type"].astype(str)
    result = {}
    for name in cells.files:
        if not name.startswith("rep:"):
            continue
        neighbors = pynndescent(cells[name].astype(np.float32), n_neighbors=N_NEIGHBORS, random_state=0)
        result[name.removeprefix("rep:")] = {
            "ilisi": float(ilisi_knn(neighbors, batch)),
            "kbet": float(kbet_per_label(neighbors, batch, cell_type)),
        }
    target.write_text(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
