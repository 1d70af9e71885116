"""Cells that are scored together: of the same own levels, where they matter."""

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
    """Indices of cells ``(b,)``, their own row ``(n_columns,)``, and which members judge each ``(n_members, b)``.

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
    by_fold: bool,
) -> Iterator[Batch]:
    """Split ``n`` cells with labels ``own (n, n_columns)`` and folds ``(n,)``.

    Cells whose own level is needed and unknown belong to no batch. Where they are split ``by_fold``, the same members
    judge all cells of a batch.
    """
    needed = np.array([any(column not in named for named in sides) for column in design.columns])
    levels, known = np.zeros((n, len(needed)), np.int64), np.arange(n)
    if own is not None:
        levels = np.where(needed, design.encode(np.asarray(own)), 0)
        known = np.flatnonzero(design.known(levels).all(1))
    fold = np.full(n, -1) if fold is None else np.asarray(fold)
    unseen = left_out[:, None] == fold
    unseen |= ~unseen.any(0)
    split = np.column_stack([levels, fold if by_fold else np.zeros(n, np.int64)])[known]
    kinds, kind = np.unique(split, axis=0, return_inverse=True)
    for i, (*own_row, _) in enumerate(kinds):
        of_kind = known[kind.reshape(-1) == i]
        for start in range(0, len(of_kind), CELLS_PER_CHUNK):
            cells = of_kind[start : start + CELLS_PER_CHUNK]
            yield Batch(cells, np.array(own_row), unseen[:, cells])
