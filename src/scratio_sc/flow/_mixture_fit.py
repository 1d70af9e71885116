"""A Gaussian mixture whose weights and means depend on the group, and its fit by expectation-maximisation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
import torch

from scratio_sc.flow._components import (
    MIN_SHARE,
    VARIANCE_FLOOR,
    Components,
    Shapes,
    by_group,
    nonlinear_shrinkage,
    scatter_about,
)
from scratio_sc.flow._distances import Neighbours, moving_alike
from scratio_sc.flow._proportions import fit_effects, log_weights
from scratio_sc.flow._shrinkage import hidden_moves, mean_effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design
    from scratio_sc.flow._weight_effects import EffectPrior

MIN_WEIGHT = 1e-6
MAX_OWN_ELEMENTS = 2_000_000
"""Numbers in the groups' own covariances above which there are none: every member would have to keep them."""
FEW_CELLS = 4
"""Cells a dimension up to which a covariance is drawn elsewhere the most."""


@dataclass(frozen=True)
class Mixture:
    """A mixture whose weights and means are linear in the features of a group; coordinates are the caller's.

    Attributes
    ----------
    partition
        Which partition of the cells each component belongs to, ``(m,)``; partitions have equal shares.
    log_weight, weight_effect
        Log weights of the components up to a constant ``(m,)``, and the effect of each feature on them
        ``(n_features, m)``.
    mean, mean_effect
        Means of the components ``(m, d)``, and the effect of each feature on them ``(n_features, m, d)``.
    covariance
        Covariances of the components ``(m, d, d)``.
    """

    partition: np.ndarray
    log_weight: np.ndarray
    weight_effect: np.ndarray
    mean: np.ndarray
    mean_effect: np.ndarray
    covariance: np.ndarray

    @classmethod
    def start(cls, components: Components, n_features: int) -> Mixture:
        """The same mixture in all groups."""
        weight, mean = components.weight.numpy(), components.mean.numpy()
        return cls(
            np.zeros(len(weight), np.int64),
            np.log(np.maximum(weight, MIN_WEIGHT)),
            np.zeros((n_features, len(weight))),
            mean,
            np.zeros((n_features, *mean.shape)),
            components.covariance.numpy(),
        )

    @classmethod
    def union(cls, parts: Sequence[Mixture]) -> Mixture:
        """Several partitions in equal shares."""
        return cls(
            np.repeat(np.arange(len(parts)), [len(part.mean) for part in parts]),
            np.concatenate([part.log_weight for part in parts]),
            np.concatenate([part.weight_effect for part in parts], axis=1),
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.mean_effect for part in parts], axis=1),
            np.concatenate([part.covariance for part in parts]),
        )

    @property
    def pooled(self) -> Components:
        """All groups together."""
        weight = torch.as_tensor(self.log_weight).softmax(0)
        return Components(weight, torch.as_tensor(self.mean), torch.as_tensor(self.covariance))

    @property
    def with_pooled_weights(self) -> Mixture:
        """The same with the weights of all groups together."""
        return replace(self, weight_effect=np.zeros_like(self.weight_effect))

    def log_weights(self, features: np.ndarray) -> np.ndarray:
        """Log weights ``(n_groups, m)`` of groups with features ``(n_groups, n_features)``."""
        return log_weights(self.log_weight + features @ self.weight_effect, self.partition)

    def means(self, features: np.ndarray) -> np.ndarray:
        """Means ``(n_groups, m, d)`` of groups with features ``(n_groups, n_features)``."""
        return self.mean + np.einsum("gf,fmd->gmd", features, self.mean_effect)

    def refitted(self, x: Tensor, group: np.ndarray, design: Design, *, prior: Prior | None) -> Fitted:
        """One sweep of expectation-maximisation over cells ``(n, d)`` of groups ``(n,)``."""
        features = design.features(design.groups)
        weights, means = self.log_weights(features), self.means(features)
        shapes, (m, d) = Shapes.of(torch.as_tensor(self.covariance)), self.mean.shape
        size, total = np.zeros((design.n_groups, m)), np.zeros((design.n_groups, m, d))
        keep_own = design.n_groups * m * d**2 <= MAX_OWN_ELEMENTS
        scatter = np.zeros((design.n_groups if keep_own else 1, m, d, d))
        densities = [torch.zeros(0, m, dtype=x.dtype)] * design.n_groups
        for g, cells in by_group(x, group):
            density = shapes.log_density(cells, torch.as_tensor(means[g]))
            share = (density + torch.as_tensor(weights[g])).softmax(1)
            share *= share > MIN_SHARE  # the scatter leaves these cells out, so size and mean must, too
            size[g], total[g] = share.sum(0).numpy(), (share.T @ cells).numpy()
            each = zip(torch.as_tensor(means[g]), share.T, strict=True)
            about = np.stack([scatter_about(mean, cells, own).numpy() for mean, own in each])
            scatter[g if keep_own else 0] += about
            densities[g] = (density - density.amax(1, keepdim=True)).exp()
        pooled = np.maximum(size.sum(0), 1e-9)
        mean = total.sum(0) / pooled[:, None]
        precision = np.linalg.inv(self.covariance)
        own_mean = total / np.maximum(size, 1e-9)[..., None]
        alike = moving_alike(self.mean, self.covariance) if prior is None else prior.alike
        shift = np.where(size[..., None] > 0, own_mean - mean, 0)
        effects = mean_effects(shift, size, design, precision=precision, alike=alike)
        hidden = np.zeros(effects.shape[:2])
        if prior is None:
            hidden = hidden_moves(shift, effects, size=size, design=design, precision=precision)
        moved = mean + np.einsum("gf,fmd->gmd", features, effects)
        # scatter about the new means: about the old ones, less what the means moved towards the cells
        step, gap = moved - means, size[..., None] * (own_mean - means)
        subscripts = "gmd,gme->gmde" if keep_own else "gmd,gme->mde"
        across = np.einsum(subscripts, gap, step)
        scatter += np.einsum(subscripts, size[..., None] * step, step) - across - across.swapaxes(-1, -2)
        everywhere = scatter.sum((0, 1)) / max(pooled.sum(), 1)
        shared = _drawn_towards(everywhere, scatter.sum(0), pooled) + VARIANCE_FLOOR * np.eye(d)
        base = np.log(np.maximum(pooled / pooled.sum(), MIN_WEIGHT))
        of_weights = Neighbours.of(mean, shared, np.exp(base)) if prior is None else prior.effects
        weight_effect, priors, withheld = fit_effects(
            densities, base, self.weight_effect, design=design, prior=of_weights
        )
        mixture = Mixture(self.partition, base, weight_effect, mean, effects, nonlinear_shrinkage(shared, pooled))
        kinds = np.column_stack([design.condition_of(design.groups), design.alike(design.groups)])
        scatter = design.over_numbers(scatter) if keep_own else scatter[:0]
        return Fitted(mixture, scatter, design.over_numbers(size), kinds, Prior(priors, alike), withheld, hidden)


