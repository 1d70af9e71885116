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
    change: np.ndarray, withheld: np.ndarray, *, partition: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """Covariances of what is withheld from sides with ``features (k, n_features)``, nats², ``(n, k, k)``.

    An effect e on the log weight of a component changes the log density of a cell by ``change (n, m)`` times e: its
    share in the component less the weight of it, in the partition that the component belongs to ``(m,)``. Partitions
    lack much the same, so their variances are averaged. What all sides have in common is left out.
    """
    out = np.zeros((len(change), len(features), len(features)))
    parts = [np.flatnonzero(partition == p) for p in np.unique(partition)]
    for f in np.flatnonzero(np.ptp(features, axis=0) > 0):
        lacking = [((change[:, own] @ withheld[f][own, : len(own)]) * change[:, own]).sum(1) for own in parts]
        square = np.maximum(np.mean(lacking, axis=0), 0)  # shrinking may withhold less than all sizes expect
        out += square[:, None, None] * np.outer(features[:, f], features[:, f])
    return out
