"""scratio_sc beside what a user would pick instead: same cells, same machine. Writes one tidy CSV.

    python benchmarks/comparison.py out.csv [--quick] [--seeds 1] [--python meld=PYTHON milo=PYTHON ...]

Every method runs in a process of its own, whose time and peak memory are measured; the peers that pin other packages
run by the Python named for them, and are left out where none is named. `nox -s benchmarks` makes the environments.
benchmarks/report.py turns the CSV into the tables and figures of the documentation.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import problems as made
import scanpy as sc
from scipy.sparse import csr_matrix
from scipy.stats import ks_2samp, pearsonr, spearmanr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from problems import Problem

PEERS = Path(__file__).parent / "peers"
MEASURE = """
import os, sys
pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs a command and writes its peak memory. A small process has to do it: a child counts its parent's memory too."""
CELLS = Path(__file__).resolve().parents[2] / "shared" / "data" / "kang18_ctrl_base.h5ad"


@dataclass(frozen=True)
class Method:
    """A way to get the ratio.

    Attributes
    ----------
    name
        What rows of the table are called.
    runner
        Script under peers/ and its arguments.
    python
        Name of the environment, or "" for this one.
    new_cells
        Whether it can judge cells that it was not fitted to.
    """

    name: str
    runner: tuple[str, ...]
    python: str = ""
    new_cells: bool = True


METHODS = [
    Method("scratio_sc", ("scratio.py",)),
    Method("its anchor alone", ("scratio.py", "--anchor")),
    Method("logistic regression", ("classifiers.py", "logistic")),
    Method("LDA", ("classifiers.py", "lda")),
    Method("QDA", ("classifiers.py", "qda")),
    Method("gradient boosting", ("classifiers.py", "boosting")),
    Method("MLP classifier", ("classifiers.py", "mlp")),
    Method("two CNF solves", ("neural.py", "naive")),
    Method("ratio ODE", ("neural.py", "ratio_ode")),
    Method("CTSM-v", ("neural.py", "ctsm_v")),
    Method("MELD", ("meld.py",), "meld"),
    Method("kompot", ("kompot.py",), "kompot"),
    Method("Milo", ("milo.py",), "milo", new_cells=False),
    Method("MrVI", ("mrvi.py",), "mrvi", new_cells=False),
]


@dataclass(frozen=True)
class Outcome:
    """What a run gave: log ratios ``(m, n_contrasts)``, seconds and peak memory; or why it gave nothing."""

    log_ratio: np.ndarray | None
    measured: dict[str, float]
    failure: str = ""


def run(method: Method, problem: Problem, *, python: str, seed: int, limits: list[str], timeout: int = 900) -> Outcome:
    """Run a method in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(source, **arrays(problem, seed))
        script, *arguments = method.runner
        extra = limits if script == "neural.py" else []
        command = [python, "-P", str(PEERS / script), str(source), str(target), *arguments, *extra]
        measure = [sys.executable, "-S", "-c", MEASURE, str(Path(folder) / "peak")]
        started = time.perf_counter()
        try:
            process = subprocess.run([*measure, *command], capture_output=True, text=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return Outcome(None, {"wall_s": float(timeout)}, failure=f"took longer than {timeout} s")
        kilobytes = 1024 if sys.platform == "darwin" else 1
        peak = float((Path(folder) / "peak").read_text()) / kilobytes / 1024
        measured = {"wall_s": time.perf_counter() - started, "peak_mb": peak}
        if process.returncode:
            last = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
            return Outcome(None, measured, failure=last)
        found = np.load(target)
        measured |= {name: float(found[name]) for name in ("fit_s", "score_s")}
        return Outcome(found["log_ratio"], measured)


def arrays(problem: Problem, seed: int) -> dict[str, np.ndarray]:
    """What runners read."""
    target = problem.contrasts[0][0]
    given = {
        "x": problem.x,
        "y": problem.y,
        "x_test": problem.x_test,
        "contrasts": np.array(problem.contrasts),
        "same_cells": problem.same_cells,
        "seed": seed,
        "treated": problem.y == target,
        "sample": made.replicates(problem.y, rng=np.random.default_rng(seed)),
    }
    if problem.counts is not None:
        counts = csr_matrix(problem.counts)
        given |= {f"counts_{part}": getattr(counts, part) for part in ("data", "indices", "indptr", "shape")}
    return given


def figures(problem: Problem, log_ratio: np.ndarray) -> Iterator[tuple[str, str, float]]:
    """Contrast, metric and value, from all cells that were judged."""
    for k, (target, reference) in enumerate(problem.contrasts):
        contrast, judged = f"{target}/{reference}", np.isfinite(log_ratio[:, k])
        ratio, exact = log_ratio[judged, k], problem.exact[judged, k]
        if np.isfinite(exact).all():
            yield contrast, "mse", float(np.mean((ratio - exact) ** 2))
            if exact.std() > 0 and ratio.std() > 0:
                yield contrast, "pearson", float(pearsonr(ratio, exact)[0])
        if problem.changed is not None and ratio.std() > 0:
            changed = problem.changed[judged]
            yield contrast, "pr_auc", average_precision(np.abs(ratio), changed)
            yield contrast, "sign", float(np.mean(np.sign(ratio[changed]) == np.sign(exact[changed])))
            yield contrast, "ks", float(ks_2samp(np.abs(ratio[changed]), np.abs(ratio[~changed])).statistic)
            yield contrast, "spearman", float(spearmanr(ratio, exact)[0])
            yield contrast, "mean_enriched", float(ratio[exact == exact.max()].mean())


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the precision-recall curve, by steps."""
    hits = positive[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1) * hits).sum() / hits.sum())


