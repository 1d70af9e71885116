"""Standard errors from the spread of members that left out different folds."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t


def standard_error(by_member: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Delete-a-fold jackknife of numbers ``(n_members, ...)``: sqrt((F - 1) / F sum_f (r_f - mean r)^2).

    Widened as Student's t is against the normal, so that +-1.645 of them are a 90 % interval with few folds too. NaN
    where all members left out the same fold ``left_out (n_members,)``.
    """
    folds = np.unique(left_out)
    if len(folds) < 2:
        return np.full(by_member.shape[1:], np.nan)
    by_fold = np.stack([by_member[left_out == f].mean(0) for f in folds])
    widening = student_t.ppf(0.95, len(folds) - 1) / norm.ppf(0.95)
    spread: np.ndarray = widening * np.sqrt((len(folds) - 1) * by_fold.var(0))
    return spread
