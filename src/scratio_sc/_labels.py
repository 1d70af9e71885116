"""Labels of cells, from columns of `obs`: what can be compared is checked before anything is computed or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scratio_sc._numbers import NOT_FINITE, check_numbers
from scratio_sc._warn import warn
from scratio_sc.flow._arguments import closest, listed, named, refuse

if TYPE_CHECKING:
    from anndata import AnnData

MIN_CELLS = 20
MANY_LEVELS = 50
CONDITIONS = "conditions"
"""What levels are called where a column of numbers may be named in `numeric`."""
LIKE_MISSING = ("", "nan", "NaN", "None", "NA", "<NA>", "NaT")
"""Labels that text makes of missing ones, as by ``.astype(str)``."""
UNKNOWN = "\0unknown"
"""In place of a label that a cell does not have; no label of a fit, so the flow gives the cell no ratio."""


@dataclass(frozen=True)
class Labels:
    """Labels and numbers as text and whether a cell has them, ``(n_cells, n_columns)`` each."""

    columns: tuple[str, ...]
    text: np.ndarray
    known: np.ndarray
    numeric: tuple[str, ...] = ()

    @property
    def complete(self) -> np.ndarray:
        """Whether a cell has all labels ``(n_cells,)``."""
        return np.asarray(self.known.all(1))

    @property
    def lacking(self) -> str:
        """What cells lack, and in which columns."""
        infinite = np.isin(self.text, NOT_FINITE) & ~self.known
        what = {"no label": ~self.known & ~infinite, "an infinite number": infinite}
        columns = {name: [self.columns[j] for j in np.flatnonzero(cells.any(0))] for name, cells in what.items()}
        return " or ".join(f"{name} in {named(mine)}" for name, mine in columns.items() if mine)


def columns_of(condition: Any, covariates: Any, adata: AnnData) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of the condition and of the covariates, each named once; None for no covariates."""
    conditions, others = _names("condition", condition), () if covariates is None else _names("covariates", covariates)
    if not conditions:
        msg = f"`condition` names no column. Name the one with the conditions (there: {named(adata.obs.columns)})."
        raise ValueError(msg)
    for name, n in Counter((*conditions, *others)).items():
        if n == 1:
            continue
        if name in conditions and name in others:
            msg = f"{name!r} is the condition, so it cannot be held fixed: leave it out of `covariates`."
        else:
            where = "condition" if name in conditions else "covariates"
            msg = f"{name!r} is named {n} times in `{where}`. Name each column once."
        raise ValueError(msg)
    return conditions, others


def _names(argument: str, columns: Any) -> tuple[str, ...]:
    if isinstance(columns, str):
        return (columns,)
    if isinstance(columns, pd.Series | pd.DataFrame | Mapping):  # iterable, but what they hold are no names
        refuse(argument, type(columns), "the name of a column of adata.obs, or a list of names", types=())
    names = tuple(columns) if isinstance(columns, Iterable) else (columns,)
    if not all(isinstance(name, str) for name in names):
        refuse(argument, columns, "the name of a column of adata.obs, or a list of names", types=())
    return tuple(sorted(names)) if isinstance(columns, set | frozenset) else names


def read_labels(adata: AnnData, columns: Sequence[str], *, numeric: Sequence[str] = (), instead: str = "") -> Labels:
    """Labels of obs columns as text; a KeyError names a missing column, the closest one, and what to do instead."""
    for column in columns:
        if not isinstance(column, str):
            msg = f"{column!r} is of type {type(column).__name__}, expected the name of one column of adata.obs."
            raise TypeError(msg)
        if column not in adata.obs:
            hint = closest(column, adata.obs.columns)
            msg = f"No column {column!r} in adata.obs (there: {named(adata.obs.columns)}).{hint}{instead}"
            raise KeyError(msg)
        if isinstance(adata.obs[column], pd.DataFrame):
            one = "`adata.obs = adata.obs.loc[:, ~adata.obs.columns.duplicated()]`"
            msg = f"adata.obs has several columns {column!r}. Keep one: {one}."
            raise ValueError(msg)
        if column in numeric:
            check_numbers(adata.obs[column], column)
    text, known = zip(*(_as_text(adata.obs[column], column) for column in columns), strict=True)
    mine = tuple(column for column in columns if column in numeric)
    labels = Labels(tuple(columns), np.column_stack(text), np.column_stack(known), mine)
    for j in map(columns.index, mine):
        labels.known[:, j] &= ~np.isin(labels.text[:, j], NOT_FINITE)
    return labels


