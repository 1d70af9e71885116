"""Whether two treatments together do what the sum of both says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._standard_error import standard_error
from scratio_sc.stats._divergence import Ratios, variance_of_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

SIGNS = {"combination": 1.0, "reference": 1.0, "a": -1.0, "b": -1.0}
"""log p(x | a and b) + log p(x | reference) - log p(x | a) - log p(x | b)."""


def weighted_means(
    score: Ratios, cells: Mapping[str, np.ndarray], weights: Mapping[str, float], *, left_out: np.ndarray
) -> tuple[float, float]:
    """Sum over groups of cells of weight times mean score, and its standard error.

    The variance over cells and that of the fit, whose members left out the folds ``left_out (n_members,)``, add up.
    """

    def total(scores: np.ndarray) -> np.ndarray:
        return np.asarray(sum(weight * scores[..., cells[name]].mean(-1) for name, weight in weights.items()))

    of_fit = standard_error(total(score.by_member), total(score.by_partition), left_out)
    over_cells = sum(weight**2 * variance_of_mean(score.value[cells[name]]) for name, weight in weights.items())
    return float(total(score.value)), float(np.sqrt(over_cells + of_fit**2))
