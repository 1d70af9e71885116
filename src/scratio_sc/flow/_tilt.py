"""A second opinion: conditions that differ by an exponential tilt of what they have in common.

    p(x | c) = m(x) exp(b_c . x) / Z_c

The log ratio of two conditions is linear in x, as in logistic regression (Anderson 1972), whatever m is. Of a mixture
m = sum_k w_k N(mu_k, Sigma_k) this is a mixture once more, of means mu_k + Sigma_k b_c and of weights proportional to
w_k exp(b_c . mu_k + b_c . Sigma_k b_c / 2), the sum of which is Z_c. So noise, bandwidths and denoisers need nothing of
their own. m is the first opinion without what conditions of the same covariates do.

The slopes b_c are those that tell the labels of the cells best: a slope of all, and effects of the features in which
conditions differ, with normal priors of one nat a standard deviation. A feature whose effect could be chance has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from scratio_sc.flow._components import VARIANCE_FLOOR
from scratio_sc.flow._contest import Contest
from scratio_sc.flow._minimise import minimised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._mixture_fit import Mixture

MAX_ITERATIONS = 100
TOLERANCE = 1e-2
"""Gradient, in standard deviations of the prior, at which the search ends."""
MAX_ROUNDS = 4
CHANCE = 3.0
"""Standard deviations of what chance makes of the squared distance of an effect from 0, up to which it counts as 0."""


def tilted(log_weight: Tensor, mean: Tensor, covariance: Tensor, *, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Log weights ``(k, m)``, that do not sum to one, and means ``(k, m, d)`` of mixtures tilted by ``slope (k, d)``.

    From those before, and covariances ``(m, d, d)``.
    """
    step = (slope @ covariance).swapaxes(0, 1)
    return log_weight + ((mean + 0.5 * step) * slope[:, None]).sum(-1), mean + step


@dataclass(frozen=True)
class Tilt:
    """Mixtures of what conditions have in common, to be tilted.

    Attributes
    ----------
    kinds, kind
        Features in which conditions of the same covariates differ, and 1 for what is common to all, of each kind of
        group ``(n_kinds, n_contested + 1)``, and the kind of each group ``(n_groups,)``.
    parts
        Log weights ``(n_groups, m)``, means ``(n_groups, m, d)`` and covariances ``(m, d, d)`` of each partition.
    """

    kinds: Tensor
    kind: Tensor
    parts: list[tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(cls, mixtures: Sequence[Mixture], design: Design) -> Tilt:
        """Of mixtures that know how conditions differ."""
        features, theirs = design.features(design.groups), design.contested
        common = features * ~theirs
        kinds, kind = np.unique(features[:, theirs], axis=0, return_inverse=True)
        kinds = np.column_stack([kinds, np.ones(len(kinds))])
        parts = [
            (
                torch.as_tensor(mixture.log_weights(common)),
                torch.as_tensor(mixture.means(common)),
                torch.as_tensor(mixture.covariance),
            )
            for mixture in mixtures
        ]
        return cls(torch.as_tensor(kinds), torch.as_tensor(kind.reshape(-1)), parts)

    def logit(self, effect: Tensor, contest: Contest) -> Tensor:
        """Log densities of the rivals, less what they have in common, plus log frequencies ``(n, n_conditions)``.

        By the ``effect (n_contested + 1, d)`` of the features on slopes; mean of the partitions.
        """
        slope = self.kinds @ effect
        total = torch.stack([tilted(*part, slope=slope[self.kind])[0].logsumexp(1) for part in self.parts]).mean(0)
        along = (contest.x @ slope.T).gather(1, self.kind[contest.rivals])
        return along - total[contest.rivals] + contest.log_prior

    def fit(self, x: Tensor, group: np.ndarray, design: Design) -> Tensor:
        """The effect of each feature in which conditions differ, and of all, on slopes, ``(n_contested + 1, d)``."""
        contest, unit = Contest.of(x, group, design), (x.var(0, correction=0) + VARIANCE_FLOOR).sqrt()
        kept = torch.ones_like(self.kinds[0])
        for _ in range(MAX_ROUNDS):  # what is common to all shows as effects go
            step = self._steps(contest, unit, kept)
            clear = self._clear(step, contest, unit)
            if clear[kept > 0].all():
                break
            kept *= clear
        return kept[:, None] * step / unit

    def _steps(self, contest: Contest, unit: Tensor, kept: Tensor) -> Tensor:
        """Effects times ``unit (d,)``, 0 of features that are not ``kept (n_contested + 1,)``."""

        def loss(step: Tensor) -> Tensor:
            logit = self.logit(kept[:, None] * step / unit, contest)
            return cross_entropy(logit, contest.own, reduction="sum") + 0.5 * step.square().sum()

        start = torch.zeros(len(kept), len(unit), dtype=kept.dtype)
        return kept[:, None] * minimised(loss, start, max_iterations=MAX_ITERATIONS, tolerance=TOLERANCE)

    def _clear(self, step: Tensor, contest: Contest, unit: Tensor) -> Tensor:
        """Which effects are further from 0 than chance puts them, ``(n_contested + 1,)``; what is common to all counts.

        Without effects the Fisher information is sum_i Var_i(f) z_ij^2, z the cells in units of their standard
        deviations, and Var_i the variance of a feature between the rivals for a cell. (At the effects themselves there
        is hardly any where conditions are told apart, and clear effects would seem to be chance: Hauck & Donner 1977.)
        """
        probability = contest.log_prior.exp()
        of_kind = probability.new_zeros(len(probability), len(self.kinds))
        of_kind.scatter_add_(1, self.kind[contest.rivals], probability)
        varies = of_kind @ self.kinds.square() - (of_kind @ self.kinds).square()
        z = (contest.x - contest.x.mean(0)) / unit
        distance, d = (step.square() * (varies.T @ z.square())).sum(1), len(unit)
        clear = distance > d + CHANCE * math.sqrt(2 * d)
        clear[-1] = True
        return clear


def fit_tilt(mixtures: Sequence[Mixture], x: Tensor, group: np.ndarray, *, design: Design) -> np.ndarray:
    """The effect of every feature, and what is common to all, on slopes ``(n_features + 1, d)``.

    0 where conditions of the same covariates do not differ in a feature.
    """
    effect = np.zeros((design.n_features + 1, x.shape[1]))
    effect[np.append(design.contested, True)] = Tilt.of(mixtures, design).fit(x, group, design).numpy()
    return effect
