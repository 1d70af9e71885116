"""A Gaussian mixture whose weights and means depend on the group, and its fit by expectation-maximisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit, log_expit, logit, logsumexp

from scratio_sc.flow._components import (
    MIN_SHARE,
    VARIANCE_FLOOR,
    Components,
    component_log_density,
    nonlinear_shrinkage,
    pulled,
    scatter_about,
)
from scratio_sc.flow._shrinkage import logit_effects, mean_effects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design

N_SCORING = 8
MAX_STEP, MAX_ODDS = 1.5, 10.0


@dataclass(frozen=True)
class Mixture:
    """A mixture whose weights and means are linear in the features of a group; coordinates are the caller's.

    Attributes
    ----------
    splits
        The splits of the tree of components, +1 on one side, -1 on the other, 0 elsewhere, ``(m - 1, m)``.
    split_logit, split_effect
        Log odds of the two sides ``(m - 1,)``, and the effect of each feature on them ``(n_features, m - 1)``.
    mean, mean_effect
        Means of the components ``(m, d)``, and the effect of each feature on them ``(n_features, m, d)``.
    covariance
        Covariances of the components ``(m, d, d)``.
    """

    splits: np.ndarray
    split_logit: np.ndarray
    split_effect: np.ndarray
    mean: np.ndarray
    mean_effect: np.ndarray
    covariance: np.ndarray

    @classmethod
    def start(cls, components: Components, splits: np.ndarray, n_features: int) -> Mixture:
        weight, mean = components.weight.numpy(), components.mean.numpy()
        share = ((splits > 0) @ weight) / ((splits != 0) @ weight)
        return cls(
            splits,
            logit(np.clip(share, 1e-6, 1 - 1e-6)),
            np.zeros((n_features, len(splits))),
            mean,
            np.zeros((n_features, *mean.shape)),
            components.covariance.numpy(),
        )

    @classmethod
    def union(cls, parts: Sequence[Mixture]) -> Mixture:
        """Several mixtures in equal shares: the tree first splits off one after the other."""
        n, sizes = len(parts), [len(part.mean) for part in parts]
        edges = np.cumsum([0, *sizes])
        between = np.zeros((n - 1, edges[-1]), np.int8)
        for i in range(n - 1):
            between[i, edges[i] : edges[i + 1]], between[i, edges[i + 1] :] = 1, -1
        within = [np.pad(part.splits, ((0, 0), (edges[i], edges[-1] - edges[i + 1]))) for i, part in enumerate(parts)]
        odds = [-np.log(n - 1.0 - i) for i in range(n - 1)]
        none = np.zeros((len(parts[0].split_effect), n - 1))
        return cls(
            np.concatenate([between, *within]),
            np.concatenate([odds, *(part.split_logit for part in parts)]),
            np.concatenate([none, *(part.split_effect for part in parts)], axis=1),
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.mean_effect for part in parts], axis=1),
            np.concatenate([part.covariance for part in parts]),
        )

    def log_weights(self, features: np.ndarray) -> np.ndarray:
        """Log weights ``(n_groups, m)`` of groups with features ``(n_groups, n_features)``."""
        return split_log_weights(self.split_logit + features @ self.split_effect, self.splits)

    def means(self, features: np.ndarray) -> np.ndarray:
        """Means ``(n_groups, m, d)`` of groups with features ``(n_groups, n_features)``."""
        return self.mean + np.einsum("gf,fmd->gmd", features, self.mean_effect)

    def refitted(self, x: Tensor, group: np.ndarray, design: Design, *, prior: np.ndarray | None) -> Fitted:
        """One sweep of expectation-maximisation over cells ``(n, d)`` of groups ``(n,)``."""
        features = design.features(design.groups)
        weights, means, covariance = self.log_weights(features), self.means(features), torch.as_tensor(self.covariance)
        m, d = self.mean.shape
        size, total = np.zeros((design.n_groups, m)), np.zeros((design.n_groups, m, d))
        scatter = np.zeros((design.n_groups, m, d, d))
        odds, information = np.zeros((2, design.n_groups, len(self.splits)))
        for g, cells in _by_group(x, group):
            density = component_log_density(cells, torch.as_tensor(means[g]), covariance)
            share = (density + torch.as_tensor(weights[g])).softmax(1)
            share *= share > MIN_SHARE  # the scatter leaves these cells out, so size and mean must, too
            size[g], total[g] = share.sum(0).numpy(), (share.T @ cells).numpy()
            for k in range(m):
                scatter[g, k] = scatter_about(torch.as_tensor(means[g, k]), cells, share[:, k]).numpy()
            own = self.split_logit + features[g] @ self.split_effect
            odds[g], information[g] = self._split_odds(density.numpy(), own)
        pooled = np.maximum(size.sum(0), 1e-9)
        mean = total.sum(0) / pooled[:, None]
        precision = np.linalg.inv(self.covariance)
        own_mean = total / np.maximum(size, 1e-9)[..., None]
        effects = mean_effects(np.where(size[..., None] > 0, own_mean - mean, 0), size, design, precision=precision)
        moved = mean + np.einsum("gf,fmd->gmd", features, effects)
        # scatter about the new means: about the old ones, less what the means moved towards the cells
        step, gap = moved - means, own_mean - means
        outer = np.einsum("gmd,gme->gmde", gap, step)
        scatter += size[..., None, None] * (
            np.einsum("gmd,gme->gmde", step, step) - outer - outer.transpose(0, 1, 3, 2)
        )
        shared = pulled(torch.as_tensor(scatter.sum(0)), torch.as_tensor(pooled)).numpy()
        share = ((self.splits > 0) @ pooled) / ((self.splits != 0) @ pooled)
        base = logit(np.clip(share, 1e-6, 1 - 1e-6))
        split_effect, prior = logit_effects(odds - base, information, design, prior=prior)
        mixture = Mixture(self.splits, base, split_effect, mean, effects, nonlinear_shrinkage(shared, pooled))
        return Fitted(mixture, design.over_numbers(scatter), design.over_numbers(size), prior)

    def _split_odds(self, log_density: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log odds of the splits that fit cells best, by Fisher scoring, and their information, both ``(m - 1,)``.

        Where the two sides overlap, a cell says less of the split than one that is surely on one side. Half a cell more
        on each side (Haldane) keeps the odds finite where one side is empty.
        """
        left, inside = (self.splits > 0).T.astype(float), (self.splits != 0).T.astype(float)
        odds, information = start.copy(), np.zeros(len(start))
        density = np.exp(log_density - log_density.max(1, keepdims=True))
        for _ in range(N_SCORING if len(start) else 0):
            weight, p = np.exp(split_log_weights(odds, self.splits)), expit(odds)
            share = density * weight
            share /= share.sum(1, keepdims=True)
            here = share @ inside
            surplus = (share @ left) / np.maximum(here, 1e-12) - p
            information = (here * surplus**2).sum(0) + 0.5 * (1 - p) ** 2 + 0.5 * p**2
            step = ((here * surplus).sum(0) + 0.5 - p) / information
            odds = np.clip(odds + np.clip(step, -MAX_STEP, MAX_STEP), -MAX_ODDS, MAX_ODDS)
        return odds, information


