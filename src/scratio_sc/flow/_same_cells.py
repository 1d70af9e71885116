"""Whether cells are those that a flow was fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from scratio_sc.flow._flow import ConditionalFlow

N_DIRECTIONS = 3
MAX_CELLS = 20_000
TOLERANCE = 1e-4
"""Of the standard deviation along a direction: more than rounding, and less than how close cells lie."""
MIN_EXPECTED, MIN_SHARE, SPREADS = 10, 0.9, 3
MIN_CLAIMED = 50
"""Cells to expect in the sketch, below which chance might take new cells for those of the fit."""


def sketch_of(x: np.ndarray, fold: np.ndarray, seed: int) -> np.ndarray:
    """Scaled cells ``(n, d)`` along random directions, and their folds; of some where there are many, ``(k, 4)``."""
    some = np.sort(np.random.default_rng(seed).permutation(len(x))[:MAX_CELLS])
    return np.column_stack([_along(x[some], seed), fold[some]])


def may_be_fitted_on(flow: ConditionalFlow, x: np.ndarray, fold: np.ndarray) -> bool:
    """False where cells ``(n, d)`` that say to be those of the fit, by their folds ``(n,)``, cannot be.

    Of those to expect in the sketch, nearly all have to lie where a cell of the fit of their fold lay, less three
    standard deviations of what chance took into the sketch, and one at least: by chance none does. Very few cells say
    nothing.
    """
    claimed = fold >= 0
    return _expected(flow, x[claimed]) < MIN_EXPECTED or _are_known(flow, x[claimed], fold[claimed])


def are_fitted(flow: ConditionalFlow, x: np.ndarray) -> bool:
    """Whether nearly all of some cells ``(n, d)`` are clearly those of the fit.

    False of few cells, of such as have copies, and of those that lie on a line, where strangers meet by chance.
    """
    if _expected(flow, x) < MIN_CLAIMED or not _are_known(flow, x):
        return False
    alone = all(len(np.unique(cells, axis=0)) == len(cells) for cells in (x, flow.sketch[:, :N_DIRECTIONS]))
    return alone and bool(np.linalg.matrix_rank(x - x.mean(0)) >= N_DIRECTIONS - 1)


def _expected(flow: ConditionalFlow, x: np.ndarray) -> float:
    """How many of cells of the fit ``(n, d)`` to expect in the sketch."""
    return float(len(x) * len(flow.sketch) / max(flow.design.sizes.sum(), 1))


def _are_known(flow: ConditionalFlow, x: np.ndarray, fold: np.ndarray | None = None) -> bool:
    expected, (place, own_fold) = _expected(flow, x), np.split(flow.sketch, [N_DIRECTIONS], axis=1)
    scale = np.maximum(place.std(0), np.finfo(float).tiny)
    distance, nearest = cKDTree(place / scale).query(_along(x / flow.scale, flow.seed) / scale)
    known = distance < TOLERANCE
    if fold is not None:
        known &= own_fold[nearest, 0] == fold
    spread = np.sqrt(expected * max(1 - expected / max(len(x), 1), 0))
    return bool(known.sum() >= max(MIN_SHARE * expected - SPREADS * spread, 1))


def _along(x: np.ndarray, seed: int) -> np.ndarray:
    """Cells along three random directions."""
    directions = np.random.default_rng(seed).standard_normal((N_DIRECTIONS, x.shape[1]))
    single = np.asarray(x, np.float32).astype(np.float64)  # files may have been written in single precision
    return np.stack([(single * direction).sum(1) for direction in directions], axis=1)
