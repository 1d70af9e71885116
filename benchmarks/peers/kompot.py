"""kompot's differential abundance on cells in an .npz file; run by the Python of an environment that has kompot.

    python -P kompot.py in.npz out.npz

Input and output as in scratio.py.
"""

from __future__ import annotations

import sys
import time
import warnings

import kompot
import numpy as np

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = np.load(sys.argv[1])
    x, y, x_test = given["x"].astype(float), given["y"], given["x_test"].astype(float)
    ratios, fit_s, score_s = [], 0.0, 0.0
    for target, reference in given["contrasts"]:
        started = time.perf_counter()
        model = kompot.DifferentialAbundance()
        model.fit(x[y == reference], x[y == target])
        fitted = time.perf_counter()
        ratios.append(np.asarray(model.predict(x_test)["log_fold_change"]))
        fit_s, score_s = fit_s + fitted - started, score_s + time.perf_counter() - fitted
    np.savez(sys.argv[2], log_ratio=np.stack(ratios, axis=1), fit_s=fit_s, score_s=score_s)
