"""Condition columns and covariates as numbers: which group a cell is in, and how groups share what they learn."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Design:
    """The groups of a fit: every observed combination of the condition columns and the covariates.

    A group's feature vector is one-hot in each column and, where there are several columns, one-hot in the group
    itself; so groups share what their columns have in common, and a combination never observed still has a meaning.

    Attributes
    ----------
    columns
        Names of the columns, those of the condition first.
    n_condition_columns
        How many of them make the condition; the rest are covariates.
    levels
        Labels of each column.
    groups
        Level of each column for each observed group, ``(n_groups, n_columns)``.
    sizes
        Cells in each group, ``(n_groups,)``.
    """

    columns: tuple[str, ...]
    n_condition_columns: int
    levels: tuple[tuple[str, ...], ...]
    groups: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, labels: np.ndarray, columns: Sequence[str], n_condition_columns: int) -> tuple[Design, np.ndarray]:
        """Design of labels ``(n_cells, n_columns)`` (str), and the group of every cell ``(n_cells,)``."""
        levels, codes = [], np.empty(labels.shape, np.int64)
        for j in range(labels.shape[1]):
            names, codes[:, j] = np.unique(labels[:, j].astype(str), return_inverse=True)
            levels.append(tuple(names.tolist()))
        groups, group = np.unique(codes, axis=0, return_inverse=True)
        group = group.reshape(-1)
        sizes = np.bincount(group, minlength=len(groups))
        return cls(tuple(columns), n_condition_columns, tuple(levels), groups, sizes), group

    @property
    def n_groups(self) -> int:
        """Number of observed groups."""
        return len(self.groups)

    @property
    def n_features(self) -> int:
        """Length of a group's feature vector."""
        return self._n_levels + (self.n_groups if len(self.columns) > 1 else 0)

    @property
    def _n_levels(self) -> int:
        return sum(len(names) for names in self.levels)

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Feature vectors ``(m, n_features)`` of level combinations ``(m, n_columns)``, observed or not."""
        rows = np.atleast_2d(rows)
        out = np.zeros((len(rows), self.n_features))
        start = 0
        for j, names in enumerate(self.levels):
            out[np.arange(len(rows)), start + rows[:, j]] = 1
            start += len(names)
        if len(self.columns) > 1:
            group = self.group_of(rows)
            seen = group >= 0
            out[np.flatnonzero(seen), start + group[seen]] = 1
        return out

    def group_of(self, rows: np.ndarray) -> np.ndarray:
        """Group of each level combination ``(m, n_columns)``, -1 for one that was never observed."""
        table = {tuple(row): i for i, row in enumerate(self.groups.tolist())}
        return np.array([table.get(tuple(row), -1) for row in np.atleast_2d(rows).tolist()], np.int64)

    def log_frequencies(self, rows: np.ndarray) -> np.ndarray:
        """Log share of the cells of some level combinations that each has, ``(m,)``; -inf for one never observed."""
        group = self.group_of(rows)
        sizes = np.where(group >= 0, self.sizes[group], 0)
        with np.errstate(divide="ignore"):
            return np.log(sizes) - np.log(sizes.sum())

    @property
    def conditions(self) -> np.ndarray:
        """Observed combinations of the condition columns alone, ``(n_conditions, n_condition_columns)``."""
        return np.unique(self.groups[:, : self.n_condition_columns], axis=0)

    def condition_of(self, rows: np.ndarray) -> np.ndarray:
        """Index into `conditions` of level combinations ``(m, n_columns)``, -1 for one that was never observed."""
        table = {tuple(row): i for i, row in enumerate(self.conditions.tolist())}
        own = np.atleast_2d(rows)[:, : self.n_condition_columns]
        return np.array([table.get(tuple(row), -1) for row in own.tolist()], np.int64)

    def level(self, column: str, label: str) -> int:
        """Code of a label of a column; a KeyError that suggests the closest one where it is unknown."""
        names = self.levels[self.columns.index(column)]
        if label in names:
            return names.index(label)
        close = difflib.get_close_matches(label, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        msg = f"{label!r} is not a level of {column!r}. Known levels: {', '.join(map(repr, names))}.{hint}"
        raise KeyError(msg)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Levels ``(n_cells, n_columns)`` of str labels; -1 for labels the fit has not seen."""
        codes = np.full(labels.shape, -1, np.int64)
        for j, names in enumerate(self.levels):
            known = {name: i for i, name in enumerate(names)}
            codes[:, j] = [known.get(label, -1) for label in labels[:, j].tolist()]
        return codes
