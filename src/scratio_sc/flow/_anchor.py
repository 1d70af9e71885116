"""The anchor: a Gaussian mixture whose weights and means depend on the group, from which the network starts.

Group g is sum_k w_gk N(mu_k + delta_gk, Sigma_gk). The components are found without labels (`_components`), and united
where conditions move all cells of a type (`_moved_types`). Groups differ in the weights (`_proportions`) and in the
means (`_shrinkage`), as far as their cells can tell; labels have a say in the means where that serves held-out cells
(`_discriminative`). Sigma_gk lies between the component's covariance and the group's own one, as in regularised
discriminant analysis (Friedman 1989); how far, the held-out log-loss of the labels says, and how far it is widened
(`_widening`). Groups that differ in numbers alone share their covariance.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logsumexp

from scratio_sc.flow._components import (
    MAX_COMPONENTS,
    VARIANCE_FLOOR,
    Components,
    find_components,
    gaussian_groups,
)
from scratio_sc.flow._discriminative import LabelledMeans
from scratio_sc.flow._eigenbasis import eigenbasis
from scratio_sc.flow._gain import is_clear
from scratio_sc.flow._mixture_fit import Fitted, Mixture
from scratio_sc.flow._moved_types import MovedTypes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design

OWN_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
LABEL_WEIGHTS = (0.3, 1.0, 3.0, 10.0)
CLEARLY = 1.645
"""Standard errors by which labels that have a say, and united components, have to serve held-out cells."""
LEAST_TOLD = 0.1
"""Share of the log-loss of held-out cells that united components have to save: fewer of them see less."""
MAX_JUDGED, MAX_CONTESTED, MAX_SCORES = 5_000, 20_000, 60_000
PLAN_SWEEPS, TRIAL_SWEEPS = 4, 3
JUDGE_SHARE = 0.2
"""Share of the cells that judge how many components there are."""
N_PARTITIONS = 4
FINER, CELLS_EACH = (2, 4), 10_000
"""Times as many components as usual, and cells that each time takes."""
MAX_EFFECT_ELEMENTS = 2_000_000
"""Numbers in the covariances of the effects of all features, above which there are no more components than usual."""
SAME = 1e-6
"""Mean squared difference of log densities, nats², below which two partitions are the same."""
MEMBER_SWEEPS = 2
"""More of them cost time, and do not serve new cells: the components are those of nearly the same cells."""


@dataclass(frozen=True)
class Anchor:
    """The mixture in the eigenbasis of the covariance within groups.

    Coordinates are ``(x - center) @ basis``.

    Attributes
    ----------
    center, basis
        Pooled mean ``(d,)`` and orthonormal columns ``(d, d)``.
    within, spread
        Variance within groups and of all cells along each coordinate, ``(d,)``.
    partition, log_weight, weight_effect, mean, mean_effect
        As in `Mixture`, in coordinates.
    size
        Cells of each group in each component ``(n_groups, m)``, together for groups that differ in numbers alone.
    variance, rotation
        Eigenvalues ``(m, d)`` and eigenvectors ``(m, d, d)`` of the components' covariances, `widened` or not.
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
    partition: np.ndarray
    log_weight: np.ndarray
    weight_effect: np.ndarray
    mean: np.ndarray
    mean_effect: np.ndarray
    size: np.ndarray
    variance: np.ndarray
    rotation: np.ndarray
    own_share: float
    own_variance: np.ndarray
    own_rotation: np.ndarray

    @property
    def n_parts(self) -> int:
        """How many partitions of the cells the mixture unites."""
        return len(np.unique(self.partition))

    def widened(self, doubt: float, design: Design) -> Anchor:
        """The same with variances of components of ``n_k`` cells of all groups times 1 + doubt d / n_k."""
        factor = 1 + doubt * self.mean.shape[1] / np.maximum(self.size[design.first_alike].sum(0), 1)
        return replace(self, variance=self.variance * factor[:, None], own_variance=self.own_variance * factor[:, None])

    @classmethod
    def fit(cls, x: np.ndarray, group: np.ndarray, design: Design, *, plan: AnchorPlan) -> tuple[Anchor, Anchor]:
        """Anchor of cells ``(n, d)`` in groups ``(n,)``, as planned, and the one that cells it has not seen judge.

        The priors of a plan know the labels of all cells, and what chance does in all folds alike would look as if it
        were borne out. The other one has priors of its own, from the cells that it sees.
        """
        z = plan.coordinates(x)
        parts = _of_cells(plan.parts, plan.types, z, group=group, design=design)
        anchor = cls._of(parts, z, group, design=design, plan=plan)
        if all(len(part.mixture.mean) == 1 for part in parts):
            return anchor, anchor
        judge = [part.mixture.with_pooled_weights.refitted(z, group, design, prior=None) for part in parts]
        return anchor, cls._of(judge, z, group, design=design, plan=plan)

    @classmethod
    def _of(cls, parts: Sequence[Fitted], z: Tensor, group: np.ndarray, *, design: Design, plan: AnchorPlan) -> Anchor:
        """Partitions of the cells, in coordinates, as an anchor."""
        if plan.label_weight:
            parts = LabelledMeans.of(parts, z, group, design=design).at(plan.label_weight)
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
            partition=mixture.partition,
            log_weight=mixture.log_weight,
            weight_effect=mixture.weight_effect,
            mean=mixture.mean,
            mean_effect=mixture.mean_effect.astype(np.float32),  # of many levels the bulk of what is stored
            size=np.concatenate([part.size for part in parts], axis=1),
            variance=np.maximum(variance, VARIANCE_FLOOR),
            rotation=rotation,
            own_share=own_share,
            own_variance=np.maximum(own_variance, VARIANCE_FLOOR),
            own_rotation=own_rotation,
        )


