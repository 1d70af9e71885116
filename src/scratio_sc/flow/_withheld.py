"""What shrinking effects on log weights towards zero may have withheld from log densities, squared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def united(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Covariances in partitions ``(n_features, m_p, m_p)``, one below the other, ``(n_features, m, max m_p)``."""
    most = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(part, ((0, 0), (0, 0), (0, most - part.shape[1]))) for part in parts], axis=1)


def withheld_from(
    change: np.ndarray, withheld: np.ndarray, *, partition: np.ndarray, same: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Covariances of what is withheld from sides with ``features (k, n_features)``, nats², ``(n, k, k)``.

    An effect e on the log weight of a component changes the log density of a cell by ``change (n, m)`` times e: its
    share in the component less the weight of it, in the partition that the component belongs to ``(m,)``. Features of
    the ``same (n_partitions, n_features)`` number have one effect. Partitions lack much the same, so their variances
    are averaged. What all sides have in common is left out.
    """
    out = np.zeros((len(change), len(features), len(features)))
    for p, of_feature in zip(np.unique(partition), same, strict=True):
        own = np.flatnonzero(partition == p)
        for number, f in zip(*np.unique(of_feature, return_index=True), strict=True):
            shared = features[:, of_feature == number].sum(1)
            if np.ptp(shared) == 0:
                continue
            lacking = ((change[:, own] @ withheld[f][own, : len(own)]) * change[:, own]).sum(1)
            # shrinking may withhold less than all sizes expect
            out += np.maximum(lacking, 0)[:, None, None] * np.outer(shared, shared) / len(same)
    return out
