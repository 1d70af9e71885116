"""Cells that lie apart from all others: a mixture that makes room for them has none left for the rest."""

from __future__ import annotations

import math

import numpy as np
import torch

MIN_NEIGHBOURS = 5
NEAR = 3.0
"""Distance at which cells count as neighbours, in spreads of all cells (the root of their total variance)."""
MAX_SHARE = 0.02
"""Share of the cells above which they count as what this embedding looks like, not as outliers."""
N_LOOKED_AT = 500
ROWS_AT_ONCE = 8192


def outliers(x: np.ndarray) -> np.ndarray:
    """Whether each cell ``(n, d)`` has fewer than `MIN_NEIGHBOURS` others near it, ``(n,)``.

    A rare type has more, however far it lies from the others.
    """
    cells = torch.as_tensor(x - np.median(x, axis=0))
    some = cells[:: max(len(cells) // N_LOOKED_AT, 1)]
    # squared distances of pairs are twice the variance; their median does not see outliers
    near = NEAR * float(torch.pdist(some).median()) / math.sqrt(2) if len(some) > 1 else math.inf
    doubtful = np.arange(len(cells))
    for others in (some, cells):
        doubtful = doubtful[_n_near(cells[doubtful], others, near) <= MIN_NEIGHBOURS]
    found = np.zeros(len(cells), bool)
    found[doubtful] = near > 0 and len(doubtful) <= MAX_SHARE * len(cells)
    return found


def _n_near(x: torch.Tensor, others: torch.Tensor, near: float) -> np.ndarray:
    """How many others lie near each cell, itself among them, ``(n,)``."""
    parts = [(torch.cdist(rows, others) <= near).sum(1) for rows in x.split(ROWS_AT_ONCE)]
    return torch.cat(parts).numpy() if parts else np.zeros(0, np.int64)
