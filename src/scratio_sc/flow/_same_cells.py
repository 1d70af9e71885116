"""Whether cells are those that a flow was fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._components import VARIANCE_FLOOR

if TYPE_CHECKING:
    from scratio_sc.flow._flow import ConditionalFlow

TOLERANCE = 0.01
MIN_SKEWNESS = 0.1


def may_be_fitted_on(flow: ConditionalFlow, x: np.ndarray, fold: np.ndarray) -> bool:
    """False where cells ``(n, d)`` that say to be those of the fit, by their folds ``(n,)``, cannot be.

    Along each coordinate, the variance of those that the first member has seen is in its anchor, and the third moment
    of all is positive (see `eigenbasis`). Cells of which some are gone say nothing.
    """
    fitted = fold >= 0
    if fitted.sum() != flow.design.sizes.sum():
        return True
    anchor = flow.members[0].anchor
    along = (x[fitted] / flow.scale - anchor.center) @ anchor.basis
    seen = along[fold[fitted] != flow.left_out[0]]
    changed = np.abs((seen.var(0) + VARIANCE_FLOOR) / anchor.spread - 1) > TOLERANCE
    skewness = (along**3).mean(0) / (along.var(0) + VARIANCE_FLOOR) ** 1.5
    return not (changed.any() or (skewness < -MIN_SKEWNESS).any())
