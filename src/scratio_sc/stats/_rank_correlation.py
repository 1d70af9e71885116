"""Spearman's rank correlation of many genes with one number a cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import csc_matrix
from scipy.stats import rankdata
from scipy.stats import t as student_t


def rank_correlation(x: Any, y: np.ndarray) -> np.ndarray:
    """Spearman's correlation ``(n_genes,)`` of every column of ``x (n, n_genes)`` with ``y (n,)``, ties averaged.

    ``x`` is dense or CSC. Only stored entries are sorted: the zeros of a column tie in one rank, behind what is
    negative. NaN where a side is constant.
    """
    own = rankdata(y) - (len(y) + 1) / 2
    spread = np.sqrt((own**2).sum())
    out = np.empty(x.shape[1])
    for j in range(x.shape[1]):
        value, cells = _stored(x, j)
        n_zero = len(y) - len(value)
        rank = rankdata(value) + n_zero * (value > 0) - (len(y) + 1) / 2
        zero = (value < 0).sum() + (n_zero + 1) / 2 - (len(y) + 1) / 2
        norm = spread * np.sqrt((rank**2).sum() + n_zero * zero**2)
        out[j] = ((rank - zero) @ own[cells]) / norm if norm > 0 else np.nan
    return out


def p_values(correlation: np.ndarray, n: int) -> np.ndarray:
    """Two-sided p-values of no correlation, by Student's t with n - 2 degrees of freedom; 1 where it is NaN."""
    rho = np.clip(np.nan_to_num(correlation), -1, 1)
    with np.errstate(divide="ignore"):
        t = rho * np.sqrt((n - 2) / ((1 + rho) * (1 - rho)))
    p: np.ndarray = 2 * student_t.sf(np.abs(t), n - 2)
    return p


def _stored(x: Any, j: int) -> tuple[np.ndarray, Any]:
    """Values of a column that are not implied zeros, and where they are."""
    if not isinstance(x, csc_matrix):
        return x[:, j], slice(None)
    part = slice(x.indptr[j], x.indptr[j + 1])
    value, cells = x.data[part], x.indices[part]
    kept = value != 0
    return value[kept], cells[kept]