def all_problems(base: ad.AnnData | None, *, quick: bool, seed: int) -> Iterator[Problem]:
    """What every method gets."""
    if quick:
        yield made.shift(10, 2.0, n=10_000, seed=seed)
        yield made.mixture(20, 8, n=8_000, seed=seed)
        yield made.warped(10, 4, n=8_000, seed=seed)
        if base is not None:
            yield from made.abundance(base, (0.7,), seed=seed)
        return
    for n_dims, distance in ((10, 2.0), (30, 1.0)):
        yield made.shift(n_dims, distance, n=20_000, seed=seed)
    yield made.correlated(20, n=20_000, seed=seed)
    yield made.mixture(20, 8, n=20_000, seed=seed)
    yield made.mixture(50, 20, n=60_000, seed=seed)
    yield made.warped(10, 4, n=20_000, seed=seed)
    if base is not None:
        yield from made.abundance(base, seed=seed)
        yield made.null(base, seed=seed)


def real_cells(path: Path, *, counts: bool) -> ad.AnnData | None:
    """Raw counts to 20 PCs; None where there is no such file."""
    if not path.exists():
        return None
    adata = ad.read_h5ad(path)
    if counts:
        adata.obsm["counts"] = csr_matrix(adata.X)
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=20, random_state=0)
    return adata


def machine_flop_per_s() -> float:
    """Multiplications and additions a second of this machine, float32, in a large product of matrices."""
    a, best = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32), np.inf
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * len(a) ** 3 / best


def compare(options: argparse.Namespace) -> pd.DataFrame:
    """All methods on all problems, a row a figure; written as it grows."""
    pythons = {"": sys.executable} | dict(pair.split("=", 1) for pair in options.python)
    base = real_cells(options.cells, counts="mrvi" in pythons)
    peak, rows = machine_flop_per_s(), []
    limits = ["--steps", str(options.steps), "--cells", str(options.judged)]
    for seed in range(options.seeds):
        for problem in all_problems(base, quick=options.quick, seed=seed):
            if options.problems and not any(problem.name.startswith(name) for name in options.problems):
                continue
            for method in METHODS:
                two = problem.same_cells and len(problem.contrasts) == 1
                asked = not options.methods or method.name in options.methods
                if not asked or method.python not in pythons or not (method.new_cells or two):
                    continue
                outcome = run(
                    method, problem, python=pythons[method.python], seed=seed, limits=limits, timeout=options.timeout
                )
                about = {"problem": problem.name, "method": method.name, "seed": seed, "level": problem.level}
                about |= outcome.measured | {"failure": outcome.failure}
                if outcome.log_ratio is None:
                    rows.append(about)
                    print(f"{problem.name}, {method.name}: {outcome.failure}", flush=True)
                    continue
                n_scores = int(np.isfinite(outcome.log_ratio).sum())
                about["cells_per_s"] = n_scores / max(outcome.measured["score_s"], 1e-9)
                about["training_flop"] = outcome.measured["fit_s"] * peak
                found = list(figures(problem, outcome.log_ratio))
                rows += [about | {"contrast": c, "metric": m, "value": v} for c, m, v in found]
                pd.DataFrame(rows).to_csv(options.csv, index=False)
                told = ", ".join(f"{c} {m} {v:.4g}" for c, m, v in found if m in ("mse", "pr_auc"))
                seconds = outcome.measured
                print(f"{problem.name}, {method.name}: {told}; fit {seconds['fit_s']:.1f} s,", end=" ")
                print(f"{about['cells_per_s']:.0f} cells/s, {seconds['peak_mb']:.0f} MB", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--quick", action="store_true", help="four small problems")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--python", nargs="+", default=[], help="PEER=PYTHON of the environments of peers")
    parser.add_argument("--methods", nargs="+", help="names of rows; all by default")
    parser.add_argument("--problems", nargs="+", help="how their names begin; all by default")
    parser.add_argument("--cells", type=Path, default=CELLS, help="h5ad of raw counts with obs['cell_type']")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each network of neural peers")
    parser.add_argument("--judged", type=int, default=200, help="cells that neural peers judge")
    parser.add_argument("--timeout", type=int, default=300, help="seconds after which a run is given up")
    options = parser.parse_args()
    if options.quick:
        options.steps, options.judged = min(options.steps, 100), min(options.judged, 200)
    compare(options)


if __name__ == "__main__":
    main()
