"""How groups differ in the proportions of the components: log weights with effects that components near by share.

Component k has the log weight b_k + sum_f feature_gf effect_fk in group g, up to a constant. Components that lie close
together tend to change alike: the effects of a level are a Gaussian process over the components (Rasmussen & Williams
2006), N(0, tau^2 S K S) with K_kl = exp(-D_kl / reach), D the Bhattacharyya distance and S = diag(s). tau and the
reach, the same for all levels of a column, are those of most marginal likelihood by Laplace's approximation. So small
components learn from their neighbours how they change, and where labels are random, tau is 0. Often a few types change
and the others do not: s_k^2 is the expected square of the effects about component k, found together with them
(expectation-maximisation), so that changes are shrunk less where they are large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import log_softmax, softmax

from scratio_sc.flow._columns import Column, turns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._distances import Neighbours

SPREADS = np.r_[0.0, np.geomspace(0.025, 3.2, 15)]
"""Standard deviations tau of effects, in nats."""
BROAD = 10.0
N_SCORING = 8
N_BACKFITTING = 3
MAX_STEP = 1.5
TOLERANCE = 1e-8
MIN_OTHERS = 1e-3
RIDGE = 1e-6


def log_weights(logit: np.ndarray, partition: np.ndarray) -> np.ndarray:
    """Log weights ``(..., m)`` that sum to one, each partition of the components ``(m,)`` with the same share."""
    out = np.empty_like(logit)
    for p in np.unique(partition):
        out[..., partition == p] = log_softmax(logit[..., partition == p], axis=-1)
    return out - np.log(len(np.unique(partition)))


@dataclass(frozen=True)
class _Scoring:
    """Gradient ``(n_groups, m)`` and Fisher information ``(n_groups, m, m)`` of the likelihood in the log weights."""

    gradient: np.ndarray
    information: np.ndarray

    @classmethod
    def at(cls, log_weight: np.ndarray, density: Sequence[Tensor]) -> _Scoring:
        """At log weights ``(n_groups, m)``, of cells of ``density (n_cells, m)`` in each group."""
        surplus = []
        for weight, cells in zip(torch.as_tensor(log_weight).exp(), density, strict=True):
            share = cells * weight
            share /= share.sum(1, keepdim=True).clamp(min=1e-300)
            surplus.append(share.sub_(weight))
        gradient, information = [s.sum(0) for s in surplus], [s.T @ s for s in surplus]
        return cls(torch.stack(gradient).numpy(), torch.stack(information).numpy())


@dataclass(frozen=True)
class _Known:
    """What cells tell of the effects of each level of a column.

    Precision ``(n_levels, m, m)`` of the estimates, precision times estimates ``(n_levels, m)``, and how many of the
    levels are free: all but one where they are compared with each other.
    """

    precision: np.ndarray
    pull: np.ndarray
    n_free: float

    @classmethod
    def of(cls, column: Column, scoring: _Scoring, moved: np.ndarray) -> _Known:
        """At scorings of groups whose log weights have since been ``moved (n_groups, m)`` by all other columns."""
        pull = column.total(scoring.gradient - np.einsum("gkl,gl->gk", scoring.information, moved))
        own = column.information(scoring.information)
        if column.kind in {"trend", "constant"}:
            return cls(own, pull, 1)
        # the weights are taken from those of all cells, to which a level belongs: its variance is 1 / own - 1 / all
        # (all log weights may rise together: nothing is known along that direction, and nothing has to be)
        others = own.sum(0) - own + MIN_OTHERS * own + RIDGE * np.eye(own.shape[1]) + np.trace(own.sum(0)) / own[0].size
        beside = own @ np.linalg.inv(others)
        return cls(own + beside @ own, pull + np.einsum("lkj,lj->lk", beside, pull), int(own.any((1, 2)).sum()) - 1)

    def evidence(self, roots: np.ndarray) -> np.ndarray:
        """Log marginal likelihood of each tau R, ``(n_roots, n_spreads)``."""
        tau, out = SPREADS[:, None, None], []
        for root in roots:
            value, _, pull = self._along(root)
            gain = (tau * pull) ** 2 / (1 + tau**2 * value) - np.log1p(tau**2 * value)
            out.append(gain.sum((1, 2)) * self.n_free / len(value) / 2)
        return np.stack(out)

    def best_root(self, roots: np.ndarray) -> np.ndarray:
        """tau R of most marginal likelihood."""
        kernel, spread = np.unravel_index(np.argmax(self.evidence(roots)), (len(roots), len(SPREADS)))
        best: np.ndarray = SPREADS[spread] * roots[kernel]
        return best

    def expected(self, root: np.ndarray) -> np.ndarray:
        """Expected effects ``(n_levels, m)`` under the prior N(0, R R^T)."""
        value, vector, pull = self._along(root)
        effects: np.ndarray = np.einsum("lij,lj->li", vector, pull / (1 + value)) @ root.T
        return effects

    def withheld(self, roots: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """What shrinking by the ``chosen`` root is expected to withhold of the effects, squared, ``(n_levels, m, m)``.

        Expected over all tau R, by their evidence, is the squared distance of the effects from the estimates; what the
        choice of the cells adds to it (S V S of estimates S e of covariance V) is another part of their error. Levels
        that make up all cells err against each other, and n of them by n / (n - 1) of what each would by itself.
        """
        estimate, weight = self.expected(chosen), softmax(self.evidence(roots))
        out = np.zeros_like(self.precision)
        tau = SPREADS[:, None, None]
        for root, by_spread in zip(roots, weight, strict=True):
            value, vector, pull = self._along(root)
            into = root @ vector
            variance = tau**2 / (1 + tau**2 * value)
            out += _between(into, np.tensordot(by_spread, variance, 1))
            apart = np.einsum("lik,tlk->tli", into, variance * pull) - estimate
            out += np.einsum("t,tli,tlj->lij", by_spread, apart, apart)
        value, vector, _ = self._along(chosen)
        out -= _between(chosen @ vector, value / (1 + value) ** 2)
        return out * (1 + 1 / self.n_free) if len(out) > 1 and self.n_free > 0 else out

    def scale(self, root: np.ndarray, *, near: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Root of the expected square of the effects about each component, ``(m,)``, one on average."""
        # an effect that all components share is none
        value, vector, pull = self._along(root)
        along = np.einsum("ki,lij->lkj", root - weight @ root, vector)
        mean = np.einsum("lkj,lj->lk", along, pull / (1 + value))
        square = near @ (mean**2 + np.einsum("lkj,lj->lk", along**2, 1 / (1 + value))).mean(0)
        out: np.ndarray = np.sqrt(square / np.maximum(weight @ square, 1e-300))
        return out

    def _along(self, root: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of R^T precision R, and the pull along them."""
        value, vector = np.linalg.eigh(root.T @ self.precision @ root)
        return np.maximum(value, 0), vector, np.einsum("lij,li->lj", vector, self.pull @ root)


def _between(into: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Covariances ``(n_levels, m, m)`` of what has such variances ``(n_levels, k)`` along ``into (n_levels, m, k)``."""
    out: np.ndarray = (into * variance[:, None]) @ into.swapaxes(1, 2)
    return out


def fit_effects(
    density: Sequence[Tensor],
    base: np.ndarray,
    start: np.ndarray,
    *,
    design: Design,
    prior: Neighbours | np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effects on log weights about ``base (m,)`` of most posterior density, by Fisher scoring.

    Of cells of ``density (n_cells, m)`` in each group, from the effects ``start (n_features, m)``. The prior is given
    by roots of its covariances ``(n_columns, m, m)``, or the best is sought among neighbours. Returns the effects, the
    roots, and where these were sought, the square of what shrinking withholds of each effect ``(n_features, m, m)``.
    """
    columns, features = Column.all_of(design), design.features(design.groups)
    neighbours = None if isinstance(prior, np.ndarray) else prior
    chosen = prior.copy() if isinstance(prior, np.ndarray) else np.zeros((len(columns), len(base), len(base)))
    scale, weight = np.ones((len(columns), len(base))), np.exp(base)
    one, effects = np.zeros(len(base), np.int64), start
    for _ in range(N_SCORING):
        last, before = effects, features @ effects
        scoring = _Scoring.at(log_weights(base + before, one), density)
        effects = last.copy()
        for column in columns:
            if column.kind == "rest":
                effects[column.features] = 0
        for j in turns(columns, effects, n_sweeps=N_BACKFITTING):
            column = columns[j]
            effects[column.features] = 0
            known = _Known.of(column, scoring, features @ effects - before)
            if column.kind == "constant":
                chosen[j] = BROAD * np.eye(len(base))
            elif neighbours:
                chosen[j] = known.best_root(scale[j, :, None] * neighbours.roots)
                if chosen[j].any():
                    scale[j] = known.scale(chosen[j], near=neighbours.near, weight=weight)
            effects[column.features] = known.expected(chosen[j])
        step = np.abs(features @ effects - before).max(initial=0)
        if step > MAX_STEP:
            effects = last + (effects - last) * MAX_STEP / step
        elif step < TOLERANCE:
            break
    withheld = np.zeros((len(effects), len(base), len(base)))
    if neighbours:
        scoring = _Scoring.at(log_weights(base + features @ effects, one), density)
        for j, column in enumerate(columns):
            if column.kind != "constant":
                own = features[:, column.features] @ effects[column.features]
                known = _Known.of(column, scoring, -own)
                withheld[column.features] = known.withheld(scale[j, :, None] * neighbours.roots, chosen[j])
    return effects, chosen, withheld
