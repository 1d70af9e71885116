"""How finely to look: weights on the nodes of the log likelihood, chosen on held-out cells.

The log likelihood summed from coarse noise down to noise level h is that of the cell seen through a Gaussian kernel of
width h. The finest is not the best where groups differ in their proportions only, so the sum is cut where held-out
cells are told apart best. Weights fitted freely to the same cells were worse: log-loss hardly sees cells with a large
ratio, so it shrinks the ratio of all cells to quieten those near 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax

TOLERANCE = 0.5
"""Standard errors of held-out log-loss by which a finer cut may be worse."""


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
        Log frequency of each condition among the cells with its covariates ``(n, n_conditions)``; -inf where there are
        none.
    by_member
        The same as `parts` for the first of the cells by every single member, whether or not it has seen them,
        ``(n_members, n_few, n_conditions, n_nodes)``: how far members differ.
    excess
        1 / (members that judge a held-out cell) - 1 / (all members): what averaging over all of them saves of their
        variance.
    """

    parts: np.ndarray
    condition: np.ndarray
    log_prior: np.ndarray
    by_member: np.ndarray
    excess: float

    def of(self, conditions: np.ndarray) -> HeldOut:
        """The cells of some conditions, and these conditions as the only rivals."""
        cells = np.isin(self.condition, conditions)
        few = np.flatnonzero(cells[: self.by_member.shape[1]])
        return HeldOut(
            self.parts[cells][:, conditions],
            np.searchsorted(conditions, self.condition[cells]),
            self.log_prior[cells][:, conditions],
            self.by_member[:, few][:, :, conditions],
            self.excess,
        )

    def losses(self, weights: np.ndarray) -> np.ndarray:
        """Log-loss of each cell's condition under prior odds times likelihood ratio, nats ``(n,)``."""
        return _losses(self.parts.astype(np.float64) @ weights + self.log_prior, self.condition)

    def log_loss(self, weights: np.ndarray) -> float:
        """Mean of `losses`; NaN without cells."""
        return _mean(self.losses(weights))

    def prior_log_loss(self) -> float:
        """The same for the class frequencies alone."""
        return _mean(_losses(self.log_prior, self.condition))

    def averaging_gain(self, weights: np.ndarray) -> float:
        """How much of the log-loss averaging over all members would save, nats a cell.

        To second order, variance v of the log likelihoods costs half its expectation under the Hessian of the log-loss,
        which is the variance over conditions under the posterior.
        """
        n_members, n_few = self.by_member.shape[:2]
        if n_members < 2 or not n_few:
            return 0.0
        joint = self.by_member.astype(np.float64) @ weights
        posterior = softmax(joint.mean(0) + self.log_prior[:n_few], axis=1)
        apart = joint - joint.mean(0)
        variance = (posterior * apart**2).sum(2) - (posterior * apart).sum(2) ** 2
        return float(0.5 * self.excess * variance.sum(0).mean() / (n_members - 1))


def _losses(joint: np.ndarray, condition: np.ndarray) -> np.ndarray:
    total: np.ndarray = logsumexp(joint, axis=1)
    return total - joint[np.arange(len(joint)), condition]


def _mean(losses: np.ndarray) -> float:
    return float(losses.mean()) if len(losses) else float("nan")


def cut_weights(position: float, n_nodes: int) -> np.ndarray:
    """Weights ``(n_nodes,)`` that stop the sum after so many nodes: 1 before, 0 behind, a share where it falls."""
    return np.clip(position - np.arange(n_nodes), 0.0, 1.0)


def cut_at(bandwidth: float, node_bandwidths: np.ndarray) -> float:
    """Position of the cut at a bandwidth, in units of the scaled embedding; linear in t within a node."""
    edges = np.concatenate([[np.inf], node_bandwidths[:-1], [0.0]])
    return float(np.interp(1 / (1 + bandwidth), 1 / (1 + edges), np.arange(len(edges))))


def choose_cut(held_out: HeldOut) -> float:
    """Number of nodes to sum: the most whose held-out log-loss is within half a standard error of the least.

    Log-loss hardly sees what too coarse a cut does to large ratios, so a draw goes to the finer one. The losses are
    those that all members would have together. All nodes where there is nothing to tell apart.
    """
    n_nodes = held_out.parts.shape[2]
    if held_out.parts.shape[1] < 2 or not len(held_out.parts):
        return float(n_nodes)
    cuts = [cut_weights(position, n_nodes) for position in range(1, n_nodes + 1)]
    by_cell = np.stack([held_out.losses(weights) - held_out.averaging_gain(weights) for weights in cuts])
    beyond = by_cell - by_cell[np.argmin(by_cell.mean(1))]
    standard_error = beyond.std(1) / np.sqrt(beyond.shape[1])
    return float(np.flatnonzero(beyond.mean(1) <= TOLERANCE * standard_error).max() + 1)
