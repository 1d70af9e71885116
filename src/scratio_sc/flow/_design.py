"""Condition columns and covariates as numbers: which group a cell is in, and how groups share what they learn."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from scratio_sc.flow._arguments import closest, named
from scratio_sc.flow._numeric import Numeric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

N_SLOPES = 2
"""Shapes of a column of numbers whose effect may differ between labels."""


@dataclass(frozen=True)
class Term:
    """Features that belong together: one for each of some levels, which is ``weight`` where a group has the level.

    Attributes
    ----------
    n_levels
        How many features.
    level
        Level of each of m groups, -1 for none, ``(m,)``.
    weight
        Value of the feature of that level, ``(m,)``.
    kind
        What effects are expected: ``"levels"`` that differ among each other, a ``"trend"`` that may be 0, a
        ``"constant"``, or ``"rest"``, levels that explain what is left of all others.
    """

    n_levels: int
    level: np.ndarray
    weight: np.ndarray
    kind: Literal["levels", "trend", "constant", "rest"] = "levels"


@dataclass(frozen=True)
class Design:
    """The groups of a fit: every observed combination of the condition columns and the covariates.

    A column holds labels or numbers. A combination is a row with the code of each label and the value of each number;
    of numbers, groups have the values of bins. A group's feature vector is one-hot in each column of labels and, where
    no column alone tells all combinations apart, one-hot in their combination, so groups share what their columns have
    in common, and a combination never observed still has a meaning. Of a column of numbers it has smooth functions, by
    themselves and by label, so that every value has a meaning.

    Attributes
    ----------
    columns
        Names of the columns, those of the condition first.
    n_condition_columns
        How many of them make the condition; the rest are covariates.
    levels
        Labels of each column; none of a column of numbers.
    groups
        Row of each observed group, ``(n_groups, n_columns)``; of integers where no column holds numbers.
    sizes
        Cells in each group, ``(n_groups,)``.
    numbers
        Bins and functions of the columns of numbers, by position.
    """

    columns: tuple[str, ...]
    n_condition_columns: int
    levels: tuple[tuple[str, ...], ...]
    groups: np.ndarray
    sizes: np.ndarray
    numbers: Mapping[int, Numeric] = field(default_factory=dict)

    @classmethod
    def of(
        cls, labels: np.ndarray, columns: Sequence[str], n_condition_columns: int, *, numeric: Sequence[str] = ()
    ) -> tuple[Design, np.ndarray]:
        """Design of labels ``(n_cells, n_columns)`` (str), and the group of every cell ``(n_cells,)``.

        The columns named by ``numeric`` hold numbers.
        """
        unknown = [name for name in numeric if name not in columns]
        if unknown:
            msg = f"numeric={list(numeric)!r} names no column {unknown[0]!r}. Columns: {', '.join(map(repr, columns))}."
            raise ValueError(msg)
        levels: list[tuple[str, ...]] = []
        numbers, codes = {}, np.empty(labels.shape, np.int64)
        for j, column in enumerate(columns):
            if column in numeric:
                values = _finite_numbers(labels[:, j], column)
                if not np.ptp(values):
                    msg = f"{column!r} is {values[0]:g} in all cells: leave it out, a constant tells nothing."
                    raise ValueError(msg)
                numbers[j] = Numeric.of(values)
                codes[:, j] = numbers[j].bin_of(values)
                levels.append(())
            else:
                names, codes[:, j] = np.unique(labels[:, j].astype(str), return_inverse=True)
                levels.append(tuple(names.tolist()))
        groups, group = np.unique(codes, axis=0, return_inverse=True)
        group = group.reshape(-1)
        sizes = np.bincount(group, minlength=len(groups))
        if numbers:
            groups = groups.astype(float)
        for j, number in numbers.items():
            groups[:, j] = number.value[groups[:, j].astype(np.int64)]
        return cls(tuple(columns), n_condition_columns, tuple(levels), groups, sizes, numbers), group

    @property
    def numeric(self) -> tuple[str, ...]:
        """Names of the columns of numbers."""
        return tuple(self.columns[j] for j in sorted(self.numbers))

    @property
    def n_groups(self) -> int:
        """Number of observed groups."""
        return len(self.groups)

    @property
    def n_features(self) -> int:
        """Length of a group's feature vector."""
        return sum(term.n_levels for term in self.terms(self.groups))

    def terms(self, rows: np.ndarray) -> list[Term]:
        """What the feature vectors of rows ``(m, n_columns)``, observed or not, are made of."""
        rows = np.atleast_2d(rows)
        one, first = np.ones(len(rows)), np.zeros(len(rows), np.int64)
        labels = [Term(len(names), _codes(rows[:, j]), one) for j, names in enumerate(self.levels) if names]
        shapes = [number.at(rows[:, j]).T for j, number in self.numbers.items()]
        trends = [Term(1, first, shape, "trend") for each in shapes for shape in each]
        if shapes:
            trends = [Term(1, first, one, "constant"), *trends]
        slopes = [
            Term(label.n_levels, label.level, shape)
            for label in labels
            for each in shapes
            for shape in each[:N_SLOPES]
            if label.n_levels > 1
        ]
        combined = []
        if self.n_label_combinations > max((label.n_levels for label in labels), default=1):
            combined = [Term(self.n_label_combinations, self._combination_of(rows), one, "rest")]
        return [*labels, *trends, *slopes, *combined]

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Feature vectors ``(m, n_features)`` of rows ``(m, n_columns)``, observed or not."""
        parts = []
        for term in self.terms(rows):
            part = np.zeros((len(term.level), term.n_levels))
            seen = np.flatnonzero(term.level >= 0)
            part[seen, term.level[seen]] = term.weight[seen]
            parts.append(part)
        return np.concatenate(parts, axis=1)

    @property
    def label_columns(self) -> list[int]:
        """Positions of the columns of labels."""
        return [j for j in range(len(self.columns)) if j not in self.numbers]

    @cached_property
    def label_combinations(self) -> np.ndarray:
        """Observed combinations of labels, whatever the numbers, ``(n_label_combinations, n_label_columns)``."""
        return np.unique(_codes(self.groups[:, self.label_columns]), axis=0)

    @property
    def n_label_combinations(self) -> int:
        """Number of observed combinations of labels, whatever the numbers."""
        return len(self.label_combinations)

    @cached_property
    def _known_combinations(self) -> dict[tuple[int, ...], int]:
        return _positions(self.label_combinations)

    @cached_property
    def _known_groups(self) -> dict[tuple[int, ...], int]:
        return _positions(self._bins(self.groups))

    def _combination_of(self, rows: np.ndarray) -> np.ndarray:
        """Combination of labels of each row, -1 for one that was never observed, ``(m,)``."""
        return _lookup(_codes(rows[:, self.label_columns]), self._known_combinations)

    def over_numbers(self, values: np.ndarray) -> np.ndarray:
        """Sums of values ``(n_groups, ...)`` over the groups of the same labels, for each group."""
        if not self.numbers:
            return values
        combination = self._combination_of(self.groups)
        total = np.zeros((self.n_label_combinations, *values.shape[1:]))
        np.add.at(total, combination, values)
        summed: np.ndarray = total[combination]
        return summed

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        """Group of each row ``(m, n_columns)``, -1 for one that was never observed.

        A number counts as observed in the bin that holds it, and beyond those of the fit nowhere.
        """
        rows = np.atleast_2d(rows)
        return np.where(self._covered(rows), _lookup(self._bins(rows), self._known_groups), -1)

    def alike(self, rows: np.ndarray) -> np.ndarray:
        """A group with the labels of each row ``(m, n_columns)``, whatever its numbers; -1 where there is none."""
        combination = self._combination_of(np.atleast_2d(rows))
        return np.where(combination >= 0, self.first_alike[combination], -1)

    @cached_property
    def first_alike(self) -> np.ndarray:
        """The first group of each combination of labels, whatever its numbers, ``(n_label_combinations,)``."""
        _, first = np.unique(self._combination_of(self.groups), return_index=True)
        return first

    def _bins(self, rows: np.ndarray) -> np.ndarray:
        """Codes of labels, and bins of numbers, of the first columns ``(m, k)``."""
        rows = np.atleast_2d(rows)
        out = [self.bin_of(j, rows[:, j]) for j in range(rows.shape[1])]
        return np.stack(out, axis=1)

    def bin_of(self, j: int, values: np.ndarray) -> np.ndarray:
        """Codes of labels, or bins of numbers, of column j."""
        values = np.asarray(values)
        return self.numbers[j].bin_of(values) if j in self.numbers else _codes(values)

    def _covered(self, rows: np.ndarray) -> np.ndarray:
        covered = np.ones(len(rows), bool)
        for j, number in self.numbers.items():
            covered &= number.covers(rows[:, j])
        return covered

    def log_frequencies(self, rows: np.ndarray) -> np.ndarray:
        """Log share of the cells of some rows that each has, ``(m,)``; -inf for one never observed."""
        group = self.group_of(rows)
        sizes = np.where(group >= 0, self.sizes[group], 0)
        with np.errstate(divide="ignore"):
            return np.log(sizes) - np.log(sizes.sum())

    @cached_property
    def conditions(self) -> np.ndarray:
        """Observed combinations of the condition columns alone, ``(n_conditions, n_condition_columns)``."""
        return np.unique(self.groups[:, : self.n_condition_columns], axis=0)

    @cached_property
    def stratum(self) -> np.ndarray:
        """Which groups have the same covariates, so that their conditions compete, ``(n_groups,)``."""
        _, stratum = np.unique(self.groups[:, self.n_condition_columns :], axis=0, return_inverse=True)
        same: np.ndarray = stratum.reshape(-1)
        return same

    @cached_property
    def contested(self) -> np.ndarray:
        """Which features differ between groups of the same covariates, ``(n_features,)``."""
        features = self.features(self.groups)
        _, first = np.unique(self.stratum, return_index=True)
        differs: np.ndarray = (features != features[first[self.stratum]]).any(0)
        return differs

    def condition_of(self, rows: np.ndarray) -> np.ndarray:
        """Index into `conditions` of rows ``(m, n_columns)``, -1 for one that was never observed."""
        own = np.atleast_2d(rows)[:, : self.n_condition_columns]
        return _lookup(self._bins(own), _positions(self._bins(self.conditions)))

    def along_numbers(self, wanted: np.ndarray) -> np.ndarray:
        """Some of the `conditions`, and all that differ from one of them in numbers alone."""
        labels = [j for j in range(self.n_condition_columns) if j not in self.numbers]
        if len(labels) == self.n_condition_columns:
            return wanted
        same = self.conditions[:, labels]
        return np.flatnonzero((same[:, None] == same[wanted]).all(2).any(1))

    def level(self, column: str, label: str) -> int | float:
        """Code of a label of a column, or the number that it is; an error names what is unknown."""
        j = self.columns.index(column)
        names = self.levels[j]
        if j in self.numbers:
            return float(_finite_numbers(np.array([label]), column, hint=f" It takes {self.choices(column)}.")[0])
        if label in names:
            return names.index(label)
        msg = f"{label!r} is not a level of {column!r}. Known levels: {self.choices(column)}.{closest(label, names)}"
        raise KeyError(msg)

    def all_levels(self, column: str) -> list[int | float]:
        """Codes of all labels of a column; of numbers, the values of the bins."""
        j = self.columns.index(column)
        return self.numbers[j].value.tolist() if j in self.numbers else [*range(len(self.levels[j]))]

    def choices(self, column: str) -> str:
        """What a column takes, for a message."""
        j = self.columns.index(column)
        if j not in self.numbers:
            return named(self.levels[j])
        return f"numbers from {self.numbers[j].low:g} to {self.numbers[j].high:g}"

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Rows ``(n_cells, n_columns)`` of labels.

        A number becomes the value of the bin that holds it. Labels the fit has not seen are -1, numbers beyond those
        of the fit NaN.
        """
        labels = np.asarray(labels).astype(str)
        rows = np.empty(labels.shape, self.groups.dtype)
        for j in range(len(self.columns)):
            rows[:, j] = self._encoded(j, labels[:, j])
        return rows

    def _encoded(self, j: int, labels: np.ndarray) -> np.ndarray:
        if j in self.numbers:
            values, number = _numbers(labels), self.numbers[j]
            return np.where(number.covers(values), number.value[number.bin_of(np.nan_to_num(values))], np.nan)
        known = {name: i for i, name in enumerate(self.levels[j])}
        return np.array([known.get(label, -1) for label in labels.tolist()], np.int64)

    def among(self, column: str, labels: np.ndarray, levels: Sequence[int | float]) -> np.ndarray:
        """Whether labels ``(n,)`` (str) of a column are among some levels; numbers where a bin holds both."""
        j = self.columns.index(column)
        codes = self._encoded(j, labels)
        hit: np.ndarray = np.isin(self.bin_of(j, codes), self.bin_of(j, np.array(levels))) & ~np.isnan(codes)
        return hit

    def name(self, column: str, level: float) -> str:
        """Label of a level of a column; of a number, what `level` reads back."""
        names = self.levels[self.columns.index(column)]
        return names[int(level)] if names else repr(float(level)).removesuffix(".0")

    def known(self, rows: np.ndarray) -> np.ndarray:
        """Which entries of `encode` the fit has seen, ``(m, n_columns)``."""
        is_number = np.isin(np.arange(len(self.columns)), [*self.numbers])
        return np.where(is_number, ~np.isnan(rows), rows >= 0)


def _codes(values: np.ndarray) -> np.ndarray:
    return np.asarray(values).astype(np.int64)


def _positions(rows: np.ndarray) -> dict[tuple[int, ...], int]:
    return {tuple(row): i for i, row in enumerate(rows.tolist())}


def _lookup(rows: np.ndarray, known: Mapping[tuple[int, ...], int]) -> np.ndarray:
    """Position of each row among the known ones, -1 for one that is not among them, ``(m,)``."""
    return np.array([known.get(tuple(row), -1) for row in rows.tolist()], np.int64)


def _numbers(labels: np.ndarray) -> np.ndarray:
    """Numbers that texts say; NaN where one says none."""

    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return float("nan")

    return np.array([number(str(text)) for text in labels.tolist()], float)


def _finite_numbers(labels: np.ndarray, column: str, *, hint: str = "") -> np.ndarray:
    values = _numbers(labels)
    wrong = ~np.isfinite(values)
    if wrong.any():
        msg = f"{str(labels[wrong][0])!r} is no number, but {column!r} is a column of numbers.{hint}"
        raise ValueError(msg)
    return values