def split_log_weights(odds: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Log weights of components ``(..., m)`` from the log odds of the splits of their tree ``(..., m - 1)``."""
    return log_expit(odds) @ (splits > 0) + log_expit(-odds) @ (splits < 0)


def _by_group(x: Tensor, group: np.ndarray) -> Iterator[tuple[int, Tensor]]:
    for g in np.unique(group).tolist():
        yield g, x[torch.as_tensor(np.flatnonzero(group == g))]


@dataclass(frozen=True)
class Fitted:
    """A mixture, scatter ``(n_groups, m, d, d)`` and cells ``(n_groups, m)`` of groups, the prior of their log odds.

    Groups that differ in numbers alone have their scatter and cells together.
    """

    mixture: Mixture
    scatter: np.ndarray
    size: np.ndarray
    prior: np.ndarray

    @cached_property
    def own(self) -> np.ndarray:
        """The groups' own covariances ``(n_groups, m, d, d)``."""
        covariance = self.scatter / np.maximum(self.size - 1, 1)[..., None, None]
        return nonlinear_shrinkage(covariance + VARIANCE_FLOOR * np.eye(self.scatter.shape[-1]), self.size)

    @classmethod
    def of(
        cls,
        start: Mixture,
        x: Tensor,
        group: np.ndarray,
        *,
        design: Design,
        n_sweeps: int,
        prior: np.ndarray | None = None,
    ) -> Fitted:
        """Some sweeps of expectation-maximisation."""
        fitted = start.refitted(x, group, design, prior=prior)
        for _ in range(n_sweeps - 1):
            fitted = fitted.mixture.refitted(x, group, design, prior=prior)
        return fitted

    def covariances(self, own_share: float) -> np.ndarray:
        """(1 - a) Sigma_k + a Sigma_gk for own share a, ``(n_groups, m, d, d)``."""
        return (1 - own_share) * self.mixture.covariance + own_share * self.own

    def log_densities(self, x: Tensor, design: Design, *, own_share: float) -> np.ndarray:
        """Log density of cells under each group, nats, ``(n, n_groups)``."""
        features = design.features(design.groups)
        weights, means = self.mixture.log_weights(features), self.mixture.means(features)
        shared = np.broadcast_to(self.mixture.covariance, self.scatter.shape)
        covariances = torch.as_tensor(self.covariances(own_share) if own_share else shared.copy())
        parts = [
            logsumexp(component_log_density(x, torch.as_tensor(mean), covariance).numpy() + weight, axis=1)
            for mean, covariance, weight in zip(means, covariances, weights, strict=True)
        ]
        return np.stack(parts, axis=1)
