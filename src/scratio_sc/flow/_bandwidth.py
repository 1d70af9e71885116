"""How finely to look: weights on the nodes of the log likelihood, chosen on held-out cells.

The log likelihood summed from coarse noise down to noise level h is that of the cell seen through a Gaussian kernel of width
h. The finest is not the best where groups differ in their proportions only, so the sum is cut where held-out cells are told
apart best. Weights fitted freely to the same cells were worse: log-loss hardly sees cells with a large ratio, so it shrinks
the ratio of all cells to quieten those near 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

STEPS_PER_NODE = 4


@dataclass(frozen=True)
class HeldOut:
    """Log likelihoods of cells under every condition, by members that had not seen them.

    Attributes
    ----------
    parts
        Log likelihood by node ``(n, n_conditions, n_nodes)``, each cell's own covariates kept.
    condition
        Condition of each cell ``(n,)``.
    log_prior
        Log frequency of each condition among the cells with its covariates ``(n, n_conditions)``; -inf where there are none.
    """

    parts: np.ndarray
    condition: np.ndarray
    log_prior: np.ndarray

    def of(self, conditions: np.ndarray) -> HeldOut:
        """The cells of some conditions, and these conditions as the only rivals."""
        cells = np.isin(self.condition, conditions)
        condition = np.searchsorted(conditions, self.condition[cells])
        log_prior = self.log_prior[cells][:, conditions]
        return HeldOut(self.parts[cells][:, conditions], condition, log_prior)

    def log_loss(self, weights: np.ndarray) -> float:
        """Log-loss of the conditions under prior odds times likelihood ratio, nats a cell."""
        return _log_loss(self.parts.astype(np.float64) @ weights + self.log_prior, self.condition)

    def prior_log_loss(self) -> float:
        """The same for the class frequencies alone."""
        return _log_loss(self.log_prior, self.condition)


def _log_loss(joint: np.ndarray, condition: np.ndarray) -> float:
    if not len(joint):
        return float("nan")
    return float(np.mean(logsumexp(joint, axis=1) - joint[np.arange(len(joint)), condition]))


def cut_weights(position: float, n_nodes: int) -> np.ndarray:
    """Weights ``(n_nodes,)`` that stop the sum after so many nodes: 1 before the cut, 0 behind it, a share where it falls."""
    return np.clip(position - np.arange(n_nodes), 0.0, 1.0)


def cut_at(bandwidth: float, node_bandwidths: np.ndarray) -> float:
    """Position of the cut at a bandwidth, in the units of ``node_bandwidths (n_nodes,)``; linear in t within a node."""
    edges = np.concatenate([[np.inf], node_bandwidths[:-1], [0.0]])
    return float(np.interp(1 / (1 + bandwidth), 1 / (1 + edges), np.arange(len(edges))))


def choose_cut(held_out: HeldOut) -> float:
    """Position of the cut of least held-out log-loss; the finest where there is nothing to tell apart."""
    n_nodes = held_out.parts.shape[2]
    positions = np.linspace(1, n_nodes, (n_nodes - 1) * STEPS_PER_NODE + 1)
    if held_out.parts.shape[1] < 2 or not len(held_out.parts):
        return float(n_nodes)
    losses = [held_out.log_loss(cut_weights(position, n_nodes)) for position in positions]
    return float(positions[int(np.argmin(losses))])
