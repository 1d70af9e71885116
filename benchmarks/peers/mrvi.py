"""MrVI's differential abundance on counts in an .npz file; run by the Python of an environment that has scvi-tools.

    python -P mrvi.py in.npz out.npz [--epochs 50]

Reads ``counts`` (CSR: data, indices, indptr, shape), ``sample (n,)``, ``treated (n,)`` and ``seed``; writes ``log_ratio
(n, 1)``, ``fit_s`` and ``score_s``. The 2,000 genes of the largest variance of log counts are kept.
"""

from __future__ import annotations

import argparse
import time
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scvi
from scipy.sparse import csr_matrix

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs=2)
    parser.add_argument("--epochs", type=int, default=50)
    options = parser.parse_args()
    given = np.load(options.files[0])
    scvi.settings.seed = int(given["seed"])
    counts = csr_matrix(tuple(given[f"counts_{part}"] for part in ("data", "indices", "indptr")), given["counts_shape"])
    condition = np.where(given["treated"], "treated", "control")
    adata = ad.AnnData(counts, obs=pd.DataFrame({"sample": given["sample"], "condition": condition}))
    sc.pp.highly_variable_genes(adata, n_top_genes=2000, flavor="seurat_v3", subset=True)
    started = time.perf_counter()
    scvi.external.MRVI.setup_anndata(adata, sample_key="sample", backend="torch")
    model = scvi.external.MRVI(adata)
    model.train(max_epochs=options.epochs, enable_progress_bar=False)
    fitted = time.perf_counter()
    model.update_sample_info(adata)
    found = model.differential_abundance(sample_cov_keys=["condition"])
    log_p = found["condition_log_probs"].sel(condition=["treated", "control"]).to_numpy()
    times = {"fit_s": fitted - started, "score_s": time.perf_counter() - fitted}
    np.savez(options.files[1], log_ratio=(log_p[:, 0] - log_p[:, 1])[:, None], **times)
