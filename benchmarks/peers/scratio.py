"""scratio_sc on cells in an .npz file.

    python -P scratio.py in.npz out.npz [--anchor]

Reads ``x (n, d)``, ``y (n,)``, ``x_test (m, d)``, ``contrasts (c, 2)``, ``same_cells`` and ``seed``; writes
``log_ratio (m, c)``, ``fit_s`` and ``score_s``. With ``--anchor`` no network is trained.
"""

from __future__ import annotations

import sys
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd

import scratio_sc as scratio


def table(x: np.ndarray, y: np.ndarray | None = None) -> ad.AnnData:
    """The cells as AnnData."""
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(len(x))])
    if y is not None:
        obs["condition"] = y
    return ad.AnnData(obs=obs, obsm={"X_pca": x})


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = np.load(sys.argv[1])
    options = {"max_steps": 0} if "--anchor" in sys.argv else {}
    train = table(given["x"], given["y"])
    started = time.perf_counter()
    scratio.tl.fit(train, "condition", rng=int(given["seed"]), progress=False, **options)
    fitted = time.perf_counter()
    test, flow = (train, None) if given["same_cells"] else (table(given["x_test"]), scratio.get.flow(train))
    ratios = []
    for target, reference in given["contrasts"]:
        scratio.tl.log_ratio(test, target=target, reference=reference, flow=flow, progress=False)
        ratios.append(test.obs["log_ratio"].to_numpy(float))
    times = {"fit_s": fitted - started, "score_s": time.perf_counter() - fitted}
    np.savez(sys.argv[2], log_ratio=np.stack(ratios, axis=1), **times)
