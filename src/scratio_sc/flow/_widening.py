"""How far components are widened, so that ratios are no surer than they deserve.

Covariances that were found from few cells, and Gaussians where cells have heavier tails, overstate how far conditions
differ. Variances of a component of n_k cells of all groups in d dimensions are those of the fit times 1 + a d / n_k;
the doubt a is the one with which held-out cells tell their conditions best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._calibration import MIN_JUDGED
from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._gain import is_clear

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._held_out import HeldOut

DOUBTS = (0.25, 0.5, 1.0, 2.0)
LEAST_SAVED = 0.003
"""Share of the log-loss that doubt has to save: simulated cells, which need none, save up to .0007, real ones .006."""
FINEST = np.ones(N_NODES)


def choose_doubt(judged: Callable[[float], HeldOut]) -> float:
    """The doubt of least log-loss of the conditions of held-out cells, as they are judged with each.

    It is 0 where a little of it does not gain clearly: the first step is told apart from chance better than the best
    one, which is one of many.
    """
    without, first = (judged(doubt).losses(FINEST) for doubt in (0.0, DOUBTS[0]))
    if len(without) < MIN_JUDGED or not is_clear(without - first):
        return 0.0
    means = [first.mean(), *(judged(doubt).losses(FINEST).mean() for doubt in DOUBTS[1:])]
    return DOUBTS[means.index(min(means))] if min(means) < (1 - LEAST_SAVED) * without.mean() else 0.0
