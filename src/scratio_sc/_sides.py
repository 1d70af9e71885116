"""Sides of a contrast, as functions are given them, and the cells that belong to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from scratio_sc._labels import UNKNOWN, label_of, read_labels
from scratio_sc._numbers import beyond_fit
from scratio_sc._warn import not_fitted, warn
from scratio_sc.flow._arguments import named
from scratio_sc.flow._contrast import conditions_named, named_levels

if TYPE_CHECKING:
    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow


def as_spec(side: Any) -> Any:
    """A side of a contrast with its labels and numbers as text; ``...``, all of them, stays what it is."""
    if isinstance(side, Mapping):
        if not side:
            msg = "An empty side names no level: give at least one column and level."
            raise ValueError(msg)
        return {str(column): as_spec(value) for column, value in side.items()}
    if side is Ellipsis:
        return side
    if side is None:
        msg = "A side is None, which names no level. Name one, several in a list, or {column: level}; `...` means all."
        raise TypeError(msg)
    if isinstance(side, Iterable) and not isinstance(side, str):
        labels = [label_of(value) for value in side]
        labels = sorted(labels) if isinstance(side, set | frozenset) else labels
        return labels[0] if len(labels) == 1 else labels
    return label_of(side)


def describe(side: Any) -> str:
    """A side of a contrast for people to read."""
    if isinstance(side, Mapping):
        return ", ".join(f"{column}={describe(value)}" for column, value in side.items())
    if side is Ellipsis:
        return "all"
    return " + ".join(side) if isinstance(side, list) else str(side)


def levels_of(flow: ConditionalFlow, sides: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Columns and levels that each side names, as texts ``(k, 2)``, which files keep.

    Where a side means all levels, they are spelled out; numbers, between which others lie, are left out.
    """
    design, out = flow.design, {}
    for name, side in sides.items():
        named = {column: codes for column, codes in named_levels(design, side).items() if column not in design.numeric}
        pairs = [(column, design.name(column, code)) for column, codes in named.items() for code in codes]
        out[name] = np.array(pairs, object).reshape(-1, 2)
    return out


def check_differ(flow: ConditionalFlow, target: Any, reference: Any) -> None:
    """Refuse two sides that mean the same, however they are written."""
    if named_levels(flow.design, target) == named_levels(flow.design, reference):
        column = flow.design.columns[0]
        msg = (
            f"target ({describe(target)!r}) and reference ({describe(reference)!r}) are the same, so the log ratio is "
            f"0 everywhere. Name two sides that differ ({column!r}: {flow.design.choices(column)})."
        )
        raise ValueError(msg)


def columns_not_named(flow: ConditionalFlow, sides: Sequence[Any]) -> list[str]:
    """Columns of the fit that not every side names."""
    named_columns = [named_levels(flow.design, side) for side in sides]
    return [column for column in flow.design.columns if not all(column in side for side in named_columns)]


def read_own_labels(adata: AnnData, flow: ConditionalFlow, sides: Sequence[Any]) -> np.ndarray | None:
    """Labels of the columns that not every side names ``(n_cells, n_columns)``; None where all are named."""
    needed = columns_not_named(flow, sides)
    if not needed:
        return None
    example = ", ".join(f"{column!r}: ..." for column in dict.fromkeys((flow.design.columns[0], *needed)))
    instead = f" Each cell's own label is taken where a side does not name one; name them all: {{{example}}}."
    design = flow.design
    labels = read_labels(adata, needed, numeric=design.numeric, instead=instead)
    out = np.full((adata.n_obs, len(design.columns)), UNKNOWN, object)
    mine = [design.columns.index(column) for column in needed]
    out[:, mine] = np.where(labels.known, labels.text, UNKNOWN)
    seen = design.known(design.encode(out))[:, mine]
    for j, column in enumerate(needed):
        if seen[:, j].all():
            continue
        others = sorted(set(labels.text[~seen[:, j] & labels.known[:, j], j].tolist()))
        rest = "beyond those of the fit" if column in design.numeric else "one that the flow was not fitted on"
        what = f"is missing, or {rest} ({named(others)})" if others else "is missing"
        msg = (
            f"{(~seen[:, j]).sum()} of {adata.n_obs} cells are not scored (NaN): their own label in {column!r} {what}."
        )
        warn(msg)
    return out.astype(str)


def check_all_named(flow: ConditionalFlow, side: Any) -> None:
    """Refuse a side that leaves a column to the cells' own labels, where there are no cells."""
    rest = columns_not_named(flow, [side])
    if rest:
        levels = "; ".join(f"{name!r}: {flow.design.choices(name)}" for name in rest)
        example = ", ".join(f"{name!r}: ..." for name in flow.design.columns)
        msg = f"New cells need a level of {named(rest)} too. Name all as {{{example}}} (levels of {levels})."
        raise ValueError(msg)


def treatments_of(flow: ConditionalFlow, reference: Any) -> dict[str, dict[str, str]]:
    """Every observed combination of the columns that a side names that is not of it, by what to call it."""
    design, by_column = flow.design, named_levels(flow.design, reference)
    columns = [design.columns.index(column) for column in by_column]
    rows = np.unique(design.groups[:, columns], axis=0)
    inside = np.all(
        [
            np.isin(design.bin_of(j, rows[:, k]), design.bin_of(j, np.array(levels)))
            for k, (j, levels) in enumerate(zip(columns, by_column.values(), strict=True))
        ],
        axis=0,
    )
    out = {}
    for row in rows[~inside]:
        side = {column: design.name(column, level) for column, level in zip(by_column, row, strict=True)}
        out[describe(side) if len(side) > 1 else next(iter(side.values()))] = side
    if not out:
        msg = (
            f"The reference {describe(reference)!r} takes in every level of {named(by_column)}, so that "
            "none is left to compare with it. Name fewer levels."
        )
        raise ValueError(msg)
    return out


