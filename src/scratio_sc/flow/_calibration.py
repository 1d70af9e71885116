"""Does a log ratio mean what it says? Held-out labels against what the ratio predicts of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from scratio_sc.flow._standard_error import error_of_mean

if TYPE_CHECKING:
    from scratio_sc.flow._held_out import HeldOut

N_BINS = 10
N_NEWTON = 100
CONFIDENCE = 0.95
TOLERANCE = 1e-8
MIN_JUDGED = 80
"""Held-out cells below which nothing is said of how large ratios are; standard errors of fewer are no guide."""
NOTHING = 1e-6
"""Nats below which ratios do not differ: what is left of rounding."""
MIN_INFORMATION = 1e-6
"""Below that, in cells, labels are told apart entirely: the more certain, the better."""


@dataclass(frozen=True)
class Judged:
    """Held-out cells of two sides: log ratio, whether a cell is of the target, log prior odds, ``(n,)`` each."""

    ratio: np.ndarray
    is_target: np.ndarray
    log_prior_odds: np.ndarray

    @classmethod
    def of(cls, held: HeldOut, sides: tuple[np.ndarray, np.ndarray], log_likelihood: np.ndarray) -> Judged:
        """Sides given as conditions, judged by log likelihoods ``(n, n_conditions)`` of all held-out cells."""
        (target, log_kept), (reference, log_kept_reference) = (held.side(side) for side in sides)
        cells = target | reference
        log_prior, log_likelihood = held.log_prior[cells].astype(np.float64), log_likelihood[cells]
        # `logsumexp` of older SciPy fails where there are no cells
        priors, joint = (
            [np.logaddexp.reduce(part[:, side], axis=1) for side in sides]
            for part in (log_prior, log_likelihood + log_prior)
        )
        with np.errstate(invalid="ignore"):
            odds = priors[0] - priors[1]
            ratio = joint[0] - joint[1] - odds
        both = np.isfinite(odds)  # with a covariate of which one side has no cells, there is nothing to compare
        return cls(ratio[both], target[cells][both], odds[both] + log_kept - log_kept_reference)

    @property
    def log_loss(self) -> float:
        """Mean log-loss of the side of a cell, nats."""
        return log_loss(self.ratio + self.log_prior_odds, self.is_target)

    @property
    def prior_log_loss(self) -> float:
        """The same for the class frequencies alone."""
        return log_loss(self.log_prior_odds, self.is_target)


def log_losses(log_odds: np.ndarray, is_target: np.ndarray) -> np.ndarray:
    """Log-loss of each label under log odds, nats."""
    return np.logaddexp(0, np.where(is_target, -log_odds, log_odds))


def log_loss(log_odds: np.ndarray, is_target: np.ndarray) -> float:
    """Mean of `log_losses`; NaN without cells."""
    return mean_of(log_losses(log_odds, is_target))


def mean_of(values: np.ndarray) -> float:
    """Mean; NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def recalibration(judged: Judged) -> tuple[float, float, float]:
    """Slope, its standard error and intercept of log odds = prior + intercept + slope * ratio, by maximum likelihood.

    A ratio that means what it says has slope 1 and intercept 0. A slope below 1 tells of ratios that are too large. NaN
    where the labels do not determine them.
    """
    nothing = float("nan"), float("nan"), float("nan")
    if len(np.unique(judged.is_target)) < 2 or np.ptp(judged.ratio) < NOTHING:
        return nothing
    # in units in which steps are of like size, and from labels that know nothing of the ratio, where none is certain
    center, scale = judged.ratio.mean(), judged.ratio.std()
    design = np.column_stack([(judged.ratio - center) / scale, np.ones(len(judged.ratio))])
    beta = np.zeros(2)

    def loss(coefficients: np.ndarray) -> float:
        return float(log_losses(design @ coefficients + judged.log_prior_odds, judged.is_target).sum())

    for _ in range(N_NEWTON):
        p = expit(design @ beta + judged.log_prior_odds)
        information = (design * (p * (1 - p))[:, None]).T @ design
        if np.linalg.eigvalsh(information)[0] < MIN_INFORMATION:
            return nothing
        step = np.linalg.solve(information, design.T @ (judged.is_target - p))
        step /= max(np.abs(step).max(), 1.0)
        while loss(beta + step) > loss(beta) + TOLERANCE and np.abs(step).max() >= TOLERANCE:
            step /= 2
        beta += step
        if np.abs(step).max() < TOLERANCE:
            slope = beta[0] / scale
            error = np.sqrt(np.linalg.inv(information)[0, 0]) / scale
            return float(slope), float(error), float(beta[1] - slope * center)
    return nothing


