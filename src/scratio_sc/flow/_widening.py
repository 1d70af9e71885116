"""How far components are widened, so that ratios are no surer than they deserve.

Covariances that were found from few cells, and Gaussians where cells have heavier tails, overstate how far conditions
differ. Variances of a component of n_k cells in d dimensions are those of the fit times 1 + a d / n_k; the doubt a is
the one with which held-out cells tell their conditions best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._gain import is_clear

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow._held_out import HeldOut

DOUBTS = (0.25, 0.5, 1.0, 2.0)
LEAST_SAVED = 0.015
"""Share of what is left to tell, or has been told if that is less, that doubt has to save."""
FINEST = np.ones(N_NODES)


def choose_doubt(judged: Callable[[float], HeldOut]) -> float:
    """The doubt of least log-loss of the conditions of held-out cells, as they are judged with each.

    None where a little of it does not gain clearly: the first step is told apart from chance better than the best one,
    which is one of many.
    """
    held_out = judged(0.0)
    without, first = held_out.losses(FINEST), judged(DOUBTS[0]).losses(FINEST)
    if not is_clear(without - first):
        return 0.0
    means = [first.mean(), *(judged(doubt).losses(FINEST).mean() for doubt in DOUBTS[1:])]
    told = held_out.losses(0 * FINEST).mean() - without.mean()
    enough = without.mean() - min(means) > LEAST_SAVED * min(without.mean(), told)
    return DOUBTS[means.index(min(means))] if enough else 0.0
