"""Folds of the cells, one of which every member leaves out, so that each cell is judged by what has not seen it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_FOLDS = 16
ROUNDING = 1e-5
FOLDS_OF_ONE = 8
"""A single member leaves out so large a part, for the cells in it to say what cells are rare."""
OUTLIER = -1
"""Fold of a cell that the fit leaves out."""


@dataclass(frozen=True)
class Folds:
    """Fold of every cell ``(n,)``, and the fold that each member left out ``(n_members,)``."""

    of_cell: np.ndarray
    left_out: np.ndarray


def folds_of(x: np.ndarray, group: np.ndarray, n_folds: int, *, rng: np.random.Generator) -> np.ndarray:
    """Fold of every cell ``(n, d)``, drawn for one of its copies, so that none is known by another; ``(n,)``.

    But for rounding, copies are the same. A group that would be in one fold altogether, as a single cell and its copies
    are, is dealt cell by cell.
    """
    _, first, same = np.unique(np.round(x / ROUNDING), axis=0, return_index=True, return_inverse=True)
    of_copies, once = np.empty(len(first), np.int8), np.argsort(first)
    of_copies[once] = draw_folds(group[first[once]], n_folds, rng=rng)
    fold: np.ndarray = of_copies[same.reshape(-1)]
    size = np.bincount(group)
    alone = np.bincount(np.unique(np.column_stack([group, fold]), axis=0)[:, 0], minlength=len(size)) == 1
    for g in np.flatnonzero(alone & (size > 1)):
        fold[group == g] = rng.permutation(size[g]) % n_folds
    return fold


def draw_folds(group: np.ndarray, n_folds: int, *, rng: np.random.Generator) -> np.ndarray:
    """Fold of every cell ``(n,)``, balanced within groups and over all cells.

    Each group is dealt in whole rounds; what is left of all groups is dealt together.
    """
    fold = np.empty(len(group), np.int8)
    order = rng.permutation(len(group))  # of all cells at once, so that names of groups do not matter
    _, first = np.unique(group[order], return_index=True)
    left = []
    for c in group[order][np.sort(first)]:
        cells = order[group[order] == c]
        rounds = len(cells) // n_folds * n_folds
        fold[cells[:rounds]] = np.arange(rounds) % n_folds
        left.append(cells[rounds:])
    rest = np.concatenate(left)
    fold[rest] = np.arange(len(rest)) % n_folds
    return fold
