"""Log densities of a batch of cells by every member, and whether the members know such cells."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import block_diag
from scipy.special import softmax

from scratio_sc.flow._contrast import fitted_groups
from scratio_sc.flow._denoising_ratio import N_NODES, draw_directions, node_log_likelihoods
from scratio_sc.flow._device import usual_torch
from scratio_sc.flow._threads import MAX_DIMS_ALONE, at_once, one_numpy_thread, side_by_side
from scratio_sc.flow._withheld import hidden_from, withheld_from

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.flow._batches import Batch
    from scratio_sc.flow._contrast import Side
    from scratio_sc.flow._denoising_ratio import Directions
    from scratio_sc.flow._flow import ConditionalFlow
    from scratio_sc.flow._member import Groups, Member

MIN_NEARBY = 3.0
"""Cells of a side to expect among the fitted cells nearby, below which a cell counts as far from the side."""


@dataclass(frozen=True)
class Scores:
    """Log densities of a batch of cells under k sides.

    Attributes
    ----------
    cells
        Indices of the cells ``(b,)``.
    by_member
        Log density according to each member, nats, ``(n_members, b, k)``.
    by_partition
        Log density according to each partition, mean of all members, nats, ``(n_partitions, b, k)``; twice as many by
        two opinions.
    unseen
        Members that did not see each cell, whose mean is the honest value, ``(n_members, b)``.
    far
        Whether a side has hardly any cells of the fit nearby, ``(b, k)``.
    withheld
        Covariance of what shrinking may have withheld from the sides, nats², ``(b, k, k)``.
    """

    cells: np.ndarray
    by_member: np.ndarray
    by_partition: np.ndarray
    unseen: np.ndarray
    far: np.ndarray
    withheld: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """Mean of the members that did not see the cells, nats, ``(b, k)``."""
        return _mean_of(self.by_member, self.unseen)


def _mean_of(by_member: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Mean ``(b, k)`` over the members that count for each cell ``(n_members, b)``."""
    mean: np.ndarray = np.mean(by_member, axis=0, where=counted[..., None])
    return mean


def of_one(flow: ConditionalFlow, member: Member, rows: np.ndarray) -> Groups:
    """Rows ``(k, n_columns)`` of the design according to a member, for densities of one side.

    A second opinion tells sides apart, and has nothing to say of one. Networks correct both opinions, and are of no use
    without one of them.
    """
    return (member.described if flow.silent else member.groups)(flow.design, rows)


