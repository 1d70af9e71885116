"""Cells that lie apart from all others: a mixture that makes room for them has none left for the rest."""

from __future__ import annotations

import math

import numpy as np
import torch

from scratio_sc.flow._device import usual_torch

MIN_NEIGHBOURS = 5
NEAR = 3.0
"""Distance at which cells count as neighbours, in spreads of all cells (the root of their total variance)."""
MAX_SHARE = 0.02
"""Share of the cells above which they count as what this embedding looks like, not as outliers."""
LOOKED_AT = (500, 20_000)
"""Cells that are looked at first: only where none of these is near, more are."""
DISTANCES_AT_ONCE = 4_000_000


@usual_torch()
def outliers(x: np.ndarray) -> np.ndarray:
    """Whether each cell ``(n, d)`` has fewer than `MIN_NEIGHBOURS` others near it, ``(n,)``.

    A rare type has more, however far it lies from the others.
    """
    cells = torch.as_tensor(x - np.median(x, axis=0))
    parts = [cells[:: max(len(cells) // n, 1)] for n in LOOKED_AT]
    # squared distances of pairs are twice the variance; their median does not see outliers
    near = NEAR * float(torch.pdist(parts[0]).median()) / math.sqrt(2) if len(cells) > 1 else math.inf
    doubtful = np.arange(len(cells))
    for others in (*parts, cells):
        doubtful = doubtful[_n_near(cells[doubtful], others, near) <= MIN_NEIGHBOURS]
    found = np.zeros(len(cells), bool)
    found[doubtful] = near > 0 and len(doubtful) <= MAX_SHARE * len(cells)
    return found


def _n_near(x: torch.Tensor, others: torch.Tensor, near: float) -> np.ndarray:
    """How many others lie near each cell, itself among them, ``(n,)``."""
    n_rows = max(DISTANCES_AT_ONCE // len(others), 1)
    parts = [(torch.cdist(rows, others) <= near).sum(1) for rows in x.split(n_rows)]
    return torch.cat(parts).numpy() if parts else np.zeros(0, np.int64)
