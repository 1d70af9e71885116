"""Held-out cells that have something to say of a contrast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._contrast import conditions_of, judging_groups, named_levels

if TYPE_CHECKING:
    from scratio_sc.flow._contrast import SideSpec
    from scratio_sc.flow._flow import ConditionalFlow
    from scratio_sc.flow._held_out import HeldOut


def judges_of(
    flow: ConditionalFlow, target: SideSpec, reference: SideSpec
) -> tuple[HeldOut, tuple[np.ndarray, np.ndarray]]:
    """Held-out cells that can judge a contrast, and the conditions of both sides, as indices."""
    named = [named_levels(flow.design, side) for side in (target, reference)]
    held = flow.held_out.where(judging_groups(flow.design, *named)[flow.held_out.group])
    return held, conditions_of(flow.design, *named)


def rivals_of(flow: ConditionalFlow, first: SideSpec, *others: SideSpec) -> HeldOut:
    """Held-out cells of the conditions of a contrast; of all conditions where it is about covariates alone.

    Of a column of numbers those of all numbers: they share what the number does.
    """
    design = flow.design
    named, *rest = [named_levels(design, side) for side in (first, *others)]
    each = [np.union1d(*conditions_of(design, named, other)) for other in rest]
    wanted = design.along_numbers(np.unique(np.concatenate(each)))
    return flow.held_out.of(wanted if len(wanted) > 1 else np.arange(len(design.conditions)))
