"""Who tells the conditions of new real cells best: the flow or a classifier. Prints a Markdown table of log-losses.

    python benchmarks/real_cells.py FILE.h5ad:COLUMN ... [--components 20 50] [--halves 2]

Half of the cells are fitted, the others judged, on the PCs in `obsm["X_pca"]`; means over the halves, nats a cell.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
from peers.classifiers import classifier
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning

from scratio_sc.flow import fit_flow

METHODS = {
    "logistic": "logistic regression",
    "lda": "LDA",
    "qda": "QDA",
    "boosting": "gradient boosting",
    "mlp": "MLP classifier",
}


def by_flow(x: np.ndarray, y: np.ndarray, new: np.ndarray, *, seed: int) -> np.ndarray:
    """Log probability of each condition of new cells ``(n, k)``, by the ratios to the first at their own bandwidths."""
    names, size = np.unique(y, return_counts=True)
    flow, _ = fit_flow(x, y, rng=seed)
    ratios = [np.zeros(len(new)), *(flow.log_ratio(new, name, names[0]).value for name in names[1:])]
    joint = np.stack(ratios, axis=1) + np.log(size)
    return joint - logsumexp(joint, axis=1, keepdims=True)


def by_classifier(x: np.ndarray, y: np.ndarray, new: np.ndarray, *, method: str, seed: int) -> np.ndarray:
    """The same by a classifier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        probability = classifier(method, seed).fit(x, y).predict_proba(new)
    return np.log(np.maximum(probability, np.finfo(float).tiny))


def losses(x: np.ndarray, y: np.ndarray, *, n_halves: int) -> dict[str, float]:
    """Log-loss of new cells by each method."""
    found: dict[str, list[float]] = {}
    for seed in range(n_halves):
        order = np.random.default_rng(seed).permutation(len(x))
        fitted, new = np.array_split(order, 2)
        names, code = np.unique(y, return_inverse=True)
        own = np.arange(len(new)), code[new]
        share = np.bincount(code[fitted], minlength=len(names)) / len(fitted)
        found.setdefault("class frequencies", []).append(-np.log(share[code[new]]).mean())
        found.setdefault("scratio_sc", []).append(-by_flow(x[fitted], y[fitted], x[new], seed=seed)[own].mean())
        for method, name in METHODS.items():
            try:
                log_p = by_classifier(x[fitted], y[fitted], x[new], method=method, seed=seed)
            except np.linalg.LinAlgError:  # fewer cells of a condition than dimensions
                log_p = np.full((len(new), len(names)), np.nan)
            found.setdefault(name, []).append(-log_p[own].mean())
    return {name: float(np.mean(values)) for name, values in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="+", help="file and column of the condition, FILE.h5ad:COLUMN")
    parser.add_argument("--components", nargs="+", type=int, default=[20])
    parser.add_argument("--halves", type=int, default=2)
    given = parser.parse_args()
    columns: dict[str, dict[str, float]] = {}
    for path, column in (text.rsplit(":", 1) for text in given.cells):
        adata = ad.read_h5ad(path)
        pcs, labels = adata.obsm["X_pca"].astype(float), adata.obs[column].astype(str).to_numpy()
        for n in sorted({min(n, pcs.shape[1]) for n in given.components}):
            sys.stderr.write(f"{Path(path).stem}, {n} PCs\n")
            columns[f"{Path(path).stem}, {n} PCs"] = losses(pcs[:, :n], labels, n_halves=given.halves)
    sys.stdout.write(f"| log-loss of new cells | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}\n")
    for name in next(iter(columns.values())):
        sys.stdout.write(f"| {name} | {' | '.join(f'{column[name]:.4f}' for column in columns.values())} |\n")
