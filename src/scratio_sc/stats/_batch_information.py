"""What a cell's state says of its batch, beyond its type.

For a cell x of type t and batch b, by Bayes' rule,

    s(x) = log p(x | t, b) - log p(x | t) = log p(b | x, t) - log p(b | t),    p(x | t) = sum_b' w_b' p(x | t, b'),

with w_b the share of batch b among the cells of the type. Its mean over cells is the mutual information
I(batch; x | type), between 0 and the entropy H(batch | type). With a density q fitted to other cells, the mean is on
average I - E KL(p(b | x, t) || q(b | x, t)) (Barber & Agakov 2003): it errs downwards, and can fall below 0.

With a density fitted to the cells themselves it errs upwards. For a mean delta that is estimated with variance v and
shrunk to s times the estimate, the two are, in units of the noise,

    s delta^2 - s^2 (delta^2 + v) / 2    and    s (delta^2 + v) - s^2 (delta^2 + v) / 2,

and their average is delta^2 / 2, the information, both without shrinkage (s = 1, as in Akaike 1974) and with the right
one, s = delta^2 / (delta^2 + v).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scratio_sc.flow import fit_flow
from scratio_sc.flow._flow import CONTRAST
from scratio_sc.flow._member_scores import member_scores
from scratio_sc.flow._standard_error import standard_error
from scratio_sc.stats._divergence import Ratios, variance_of_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.flow._contrast import SideSpec


@dataclass(frozen=True)
class BatchScores:
    """Batch scores of cells, nats.

    Attributes
    ----------
    ratios
        Scores of the cells, by the members that did not see them, by each member and by each partition.
    seen
        Scores of the cells by the members that did see them, ``(n,)``.
    left_out
        Fold that each member left out, ``(n_members,)``.
    node_weights, node_bandwidths
        Weights of the nodes, the same for both densities, and the bandwidth that each sees down to, ``(n_nodes,)``.
    """

    ratios: Ratios
    seen: np.ndarray
    left_out: np.ndarray
    node_weights: np.ndarray
    node_bandwidths: np.ndarray

    @classmethod
    def of(
        cls,
        x: np.ndarray,
        labels: np.ndarray,
        *,
        columns: Sequence[str],
        bandwidth: float | Literal["auto"],
        progress: bool,
        **options: Any,
    ) -> BatchScores:
        """Fit cells ``(n, d)`` with batch and type ``(n, 2)``, and score each out of fold; `options` of the fit."""
        flow, fold = fit_flow(x, labels, columns=columns, n_condition_columns=1, progress=progress, **options)
        own: SideSpec = {}
        mixture: SideSpec = {flow.design.columns[0]: flow.design.levels[0]}
        # the sides share batches, so the bandwidth is judged by how well it tells all of them apart, given the type
        weights = flow.weights(own, mixture, bandwidth=bandwidth)
        scores = member_scores(flow, x, [own, mixture], own=labels, fold=fold, weights=weights, progress=progress)
        found = Ratios.of(scores, CONTRAST)
        parts = found.value, found.by_member, found.by_partition
        ratios = Ratios(*(bounded(part, labels[:, 1]) for part in parts))
        seen = np.average(ratios.by_member, axis=0, weights=(flow.left_out[:, None] != fold))
        return cls(ratios, seen, flow.left_out, weights, flow.node_bandwidths)


def bounded(score: np.ndarray, cell_type: np.ndarray) -> np.ndarray:
    """Scores ``(..., n)`` in view of how many cells of a type there are ``(n,)``.

    From n cells nobody can know a batch to be less likely than 1 / n of its share, so that p(b | x, t) is mixed with as
    much of p(b | t): log((1 - 1/n) e^s + 1/n). A score of 0 stays, and a few cells far out do not outweigh all others.
    """
    doubt = 1 / _n_alike(cell_type)
    mixed: np.ndarray = np.log((1 - doubt) * np.exp(score) + doubt)
    return mixed


def largest_scores(labels: np.ndarray) -> np.ndarray:
    """-log w_b of cells with batch and type ``(n, 2)``: the score where no other batch has such cells, ``(n,)``."""
    return np.log(_n_alike(labels[:, 1])) - np.log(_n_alike(labels))


def _n_alike(labels: np.ndarray) -> np.ndarray:
    """Cells that have the labels ``(n,)`` or ``(n, n_columns)`` of each cell, itself among them, ``(n,)``."""
    _, kind, size = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    alike: np.ndarray = size[kind.reshape(-1)]
    return alike


def summary(scores: BatchScores, cells: np.ndarray, *, largest: np.ndarray, threshold: float) -> dict[str, float]:
    """Mean score of some cells, and the share of them above ``threshold`` times their largest score ``(n,)``.

    The variance is that of the choice of cells plus that of the fit: the mean is stationary where the fit is right, so
    the two hardly go together. ``maximum`` is the mean of the largest scores, which is the entropy of the batches
    within the types. ``information`` is the average of the means by members that did not see a cell and by those that
    did; how far the one is from the other counts as part of its error, for shrinkage is not always the right one.
    """
    ratios, seen, largest = scores.ratios.take(cells), scores.seen[cells], largest[cells]
    each = ratios.value, ratios.by_member, ratios.by_partition
    mean, mean_se = _mean(*each, left_out=scores.left_out)
    above, above_se = _mean(*((part > threshold * largest).astype(float) for part in each), left_out=scores.left_out)
    correction = float((seen - ratios.value).mean() / 2)
    return {
        "mean": mean,
        "mean_se": mean_se,
        "information": mean + correction,
        "information_se": float(np.hypot(mean_se, correction)),
        "above": above,
        "above_se": above_se,
        "maximum": float(largest.mean()),
    }


def _mean(
    value: np.ndarray, by_member: np.ndarray, by_partition: np.ndarray, *, left_out: np.ndarray
) -> tuple[float, float]:
    """Mean of values ``(n,)`` and its standard error."""
    of_fit = standard_error(by_member.mean(1), by_partition.mean(1), left_out)
    return float(value.mean()), float(np.sqrt(variance_of_mean(value) + of_fit**2))
