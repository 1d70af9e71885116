"""Standard errors: what differs between members and between partitions, and what shrinking may have withheld."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student_t


def standard_error(
    by_member: np.ndarray, by_partition: np.ndarray, left_out: np.ndarray, *, withheld: np.ndarray | float = 0.0
) -> np.ndarray:
    """Standard error of numbers ``(n_members, ...)`` that are ``(n_partitions, ...)`` according to each partition.

    How they change with the cells, how they change with the partition, and what shrinking is expected to have
    ``withheld``, squared, add up as variances. NaN where all members left out the same fold ``left_out (n_members,)``.
    """
    variance: np.ndarray = _jackknife(by_member, left_out) + _between(by_partition) + withheld
    return np.sqrt(variance)


def _jackknife(by_member: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Delete-a-fold jackknife (F - 1) / F sum_f (r_f - mean r)^2.

    Widened as Student's t is against the normal, so that +-1.645 of its roots are a 90 % interval with few folds too.
    """
    folds = np.unique(left_out)
    if len(folds) < 2:
        return np.full(by_member.shape[1:], np.nan)
    by_fold = np.stack([by_member[left_out == f].mean(0) for f in folds])
    widening = student_t.ppf(0.95, len(folds) - 1) / norm.ppf(0.95)
    variance: np.ndarray = widening**2 * (len(folds) - 1) * by_fold.var(0)
    return variance


def _between(by_partition: np.ndarray) -> np.ndarray:
    """Variance between partitions: what a mixture of Gaussians cannot say, each misses in another way.

    They miss much of it in the same way, too, so it is not divided by their number.
    """
    if len(by_partition) < 2:
        return np.zeros(by_partition.shape[1:])
    variance: np.ndarray = by_partition.var(0, ddof=1)
    return variance


def error_of_mean(values: np.ndarray) -> float:
    """Standard error of the mean; NaN of fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
