"""Cells that are scored together: of the same own levels, where they matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from scratio_sc.flow._contrast import named_levels, side_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike

    from scratio_sc.flow._contrast import Side, SideSpec
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
    for i, (*row, _) in enumerate(kinds):
        of_kind = known[kind.reshape(-1) == i]
        for start in range(0, len(of_kind), CELLS_PER_CHUNK):
            cells = of_kind[start : start + CELLS_PER_CHUNK]
            yield Batch(cells, np.array(row), unseen[:, cells])


def asked(
    design: Design, n: int, sides: Sequence[SideSpec], *, progress: bool, **split: Any
) -> Iterator[tuple[Batch, list[Side]]]:
    """The batches of `batches`, and the sides as their cells see them."""
    named, row = [named_levels(design, side) for side in sides], None
    check_shape("own", split["own"], (n, len(design.columns)))
    check_shape("fold", split["fold"], (n,))
    if split["own"] is None:
        for levels in named:
            own_row(design, levels, None)
    with tqdm(total=n, desc="scoring", unit="cell", disable=not progress) as bar:
        for batch in batches(design, n, named, **split):
            if row is None or (batch.own_row != row).any():
                row = batch.own_row
                mixtures = [side_of(design, levels, row) for levels in named]
            yield batch, mixtures
            bar.update(len(batch.cells))


def own_row(design: Design, named: Mapping[str, list[int | float]], own: np.ndarray | None) -> np.ndarray:
    """Row ``(n_columns,)`` of labels that stand for columns which a side does not name.

    An error where there is none, or the fit has not seen it.
    """
    missing = [column for column in design.columns if column not in named]
    if own is None and missing:
        msg = f"Name a level of {missing[0]!r} too, or pass the cells' own labels as `own`."
        raise ValueError(msg)
    if own is None:
        return np.zeros(len(design.columns), design.groups.dtype)
    check_shape("own", own, (len(design.columns),))
    row = design.encode(np.asarray(own).reshape(1, -1))
    for column, known, label in zip(design.columns, design.known(row)[0], own, strict=True):
        if column in missing and not known:
            design.level(column, str(label))  # names a label that is unknown
            msg = f"{label!r} lies beyond the fit of {column!r}, which has {design.choices(column)}."
            raise ValueError(msg)
    return row[0]


def check_shape(name: str, given: ArrayLike | None, shape: tuple[int, ...]) -> None:
    """Refuse labels or folds that do not go with the cells."""
    if given is not None and np.shape(given) != shape:
        msg = f"{name} has shape {np.shape(given)}, expected {shape}."
        raise ValueError(msg)
