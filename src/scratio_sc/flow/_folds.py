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


def copies_of(x: np.ndarray) -> np.ndarray:
    """The first of the cells ``(n, d)`` that are the same as each, but for rounding: itself, where it has no copies."""
    _, first, same = np.unique(np.round(x / ROUNDING), axis=0, return_index=True, return_inverse=True)
    copies: np.ndarray = first[same.reshape(-1)]
    return copies


def folds_of(copy: np.ndarray, group: np.ndarray, n_folds: int, *, rng: np.random.Generator) -> np.ndarray:
    """Fold of every cell, drawn for the first of its copies ``(n,)``, so that none is known by another; ``(n,)``.

    A group that would be in one fold altogether, as a single cell and its copies are, is dealt cell by cell.
    """
    once, fold = np.unique(copy), np.empty(len(group), np.int8)
    fold[once] = draw_folds(group[once], n_folds, rng=rng)
    fold = fold[copy]
    size = np.bincount(group)
    alone = np.bincount(np.unique(np.column_stack([group, fold]), axis=0)[:, 0], minlength=len(size)) == 1
    for g in np.flatnonzero(alone & (size > 1)):
        fold[group == g] = rng.permutation(size[g]) % n_folds
    return fold


def places_in_groups(size: np.ndarray) -> np.ndarray:
    """Place of each cell in its own group, of groups of such sizes ``(n_groups,)`` one after the other, ``(n,)``."""
    places: np.ndarray = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return places


def in_turn(group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells ``(n,)`` group by group, as groups turn up, so that their names do not matter; and the sizes of these."""
    _, first, own, size = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    return np.argsort(first[own], kind="stable"), size[np.argsort(first)]


def draw_folds(group: np.ndarray, n_folds: int, *, rng: np.random.Generator) -> np.ndarray:
    """Fold of every cell ``(n,)``, balanced within groups and over all cells.

    Each group is dealt in whole rounds; what is left of all groups is dealt together.
    """
    fold = np.empty(len(group), np.int8)
    order = rng.permutation(len(group))  # of all cells at once, so that names of groups do not matter
    dealt, size = in_turn(group[order])
    order, place = order[dealt], places_in_groups(size)
    whole = place < np.repeat(size // n_folds * n_folds, size)
    fold[order[whole]] = place[whole] % n_folds
    fold[order[~whole]] = np.arange((~whole).sum()) % n_folds
    return fold