def _of_cells(
    parts: Sequence[Fitted], types: Sequence[MovedTypes], x: Tensor, *, group: np.ndarray, design: Design
) -> list[Fitted]:
    """Partitions fitted to some of the cells, with the prior that they have, from what all groups have in common.

    From where groups are already, the few sweeps would keep something of the labels of cells that are left out. Types
    that have moved are where these cells say.
    """
    starts = [own.start(x, group, design) for own in types]
    starts = starts or [Mixture.start(part.mixture.pooled, design.n_features) for part in parts]
    return [
        Fitted.of(start, x, group, design=design, n_sweeps=MEMBER_SWEEPS, prior=part.prior)
        for start, part in zip(starts, parts, strict=True)
    ]


@dataclass(frozen=True)
class _Candidate:
    """A mixture, its fit to half of the cells, its own share, and log densities of cells of the other half ``(n,)``.

    And its types, where they are fewer than its components were.
    """

    mixture: Mixture
    fitted: Fitted
    own_share: float
    density: np.ndarray
    types: MovedTypes | None = None


@dataclass(frozen=True)
class _Halves:
    """Cells to fit and cells to judge by, with the groups of both."""

    x: Tensor
    group: np.ndarray
    judge: Tensor
    judge_group: np.ndarray
    design: Design

    @classmethod
    def of(cls, x: Tensor, group: np.ndarray, design: Design, *, rng: np.random.Generator) -> _Halves:
        """Half of the cells of each group against the other half."""
        half = np.zeros(len(x), bool)
        order = rng.permutation(len(x))
        for g in range(design.n_groups):
            half[order[group[order] == g][::2]] = True
        judged = rng.permutation(np.flatnonzero(~half))[:MAX_CONTESTED]
        return cls(x[torch.as_tensor(half)], group[half], x[torch.as_tensor(judged)], group[judged], design)

    def candidate(self, mixture: Mixture) -> _Candidate:
        """A mixture with the own share of least log-loss of the groups.

        The share is 0 unless another is clearly better (one standard error): own covariances have many parameters.
        """
        fitted = Fitted.of(mixture, self.x, self.group, design=self.design, n_sweeps=TRIAL_SWEEPS)
        alike = self.design.numbers and self.design.n_label_combinations == 1
        shares = OWN_SHARES if len(fitted.scatter) and not alike else OWN_SHARES[:1]
        losses, densities = zip(*(self._judged(fitted, share, MAX_JUDGED) for share in shares), strict=True)
        best = int(np.argmin(np.sum(losses, axis=1)))
        best = best if is_clear(losses[0] - losses[best]) else 0
        return _Candidate(mixture, fitted, shares[best], densities[best])

    def better(self, rival: _Candidate, best: _Candidate) -> bool:
        """Whether a rival explains the cells to judge by better, and tells their groups better."""
        explained, told, _ = self._gains(rival, best)
        return is_clear(explained) and is_clear(told)

    def united_serve(self, united: _Candidate, best: _Candidate, *, moving: bool) -> bool:
        """Whether united components tell the groups of the cells to judge by clearly better, and explain them no worse.

        By a tenth of what is left to tell. If all united components move: or explain them clearly better, and tell
        them no worse.
        """
        explained, told, left = self._gains(united, best)
        if any(is_clear(-gain, n_errors=CLEARLY) for gain in (explained, told)):
            return False
        tells = is_clear(told, n_errors=CLEARLY, least=LEAST_TOLD * left)
        return tells or (moving and is_clear(explained, n_errors=CLEARLY))

    def _gains(self, rival: _Candidate, best: _Candidate) -> tuple[np.ndarray, np.ndarray, float]:
        """What a rival gains in log density of the cells to judge by, and in log-loss of their groups, ``(n,)``.

        And the mean log-loss before.
        """
        n = max(MAX_SCORES // self.design.n_groups, MAX_JUDGED)
        (loss, density), (loss_before, density_before) = (
            self._judged(one.fitted, one.own_share, n) for one in (rival, best)
        )
        return density - density_before, loss_before - loss, float(loss_before.mean()) if len(loss_before) else 0.0

    def _judged(self, fitted: Fitted, share: float, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-loss of the groups of the first cells to judge by, and log density of each under its own, ``(n,)``."""
        own = np.arange(min(n, len(self.judge))), self.judge_group[:n]
        density = fitted.log_densities(self.judge[:n], self.design, own_share=share)
        joint = density + np.log(np.maximum(np.bincount(self.group, minlength=self.design.n_groups), 0.5))
        return logsumexp(joint, axis=1) - joint[own], density[own]

    def best_label_weight(self, parts: Sequence[Fitted], types: Sequence[MovedTypes]) -> float:
        """Weight of the labels of least log-loss of the conditions, of those that are clearly better than none."""
        fitted = _of_cells(parts, types, self.x, group=self.group, design=self.design)
        means = LabelledMeans.of(fitted, self.x, self.group, design=self.design)
        if not (any(means.moving) and len(self.judge)):
            return 0.0

        def losses(weight: float) -> np.ndarray:
            return LabelledMeans.of(means.at(weight), self.judge, self.judge_group, design=self.design).log_loss

        without, best, most = losses(0.0), 0.0, 0.0
        for weight in LABEL_WEIGHTS:
            gain = without - losses(weight)
            if is_clear(gain, n_errors=CLEARLY) and gain.mean() > most:
                best, most = weight, gain.mean()
        return best


@dataclass(frozen=True)
class AnchorPlan:
    """What the anchors of all members share: coordinates, components, and how far groups may differ.

    Labels enter in how far groups may differ (`own_share`, `label_weight`, the priors), and in which components are one
    type (`types`), not in how groups differ: the fit of a member starts from mixtures that are the same in all groups,
    or where its own cells have types.

    Attributes
    ----------
    center, basis, within
        As in `Anchor`.
    parts
        Mixtures of all cells with the prior of their log odds, from which the fit of a member starts. There are
        several, found from different starts: where cell types are no Gaussians, each cuts them up in another way, and
        together they are smoother. Where two of them are the same, the cells do fall apart that way, and one is enough.
    types
        Types of each of them, from which the fit of a member starts instead; none where no components are united.
    own_share
        As in `Anchor`.
    label_weight
        What labels count in how far components move, beside where their cells lie; 0 for single Gaussians, and where
        groups have covariances of their own.
    """

    center: np.ndarray
    basis: np.ndarray
    within: np.ndarray
    parts: list[Fitted]
    types: list[MovedTypes]
    own_share: float
    label_weight: float

    def coordinates(self, x: np.ndarray) -> Tensor:
        """Cells ``(n, d)`` in coordinates."""
        return torch.as_tensor((x - self.center) @ self.basis)

    @classmethod
    def of(cls, x: np.ndarray, group: np.ndarray, design: Design, *, rng: np.random.Generator) -> AnchorPlan:
        """One Gaussian a group, or mixtures where they explain cells better, of cells ``(n, d)`` in groups ``(n,)``."""
        center, basis, within = eigenbasis(x, group)
        z = torch.as_tensor((x - center) @ basis)
        halves = _Halves.of(z, group, design, rng=rng)
        best, finer = _choose(z, group, halves, rng=rng)
        first, own_share = best.mixture, best.own_share
        parts = [Fitted.of(first, z, group, design=design, n_sweeps=PLAN_SWEEPS)]
        types = [] if best.types is None else [best.types]
        for _ in range(N_PARTITIONS - 1 if len(first.mean) > 1 else 0):
            start = _search(z, group, design, finer=finer, rng=rng)
            if start is None:
                continue
            own = None
            if best.types is not None:
                (own,) = MovedTypes.of(start.pooled, z, group, design=design, explained=[best.types.explained])
                start = own.start(z, group, design)
            part = Fitted.of(start, z, group, design=design, n_sweeps=PLAN_SWEEPS)
            if own_share and not len(part.scatter):
                continue  # with a few more components than the first it may be too large for them
            if any(_say_the_same(part.mixture, known.mixture, z) for known in parts):
                parts, types = [part], [] if own is None else [own]
                break
            parts.append(part)
            types += [] if own is None else [own]
        mixed = len(first.mean) > 1 and not own_share
        label_weight = halves.best_label_weight(parts, types) if mixed else 0.0
        return cls(center, basis, within, parts, types, own_share, label_weight)


def _say_the_same(one: Mixture, other: Mixture, x: Tensor) -> bool:
    x = x[:: max(len(x) // MAX_JUDGED, 1)]
    apart = one.pooled.log_likelihood(x) - other.pooled.log_likelihood(x)
    return float(apart.square().mean()) < SAME


def _choose(x: Tensor, group: np.ndarray, halves: _Halves, *, rng: np.random.Generator) -> tuple[_Candidate, int]:
    """The best mixture, and how many times as many components as usual it was merged from.

    More than usual where cell types seem to be many, there are cells for them, and groups are told better. Of types
    instead of components, where these serve held-out cells.
    """
    design, finer = halves.design, 1
    covariance = torch.cov(x.T).reshape(1, x.shape[1], x.shape[1]) + VARIANCE_FLOOR * torch.eye(x.shape[1])
    one = Components(torch.ones(1, dtype=x.dtype), x.mean(0)[None], covariance)
    single = halves.candidate(Mixture.start(one, design.n_features))
    first = _search(x, group, design, rng=rng)
    if first is None:
        return single, finer
    best = halves.candidate(first)
    if len(halves.judge) and not is_clear(best.density - single.density):
        return single, finer
    for more in FINER:
        most = more * MAX_COMPONENTS
        enough = len(x) >= more * CELLS_EACH and design.n_features * most**2 <= MAX_EFFECT_ELEMENTS
        if len(best.mixture.mean) <= most / 4 or not enough:
            break
        rival = _search(x, group, design, finer=more, rng=rng)
        if rival is None or not halves.better(again := halves.candidate(rival), best):
            break
        best, finer = again, more
    moving, coarser = MovedTypes.of(best.mixture.pooled, x, group, design=design)
    for types in [moving] if coarser.are_those_of(moving) else [moving, coarser]:
        if types.are_fewer:
            united = replace(halves.candidate(types.start(x, group, design)), types=types)
            best = united if halves.united_serve(united, best, moving=types is moving) else best
    return best, finer


def _search(
    x: Tensor, group: np.ndarray, design: Design, *, finer: int = 1, rng: np.random.Generator
) -> Mixture | None:
    """A mixture found without labels; None where it does not explain cells clearly better than Gaussian groups."""
    apart = rng.random(len(x)) < JUDGE_SHARE
    fitted, judge = x[torch.as_tensor(~apart)], x[torch.as_tensor(apart)]
    rivals = gaussian_groups(fitted, group[~apart])
    found = find_components(fitted, judge, rivals=rivals, finer=finer, rng=rng)
    if len(found.weight) == 1:
        return None
    return Mixture.start(found, design.n_features)
