"""Rows of a table of effects: which cells are compared, and what is said where there are too few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scratio_sc._labels import MIN_CELLS
from scratio_sc._warn import MAX_EXTRAPOLATED, all_zero
from scratio_sc.flow._gain import CLEARLY
from scratio_sc.flow._member_scores import observed
from scratio_sc.stats._divergence import NAMES, Ratios, Share, by_name, divergence_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scratio_sc._embedding import Cells
    from scratio_sc.flow import ConditionalFlow
    from scratio_sc.flow._member_scores import MemberScores

ALL = "(all)"


@dataclass(frozen=True)
class Contrast:
    """Cells of both sides of a contrast.

    Attributes
    ----------
    is_target
        Whether a cell is of the target, ``(n,)``.
    scored
        Whether it has a ratio that counts, ``(n,)``.
    comparable
        Whether the fit had cells of both sides with its covariates, too, ``(n,)``.
    far
        Whether one of the sides has hardly any cells of the fit nearby, ``(n,)``.
    stratum
        Number of its labels in the columns that the ratio holds fixed, within which it compares, ``(n,)``.
    ratios
        Their log ratios.
    """

    is_target: np.ndarray
    scored: np.ndarray
    comparable: np.ndarray
    far: np.ndarray
    stratum: np.ndarray
    ratios: Ratios


def counted_cells(
    flow: ConditionalFlow, cells: Cells, scores: MemberScores, *, sides: Sequence[Any], own: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Which cells have a ratio that counts, and of these, with which covariates the fit had all sides, ``(n,)`` each.

    A cell that was not fitted and lies far from all sides does not count: it could outweigh a whole mean.
    """
    scored = np.isfinite(scores.value).all(1) & ~(cells.new & scores.far.all(1))
    return scored, scored & observed(flow, len(scored), sides, own=own)


def rows_of(contrast: Contrast, labels: pd.DataFrame, *, left_out: np.ndarray) -> Iterator[dict[str, Any]]:
    """One row for each group and sample of cells with labels ``(n, 2)``, and for all of them together."""
    groups, samples = ([ALL, *sorted(set(labels[name]) - {""})] for name in ("group", "sample"))
    every = np.ones(len(labels), bool)
    for sample in samples:
        in_sample = every if sample == ALL else (labels["sample"] == sample).to_numpy()
        for group in groups:
            of_type = None if group == ALL else (labels["group"] == group).to_numpy()
            yield {"group": group, "sample": sample, **_row(contrast, in_sample, of_type, left_out=left_out)}


def _row(
    contrast: Contrast, in_sample: np.ndarray, of_type: np.ndarray | None, *, left_out: np.ndarray
) -> dict[str, Any]:
    """Effect on the cells ``(n,)`` of a sample, or on those of a type alone."""
    cells = in_sample if of_type is None else in_sample & of_type
    sides = [contrast.is_target, ~contrast.is_target]
    used = [np.flatnonzero(cells & contrast.comparable & side) for side in sides]
    n, n_scored = [len(part) for part in used], [(cells & contrast.scored & side).sum() for side in sides]
    far = float(contrast.far[np.concatenate(used)].mean()) if sum(n) else np.nan
    flag = ""
    if min(n) < MIN_CELLS:
        one_sided, none_compared = max(n_scored) and not min(n_scored), min(n_scored) and not min(n)
        confounded = min(n_scored) >= MIN_CELLS or none_compared
        flag = "one side only" if one_sided else "confounded" if confounded else "few cells"
    elif far > MAX_EXTRAPOLATED:
        flag = "extrapolated"
    value, se = np.full(len(NAMES), np.nan), np.full(len(NAMES), np.nan)
    if min(n) >= MIN_CELLS:
        both = np.concatenate(used)
        target, reference = (contrast.ratios.take(part) for part in used)
        same = all_zero(contrast.ratios.value[both])
        within = None if of_type is None or same else _share_in_ratio(contrast, of_type, contrast.stratum[both])
        value, se = divergence_of(target, reference, left_out=left_out, share=within)
        if not flag and same:
            flag = "no difference"
    effect = by_name(value, se)
    share = None
    if of_type is not None and min(n):
        n_all = [int((in_sample & contrast.comparable & side).sum()) for side in sides]
        share = Share.of((n[0], n_all[0]), (n[1], n_all[1]))
    return {
        **effect,
        "responds": pd.NA if np.isnan(effect["js_se"]) else bool(effect["js"] > CLEARLY * effect["js_se"]),
        "composition": share.log_ratio if share else np.nan,
        "composition_se": float(np.sqrt(share.variance)) if share else np.nan,
        "n_target": n[0],
        "n_reference": n[1],
        "extrapolated": far,
        "flag": flag,
    }


def _share_in_ratio(contrast: Contrast, of_type: np.ndarray, strata: np.ndarray) -> Share:
    """Log ratio of the shares of cells ``of_type (n,)`` that ratios of cells in some strata know of.

    That is of all samples that the ratio does not tell apart, and within the columns that it holds fixed.
    """
    told, n_strata = np.isin(contrast.stratum, strata) & contrast.comparable, contrast.stratum.max() + 1

    def counts(side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        of_it, in_all = (contrast.stratum[told & side & cells] for cells in (of_type, told))
        return np.bincount(of_it, minlength=n_strata), np.bincount(in_all, minlength=n_strata)

    return Share.of(counts(contrast.is_target), counts(~contrast.is_target))
