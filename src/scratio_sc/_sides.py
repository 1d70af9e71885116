"""Sides of a contrast and the cells that belong to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc._check import describe, read_labels
from scratio_sc.flow._contrast import named_levels

if TYPE_CHECKING:
    from typing import Any

    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow


def columns_named(flow: ConditionalFlow, side: Any) -> list[str]:
    """Columns of the fit that a side names."""
    return list(named_levels(flow.design, side))


def levels_named(flow: ConditionalFlow, side: Any) -> dict[str, list[str]]:
    """Labels that a side names, by column."""
    design = flow.design
    return {
        column: [design.levels[design.columns.index(column)][code] for code in codes]
        for column, codes in named_levels(design, side).items()
    }


def others(flow: ConditionalFlow, reference: Any) -> dict[str, dict[str, str]]:
    """Every observed combination of the columns that a side names that is not of it, by what to call it."""
    design, named = flow.design, named_levels(flow.design, reference)
    columns = [design.columns.index(column) for column in named]
    rows = np.unique(design.groups[:, columns], axis=0)
    inside = np.all([np.isin(rows[:, k], codes) for k, codes in enumerate(named.values())], axis=0)
    out = {}
    for row in rows[~inside]:
        side = {design.columns[j]: design.levels[j][code] for j, code in zip(columns, row, strict=True)}
        out[describe(side) if len(side) > 1 else next(iter(side.values()))] = side
    if not out:
        msg = (
            f"The reference {describe(reference)!r} takes in every level of {', '.join(map(repr, named))}, so that "
            "none is left to compare with it. Name fewer levels."
        )
        raise ValueError(msg)
    return out


def cells_of(adata: AnnData, flow: ConditionalFlow, side: Any) -> np.ndarray:
    """Whether a cell belongs to a side by its own labels, ``(n_cells,)``."""
    named = levels_named(flow, side)
    labels = read_labels(adata, list(named))
    return np.all([np.isin(labels.text[:, j], known) for j, known in enumerate(named.values())], axis=0)
