"""The anchor: a Gaussian mixture whose weights and means depend on the group, from which the network starts.

Group g is sum_k w_gk N(mu_k + delta_gk, Sigma_gk). The components are found without labels (`_components`). Groups differ
in the weights, along the tree in which the components merge, and in the means, as far as their cells can tell
(`_shrinkage`). Sigma_gk lies between the component's covariance and the group's own one, as in regularised
discriminant analysis (Friedman 1989); how far, the held-out log-loss of the labels says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit, log_expit, logit, logsumexp

from scratio_sc.flow._components import (
    VARIANCE_FLOOR,
    Components,
    component_log_density,
    find_components,
    gaussian_groups,
    merge_tree,
    nonlinear_shrinkage,
    pulled,
)
from scratio_sc.flow._shrinkage import logit_effects, mean_effects

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design

OWN_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
MAX_JUDGED = 5_000
PLAN_SWEEPS = 4
TRIAL_SWEEPS = 3
JUDGE_SHARE = 0.2
N_PARTITIONS = 4
MAX_TREE_CELLS = 20_000
MAX_OWN_ELEMENTS = 2_000_000
MEMBER_SWEEPS = 2
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

    def refitted(self, x: Tensor, group: np.ndarray, design: Design, *, prior: np.ndarray | None) -> _Fitted:
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
            size[g], total[g] = share.sum(0).numpy(), (share.T @ cells).numpy()
            for k in range(m):
                apart = cells - means[g, k]
                scatter[g, k] = ((apart * share[:, [k]]).T @ apart).numpy()
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
        covariance = pulled(torch.as_tensor(scatter.sum(0)), torch.as_tensor(pooled)).numpy()
        covariance = nonlinear_shrinkage(covariance, pooled)
        share = ((self.splits > 0) @ pooled) / ((self.splits != 0) @ pooled)
        base = logit(np.clip(share, 1e-6, 1 - 1e-6))
        split_effect, prior = logit_effects(odds - base, information, design, prior=prior)
        own = scatter / np.maximum(size - 1, 1)[..., None, None] + VARIANCE_FLOOR * np.eye(d)
        own = nonlinear_shrinkage(own, size)
        return _Fitted(Mixture(self.splits, base, split_effect, mean, effects, covariance), own, prior)

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
class _Fitted:
    """A mixture, the groups' own covariances ``(n_groups, m, d, d)``, and the prior of the groups' log odds."""

    mixture: Mixture
    own: np.ndarray
    prior: np.ndarray

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
    ) -> _Fitted:
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
        shared = np.broadcast_to(self.mixture.covariance, self.own.shape)
        covariances = torch.as_tensor(self.covariances(own_share) if own_share else shared.copy())
        parts = [
            logsumexp(component_log_density(x, torch.as_tensor(mean), covariance).numpy() + weight, axis=1)
            for mean, covariance, weight in zip(means, covariances, weights, strict=True)
        ]
        return np.stack(parts, axis=1)


@dataclass(frozen=True)
class Anchor:
    """The mixture in the eigenbasis of the covariance within groups.

    Coordinates are ``(x - center) @ basis``. Arrays are float64.

    Attributes
    ----------
    center, basis
        Pooled mean ``(d,)`` and orthonormal columns ``(d, d)``.
    within, spread
        Variance within groups and of all cells along each coordinate, ``(d,)``.
    splits, split_logit, split_effect, mean, mean_effect
        As in `Mixture`, in coordinates.
    variance, rotation
        Eigenvalues ``(m, d)`` and eigenvectors ``(m, d, d)`` of the components' covariances.
    n_parts
        How many partitions of the cells the mixture unites.
    own_share
        Share of a group's own covariance in Sigma_gk.
    own_variance, own_rotation
        Eigenvalues ``(n_groups, m, d)`` and eigenvectors ``(n_groups, m, d, d)`` of Sigma_gk; of no group without own
        share.
    """

    center: np.ndarray
    basis: np.ndarray
    within: np.ndarray
    spread: np.ndarray
    splits: np.ndarray
    split_logit: np.ndarray
    split_effect: np.ndarray
    mean: np.ndarray
    mean_effect: np.ndarray
    variance: np.ndarray
    rotation: np.ndarray
    n_parts: int
    own_share: float
    own_variance: np.ndarray
    own_rotation: np.ndarray

    @classmethod
    def fit(cls, x: np.ndarray, group: np.ndarray, design: Design, *, plan: AnchorPlan) -> Anchor:
        """Anchor of cells ``(n, d)`` in groups ``(n,)``, as planned."""
        z = torch.as_tensor((x - plan.center) @ plan.basis)
        parts = [
            _Fitted.of(part.mixture, z, group, design=design, n_sweeps=MEMBER_SWEEPS, prior=part.prior)
            for part in plan.parts
        ]
        mixture, own_share = Mixture.union([part.mixture for part in parts]), plan.own_share
        variance, rotation = np.linalg.eigh(mixture.covariance)
        own = np.empty((0, *mixture.covariance.shape))
        if own_share:
            own = np.concatenate([part.covariances(own_share) for part in parts], axis=1)
        own_variance, own_rotation = np.linalg.eigh(own)
        return cls(
            center=plan.center,
            basis=plan.basis,
            within=plan.within,
            spread=z.numpy().var(0) + VARIANCE_FLOOR,
            splits=mixture.splits,
            split_logit=mixture.split_logit,
            split_effect=mixture.split_effect,
            mean=mixture.mean,
            mean_effect=mixture.mean_effect,
            variance=np.maximum(variance, VARIANCE_FLOOR),
            rotation=rotation,
            n_parts=len(parts),
            own_share=own_share,
            own_variance=np.maximum(own_variance, VARIANCE_FLOOR),
            own_rotation=own_rotation,
        )


def eigenbasis(x: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pooled mean ``(d,)``, and eigenvectors ``(d, d)`` and eigenvalues ``(d,)`` of the covariance within groups."""
    _, code = np.unique(group, return_inverse=True)
    size = np.bincount(code)
    mean = np.stack([np.bincount(code, weights=column) for column in x.T], axis=1) / size[:, None]
    apart = x - mean[code]
    floor = VARIANCE_FLOOR * np.eye(x.shape[1])
    variance, basis = np.linalg.eigh(apart.T @ apart / max(len(x) - len(size), 1) + floor)
    variance, basis, center = np.maximum(variance[::-1], VARIANCE_FLOOR), basis[:, ::-1], x.mean(0)
    # an eigenvector has no sign of its own: a positive third moment gives it one that rotates with the embedding
    third = (((x - center) @ basis) ** 3).sum(0)
    return center, basis * np.where(third < 0, -1.0, 1.0), variance


