"""What shrinking effects on log weights and means may have withheld from log densities, squared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Covariances in partitions ``(n_features, m_p, m_p)``, one below the other, ``(n_features, m, max m_p)``."""
    most = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, most - part.shape[1]))) for part in parts], axis=1)


def withheld_from(
    change: np.ndarray, withheld: np.ndarray, *, partition: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Covariances of what is withheld from sides with ``features (k, n_features)``, nats², ``(n, k, k)``.

    An effect e on the log weight of a component changes the log density of a cell under a side by ``change (k, n, m)``
    times e: its share in the component less the weight of it there, in the partition that the component belongs to
    ``(m,)``. Partitions lack much the same, so their variances are averaged. What all sides have in common is left out.
    """
    out = np.zeros((change.shape[1], len(features), len(features)))
    parts = [np.flatnonzero(partition == p) for p in np.unique(partition)]
    for f in np.flatnonzero(np.ptp(features, axis=0) > 0):
        by_side = change * features[:, f, None, None]
        lacking = [_covariances(by_side[..., own], withheld[f][own, : len(own)]) for own in parts]
        out += _at_least_nothing(np.mean(lacking, axis=0))
    return out


def _covariances(change: np.ndarray, withheld: np.ndarray) -> np.ndarray:
    """Covariances ``(n, k, k)`` of ``change (k, n, m)`` times effects of covariances ``(m, m)``."""
    return np.einsum("knm,jnm->nkj", change @ withheld, change)


def _at_least_nothing(covariance: np.ndarray) -> np.ndarray:
    """Covariances ``(n, k, k)`` without negative variances: shrinking may withhold less than all sizes expect."""
    value, vector = np.linalg.eigh(covariance)
    out: np.ndarray = (vector * np.maximum(value, 0)[:, None]) @ vector.swapaxes(1, 2)
    return out


def hidden_from(change: np.ndarray, hidden: np.ndarray, *, n_parts: int, features: np.ndarray) -> np.ndarray:
    """The same of squared moves ``hidden (n_features, m)`` of components, in no direction that is known.

    A move changes the log density of a cell under a side by ``change (k, n, m)`` times it: its share in the component
    times its distance from it along one dimension.
    """
    out = np.zeros((change.shape[1], len(features), len(features)))
    for f in np.flatnonzero((np.ptp(features, axis=0) > 0) & hidden.any(1)):
        by_side = change * features[:, f, None, None]
        out += np.einsum("knm,jnm->nkj", by_side * hidden[f], by_side) / n_parts
    return out
