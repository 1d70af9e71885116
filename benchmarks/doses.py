"""Doses as numbers beside doses as labels, on simulated cells; the table of docs/method/index.md.

    python benchmarks/doses.py [--seeds 3]

Error of the log ratio of new cells as a share of its variance, mean over seeds. Only the anchor is fitted.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.special import log_softmax

import scratio_sc as scratio
from scratio_sc.datasets._mixture import GaussianMixture

if TYPE_CHECKING:
    from collections.abc import Callable

N_CELLS, N_DIMS = 2000, 6
DOSES = np.array([0.0, 1.0, 2.0, 5.0, 10.0])
CONTRASTS = ((10.0, 0.0), (2.0, 1.0), (3.5, 0.0), (7.5, 3.5))
EDGES = np.array([2.0, 4.0, 6.0, 8.0])
"""Where a uniform dose is cut into five classes."""
WAYS = ["number", "logarithm", "label"]


@dataclass(frozen=True)
class Response:
    """Cell types of unit Gaussians ``(k, d)``, the first of which moves along one axis with the dose.

    `gain` is the log odds ``(k,)`` that types win over the whole range of doses.
    """

    name: str
    centre: np.ndarray
    gain: np.ndarray
    moves: Callable[[np.ndarray], np.ndarray]

    def means(self, dose: np.ndarray) -> np.ndarray:
        """Mean of every type at every dose ``(n, k, d)``."""
        means = np.repeat(self.centre[None], len(dose), 0)
        means[:, 0, 0] += self.moves(dose)
        return means

    def log_weight(self, dose: np.ndarray) -> np.ndarray:
        """Log proportion of every type at every dose ``(n, k)``."""
        logs: np.ndarray = log_softmax(self.gain * dose[:, None] / 10, axis=1)
        return logs

    def draw(self, dose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One cell a dose ``(n, d)``."""
        chance = np.exp(self.log_weight(dose)).cumsum(1)
        kind = (rng.random(len(dose))[:, None] > chance).sum(1).clip(max=len(self.centre) - 1)
        return self.means(dose)[np.arange(len(dose)), kind] + rng.standard_normal((len(dose), N_DIMS))

    def at(self, dose: float) -> GaussianMixture:
        """The cells of one dose."""
        only, covariances = np.array([dose]), np.repeat(np.eye(N_DIMS)[None], len(self.centre), 0)
        return GaussianMixture(np.exp(self.log_weight(only)[0]), self.means(only)[0], covariances)


def saturating(dose: np.ndarray) -> np.ndarray:
    """Half of what can be reached at 2."""
    return 2.4 * dose / (dose + 2)


def straight(dose: np.ndarray) -> np.ndarray:
    """Two standard deviations over the whole range."""
    return 0.2 * dose


APART = np.array([[0.0, 0, 0, 0, 0, 0], [0, 5, 0, 0, 0, 0], [0, 0, 5, 0, 0, 0]])
RESPONSES = (
    Response("Gaussian, straight", np.zeros((1, N_DIMS)), np.zeros(1), straight),
    Response("Gaussian, saturating", np.zeros((1, N_DIMS)), np.zeros(1), saturating),
    Response("mixture", APART, np.array([0.0, 1.5, -1.0]), straight),
)


def given_as(dose: np.ndarray, how: str, *, uniform: bool) -> np.ndarray:
    """A dose as a number, as its logarithm, or as a label: the dose itself or one of five classes of equal width."""
    if how != "label":
        return np.log1p(dose) if how == "logarithm" else dose
    return np.searchsorted(EDGES, dose, side="right").astype(str) if uniform else np.char.mod("%g", dose)


def errors(response: Response, seed: int, *, uniform: bool) -> pd.DataFrame:
    """Error of every contrast with doses as numbers and as labels; NaN where there is no such label."""
    rng = np.random.default_rng(seed)
    doses = [rng.uniform(0, 10, N_CELLS) if uniform else rng.choice(DOSES, N_CELLS) for _ in range(2)]
    x, x_new = (response.draw(dose, rng) for dose in doses)
    obs = pd.DataFrame({how: given_as(doses[0], how, uniform=uniform) for how in WAYS})
    cells = AnnData(obs=obs.set_index(obs.index.astype(str)), obsm={"X_pca": x})
    new = AnnData(obs=cells.obs[[]], obsm={"X_pca": x_new})
    options = {"max_steps": 0, "rng": seed, "progress": False}
    for how in WAYS:
        scratio.tl.fit(cells, how, numeric=() if how == "label" else (how,), key_added=how, **options)
    found = pd.DataFrame(np.nan, index=WAYS, columns=pd.MultiIndex.from_tuples(CONTRASTS))
    for contrast in CONTRASTS:
        exact = np.subtract(*(response.at(dose).log_density(x_new) for dose in contrast))
        for how in WAYS:
            target, reference = given_as(np.array(contrast), how, uniform=uniform)
            if how != "label" or {target, reference} <= set(cells.obs[how]):
                flow = scratio.get.flow(cells, key=how)
                sides = {"target": {how: target}, "reference": {how: reference}}
                scratio.tl.log_ratio(new, **sides, flow=flow, progress=False)
                found.loc[how, contrast] = np.mean((new.obs["log_ratio"] - exact) ** 2) / exact.var()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds the errors are the mean of")
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)  # poor overlap is part of these problems
    header = " | ".join(f"{target:g} against {reference:g}" for target, reference in CONTRASTS)
    sys.stdout.write(f"| cells | doses | fitted as | {header} |\n|{'---|' * (3 + len(CONTRASTS))}\n")
    for response in RESPONSES:
        for uniform in (False, True):
            runs = [errors(response, seed, uniform=uniform) for seed in range(given.seeds)]
            for how, row in (sum(runs) / len(runs)).iterrows():
                cells = " | ".join("" if np.isnan(value) else f"{value:.3f}" for value in row)
                sys.stdout.write(f"| {response.name} | {'uniform' if uniform else 'five'} | {how} | {cells} |\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
