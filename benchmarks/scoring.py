"""How fast cells are scored, and how far from a finer sum over noise levels and directions. Prints a Markdown table.

    python benchmarks/scoring.py
    python benchmarks/scoring.py --cells 4000 --scored 200

Ratios of the default model (16 members, 8 nodes, directions shared out among the members) against the same flow with
24 nodes and three times all directions for every member. Networks are kept whatever they gain: where they are silent,
scores are in closed form and there is no sum. A difference above 5 % of the ratio's standard deviation, or fewer than
300 cells a second, makes the command fail.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from unittest.mock import patch

import numpy as np
import problems as made

from scratio_sc.flow import ConditionalFlow, _denoising_ratio, _fit, _scores, _training
from scratio_sc.flow._network import BOUNDARY
from scratio_sc.flow._path import gauss_legendre_nodes

FINE_NODES, FINE_ROTATIONS = 24, 3
MAX_DIFFERENCE, MIN_CELLS_PER_SECOND = 0.05, 300


def speaking_flow(problem: made.Problem) -> ConditionalFlow:
    """A flow whose networks are kept."""
    denoises, tells = ((_training, "clearly_better"), (_fit, "tells_conditions_better"))
    with patch.object(*denoises, return_value=True), patch.object(*tells, return_value=True):
        return _fit.fit_flow(problem.x, problem.y, rng=0)[0]


def finest(flow: ConditionalFlow, x: np.ndarray, contrasts: list[tuple[str, str]]) -> list[np.ndarray]:
    """Log ratios at all nodes, by many more nodes and directions than the package takes."""
    lengths = _denoising_ratio._lengths
    coarse = int((gauss_legendre_nodes(FINE_NODES).sigma > BOUNDARY).sum())
    modules = [module for name, module in sys.modules.items() if name.startswith("scratio_sc.flow.")]
    with ExitStack() as stack:
        for module in modules:
            for constant, value in (("N_NODES", FINE_NODES), ("N_COARSE", coarse)):
                if hasattr(module, constant):
                    stack.enter_context(patch.object(module, constant, value))
        _forget()
        stack.enter_context(patch.object(_denoising_ratio, "_lengths", lambda d: np.tile(lengths(d), FINE_ROTATIONS)))
        stack.enter_context(patch.object(_denoising_ratio, "_shares", lambda n, parts: [np.arange(n)] * parts))
        ratios = [flow.log_ratio(x, a, b, bandwidth=0).value for a, b in contrasts]
    _forget()
    return ratios


def _forget() -> None:
    """Nodes and directions, which the package draws once."""
    _denoising_ratio.nodes.cache_clear()
    _scores._drawn.cache_clear()


def main() -> int:
    """Print the table; 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=4000, help="cells to fit")
    parser.add_argument("--scored", type=int, default=200, help="cells to compare")
    options = parser.parse_args()
    problem = made.warped(20, 8, n=options.cells, seed=0)
    flow = speaking_flow(problem)
    x, contrasts = problem.x_test[: options.scored], list(problem.contrasts)
    flow.log_ratio(problem.x_test[:2000], *contrasts[0], bandwidth=0)  # memory grows in a first call
    own, rates = [], []
    for a, b in contrasts:
        started = time.perf_counter()
        own.append(flow.log_ratio(problem.x_test[:2000], a, b, bandwidth=0).value[: len(x)])
        rates.append(2000 / (time.perf_counter() - started))
    print("| contrast | cells a second | difference, share of the standard deviation |\n|---|---|---|")
    broken = 0
    for (a, b), rate, ratio, exact in zip(contrasts, rates, own, finest(flow, x, contrasts), strict=True):
        difference = float(np.sqrt(np.mean((ratio - exact) ** 2)) / exact.std())
        broken += difference > MAX_DIFFERENCE or rate < MIN_CELLS_PER_SECOND
        print(f"| {a}/{b} | {rate:.0f} | {difference:.3f} |", flush=True)
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
