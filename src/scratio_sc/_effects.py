"""Rows of a table of effects: which cells are compared, and what is said where there are too few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scratio_sc._check import MIN_CELLS
from scratio_sc._warn import MAX_EXTRAPOLATED, all_zero
from scratio_sc.stats._divergence import NAMES, Ratios, Share, by_name, divergence_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = "(all)"
ONE_SIDED_5_PERCENT = 1.645


@dataclass(frozen=True)
class Contrast:
    """Cells of both sides ``(n,)``: side, whether they have a ratio, whether it rests on cells of both sides."""

    is_target: np.ndarray
    scored: np.ndarray
    comparable: np.ndarray
    far: np.ndarray
    ratios: Ratios


def rows_of(contrast: Contrast, labels: pd.DataFrame, *, left_out: np.ndarray) -> Iterator[dict[str, Any]]:
    """One row for each group and sample of cells with labels ``(n, 2)``, and for all of them together."""
    groups, samples = ([ALL, *sorted(set(labels[name]) - {""})] for name in ("group", "sample"))
    for sample in samples:
        in_sample = np.ones(len(labels), bool) if sample == ALL else (labels["sample"] == sample).to_numpy()
        for group in groups:
            cells = in_sample if group == ALL else in_sample & (labels["group"] == group).to_numpy()
            row = _row(contrast, cells, whole=None if group == ALL else in_sample, left_out=left_out)
            yield {"group": group, "sample": sample, **row}


def _row(contrast: Contrast, cells: np.ndarray, *, whole: np.ndarray | None, left_out: np.ndarray) -> dict[str, Any]:
    """Effect on some cells ``(n,)``; ``whole (n,)`` are those of all types where the cells are of one."""
    sides = [contrast.is_target, ~contrast.is_target]
    used = [np.flatnonzero(cells & contrast.comparable & side) for side in sides]
    n, n_scored = [len(part) for part in used], [(cells & contrast.scored & side).sum() for side in sides]
    share = None
    if whole is not None:
        n_whole = [int((whole & contrast.comparable & side).sum()) for side in sides]
        share = Share.of((n[0], n_whole[0]), (n[1], n_whole[1]))
    far = float(contrast.far[np.concatenate(used)].mean()) if sum(n) else np.nan
    flag = ""
    if min(n) < MIN_CELLS:
        one_sided = max(n_scored) and not min(n_scored)
        flag = "one side only" if one_sided else "few cells" if min(n_scored) < MIN_CELLS else "confounded"
    elif far > MAX_EXTRAPOLATED:
        flag = "extrapolated"
    value, se = np.full(len(NAMES), np.nan), np.full(len(NAMES), np.nan)
    if min(n) >= MIN_CELLS:
        target, reference = (contrast.ratios.take(part) for part in used)
        value, se = divergence_of(target, reference, left_out=left_out, share=share)
        if not flag and all_zero(contrast.ratios.value[np.concatenate(used)]):
            flag = "no difference"
    effect = by_name(value, se)
    counted = share is not None and min(n) > 0
    return {
        **effect,
        "responds": pd.NA if np.isnan(effect["js_se"]) else bool(effect["js"] > ONE_SIDED_5_PERCENT * effect["js_se"]),
        "composition": share.log_ratio if share and counted else np.nan,
        "composition_se": float(np.sqrt(share.variance)) if share and counted else np.nan,
        "n_target": n[0],
        "n_reference": n[1],
        "extrapolated": far,
        "flag": flag,
    }