def _as_text(column: pd.Series, name: str) -> tuple[np.ndarray, np.ndarray]:
    codes, values = pd.factorize(column)
    labels = [*map(label_of, np.asarray(values))]
    if len(set(labels)) < len(labels):
        label, _ = Counter(labels).most_common(1)[0]
        same = [value for value, text in zip(np.asarray(values), labels, strict=True) if text == label]
        what, stored = listed([repr(value) for value in same]), f"adata.obs[{name!r}]"
        others = {value: label for value in same if not isinstance(value, str)}
        mend = f"Rename one, or unite them: `{stored} = {stored}.astype(object).replace({others})`."
        msg = f"{stored} holds {what}, which are one label as text. {mend}"
        raise ValueError(msg)
    return np.array([*labels, UNKNOWN])[codes], codes >= 0


def label_of(value: object) -> str:
    """A value as text."""
    # a NaN among integers makes them floats; 1.0 is still called "1"
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, np.timedelta64 | timedelta):
        return str(pd.Timedelta(value))
    return str(pd.Timestamp(value)) if isinstance(value, np.datetime64) else str(value)


def check_levels(labels: Labels, n_condition_columns: int, *, called: str = CONDITIONS) -> None:
    """Refuse what cannot be compared, levels of too few cells, and measurements for labels; warn of missing labels.

    Messages speak of conditions as they are `called`.
    """
    _warn_of_text_for_missing(labels)
    check_labelled(labels)
    if not labels.complete.any():
        msg = f"No cell has a label in all of {named(labels.columns)}. Leave one out, or fill in its labels."
        raise ValueError(msg)
    rows = labels.text[labels.complete]
    missing = len(labels.text) - len(rows)
    left_out = f" (the {missing} cells with {labels.lacking} do not count)" if missing else ""
    _check_conditions(labels, n_condition_columns, left_out=left_out, called=called)
    for j, column in enumerate(labels.columns):
        values = set(rows[:, j].tolist())
        if column in labels.numeric and len(values) < 2:
            msg = f"{column!r} is {listed([*values])} in all cells{left_out}: a constant tells nothing. Leave it out."
            raise ValueError(msg)
        if j < n_condition_columns or column in labels.numeric:
            continue
        if len(values) > max(MANY_LEVELS, len(rows) / MIN_CELLS):
            way_out = "too few cells have each. Name a coarser one, such as a donor or a batch, or leave it out."
            if _are_numbers(rows[:, j]):
                way_out = (
                    f"it looks like a measurement. If it is one, say `numeric=[{column!r}]`; or cut it into classes "
                    "with `pd.cut`, or leave it out."
                )
            msg = f"The covariate {column!r} has {len(values)} levels in {len(rows)} cells: {way_out}"
            raise ValueError(msg)
    if missing:
        logarithms = ((labels.text == "-inf") & ~labels.known).any()
        log = " The logarithm of 0 is infinite: `np.log1p` keeps zeros." if logarithms else ""
        msg = f"{missing} of {len(labels.text)} cells have {labels.lacking} and are left out.{log}"
        warn(msg)


def check_labelled(labels: Labels) -> None:
    """Refuse a column in which no cell has a label."""
    if not len(labels.text):
        msg = "`adata` has no cells, so there is nothing to compare. Was it subset by a label that no cell has?"
        raise ValueError(msg)
    for column, known in zip(labels.columns, labels.known.T, strict=True):
        if not known.any():
            what = "number" if column in labels.numeric else "label"
            msg = f"{column!r} tells nothing: no cell has a {what} there. Name another column, or leave it out."
            raise ValueError(msg)


def warn_of_missing(labels: Labels, cells: np.ndarray, what: str) -> None:
    """Warn of cells ``(n_cells,)`` that have no label, and of labels that may stand for none."""
    _warn_of_text_for_missing(replace(labels, known=labels.known & cells[:, None]))
    without = int((cells & ~labels.complete).sum())
    if without:
        warn(f"{without} of {cells.sum()} cells have {labels.lacking} and are left out of {what}.")


def check_names(labels: Labels) -> None:
    """Refuse an empty label of a group or sample, which no row of a table can be named by, and a column of none."""
    check_labelled(labels)
    (column,) = labels.columns
    n_empty = int((labels.complete & (labels.text[:, 0] == "")).sum())
    if n_empty:
        missing = f"`adata.obs[{column!r}] = adata.obs[{column!r}].mask(adata.obs[{column!r}] == '')`"
        msg = (
            f"{n_empty} cells have an empty label in {column!r}, by which no result can be named. Give them another, "
            f"or none: {missing}."
        )
        raise ValueError(msg)


def check_groups(labels: Labels) -> None:
    """Refuse groups most of which can hardly have cells to compare, and an empty name."""
    check_names(labels)
    groups, n_cells = np.unique(labels.text[labels.complete, 0]), int(labels.complete.sum())
    if len(groups) > max(MANY_LEVELS, n_cells / MIN_CELLS):
        msg = (
            f"{labels.columns[0]!r} has {len(groups)} levels in {n_cells} cells ({named(groups)}): name a column with "
            "groups of cells, such as cell types or clusters."
        )
        raise ValueError(msg)


