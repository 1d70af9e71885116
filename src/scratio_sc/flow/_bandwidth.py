"""How finely to look: weights on the nodes of the log likelihood, chosen on held-out cells.

The log likelihood summed from coarse noise down to noise level h is that of the cell seen through a Gaussian kernel of
width h. The finest is not the best where groups differ in their proportions only. Every cut of the sum predicts the
conditions of held-out cells; those that do so as well as the best, as far as the cells can tell, are averaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._denoising_ratio import N_COARSE
from scratio_sc.flow._gain import CLEARLY

if TYPE_CHECKING:
    from scratio_sc.flow._held_out import HeldOut

MAX_WORSE = 0.001
"""Loss of a cell, in nats, by which a cut may exceed the least one at most: few cells leave much in doubt."""
COSTS_MOST = 8
"""A change of its ratio costs a cell p (1 - p) / 2 of the square in log-loss: an eighth at the most."""
CERTAIN = 0.02
"""Variance p (1 - p) of a held-out cell's condition below which it begins to count as certain."""


def cut_weights(position: float, n_nodes: int) -> np.ndarray:
    """Weights ``(n_nodes,)`` that stop the sum after so many nodes: 1 before, 0 behind, a share where it falls."""
    return np.clip(position - np.arange(n_nodes), 0.0, 1.0)


def fine_cuts(n_nodes: int) -> np.ndarray:
    """Weights ``(n_cuts, n_nodes)`` of every cut after a whole node that is not too coarse."""
    return np.stack([cut_weights(position, n_nodes) for position in range(min(N_COARSE, n_nodes), n_nodes + 1)])


def cut_at(bandwidth: float, node_bandwidths: np.ndarray) -> float:
    """Position of the cut at a bandwidth, in units of the scaled embedding; linear in t within a node."""
    edges = np.concatenate([[np.inf], node_bandwidths[:-1], [0.0]])
    return float(np.interp(1 / (1 + bandwidth), 1 / (1 + edges), np.arange(len(edges))))


def choose_weights(held_out: HeldOut) -> np.ndarray:
    """Weights of the nodes ``(n_nodes,)`` by held-out log-loss; all 1 where there is nothing to tell apart.

    Kernels wider than the embedding itself (width 1 in its units) are out of the question.
    A cell whose condition is certain at a coarser cut and at the finest tells nothing of what lies between, whatever
    that does to its ratio. For such cells the finest counts as right, and the coarser costs the square of the change.
    That may leave out cuts, but to say which one is best it counts as what a change would cost a cell in doubt.
    """
    n_nodes = held_out.parts.shape[2]
    if held_out.parts.shape[1] < 2 or not len(held_out.parts):
        return np.ones(n_nodes)
    possible = np.isfinite(held_out.log_prior)
    at_finest = _certainty(held_out.losses(np.ones(n_nodes)))
    own = np.arange(len(held_out.parts)), held_out.condition
    cuts = fine_cuts(n_nodes)
    losses, changes = np.empty((2, len(cuts), len(held_out.parts)))
    for i, weights in enumerate(cuts):
        losses[i], left = held_out.losses(weights), held_out.parts @ (1 - weights)
        change = np.where(possible, np.square(left - left[own][:, None]), 0).max(1)
        changes[i] = at_finest * _certainty(losses[i]) * change
    best = (losses + changes / COSTS_MOST).mean(1).argmin()
    as_good = _as_good(losses, best) & _as_good(losses + changes, best)
    mean: np.ndarray = cuts[as_good].mean(0)
    return mean


def _as_good(costs: np.ndarray, best: int) -> np.ndarray:
    """Cuts that cost cells ``(n_cuts, n)`` hardly more than the best one, and not clearly more, ``(n_cuts,)``."""
    excess = costs - costs[best]
    clearly_worse = CLEARLY * excess.std(1) / np.sqrt(excess.shape[1])
    as_good: np.ndarray = excess.mean(1) <= np.minimum(clearly_worse, MAX_WORSE)
    return as_good


def _certainty(losses: np.ndarray) -> np.ndarray:
    """1 where the condition of a cell is certain, 0 where it is in doubt."""
    p = np.exp(-losses)
    return np.maximum(1 - p * (1 - p) / CERTAIN, 0)
