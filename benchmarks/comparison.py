"""scratio_sc beside what a user would pick instead: same cells, same machine. Writes one tidy CSV.

    python benchmarks/comparison.py out.csv [--quick] [--seeds 1] [--python meld=PYTHON milo=PYTHON ...]

Every method runs in a process of its own, whose time and peak memory are measured; the peers that pin other packages
run by the Python named for them, and are left out where none is named. `nox -s benchmarks` makes the environments.
benchmarks/report.py turns the CSV into the tables and figures of the documentation.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import problems as made
from metrics import figures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
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
    counts
        Whether it starts from raw counts.
    """

    name: str
    runner: tuple[str, ...]
    python: str = ""
    new_cells: bool = True
    counts: bool = False


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
    Method("MrVI", ("mrvi.py",), "mrvi", new_cells=False, counts=True),
]


@dataclass(frozen=True)
class Outcome:
    """What a run gave: log ratios ``(m, n_contrasts)``, seconds and peak memory; or why it gave nothing."""

    log_ratio: np.ndarray | None
    measured: dict[str, float]
    failure: str = ""


def run(method: Method, problem: Problem, *, python: str, seed: int, options: argparse.Namespace) -> Outcome:
    """Run a method in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        source, target, peak = (Path(folder) / name for name in ("in.npz", "out.npz", "peak"))
        np.savez(source, **arrays(problem, seed, counts=method.counts))
        script, *arguments = method.runner
        if script == "neural.py":
            arguments += ["--steps", str(options.steps), "--cells", str(options.judged)]
        command = [python, "-P", str(PEERS / script), str(source), str(target), *arguments]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", MEASURE, str(peak), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, told = process.communicate(timeout=options.timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the method too, not the process alone that measures it
            process.communicate()
            return Outcome(None, {"wall_s": float(options.timeout)}, failure=f"took longer than {options.timeout} s")
        kilobytes = 1024 if sys.platform == "darwin" else 1
        measured = {"wall_s": time.perf_counter() - started, "peak_mb": float(peak.read_text()) / kilobytes / 1024}
        if process.returncode:
            lines = told.strip().splitlines() or [f"exit status {process.returncode}"]
            return Outcome(None, measured, failure=lines[-1])
        found = np.load(target)
        measured |= {name: float(found[name]) for name in ("fit_s", "score_s")}
        return Outcome(found["log_ratio"], measured)


def arrays(problem: Problem, seed: int, *, counts: bool) -> dict[str, np.ndarray]:
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
    if counts:
        given |= {f"counts_{part}": getattr(problem.counts, part) for part in ("data", "indices", "indptr", "shape")}
    return given


def all_problems(base: AnnData | None, *, quick: bool, seed: int) -> Iterator[Problem]:
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


def machine_flop_per_s() -> float:
    """Multiplications and additions a second of this machine, float32, in a large product of matrices."""
    a, best = np.random.default_rng(0).standard_normal((2048, 2048)).astype(np.float32), np.inf
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * len(a) ** 3 / best


def runs(options: argparse.Namespace) -> Iterator[tuple[Problem, Method, str, int]]:
    """Problem, method, Python and seed of every run that is asked for and possible."""
    pythons = {"": sys.executable} | dict(pair.split("=", 1) for pair in options.python)
    base = made.real_cells(options.cells) if options.cells.exists() else None
    for seed in range(options.seeds):
        for problem in all_problems(base, quick=options.quick, seed=seed):
            if options.problems and not problem.name.startswith(tuple(options.problems)):
                continue
            for method in METHODS:
                asked = not options.methods or method.name in options.methods
                if asked and method.python in pythons and (method.new_cells or problem.same_cells):
                    yield problem, method, pythons[method.python], seed


def rows_of(problem: Problem, outcome: Outcome, *, flop_per_s: float) -> list[dict[str, object]]:
    """A row a figure, or one that says what failed."""
    about = {"level": problem.level} | outcome.measured | {"failure": outcome.failure}
    if outcome.log_ratio is None:
        return [about]
    n_scores = int(np.isfinite(outcome.log_ratio).sum())
    about["cells_per_s"] = n_scores / max(outcome.measured["score_s"], 1e-9)
    about["training_flop"] = outcome.measured["fit_s"] * flop_per_s  # at most
    return [about | {"contrast": c, "metric": m, "value": v} for c, m, v in figures(problem, outcome.log_ratio)]


def compare(options: argparse.Namespace) -> None:
    """All methods on all problems; written as the table grows."""
    flop_per_s, table = machine_flop_per_s(), []
    for problem, method, python, seed in runs(options):
        outcome = run(method, problem, python=python, seed=seed, options=options)
        found = rows_of(problem, outcome, flop_per_s=flop_per_s)
        table += [{"problem": problem.name, "method": method.name, "seed": seed} | row for row in found]
        pd.DataFrame(table).to_csv(options.csv, index=False)
        told = [
            f"{r['contrast']} {r['metric']} {r['value']:.4g}" for r in found if r.get("metric") in ("mse", "pr_auc")
        ]
        seconds = {name: round(value, 1) for name, value in outcome.measured.items()}
        print(f"{problem.name}, {method.name}: {outcome.failure or ', '.join(told)} {seconds}", flush=True)


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
        options.steps, options.judged = min(options.steps, 50), min(options.judged, 100)
    compare(options)


if __name__ == "__main__":
    main()
