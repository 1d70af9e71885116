"""Log ratios and log densities of a batch of cells along the probability flow."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import logsumexp

from scratio_sc.flow._device import usual_torch
from scratio_sc.flow._member import MemberDensity
from scratio_sc.flow._ode import ode_log_density, ode_log_ratio
from scratio_sc.flow._scores import Scores, finest_scores, of_one

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.flow._batches import Batch
    from scratio_sc.flow._contrast import Side
    from scratio_sc.flow._flow import ConditionalFlow


@usual_torch()
def ode_ratios(flow: ConditionalFlow, x: np.ndarray, batch: Batch, *, sides: Sequence[Side]) -> Scores:
    """Scores of the cells ``(b, d)`` of a batch, in the scaled embedding, under two sides; the second counts as 0."""
    if max(len(side.rows) for side in sides) > 1:
        msg = "method='ode' compares one level with one level; use method='denoising' for mixtures."
        raise ValueError(msg)
    generator = torch.Generator().manual_seed(flow.seed)
    by_part = np.zeros((len(flow.members), flow.members[0].anchor.n_opinions, len(x), 2))
    for member, out in zip(flow.members, by_part, strict=True):
        cells = member.coordinates(x)
        both = (member.groups(flow.design, side.rows).partitions for side in sides)
        for p, groups in enumerate(zip(*both, strict=True)):
            target, reference = (MemberDensity(member, part, 0) for part in groups)
            out[p, :, 0] = ode_log_ratio(cells, target, reference, generator=generator).cpu().numpy()
    beside = finest_scores(flow, x, batch, sides=sides)
    return replace(beside, by_member=by_part.mean(1), by_partition=by_part.mean(0))


@usual_torch()
def ode_densities(flow: ConditionalFlow, x: np.ndarray, batch: Batch, *, sides: Sequence[Side]) -> Scores:
    """The same under one side, by the instantaneous change of variables.

    Members that have seen the cells are not asked: their densities are NaN, and partitions are means of the others.
    """
    (side,) = sides
    n_parts = len(of_one(flow, flow.members[0], side.rows).partitions)
    by_part = np.full((len(flow.members), n_parts, len(x), len(side.rows)), np.nan)
    for m in np.flatnonzero(batch.unseen[:, 0]):
        member = flow.members[m]
        cells, generator = member.coordinates(x), torch.Generator().manual_seed(flow.seed)
        partitions = of_one(flow, member, side.rows).partitions
        for c in range(len(side.rows)):
            for p, groups in enumerate(partitions):
                density = MemberDensity(member, groups, c)
                by_part[m, p, :, c] = ode_log_density(cells, density, generator=generator).cpu().double().numpy()

    def of_side(density: np.ndarray) -> np.ndarray:
        return logsumexp(density + side.log_weights, axis=-1, keepdims=True) - flow.n_dims * np.log(flow.scale)

    beside = finest_scores(flow, x, batch, sides=sides)
    return replace(beside, by_member=of_side(by_part.mean(1)), by_partition=np.nanmean(of_side(by_part), axis=0))
