"""Milo (pertpy) on cells in an .npz file; run by the Python of an environment that has pertpy and pydeseq2.

    python milo.py in.npz out.npz

Reads ``x (n, d)``, ``sample (n,)`` and ``treated (n,)``; writes ``fdr (n,)`` and ``log_fc (n,)`` (natural logarithm)
of each cell: those of the neighbourhood of least SpatialFDR that the cell is in, NaN for cells in none. R's edgeR is
not needed: the solver is pydeseq2.
"""

from __future__ import annotations

import contextlib
import io
import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pertpy as pt
import scanpy as sc

N_NEIGHBORS = 30


def milo(x: np.ndarray, sample: np.ndarray, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spatial FDR and log fold change of each cell ``(n,)``."""
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
    found = mdata["milo"].var
    fdr_of = found["SpatialFDR"].to_numpy(float)
    fold_of = found["logFC"].to_numpy(float) * np.log(2)
    inside = mdata["rna"].obsm["nhoods"].tocsr()
    fdr, log_fc = np.full(len(x), np.nan), np.full(len(x), np.nan)
    for i in range(len(x)):
        mine = inside.indices[inside.indptr[i] : inside.indptr[i + 1]]
        mine = mine[np.isfinite(fdr_of[mine])]
        if len(mine):
            best = mine[np.argmin(fdr_of[mine])]
            fdr[i], log_fc[i] = fdr_of[best], fold_of[best]
    return fdr, log_fc


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given = np.load(sys.argv[1])
    with contextlib.redirect_stdout(io.StringIO()):
        fdr, log_fc = milo(given["x"], given["sample"].astype(str), given["treated"])
    np.savez(sys.argv[2], fdr=fdr, log_fc=log_fc)
