"""The anchor: a Gaussian mixture whose weights and means depend on the group, from which the network starts.

Group g is sum_k w_gk N(mu_k + delta_gk, Sigma_gk). The components are found without labels (`_components`), and united
where conditions move all cells of a type (`_moved_types`). Groups differ in the weights (`_proportions`) and in the
means (`_shrinkage`), as far as their cells can tell; labels have a say in the means where that serves held-out cells
(`_discriminative`). Sigma_gk lies between the component's covariance and the group's own one, as in regularised
discriminant analysis (Friedman 1989); how far, the held-out log-loss of the labels says, and how far it is widened
(`_widening`). Groups that differ in numbers alone share their covariance. Where that serves held-out cells, log
densities are averaged with those of a second opinion (`_tilt`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._components import VARIANCE_FLOOR
from scratio_sc.flow._discriminative import LabelledMeans
from scratio_sc.flow._mixture_fit import Fitted, Mixture
from scratio_sc.flow._proportions import log_weights
from scratio_sc.flow._tilt import fit_tilt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._anchor_plan import AnchorPlan
    from scratio_sc.flow._design import Design
    from scratio_sc.flow._moved_types import MovedTypes

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
    tilt
        Effects of the features on the slopes of a second opinion, and what is common to all, ``(n_features + 1, d)``;
        nothing where there is none.
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
    tilt: np.ndarray

    @property
    def n_parts(self) -> int:
        """How many partitions of the cells the mixture unites."""
        return len(np.unique(self.partition))

    @property
    def n_opinions(self) -> int:
        """How many mixtures say how dense cells are: one a partition, and as many where there is a second opinion."""
        return 2 * self.n_parts if len(self.tilt) else self.n_parts

    def log_weights(self, features: np.ndarray) -> np.ndarray:
        """As `Mixture.log_weights`."""
        return log_weights(self.log_weight + features @ self.weight_effect, self.partition)

    def means(self, features: np.ndarray) -> np.ndarray:
        """As `Mixture.means`."""
        moved: np.ndarray = self.mean + np.einsum("gf,fmd->gmd", features, self.mean_effect)
        return moved

    def widened(self, doubt: float, design: Design) -> Anchor:
        """The same with variances of components of ``n_k`` cells of all groups times 1 + doubt d / n_k."""
        factor = 1 + doubt * self.mean.shape[1] / np.maximum(self.size[design.first_alike].sum(0), 1)
        return replace(self, variance=self.variance * factor[:, None], own_variance=self.own_variance * factor[:, None])

    @classmethod
    def fit(cls, x: np.ndarray, group: np.ndarray, design: Design, *, plan: AnchorPlan) -> tuple[Anchor, Anchor]:
        """Anchor of cells ``(n, d)`` in groups ``(n,)``, as planned, and the one that cells it has not seen judge.

        The priors of a plan know the labels of all cells, and what chance does in all folds alike would look as if it
        were borne out. The other one has priors of its own, from the cells that it sees. A second opinion knows these
        cells alone, so both have the same.
        """
        z = plan.coordinates(x)
        parts = of_cells(plan.parts, plan.types, z, group=group, design=design)
        tilt = np.empty((0, z.shape[1]))
        if plan.second_opinion:
            tilt = fit_tilt([part.mixture for part in parts], z, group, design=design)
        anchor = cls._of(parts, z, group, design=design, plan=plan, tilt=tilt)
        if all(len(part.mixture.mean) == 1 for part in parts):
            return anchor, anchor
        judge = [part.mixture.with_pooled_weights.refitted(z, group, design, prior=None) for part in parts]
        return anchor, cls._of(judge, z, group, design=design, plan=plan, tilt=tilt)

    @classmethod
    def _of(
        cls,
        parts: Sequence[Fitted],
        z: Tensor,
        group: np.ndarray,
        *,
        design: Design,
        plan: AnchorPlan,
        tilt: np.ndarray,
    ) -> Anchor:
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
            tilt=tilt,
        )


def of_cells(
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
