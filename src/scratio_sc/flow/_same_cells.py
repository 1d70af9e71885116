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
MIN_EXPECTED, MIN_SHARE = 10, 0.1


def sketch_of(x: np.ndarray, seed: int) -> np.ndarray:
    """Scaled cells ``(n, d)`` along three random directions, of some where there are many, ``(k, 3)``."""
    some = np.random.default_rng(seed).permutation(len(x))[:MAX_CELLS]
    return _along(x[np.sort(some)], seed)


def may_be_fitted_on(flow: ConditionalFlow, x: np.ndarray, fold: np.ndarray) -> bool:
    """False where cells ``(n, d)`` that say to be those of the fit, by their folds ``(n,)``, cannot be.

    Of those to expect in the sketch, a tenth has to lie where a cell of the fit lay: by chance none does, and of ten
    the sketch of a large fit misses all with a probability of e^-10. Very few cells say nothing.
    """
    claimed = x[fold >= 0]
    expected = len(claimed) * len(flow.sketch) / max(flow.design.sizes.sum(), 1)
    if expected < MIN_EXPECTED:
        return True
    scale = np.maximum(flow.sketch.std(0), np.finfo(float).tiny)
    distance, _ = cKDTree(flow.sketch / scale).query(_along(claimed / flow.scale, flow.seed) / scale)
    return bool((distance < TOLERANCE).sum() >= MIN_SHARE * expected)


def _along(x: np.ndarray, seed: int) -> np.ndarray:
    """Cells along three random directions."""
    directions = np.random.default_rng(seed).standard_normal((N_DIRECTIONS, x.shape[1]))
    single = np.asarray(x, np.float32).astype(np.float64)  # files may have been written in single precision
    return np.stack([(single * direction).sum(1) for direction in directions], axis=1)
