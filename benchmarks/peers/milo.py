"""Milo (pertpy) on cells in an .npz file; run by the Python of an environment that has pertpy and pydeseq2.

    python -P milo.py in.npz out.npz

Reads ``x (n, d)``, ``sample (n,)`` and ``treated (n,)``. Writes ``fdr (n,)`` and ``log_fc (n,)``, those of the
neighbourhood of least SpatialFDR that a cell is in, NaN for cells in none; and ``log_ratio (n, 1)``, the mean log fold
change of a cell's neighbourhoods, 0 in none; natural logarithms. R's edgeR is not needed: the solver is pydeseq2.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pertpy as pt
import scanpy as sc

N_NEIGHBORS = 30


def neighbourhoods(x: np.ndarray, sample: np.ndarray, treated: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
    """Membership of cells in neighbourhoods (sparse) and the test of each neighbourhood."""
    condition = np.where(treated, "b_target", "a_reference")
    obs = pd.DataFrame({"sample": sample, "condition": condition}, index=[f"cell_{i}" for i in range(len(x))])
    adata = ad.AnnData(np.zeros((len(x), 1), np.float32), obs=obs, obsm={"X_pca": x})
    model = pt.tl.Milo()
    mdata = model.load(adata)
    cells = mdata["rna"]
    sc.pp.neighbors(cells, use_rep="X_pca", n_neighbors=N_NEIGHBORS)
    model.make_nhoods(cells, prop=0.1, seed=0)
    mdata = model.count_nhoods(mdata, sample_col="sample")
    model.da_nhoods(mdata, design="~condition", solver="pydeseq2")
    return mdata["rna"].obsm["nhoods"].tocsr(), mdata["milo"].var


def of_least_fdr(inside: np.ndarray, fdr_of: np.ndarray, fold_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spatial FDR and log fold change of each cell ``(n,)``."""
    n = inside.shape[0]
    fdr, log_fc = np.full(n, np.nan), np.full(n, np.nan)
    for i in range(n):
        mine = inside.indices[inside.indptr[i] : inside.indptr[i + 1]]
        mine = mine[np.isfinite(fdr_of[mine])]
        if len(mine):
            best = mine[np.argmin(fdr_of[mine])]
            fdr[i], log_fc[i] = fdr_of[best], fold_of[best]
    return fdr, log_fc


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = np.load(sys.argv[1])
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        inside, found = neighbourhoods(given["x"], given["sample"].astype(str), given["treated"])
    fold = found["logFC"].to_numpy(float) * np.log(2)
    fdr, log_fc = of_least_fdr(inside, found["SpatialFDR"].to_numpy(float), fold)
    n_mine = np.asarray(inside.sum(1)).ravel()
    mean = np.asarray(inside @ np.nan_to_num(fold)).ravel() / np.maximum(n_mine, 1)
    times = {"fit_s": time.perf_counter() - started, "score_s": np.nan}
    np.savez(sys.argv[2], fdr=fdr, log_fc=log_fc, log_ratio=mean[:, None], **times)