def reliability(judged: Judged) -> dict[str, np.ndarray]:
    """Share of target cells against the share predicted, in bins of about equally many cells.

    Cells of the same log odds are in one bin: between them, their order would say who is of the target.

    Keys: ``predicted``, ``observed``, ``lower``, ``upper`` (Wilson intervals of 95 %), ``n_cells``, each ``(n_bins,)``.
    """
    log_odds = judged.ratio + judged.log_prior_odds
    _, place, same = np.unique(np.round(log_odds / NOTHING), return_inverse=True, return_counts=True)
    _, own = np.unique(N_BINS * (np.cumsum(same) - same / 2)[place] // len(place), return_inverse=True)
    n = np.bincount(own)
    predicted, observed = (np.bincount(own, values) / n for values in (expit(log_odds), judged.is_target))
    z = norm.ppf(0.5 + CONFIDENCE / 2)
    centre = (observed + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(observed * (1 - observed) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return {
        "predicted": predicted,
        "observed": observed,
        "lower": np.clip(centre - half, 0, 1),
        "upper": np.clip(centre + half, 0, 1),
        "n_cells": n,
    }


def calibration(judged: Judged, baselines: dict[str, np.ndarray]) -> dict[str, object]:
    """How far held-out cells bear a ratio out: plain numbers and arrays, as they are stored.

    ``baselines`` are the ratios of simpler models of the same cells. The standard error of a baseline's log-loss is
    that of its difference from the ratio's.
    """
    slope, error, intercept = recalibration(judged)
    rivals = {"prior": judged.log_prior_odds, **{n: r + judged.log_prior_odds for n, r in baselines.items()}}
    own = log_losses(judged.ratio + judged.log_prior_odds, judged.is_target)
    others = {name: log_losses(odds, judged.is_target) for name, odds in rivals.items()}
    curve = reliability(judged)
    return {
        "n_cells": len(judged.ratio),
        "slope": slope,
        "slope_se": error,
        "intercept": intercept,
        "expected_calibration_error": mean_of(
            np.repeat(np.abs(curve["predicted"] - curve["observed"]), curve["n_cells"])
        ),
        "log_loss": judged.log_loss,
        **{f"log_loss_{name}": mean_of(losses) for name, losses in others.items()},
        **{f"log_loss_{name}_se": error_of_mean(losses - own) for name, losses in others.items()},
        "curve": curve,
    }


def overlap(judged: Judged) -> dict[str, float]:
    """How far the two sides cover each other, from held-out cells.

    ``overlap``: E_target[sigmoid(-r)] + E_reference[sigmoid(r)], 1 for equal distributions, 0 where they never touch.
    ``imbalance``: the difference of the two, 0 for the exact ratio. ``effective_target``, ``effective_reference``:
    effective sample size of one side's cells when they are weighted to stand for the other side, as a share of them.
    Ratios are within covariates, so cells are weighted to give these the same shares on both sides: by n m / (n + m) of
    n cells against m in all (Li, Morgan & Zaslavsky 2018).
    """
    side, ratio = judged.is_target, judged.ratio
    if len(np.unique(side)) < 2:
        return dict.fromkeys(("overlap", "imbalance", "effective_target", "effective_reference"), float("nan"))
    share = expit(np.where(side, -judged.log_prior_odds, judged.log_prior_odds))
    there, here = (
        np.average(expit(r), weights=w) for r, w in ((-ratio[side], share[side]), (ratio[~side], share[~side]))
    )
    return {
        "overlap": float(there + here),
        "imbalance": float(there - here),
        "effective_target": _effective_share(-ratio[side], share[side]),
        "effective_reference": _effective_share(ratio[~side], share[~side]),
    }


def _effective_share(log_weight: np.ndarray, share: np.ndarray) -> float:
    weight = np.exp(log_weight - log_weight.max())
    return float((share @ weight) ** 2 / (share @ weight**2) / share.sum())