def _drawn_towards(target: np.ndarray, scatter: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Covariances of scatters ``(..., d, d)`` of so many cells ``(...)``, drawn towards target ones.

    As if by ``d`` cells of the target, and by fewer where there are many cells, which need no help.
    """
    d = scatter.shape[-1]
    n_target = (d * np.minimum(FEW_CELLS * d / np.maximum(size, 1), 1))[..., None, None]
    n_cells = np.maximum(size - 1, 0)[..., None, None]
    drawn: np.ndarray = (scatter + n_target * target) / (n_cells + n_target)
    return drawn


@dataclass(frozen=True)
class Prior:
    """What is expected of groups before their cells are seen.

    Of the effects of each column on log weights, and how far components move alike ``(m, m)``.
    """

    effects: Sequence[EffectPrior]
    alike: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """A mixture, and scatter ``(n_groups, m, d, d)``, cells ``(n_groups, m)``, kinds and prior of its groups.

    Groups that differ in numbers alone have their scatter and cells together; no group has a scatter where all would
    take too much memory. The kind ``(n_groups, 2)`` of a group is its condition, and a group with the same labels.
    ``withheld (n_features, m, m)`` is the square of what shrinking is expected to have withheld of the effects on log
    weights, ``hidden_moves (n_features, m)`` that of moves, in standard deviations; 0 where the prior was given.
    """

    mixture: Mixture
    scatter: np.ndarray
    size: np.ndarray
    kinds: np.ndarray
    prior: Prior
    withheld: np.ndarray
    hidden_moves: np.ndarray

    @cached_property
    def own(self) -> np.ndarray:
        """The groups' own covariances ``(n_groups, m, d, d)``.

        That of a group is drawn towards that of its condition, whatever the covariates, and this one towards the
        component's.
        """
        _, once = np.unique(self.kinds, axis=0, return_index=True)
        condition = self.kinds[:, 0]
        same = condition[once] == np.unique(condition)[:, None]
        scatter, size = (np.tensordot(same, part[once], 1) for part in (self.scatter, self.size))
        of_condition = _drawn_towards(self.mixture.covariance, scatter, size)[condition]
        own = _drawn_towards(of_condition, self.scatter, self.size)
        return nonlinear_shrinkage(own + VARIANCE_FLOOR * np.eye(own.shape[-1]), self.size)

    @classmethod
    def of(
        cls,
        start: Mixture,
        x: Tensor,
        group: np.ndarray,
        *,
        design: Design,
        n_sweeps: int,
        prior: Prior | None = None,
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
        own = self.covariances(own_share) if own_share else self.mixture.covariance[None]
        shapes = [*map(Shapes.of, torch.as_tensor(own))]
        parts = [
            torch.logsumexp(shape.log_density(x, mean) + torch.as_tensor(weight), 1).numpy()
            for shape, mean, weight in zip(cycle(shapes), torch.as_tensor(means), weights, strict=False)
        ]
        return np.stack(parts, axis=1)
