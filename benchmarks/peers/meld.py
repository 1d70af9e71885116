"""MELD with its defaults on cells in an .npz file; run by the Python of an environment that has meld.

    python -P meld.py in.npz out.npz

MELD smooths labels over a graph of all cells, so cells that are only judged are in the graph, as a
sample of their own whose density is not used. Input and output as in scratio.py.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings

import meld
import numpy as np

UNLABELLED = "to judge"

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = np.load(sys.argv[1])
    n, labels = len(given["x"]), given["y"].astype(str)
    x = given["x"]
    if not given["same_cells"]:
        x = np.concatenate([x, given["x_test"]])
        labels = np.concatenate([labels, np.full(len(x) - n, UNLABELLED)])
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        model = meld.MELD(verbose=0).fit(x.astype(float))
        fitted = time.perf_counter()
        density = model.transform(labels)
    log_density = np.log(np.maximum(density, 1e-12))[0 if given["same_cells"] else n :]
    ratio = np.stack([log_density[a] - log_density[b] for a, b in given["contrasts"]], axis=1)
    np.savez(sys.argv[2], log_ratio=ratio, fit_s=fitted - started, score_s=time.perf_counter() - fitted)