@usual_torch()
@one_numpy_thread()
def denoising_scores(
    flow: ConditionalFlow, x: np.ndarray, batch: Batch, *, sides: Sequence[Side], weights: np.ndarray
) -> Scores:
    """Scores of the cells ``(b, d)`` of a batch, in the scaled embedding, with weights ``(n_nodes,)`` of the nodes."""
    rows, inverse = np.unique(np.concatenate([side.rows for side in sides]), axis=0, return_inverse=True)
    columns = np.split(inverse.reshape(-1), np.cumsum([len(side.rows) for side in sides])[:-1])

    def of_sides(density: np.ndarray) -> np.ndarray:
        """Log densities of the sides ``(..., k)``, mixtures of the rows ``(..., n_rows)``."""
        each = zip(sides, columns, strict=True)
        mixed = [np.logaddexp.reduce(density[..., mine] + side.log_weights, axis=-1) for side, mine in each]
        return np.stack(mixed, axis=-1)

    def of_member(asked: tuple[Member, Directions, bool]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Log densities of the sides, of the sides by partition, and of the rows at the finest if the member judges.

        The latter by the first opinion, as `ConditionalFlow.support` is.
        """
        member, directions, is_judge = asked
        groups = member.groups(flow.design, rows) if len(sides) > 1 else of_one(flow, member, rows)
        parts = node_log_likelihoods(member, x, groups, directions=directions, weights=weights)
        seen = parts @ weights
        finest = parts[: member.anchor.n_parts].mean(0).sum(-1) if is_judge else None
        return of_sides(seen.mean(0)), of_sides(seen), finest

    judges: np.ndarray = np.any(batch.unseen, axis=1)
    asked = [*zip(flow.members, _directions(flow, judges), judges, strict=True)]
    at_most = at_once(flow.members[0].device, small=flow.silent and flow.n_dims <= MAX_DIMS_ALONE)
    by_member, by_partition, finest = zip(*side_by_side(of_member, asked, at_most=at_most), strict=True)
    members = np.stack(by_member)
    judged = _mean_of(np.stack([part for part in finest if part is not None]), batch.unseen[judges])
    far, withheld = _nearby(flow, x, batch, sides=sides, density=_mean_of(members, batch.unseen), at_most=at_most)
    far |= _outside(flow, of_sides(judged), sides=sides)
    unit = flow.n_dims * np.log(flow.scale)
    return Scores(batch.cells, members - unit, np.mean(by_partition, axis=0) - unit, batch.unseen, far, withheld)


def _nearby(
    flow: ConditionalFlow, x: np.ndarray, batch: Batch, *, sides: Sequence[Side], density: np.ndarray, at_most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Whether sides have hardly any cells nearby ``(b, k)``, and `Scores.withheld`, by a member that judges each cell.

    Given the log densities of the sides ``(b, k)``.
    """
    far, withheld = np.empty(density.shape, bool), np.empty((*density.shape, len(sides)))
    judge = batch.unseen.argmax(0)

    def of_judge(m: int) -> None:
        mine = np.flatnonzero(judge == m)
        within = _Within.of(flow, flow.members[m], x[mine], sides=sides)
        far[mine] = _expected(flow, within, sides=sides, density=density[mine]) < MIN_NEARBY
        withheld[mine] = _withheld(flow, within, sides=sides)

    list(side_by_side(of_judge, np.unique(judge).tolist(), at_most=at_most))
    return far, withheld


@dataclass(frozen=True)
class _Within:
    """A member, and the shares of cells in its components, of all sides in equal parts ``(b, m)``.

    Also by how much those of each side are more than the weights there, and these shares times the distance of cells
    from the component along one dimension, in its standard deviations, ``(k, b, m)`` each.
    """

    member: Member
    share: np.ndarray
    surplus: np.ndarray
    apart: np.ndarray

    @classmethod
    def of(cls, flow: ConditionalFlow, member: Member, x: np.ndarray, *, sides: Sequence[Side]) -> _Within:
        groups = member.described(flow.design, np.concatenate([side.rows for side in sides]))
        of_side = block_diag(*(np.exp(side.log_weights) for side in sides))
        weight = of_side @ groups.mixtures.log_weight.cpu().double().exp().numpy()
        share, distance = member.shares(x, groups, np.vstack([of_side.mean(0), of_side]))
        of_each = share[1:]
        return cls(member, share[0], of_each - weight[:, None], of_each * np.sqrt(distance[1:] / flow.n_dims))


def _withheld(flow: ConditionalFlow, within: _Within, *, sides: Sequence[Side]) -> np.ndarray:
    anchor = within.member.anchor
    features = np.stack([np.exp(side.log_weights) @ flow.design.features(side.rows) for side in sides])
    surplus, apart = (anchor.n_parts * part for part in (within.surplus, within.apart))
    of_weights = withheld_from(surplus, flow.withheld, partition=anchor.partition, features=features)
    return of_weights + hidden_from(apart, flow.hidden_moves, n_parts=anchor.n_parts, features=features)


def _expected(flow: ConditionalFlow, within: _Within, *, sides: Sequence[Side], density: np.ndarray) -> np.ndarray:
    """Fitted cells of each side to expect where cells lie, given their log densities ``(b, k)``, ``(b, k)``.

    Of the cells of all sides in the components that a cell x lies in, side k has n_k p_k(x) / sum_l n_l p_l(x).
    """
    anchor, counted = within.member.anchor, fitted_groups(flow.design, sides)
    size = anchor.size.sum(1) / anchor.n_parts
    n_cells, n_together = counted @ size, counted.any(0) @ size
    share = softmax(density + np.log(np.maximum(n_cells, 1)), axis=1)
    share *= n_cells.sum() / max(n_together, 1e-9)  # cells of levels that sides have in common count once
    seen = size[flow.design.first_alike].sum() / flow.design.sizes.sum()
    nearby = within.share @ anchor.size[counted.any(0)].sum(0)
    expected: np.ndarray = nearby[:, None] * share / seen
    return expected


def _outside(flow: ConditionalFlow, density: np.ndarray, *, sides: Sequence[Side]) -> np.ndarray:
    """Whether cells of such log densities lie outside of a side, or the side has hardly any cells, ``(b, k)``."""
    least = [flow.support[flow.design.condition_of(side.rows)].min() for side in sides]
    return (density < least) | [not side.observed or side.n_cells < MIN_NEARBY for side in sides]


def finest_scores(flow: ConditionalFlow, x: np.ndarray, batch: Batch, *, sides: Sequence[Side]) -> Scores:
    """The same at the finest bandwidth."""
    return denoising_scores(flow, x, batch, sides=sides, weights=np.ones(N_NODES))


def _directions(flow: ConditionalFlow, judges: np.ndarray) -> list[Directions]:
    """Directions of each member.

    Members that judge cells ``(n_members,)`` share all directions; the others, asked for their spread alone, take a
    part each.
    """
    turn = np.where(judges, np.cumsum(judges) - 1, np.arange(len(judges)))
    counts = np.where(judges, judges.sum(), len(judges))
    return [_drawn(flow.n_dims, int(count), flow.seed)[part] for count, part in zip(counts, turn, strict=True)]


@lru_cache(maxsize=4)
def _drawn(n_dims: int, n_parts: int, seed: int) -> list[Directions]:
    """The same for every batch of cells of a flow."""
    return draw_directions(n_dims, n_parts, rng=np.random.default_rng(seed))