def _warn_of_text_for_missing(labels: Labels) -> None:
    for j, column in enumerate(labels.columns):
        text = labels.text[labels.known[:, j], j]
        if column in labels.numeric:
            continue
        for level in sorted({*LIKE_MISSING} & {*text.tolist()}):
            # replace() would not do: pandas refuses it new values of categories
            mend = f"adata.obs[{column!r}] = adata.obs[{column!r}].mask(adata.obs[{column!r}] == {level!r})"
            msg = (
                f"{(text == level).sum()} cells have the label {level!r} in {column!r}, which is a level as any other. "
                f"If it stands for a missing label, as after `.astype(str)`, say so: `{mend}`."
            )
            warn(msg)


def warn_of_nested(labels: Labels, n_condition_columns: int) -> None:
    """Warn of covariates, or all of them together, each of whose levels has cells of one condition only.

    Numbers are interpolated, so that they need no cells of both.
    """
    every = [*range(n_condition_columns, len(labels.columns))]
    if not every or labels.numeric:
        return
    rows = labels.text[labels.complete]
    for columns in [*([j] for j in every), every]:
        with_condition = rows[:, [*range(n_condition_columns), *columns]]
        if len(np.unique(with_condition, axis=0)) == len(np.unique(rows[:, columns], axis=0)):
            names, conditions = named([labels.columns[j] for j in columns]), named(labels.columns[:n_condition_columns])
            msg = (
                f"Every level of {names} has cells of one {conditions} only. Held fixed, it leaves nothing to compare, "
                "and effects will be missing or extrapolated: leave it out of `covariates`."
            )
            warn(msg)
            return


def _check_conditions(labels: Labels, n_condition_columns: int, *, left_out: str, called: str) -> None:
    """Refuse a single condition and conditions of too few cells; numbers do not make conditions of their own."""
    conditions, rows = labels.columns[:n_condition_columns], labels.text[labels.complete]
    of_labels = [j for j, column in enumerate(conditions) if column not in labels.numeric]
    condition = named(conditions)
    sizes = Counter(" / ".join(map(repr, row)) for row in rows[:, of_labels].tolist())
    if len(sizes) < 2 and len(of_labels) == len(conditions):
        found = f"the only level is {listed([*sizes])}{left_out}"
        msg = f"{condition} cannot be compared: {found}. Name a column with two {called} or more."
        raise ValueError(msg)
    if len(rows) < 2 * MIN_CELLS and not of_labels:
        msg = f"Too few cells with a number in {condition}: {len(rows)}{left_out}, at least {2 * MIN_CELLS} are needed."
        raise ValueError(msg)
    small = sorted((level, n) for level, n in sizes.items() if n < MIN_CELLS)
    if small:
        way_out = f"Drop these cells, {_dropping(labels, [conditions[j] for j in of_labels])}, or merge the levels."
        if len(sizes) - len(small) < 2 and len(of_labels) == len(conditions):
            merged = " or merged levels" if len(sizes) > 2 else ""
            way_out = f"Without these cells nothing is left to compare: more cells{merged} are needed."
        if len(sizes) > MANY_LEVELS and len(small) > len(sizes) / 2:
            column = conditions[of_labels[0]]
            way_out = f"There are {len(sizes)} levels: name a column with fewer {called}."
            if called == CONDITIONS and _are_numbers(rows[:, of_labels[0]]):
                way_out = (
                    f"There are {len(sizes)} levels: if it is a measurement, say `numeric=[{column!r}]`, or cut it "
                    "into classes first, with `pd.cut`."
                )
        msg = (
            f"Too few cells in {condition} for {listed([f'{level} ({n})' for level, n in small])}{left_out}: "
            f"at least {MIN_CELLS} are needed. {way_out}"
        )
        raise ValueError(msg)


def _are_numbers(text: np.ndarray) -> bool:
    return bool(pd.to_numeric(pd.Series(np.unique(text)), errors="coerce").notna().all())


def _dropping(labels: Labels, columns: list[str]) -> str:
    """Code that keeps the cells of which there are enough, of several columns in the same combination."""
    size = f"adata.obs.groupby({columns}, observed=True)[{columns[0]!r}].transform('size')"
    enough = f"`adata = adata[{size} >= {MIN_CELLS}].copy()`"
    if labels.complete.all():
        return enough
    # cells without a label would count in the sizes of the combinations
    return f"`adata = adata[adata.obs[{[*labels.columns]}].notna().all(axis=1)]` and {enough}"
