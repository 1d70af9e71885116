"""Log densities of cells under several sides, by each member, in one array."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._contrast import SideSpec, named_levels, side_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.flow._flow import ConditionalFlow


@dataclass(frozen=True)
class MemberScores:
    """Log densities of n cells under k sides.

    Attributes
    ----------
    by_member
        Log density according to each member, nats, ``(n_members, n, k)``; NaN for cells that are not scored.
    by_opinion
        Log density according to each partition, nats, ``(n_partitions, n, k)``; twice as many by two opinions.
    value
        Mean of the members that did not see the cell, nats, ``(n, k)``.
    far
        Whether a side has hardly any cells of the fit nearby, ``(n, k)``.
    withheld
        Covariance of what shrinking may have withheld from the sides, nats², ``(n, k, k)``.
    n_parts
        How many partitions there are.
    """

    by_member: np.ndarray
    by_opinion: np.ndarray
    value: np.ndarray
    far: np.ndarray
    withheld: np.ndarray
    n_parts: int

    @cached_property
    def by_partition(self) -> np.ndarray:
        """Log density according to each partition, nats, ``(n_partitions, n, k)``; of two opinions their mean.

        What is no mean of ratios, such as a divergence, says little of one of them.
        """
        opinions = self.by_opinion.reshape(-1, self.n_parts, *self.value.shape)
        return np.asarray(opinions.mean(0))


def member_scores(
    flow: ConditionalFlow,
    x: np.ndarray,
    sides: Sequence[SideSpec],
    *,
    own: np.ndarray | None,
    fold: np.ndarray | None,
    weights: np.ndarray,
    progress: bool = False,
) -> MemberScores:
    """Score cells ``(n, d)`` as `ConditionalFlow.scores` does."""
    value, far = np.full((len(x), len(sides)), np.nan), np.zeros((len(x), len(sides)), bool)
    by_member = np.full((len(flow.members), *value.shape), np.nan)
    anchor = flow.members[0].anchor
    by_opinion = np.full((anchor.n_opinions, *value.shape), np.nan)
    withheld = np.zeros((*value.shape, len(sides)))
    for batch in flow.scores(x, sides, own=own, fold=fold, weights=weights, progress=progress):
        by_member[:, batch.cells] = batch.by_member
        by_opinion[:, batch.cells] = batch.by_partition
        value[batch.cells], far[batch.cells], withheld[batch.cells] = batch.value, batch.far, batch.withheld
    return MemberScores(by_member, by_opinion, value, far, withheld, anchor.n_parts)


def observed(flow: ConditionalFlow, n: int, sides: Sequence[SideSpec], *, own: np.ndarray | None) -> np.ndarray:
    """Whether the fit had cells of every side with the labels ``own (n, n_columns)`` of each of n cells, ``(n,)``."""
    design, named = flow.design, [named_levels(flow.design, side) for side in sides]
    own_rows = np.zeros((n, len(design.columns)), design.groups.dtype) if own is None else design.encode(own)
    rows, kind = np.unique(own_rows, axis=0, return_inverse=True)
    seen = [all(side_of(design, levels, row).observed for levels in named) for row in rows]
    return np.array(seen, bool)[kind.reshape(-1)]
