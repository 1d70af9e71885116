"""The Gaussian anchor: the exact answer for Gaussian groups, from which the network starts.

Regularised discriminant analysis (Friedman 1989): group c is N(mu_c, Sigma_c) with Sigma_c between the covariance that
all groups share and its own, and mu_c between its own mean and the one its columns predict. How far each goes is
chosen by the held-out log-loss of the labels under the Gaussian ratio itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.special import logsumexp

OWN_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
PSEUDO_CELLS = (0.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, np.inf)
VARIANCE_FLOOR = 1e-6
MAX_JUDGED = 5_000


@dataclass(frozen=True)
class Moments:
    """What the anchor needs to know of a set of cells in ``k`` groups.

    Attributes
    ----------
    size, mean, additive
        Cells ``(k,)``, mean ``(k, d)`` and the mean predicted from the columns alone ``(k, d)``, of each group.
    within, own
        Covariance that the groups share ``(d, d)`` and that of each group ``(k, d, d)``.
    effect
        Weighted least-squares effect of each feature of the design on the mean ``(n_features, d)``.
    """

    size: np.ndarray
    mean: np.ndarray
    additive: np.ndarray
    effect: np.ndarray
    within: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, group: np.ndarray, features: np.ndarray) -> Moments:
        k, d = len(features), x.shape[1]
        size = np.bincount(group, minlength=k).astype(float)
        mean, own = np.zeros((k, d)), np.zeros((k, d, d))
        for c in np.flatnonzero(size):
            cells = x[group == c]
            mean[c] = cells.mean(0)
            own[c] = (cells - mean[c]).T @ (cells - mean[c])
        floor = VARIANCE_FLOOR * np.eye(d)
        within = own.sum(0) / max(size.sum() - k, 1.0) + floor
        effect = _additive_effect(features, mean - x.mean(0), size)
        additive = x.mean(0) + features @ effect
        return cls(size, mean, additive, effect, within, own / np.maximum(size - 1, 1)[:, None, None] + floor)

    def shrunken_mean(self, pseudo_cells: float) -> np.ndarray:
        """Group means pulled towards what their columns predict, as if by so many cells of the prediction."""
        keep = (
            np.zeros(len(self.size)) if np.isinf(pseudo_cells) else self.size / np.maximum(self.size + pseudo_cells, 1)
        )
        return self.additive + keep[:, None] * (self.mean - self.additive)

    def covariances(self, own_share: float) -> np.ndarray:
        """(1 - a) Sigma_within + a Sigma_own for own share a, ``(k, d, d)``."""
        return (1 - own_share) * self.within + own_share * self.own


def _additive_effect(features: np.ndarray, shift: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Effects of the columns on the mean; none where one column is all there is, so means shrink to the pooled one."""
    n_groups = len(size)
    if features.shape[1] <= n_groups:
        return np.zeros((features.shape[1], shift.shape[1]))
    columns = features.copy()
    columns[:, -n_groups:] = 0
    weight = np.sqrt(size)[:, None]
    effect: np.ndarray = np.linalg.lstsq(columns * weight, shift * weight, rcond=None)[0]
    return effect


