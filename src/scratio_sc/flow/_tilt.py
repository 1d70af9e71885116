"""A second opinion: conditions that differ by an exponential tilt of what they have in common.

    p(x | c) = m(x) exp(b_c . x) / Z_c

The log ratio of two conditions is linear in x, as in logistic regression (Anderson 1972), whatever m is. Of a mixture
m = sum_k w_k N(mu_k, Sigma_k) this is a mixture once more, of means mu_k + Sigma_k b_c and of weights proportional to
w_k exp(b_c . mu_k + b_c . Sigma_k b_c / 2), the sum of which is Z_c. So noise, bandwidths and denoisers need nothing of
their own. The slopes b_c are those that tell the labels of the cells best, with a normal prior of one nat a standard
deviation; m knows covariates, and no conditions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from scratio_sc.flow._contest import Contest, contested

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._mixture_fit import Mixture

MAX_ITERATIONS = 200
TOLERANCE = 1e-3
"""Gradient, in standard deviations of the prior, at which the search ends."""


def tilted(log_weight: Tensor, mean: Tensor, covariance: Tensor, *, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Log weights ``(k, m)``, that do not sum to one, and means ``(k, m, d)`` of mixtures tilted by ``slope (k, d)``.

    From those before, which may be the same for all k, and covariances ``(m, d, d)``.
    """
    step = (slope @ covariance).swapaxes(0, 1)
    return log_weight + ((mean + 0.5 * step) * slope[:, None]).sum(-1), mean + step


@dataclass(frozen=True)
class Tilt:
    """Mixtures of what conditions have in common, to be tilted.

    Attributes
    ----------
    kinds, kind
        Features in which conditions of the same covariates differ, of each kind of group ``(n_kinds, n_contested)``,
        and the kind of each group ``(n_groups,)``.
    parts
        Log weights ``(n_groups, m)``, means ``(n_groups, m, d)`` and covariances ``(m, d, d)`` of each partition.
    """

    kinds: Tensor
    kind: Tensor
    parts: list[tuple[Tensor, Tensor, Tensor]]

    @classmethod
    def of(cls, mixtures: Sequence[Mixture], design: Design) -> Tilt:
        """Of mixtures that know how conditions differ."""
        features, theirs = design.features(design.groups), contested(design)
        common = features * ~theirs
        kinds, kind = np.unique(features[:, theirs], axis=0, return_inverse=True)
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

        By the ``effect (n_contested, d)`` of the features on slopes; mean of the partitions.
        """
        slope = self.kinds @ effect
        total = torch.stack([tilted(*part, slope=slope[self.kind])[0].logsumexp(1) for part in self.parts]).mean(0)
        along = (contest.x @ slope.T).gather(1, self.kind[contest.rivals])
        return along - total[contest.rivals] + contest.log_prior

    def fit(self, x: Tensor, group: np.ndarray, design: Design) -> Tensor:
        """The effect of each feature in which conditions differ on the slopes, ``(n_contested, d)``."""
        contest, unit = Contest.of(x, group, design), x.std(0)
        step = torch.zeros(self.kinds.shape[1], x.shape[1], dtype=x.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS(
            [step], max_iter=MAX_ITERATIONS, tolerance_grad=TOLERANCE, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            logit = self.logit(step / unit, contest)
            value = cross_entropy(logit, contest.own, reduction="sum") + 0.5 * step.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        return step.detach() / unit


def fit_tilt(mixtures: Sequence[Mixture], x: Tensor, group: np.ndarray, *, design: Design) -> np.ndarray:
    """The effect of every feature on the slopes ``(n_features, d)``: 0 where conditions do not differ in it."""
    effect = np.zeros((design.n_features, x.shape[1]))
    effect[contested(design)] = Tilt.of(mixtures, design).fit(x, group, design).numpy()
    return effect
