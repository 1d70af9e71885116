"""Batch scores: against the exact information, and beside iLISI and kBET. Prints Markdown tables.

    python benchmarks/batch_score.py --data ../shared/data --scib /path/to/venv/bin/python

`--scib` is the Python of an environment with scib-metrics; without it the columns of the peers stay empty. Real cells
are left out where the folder is absent. Types of the PBMC are k-means clusters of the corrected PCs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
from scipy.stats import spearmanr

import scratio_sc as scratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

RUNNER = Path(__file__).parent / "peers" / "scib.py"
SHIFTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
FAST = {"max_steps": 0, "n_members": 4, "progress": False}


def scored(adata: AnnData, batch: str, *, reps: Sequence[str], **options: object) -> AnnData:
    """Cells with batch scores, and the seconds they took in `uns["seconds"]`."""
    started = time.perf_counter()
    scratio.tl.batch_score(adata, batch=batch, groupby="cell_type", use_rep=list(reps), **FAST | options)
    adata.uns["seconds"] = time.perf_counter() - started
    return adata


def overall(adata: AnnData, rep: str) -> dict[str, float]:
    """The row of all cells."""
    table = adata.uns["batch_score"]["table"]
    return table[(table["representation"] == rep) & (table["group"] == "all cells")].iloc[0].to_dict()


def judged_by_peers(adata: AnnData, batch: str, *, reps: Sequence[str], python: str | None) -> dict[str, dict]:
    """Metrics of scib-metrics for each representation, of the cells that are scored."""
    if python is None:
        return {rep: {"ilisi": np.nan, "kbet": np.nan} for rep in reps}
    used = adata.obs[f"batch_score_{reps[0]}"].notna().to_numpy()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "cells.npz", Path(folder) / "result.json"
        cells = {f"rep:{rep}": np.asarray(adata.obsm[rep])[used] for rep in reps}
        labels = {"batch": adata.obs[batch], "cell_type": adata.obs["cell_type"]}
        np.savez(source, **cells, **{name: column.astype(str).to_numpy(str)[used] for name, column in labels.items()})
        subprocess.run([python, "-P", str(RUNNER), str(source), str(target)], check=True)
        return json.loads(target.read_text())


def print_truth(n_seeds: int) -> None:
    """Mean and information against the exact mean of the same cells; how often +-1.96 errors hold the information."""
    columns = ["error", "stated error", "inside"]
    header = ["cells", "dimensions", "batches", "shift", "exact", "mean", *columns, "information", *columns]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for n_cells, n_dims, n_batches in ((6_000, 10, 3), (2_000, 10, 3), (2_000, 30, 3), (2_000, 10, 6)):
        for shift in (0.0, 0.5, 1.0, 2.0, 4.0):
            exact, truth, found = [], [], []
            for seed in range(n_seeds):
                layout = {"n_dims": n_dims, "n_batches": n_batches, "shift": shift, "rng": seed}
                # cells of the same types and batches, many: the information itself
                many = scratio.datasets.batch_shift(200_000, **layout)
                adata = scored(scratio.datasets.batch_shift(n_cells, **layout), "batch", reps=["X_pca"])
                row = overall(adata, "X_pca")
                truth.append(many.obs["exact_batch_score"].mean())
                exact.append(adata.obs["exact_batch_score"].mean())
                found.append(row)
            cells = [f"{n_cells}", f"{n_dims}", f"{n_batches}", f"{shift}", f"{np.mean(exact):.4f}"]
            for name in ("mean", "information"):
                value, se = (np.array([row[column] for row in found]) for column in (name, f"{name}_se"))
                inside = np.abs(value - truth) <= 1.96 * se + 1e-6
                rmse = np.sqrt(np.mean((value - exact) ** 2))
                cells += [f"{value.mean():.4f}", f"{rmse:.4f}", f"{se.mean():.4f}", f"{inside.mean():.0%}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def simulated() -> tuple[AnnData, list[str]]:
    """The same cells moved further and further."""
    adata = scratio.datasets.batch_shift(3_000, n_dims=10, shift=1.0)
    move = adata.obsm["X_pca"] - adata.obsm["X_corrected"]
    for shift in SHIFTS:
        adata.obsm[f"shift {shift}"] = adata.obsm["X_corrected"] + np.float32(shift) * move
    return adata, [f"shift {shift}" for shift in SHIFTS]


def pbmc(folder: Path) -> AnnData:
    """PBMC of three donors, before and after Harmony."""
    from sklearn.cluster import KMeans

    adata = ad.read_h5ad(folder / "pbmc3500_harmony_pcs.h5ad")
    clusters = KMeans(8, n_init=5, random_state=0).fit_predict(adata.obsm["X_pca_harmony"])
    adata.obs["cell_type"] = [f"cluster {k}" for k in clusters]
    return adata


def cell_lines(folder: Path) -> tuple[AnnData, list[str]]:
    """Two cell lines in three batches, as they are and with each batch of a line moved to the mean of its line."""
    adata = ad.read_h5ad(folder / "cell_lines_pcs.h5ad")
    x = adata.obsm["X_pca"].astype(np.float64)
    line, combination = (
        adata.obs["cell_type"].astype(str),
        adata.obs["cell_type"].astype(str) + adata.obs["batch"].astype(str),
    )
    centred = x.copy()
    for name in combination.unique():
        mine = (combination == name).to_numpy()
        centred[mine] += x[(line == line[mine].iloc[0]).to_numpy()].mean(0) - x[mine].mean(0)
    adata.obsm["X_half"], adata.obsm["X_centred"] = (x + centred) / 2, centred
    return adata, ["X_pca", "X_half", "X_centred"]


def print_peers(folder: Path, python: str | None) -> None:
    """Scores beside iLISI and kBET, and the rank correlations."""
    problems = {"simulated": (*simulated(), "batch")}
    if (folder / "pbmc3500_harmony_pcs.h5ad").exists():
        problems["pbmc3500"] = (pbmc(folder), ["X_pca", "X_pca_harmony"], "donor")
    if (folder / "cell_lines_pcs.h5ad").exists():
        problems["cell_lines"] = (*cell_lines(folder), "batch")
    print("| cells | representation | score (nats) | error | of at most | above half | iLISI | kBET | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (adata, reps, batch) in problems.items():
        scored(adata, batch, reps=reps)
        peers = judged_by_peers(adata, batch, reps=reps, python=python)
        for rep in reps:
            row, peer = overall(adata, rep), peers[rep]
            print(
                f"| {name} | {rep} | {row['mean']:.4f} | {row['mean_se']:.4f} | {row['maximum']:.3f} "
                f"| {row['above']:.3f} | {peer['ilisi']:.3f} | {peer['kbet']:.3f} "
                f"| {adata.uns['seconds'] / len(reps):.1f} |",
                flush=True,
            )
        means = [overall(adata, rep)["mean"] for rep in reps]
        ranks = {metric: spearmanr(means, [-peers[rep][metric] for rep in reps])[0] for metric in ("ilisi", "kbet")}
        print(
            f"| {name} | rank correlation with -iLISI, -kBET | | | | | {ranks['ilisi']:.3f} | {ranks['kbet']:.3f} | |"
        )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--scib")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["truth", "peers"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.only != "peers":
        print_truth(options.seeds)
        print()
    if options.only != "truth":
        print_peers(options.data, options.scib)


if __name__ == "__main__":
    main()
