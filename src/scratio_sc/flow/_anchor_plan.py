"""What the anchors of all members share, found with all cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from scratio_sc.flow._components import (
    MAX_COMPONENTS,
    VARIANCE_FLOOR,
    Components,
    find_components,
    gaussian_groups,
)
from scratio_sc.flow._eigenbasis import eigenbasis
from scratio_sc.flow._gain import is_clear
from scratio_sc.flow._halves import MAX_JUDGED, Candidate, Halves
from scratio_sc.flow._mixture_fit import Fitted, Mixture
from scratio_sc.flow._moved_types import MovedTypes

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from scratio_sc.flow._design import Design

PLAN_SWEEPS = 4
JUDGE_SHARE = 0.2
"""Share of the cells that judge how many components there are."""
N_PARTITIONS = 4
FINER, CELLS_EACH = (2, 4), 10_000
"""Times as many components as usual, and cells that each time takes."""
MAX_EFFECT_ELEMENTS = 2_000_000
"""Numbers in the covariances of the effects of all features, above which there are no more components than usual."""
SAME = 1e-6
"""Mean squared difference of log densities, nats², below which two partitions are the same."""


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
    second_opinion
        Whether there is one (`_tilt`).
    """

    center: np.ndarray
    basis: np.ndarray
    within: np.ndarray
    parts: list[Fitted]
    types: list[MovedTypes]
    own_share: float
    label_weight: float
    second_opinion: bool

    def coordinates(self, x: np.ndarray) -> Tensor:
        """Cells ``(n, d)`` in coordinates."""
        return torch.as_tensor((x - self.center) @ self.basis)

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        group: np.ndarray,
        design: Design,
        *,
        copy: np.ndarray,
        rng: np.random.Generator,
        on_partition: Callable[[], object] = lambda: None,
    ) -> AnchorPlan:
        """One Gaussian a group, or mixtures where they explain cells better, of cells ``(n, d)`` in groups ``(n,)``.

        The first of the copies of each cell is ``copy (n,)``: cells are not judged by what was fitted to their copies.
        `on_partition` is called for each partition that was looked for, `N_PARTITIONS` at most.
        """
        center, basis, within = eigenbasis(x, group)
        z = torch.as_tensor((x - center) @ basis)
        halves = Halves.of(z, group, design, copy=copy, rng=rng)
        best, finer = _choose(z, group, halves, copy=copy, rng=rng)
        first, own_share = best.mixture, best.own_share
        parts = [Fitted.of(first, z, group, design=design, n_sweeps=PLAN_SWEEPS)]
        types = [] if best.types is None else [best.types]
        on_partition()
        for _ in range(N_PARTITIONS - 1 if len(first.mean) > 1 else 0):
            start = _search(z, group, design, copy=copy, finer=finer, rng=rng)
            on_partition()
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
        fitted = halves.fitted(parts, types)
        mixed = len(first.mean) > 1 and not own_share
        label_weight = halves.best_label_weight(fitted) if mixed else 0.0
        second_opinion = halves.second_opinion_serves(fitted, own_share=own_share, label_weight=label_weight)
        return cls(center, basis, within, parts, types, own_share, label_weight, second_opinion)


def _say_the_same(one: Mixture, other: Mixture, x: Tensor) -> bool:
    x = x[:: max(len(x) // MAX_JUDGED, 1)]
    apart = one.pooled.log_likelihood(x) - other.pooled.log_likelihood(x)
    return float(apart.square().mean()) < SAME


def _choose(
    x: Tensor, group: np.ndarray, halves: Halves, *, copy: np.ndarray, rng: np.random.Generator
) -> tuple[Candidate, int]:
    """The best mixture, and how many times as many components as usual it was merged from.

    More than usual where cell types seem to be many, there are cells for them, and groups are told better. Of types
    instead of components, where these serve held-out cells.
    """
    design, finer = halves.design, 1
    covariance = torch.cov(x.T).reshape(1, x.shape[1], x.shape[1]) + VARIANCE_FLOOR * torch.eye(x.shape[1])
    one = Components(torch.ones(1, dtype=x.dtype), x.mean(0)[None], covariance)
    single = halves.candidate(Mixture.start(one, design.n_features))
    first = _search(x, group, design, copy=copy, rng=rng)
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
        rival = _search(x, group, design, copy=copy, finer=more, rng=rng)
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
    x: Tensor, group: np.ndarray, design: Design, *, copy: np.ndarray, finer: int = 1, rng: np.random.Generator
) -> Mixture | None:
    """A mixture found without labels; None where it does not explain cells clearly better than Gaussian groups."""
    apart = rng.random(len(x))[copy] < JUDGE_SHARE
    if apart.all():
        return None
    fitted, judge = x[torch.as_tensor(~apart)], x[torch.as_tensor(apart)]
    rivals = gaussian_groups(fitted, group[~apart])
    found = find_components(fitted, judge, rivals=rivals, finer=finer, rng=rng)
    if len(found.weight) == 1:
        return None
    return Mixture.start(found, design.n_features)