@dataclass(frozen=True)
class _Trial:
    """Cells to fit and cells to judge by, with the groups of both."""

    x: Tensor
    group: np.ndarray
    judge: Tensor
    judge_group: np.ndarray
    design: Design

    @classmethod
    def of(cls, x: Tensor, group: np.ndarray, design: Design, *, rng: np.random.Generator) -> _Trial:
        """Half of the cells of each group against some of the other half."""
        half = np.zeros(len(x), bool)
        order = rng.permutation(len(x))
        for g in range(design.n_groups):
            half[order[group[order] == g][::2]] = True
        judged = rng.permutation(np.flatnonzero(~half))[:MAX_JUDGED]
        return cls(x[torch.as_tensor(half)], group[half], x[torch.as_tensor(judged)], group[judged], design)

    def best_share(self, start: Mixture) -> tuple[float, np.ndarray]:
        """Own share of least log-loss of the groups, and with it the log density of each cell under its own group."""
        candidate = _Fitted.of(start, self.x, self.group, design=self.design, n_sweeps=TRIAL_SWEEPS)
        log_prior = np.log(np.maximum(np.bincount(self.group, minlength=self.design.n_groups), 0.5))
        own = np.arange(len(self.judge_group)), self.judge_group
        tried = []
        shares = OWN_SHARES if candidate.own.size <= MAX_OWN_ELEMENTS else OWN_SHARES[:1]
        for share in shares:
            density = candidate.log_densities(self.judge, self.design, own_share=share)
            joint = density + log_prior
            tried.append((float(np.mean(logsumexp(joint, axis=1) - joint[own])), share, density[own]))
        _, share, density = min(tried, key=lambda one: one[:2])
        return share, density


@dataclass(frozen=True)
class AnchorPlan:
    """What the anchors of all members share: coordinates, components, and how far groups may differ.

    Labels enter in a handful of numbers alone (`own_share`, the priors), and in where the fit of a member starts.

    Attributes
    ----------
    center, basis, within
        As in `Anchor`.
    parts
        Mixtures of all cells with the prior of their log odds, from which the fit of a member starts. There are
        several, found from different starts: where cell types are no Gaussians, each cuts them up in another way, and
        together they are smoother.
    own_share
        As in `Anchor`.
    """

    center: np.ndarray
    basis: np.ndarray
    within: np.ndarray
    parts: list[_Fitted]
    own_share: float

    @classmethod
    def of(cls, x: np.ndarray, group: np.ndarray, design: Design, *, rng: np.random.Generator) -> AnchorPlan:
        """One Gaussian a group, or mixtures where they explain cells better, of cells ``(n, d)`` in groups ``(n,)``."""
        center, basis, within = eigenbasis(x, group)
        z = torch.as_tensor((x - center) @ basis)
        starts, own_share = _choose(z, group, design, rng=rng)
        parts = [_Fitted.of(start, z, group, design=design, n_sweeps=PLAN_SWEEPS) for start in starts]
        return cls(center, basis, within, parts, own_share)


def _choose(x: Tensor, group: np.ndarray, design: Design, *, rng: np.random.Generator) -> tuple[list[Mixture], float]:
    trial = _Trial.of(x, group, design, rng=rng)
    one = Components(torch.ones(1, dtype=x.dtype), x.mean(0)[None], torch.cov(x.T).reshape(1, x.shape[1], x.shape[1]))
    single = Mixture.start(one, np.zeros((0, 1), np.int8), design.n_features)
    single_share, single_density = trial.best_share(single)
    first = _search(x, group, design, rng=rng)
    if first is None:
        return [single], single_share
    share, density = trial.best_share(first)
    gain = density - single_density
    if gain.mean() <= gain.std() / np.sqrt(len(gain)):
        return [single], single_share
    others = (_search(x, group, design, rng=rng) for _ in range(N_PARTITIONS - 1))
    return [first, *(other for other in others if other is not None)], share


def _search(x: Tensor, group: np.ndarray, design: Design, *, rng: np.random.Generator) -> Mixture | None:
    """A mixture found without labels; None where Gaussian groups explain cells better."""
    apart = rng.random(len(x)) < JUDGE_SHARE
    fitted, judge = x[torch.as_tensor(~apart)], x[torch.as_tensor(apart)]
    found = find_components(fitted, judge, rivals=gaussian_groups(fitted, group[~apart]), rng=rng)
    if len(found.weight) == 1:
        return None
    return Mixture.start(found, merge_tree(fitted[:MAX_TREE_CELLS], found), design.n_features)
