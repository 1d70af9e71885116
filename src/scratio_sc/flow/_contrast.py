"""What is compared with what: sides of a contrast, as level combinations with weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._arguments import closest

if TYPE_CHECKING:
    from scratio_sc.flow._design import Design

LevelSpec = str | float | Sequence[str] | Sequence[float] | EllipsisType
SideSpec = LevelSpec | Mapping[str, LevelSpec]
"""A level of the condition, several of them or all (``...``): their mixture; or the same by column, {} for all own.

Of a column of numbers, a level is any number.
"""


@dataclass(frozen=True)
class Side:
    """A mixture of rows of a design ``(m, n_columns)`` with log weights ``(m,)`` that sum to one.

    ``observed`` is False where a combination was never seen in the fit. ``n_cells`` are the fitted cells of these
    labels, whatever their numbers, and ``own`` the columns not named.
    """

    rows: np.ndarray
    log_weights: np.ndarray
    observed: bool
    n_cells: float
    own: frozenset[int]


def named_levels(design: Design, spec: SideSpec) -> dict[str, list[int | float]]:
    """Level codes and numbers that a side names, by column; errors name what is unknown."""
    if isinstance(spec, Mapping):
        unknown = [column for column in spec if column not in design.columns]
        if unknown:
            hint = closest(unknown[0], design.columns)
            msg = f"The flow knows no column {unknown[0]!r}. Its columns: {', '.join(map(repr, design.columns))}.{hint}"
            raise KeyError(msg)
        named = dict(spec)
    elif design.n_condition_columns == 1:
        named = {design.columns[0]: spec}
    else:
        columns = ", ".join(f"{c!r}: ..." for c in design.columns[: design.n_condition_columns])
        msg = f"The condition has several columns: name the levels as {{{columns}}} instead of {spec!r}."
        raise TypeError(msg)
    out: dict[str, list[int | float]] = {}
    for column, value in named.items():
        if value is Ellipsis:
            out[column] = design.all_levels(column)
            continue
        labels = [value] if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray) else list(value)
        if not labels:
            msg = f"No level given for {column!r}. Known levels: {design.choices(column)}."
            raise ValueError(msg)
        out[column] = sorted({design.level(column, str(label)) for label in labels})
    return out


def conditions_named(design: Design, named: Mapping[str, list[int | float]]) -> np.ndarray:
    """Which of the conditions a side names, ``(n_conditions,)``; none where no cell has its combination of labels."""
    conditions = design.conditions
    hit = np.ones(len(conditions), bool)
    for j, column in enumerate(design.columns[: design.n_condition_columns]):
        if column in named:
            hit &= np.isin(design.bin_of(j, conditions[:, j]), design.bin_of(j, np.array(named[column])))
    return hit


def conditions_of(
    design: Design, target: Mapping[str, list[int | float]], reference: Mapping[str, list[int | float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Conditions of both sides, as indices; of none where the sides have one in common, as if they do not differ in it.

    A number stands for the bin that holds it.
    """
    hits = [conditions_named(design, named) for named in (target, reference)]
    apart = not (hits[0] & hits[1]).any()
    return np.flatnonzero(hits[0] & apart), np.flatnonzero(hits[1] & apart)


def judging_groups(
    design: Design, target: Mapping[str, list[int | float]], reference: Mapping[str, list[int | float]]
) -> np.ndarray:
    """Groups whose cells can judge a contrast, known within their own covariates, ``(n_groups,)``.

    Of a covariate that sides name, those of the one level (or bin of a number) that both name.
    """
    out = np.ones(design.n_groups, bool)
    for j, column in enumerate(design.columns[design.n_condition_columns :], design.n_condition_columns):
        if column in target or column in reference:
            named = [design.bin_of(j, np.array(side[column])) if column in side else () for side in (target, reference)]
            both = np.unique(np.concatenate(named)) if all(map(len, named)) else np.empty(0)
            out &= (len(both) == 1) & np.isin(design.bin_of(j, design.groups[:, j]), both)
    return out


def side_of(design: Design, named: Mapping[str, list[int | float]], own: np.ndarray) -> Side:
    """The side for cells whose own row is ``own (n_columns,)``: columns not named keep it.

    A mixture weighs its combinations by their cells in the fit.
    """
    choices = [named.get(column, [own[j]]) for j, column in enumerate(design.columns)]
    rows = _combinations(design, choices)
    group = design.group_of(rows)
    n_sharing = np.bincount(group + 1)[group + 1]  # numbers that lie in one bin share its cells
    sizes = np.where(group >= 0, design.sizes[group], 0) / n_sharing
    alike = np.unique(design.alike(rows))
    n_cells = float(design.over_numbers(design.sizes)[alike[alike >= 0]].sum())
    observed = sizes > 0
    if observed.any():
        rows, sizes = rows[observed], sizes[observed]
    else:
        sizes = np.ones(len(rows))
    not_named = frozenset(j for j, column in enumerate(design.columns) if column not in named)
    return Side(rows, np.log(sizes / sizes.sum()), bool(observed.any()), n_cells, not_named)


def _combinations(design: Design, choices: Sequence[Sequence[int | float]]) -> np.ndarray:
    """Rows ``(m, n_columns)`` of the levels to choose from in each column.

    Of labels, those combinations that were observed; all where none was.
    """
    known, labels = design.label_combinations, design.label_columns
    chosen = np.ones(len(known), bool)
    for j, codes in zip(labels, known.T, strict=True):
        chosen &= np.isin(codes, choices[j])
    columns = dict(enumerate(choices))
    each = [{**columns, **{j: [code] for j, code in zip(labels, row, strict=True)}} for row in known[chosen].tolist()]
    rows = [row for some in each or [columns] for row in itertools.product(*some.values())]
    return np.array(rows, design.groups.dtype)


def fitted_groups(design: Design, sides: Sequence[Side]) -> np.ndarray:
    """Whether groups tell of each side, ``(n_sides, n_groups)``; of those that differ in numbers alone, the first.

    Those of its conditions, whatever the covariates that no side names: what conditions do is common to them, and so
    it is to numbers.
    """
    own = frozenset.intersection(*(side.own for side in sides)) - {*range(design.n_condition_columns)}
    compared = [j for j in range(len(design.columns)) if j not in own and j not in design.numbers]
    first = np.isin(np.arange(design.n_groups), design.first_alike)
    codes = design.groups[:, compared]
    return np.stack([first & (codes[:, None] == side.rows[:, compared]).all(2).any(1) for side in sides])