def cells_of(adata: AnnData, flow: ConditionalFlow, side: Any) -> np.ndarray:
    """Whether a cell belongs to a side by its own labels, ``(n_cells,)``; by a number, where its bin holds it."""
    design, by_column = flow.design, named_levels(flow.design, side)
    labels = read_labels(adata, list(by_column), numeric=design.numeric)
    hits = [design.among(column, labels.text[:, j], levels) for j, (column, levels) in enumerate(by_column.items())]
    return np.all(hits, axis=0)


def was_fitted(flow: ConditionalFlow, side: Any) -> bool:
    """Whether cells with the combination of labels that a side names were fitted, not only with each of them."""
    return bool(conditions_named(flow.design, named_levels(flow.design, side)).any())


def not_of_fit(flow: ConditionalFlow, *sides: Any) -> tuple[str, str]:
    """The first number of the sides beyond the fit, and the first combination not fitted, for a message; or empty."""
    return beyond_fit(flow, sides), next((describe(side) for side in sides if not was_fitted(flow, side)), "")


def warn_of_unfitted(flow: ConditionalFlow, side: Any, *, what: str) -> None:
    """Warn of a side that the flow can only extrapolate to."""
    beyond, unseen = not_of_fit(flow, side)
    if beyond or unseen:
        warn(not_fitted(beyond, unseen, what=what))


def check_has_cells(adata: AnnData, flow: ConditionalFlow, side: Any) -> None:
    """Refuse columns whose labels are none of the fit, and numbers between those of the cells.

    Cells with another number would stand for it.
    """
    design = flow.design
    for column, levels in named_levels(design, side).items():
        number = design.numbers.get(design.columns.index(column))
        if number is None:
            _check_known(adata, flow, column)
            continue
        labels = read_labels(adata, (column,), numeric=(column,))
        own = np.unique(labels.text[labels.complete, 0].astype(float))
        for level in levels:
            there = own[number.bin_of(own) == number.bin_of(np.array([level]))]
            if len(there) and not there[0] <= level <= there[-1]:
                closest = f"{there[0]:g}" if there[0] == there[-1] else f"{there[0]:g} to {there[-1]:g}"
                msg = (
                    f"No cells have {column}={level:g}: the closest have {closest}, and testing "
                    "these would say nothing of it. Name a number that cells have; `scratio.tl.log_ratio` takes any."
                )
                raise ValueError(msg)


def check_any(cells: np.ndarray, name: str, side: Any) -> None:
    """Refuse a side without cells ``(n_cells,)``: there is nothing to compare."""
    if not cells.any():
        msg = (
            f"No cell is of the {name} {describe(side)!r} by its own labels in `adata.obs`, so there is nothing to "
            "compare. Were labels renamed since the fit, or these cells left out? Restore them, or fit again."
        )
        raise ValueError(msg)


def warn_of_unknown(adata: AnnData, flow: ConditionalFlow, *sides: Any) -> None:
    """Warn of cells whose labels, in the columns that sides name, are missing or none of the fit."""
    for column in dict.fromkeys(column for side in sides for column in named_levels(flow.design, side)):
        if column in flow.design.numeric:
            continue
        labels = read_labels(adata, (column,))
        known = flow.design.levels[flow.design.columns.index(column)]
        missing = int((~labels.complete).sum())
        if missing:
            warn(f"{missing} cells have no label in {column!r}, and take no part.")
        strange = labels.known[:, 0] & ~np.isin(labels.text[:, 0], known)
        if strange.any():
            msg = (
                f"{strange.sum()} cells have labels in {column!r} that the flow was not fitted on "
                f"({named(np.unique(labels.text[strange, 0]))}), and take no part."
            )
            warn(msg)


def _check_known(adata: AnnData, flow: ConditionalFlow, column: str) -> None:
    """Refuse a column of labels none of which the fit has seen: they were renamed since."""
    labels = read_labels(adata, (column,))
    known, own = flow.design.levels[flow.design.columns.index(column)], np.unique(labels.text[labels.complete, 0])
    if len(own) and not np.isin(own, known).any():
        msg = (
            f"No cell has a label of the fit in adata.obs[{column!r}]: the fit knows {named(known)}, the cells have "
            f"{named(own)}. Give the labels their old names, or fit again."
        )
        raise ValueError(msg)


def cells_by_side(adata: AnnData, flow: ConditionalFlow, sides: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Cells of each side ``(n_cells,)``, by its name; a ValueError counts those that two sides have in common."""
    for side in sides.values():
        check_has_cells(adata, flow, side)
    cells = {name: cells_of(adata, flow, side) for name, side in sides.items()}
    for one, other in combinations(sides, 2):
        n_shared = int((cells[one] & cells[other]).sum())
        if n_shared:
            msg = (
                f"{n_shared} cells are on both sides, {one} ({describe(sides[one])!r}) and {other} "
                f"({describe(sides[other])!r}). Name sides that have no level in common."
            )
            raise ValueError(msg)
    return cells
