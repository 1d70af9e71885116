"""Cells that are scored alike: same own levels where they matter, same members that did not see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from scratio_sc.flow._design import Design

CELLS_PER_CHUNK = 2048


@dataclass(frozen=True)
class Batch:
    """Indices of cells ``(b,)``, their own row ``(n_columns,)`` and the members that judge them ``(n_members,)``.

    Where a side names a column, the own level of it is 0 whatever the cell's is. An own number is the value of the bin
    that holds it.
    """

    cells: np.ndarray
    own_row: np.ndarray
    unseen: np.ndarray


def batches(
    design: Design,
    n: int,
    sides: Sequence[Mapping[str, list[int | float]]],
    *,
    own: np.ndarray | None,
    fold: np.ndarray | None,
    left_out: np.ndarray,
) -> Iterator[Batch]:
    """Split ``n`` cells with labels ``own (n, n_columns)`` and folds ``(n,)``.

    Cells whose own level is needed and unknown belong to no batch.
    """
    needed = np.array([any(column not in named for named in sides) for column in design.columns])
    levels, known = np.zeros((n, len(needed)), np.int64), np.arange(n)
    if own is not None:
        levels = np.where(needed, design.encode(np.asarray(own)), 0)
        known = np.flatnonzero(design.known(levels).all(1))
    fold = np.full(n, -1) if fold is None else np.asarray(fold)
    kinds, kind = np.unique(np.column_stack([levels, fold])[known], axis=0, return_inverse=True)
    for i, (*own_row, own_fold) in enumerate(kinds):
        unseen = left_out == own_fold
        unseen = unseen if unseen.any() else np.ones(len(left_out), bool)
        cells = known[kind.reshape(-1) == i]
        for start in range(0, len(cells), CELLS_PER_CHUNK):
            yield Batch(cells[start : start + CELLS_PER_CHUNK], np.array(own_row), unseen)
