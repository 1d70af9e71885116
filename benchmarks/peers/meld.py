"""MELD with its defaults on cells in an .npz file; run by the Python of an environment that has meld.

    python -P meld.py in.npz out.npz

MELD smooths labels over a graph of all cells, so cells that are only judged are in the graph, without a label. Input
and output as in scratio.py.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings

import meld
import numpy as np

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = np.load(sys.argv[1])
    labels, n = np.unique(given["y"]), len(given["x"])
    x = given["x"] if given["same_cells"] else np.concatenate([given["x"], given["x_test"]])
    indicators = np.zeros((len(x), len(labels)))
    indicators[:n] = given["y"][:, None] == labels
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        model = meld.MELD(verbose=0).fit(x.astype(float))
        fitted = time.perf_counter()
        # as MELD.transform does: every sample counts the same
        density = np.asarray(model.filter.filter(indicators / indicators.sum(0)))
    log_density = np.log(np.maximum(density, 1e-12))[0 if given["same_cells"] else n :]
    target, reference = np.searchsorted(labels, given["contrasts"]).T
    ratio = log_density[:, target] - log_density[:, reference]
    np.savez(sys.argv[2], log_ratio=ratio, fit_s=fitted - started, score_s=time.perf_counter() - fitted)