def gaussian_log_density(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log density of N(mean, covariance) at x ``(n, d)``, nats."""
    factor, lower = cho_factor(covariance, lower=True)
    z = solve_triangular(factor, (x - mean).T, lower=lower)
    return -0.5 * (z**2).sum(0) - np.log(np.diag(factor)).sum() - 0.5 * x.shape[1] * np.log(2 * np.pi)


def _shared_log_density(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log densities ``(n, k)`` of groups with one covariance, up to a constant that they share: one factor for all."""
    precision = cho_solve(cho_factor(covariance), mean.T)
    return x @ precision - 0.5 * (mean.T * precision).sum(0)


@dataclass(frozen=True)
class _Trial:
    """One half of the cells fitted, cells of the other half to judge it by."""

    moments: Moments
    x: np.ndarray
    group: np.ndarray

    def log_loss(self, pseudo_cells: float, own_share: float) -> float:
        mean = self.moments.shrunken_mean(pseudo_cells)
        if own_share:
            covariance = self.moments.covariances(own_share)
            parts = [gaussian_log_density(self.x, m, s) for m, s in zip(mean, covariance, strict=True)]
            joint = np.stack(parts, axis=1)
        else:
            joint = _shared_log_density(self.x, mean, self.moments.within)
        joint = joint + np.log(np.maximum(self.moments.size, 0.5))
        return float(np.mean(logsumexp(joint, axis=1) - joint[np.arange(len(self.x)), self.group]))


def _trials(x: np.ndarray, group: np.ndarray, features: np.ndarray, *, rng: np.random.Generator) -> list[_Trial]:
    first = np.empty(len(x), bool)
    order = rng.permutation(len(x))
    for c in range(len(features)):
        cells = order[group[order] == c]
        first[cells] = np.arange(len(cells)) % 2 == 0
    trials = []
    for half in (first, ~first):
        judged = rng.permutation(np.flatnonzero(~half))[:MAX_JUDGED]
        trials.append(_Trial(Moments.of(x[half], group[half], features), x[judged], group[judged]))
    return trials


def choose_shrinkage(trials: list[_Trial]) -> tuple[float, float]:
    """Pseudo-cells and own share of least held-out log-loss: first the means, then the covariances."""

    def loss(pseudo_cells: float, own_share: float) -> float:
        return float(np.mean([trial.log_loss(pseudo_cells, own_share) for trial in trials]))

    pseudo_cells = min(PSEUDO_CELLS, key=lambda p: loss(p, 0.0))
    return pseudo_cells, min(OWN_SHARES, key=lambda a: loss(pseudo_cells, a))


@dataclass(frozen=True)
class Anchor:
    """Gaussian groups in the eigenbasis of their shared covariance.

    Coordinates are ``(x - center) @ basis``. Arrays are float64.

    Attributes
    ----------
    center, basis
        Pooled mean ``(d,)`` and orthonormal columns ``(d, d)``.
    mean
        Group means in coordinates ``(k, d)``.
    effect
        Effect of each feature of the design on the mean, for combinations never observed ``(n_features, d)``.
    variance
        Shared variance along each coordinate ``(d,)``.
    spread
        Variance of all cells along each coordinate ``(d,)``.
    own_share
        Share of a group's own covariance in Sigma_c.
    own_variance, own_basis
        Eigenvalues ``(k, d)`` and eigenvectors ``(k, d, d)`` of Sigma_c in coordinates; ``k = 0`` without own share.
    """

    center: np.ndarray
    basis: np.ndarray
    mean: np.ndarray
    effect: np.ndarray
    variance: np.ndarray
    spread: np.ndarray
    own_share: float
    own_variance: np.ndarray
    own_basis: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, group: np.ndarray, features: np.ndarray, *, rng: np.random.Generator) -> Anchor:
        """Anchor of cells ``(n, d)`` in groups ``(n,)`` with feature vectors ``(k, n_features)``."""
        x = np.asarray(x, np.float64)
        pseudo_cells, own_share = choose_shrinkage(_trials(x, group, features, rng=rng))
        moments = Moments.of(x, group, features)
        variance, basis = np.linalg.eigh(moments.within)
        variance, basis = np.maximum(variance[::-1], VARIANCE_FLOOR), basis[:, ::-1]
        center = x.mean(0)
        z = (x - center) @ basis
        # an eigenvector has no sign of its own: a positive third moment gives it one that rotates with the embedding
        sign = np.where((z**3).sum(0) < 0, -1.0, 1.0)
        basis = basis * sign
        if own_share:
            rotated = basis.T @ moments.covariances(own_share) @ basis
            own_variance, own_basis = np.linalg.eigh(rotated)
        else:
            own_variance, own_basis = np.empty((0, len(variance))), np.empty((0, len(variance), len(variance)))
        return cls(
            center=center,
            basis=basis,
            mean=(moments.shrunken_mean(pseudo_cells) - center) @ basis,
            effect=moments.effect @ basis,
            variance=variance,
            spread=z.var(0) + VARIANCE_FLOOR,
            own_share=own_share,
            own_variance=np.maximum(own_variance, VARIANCE_FLOOR),
            own_basis=own_basis,
        )
