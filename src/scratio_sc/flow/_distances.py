"""How far components lie apart, and who learns from whom: components close together tend to change alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

REACHES = (3.0, 1.5)
"""How far the effects on log weights reach, in median distances between two components; besides, they may not."""
LOCAL = 0.35
"""How far the size of these effects reaches, in the same unit."""
ELSEWHERE = 0.1
"""What components far away add to the size of effects, where one at the same place adds 1."""
MOVE = 0.06
"""How far components share how much their means move."""


@dataclass(frozen=True)
class Neighbours:
    """Which of m components are near each other.

    R with R R^T = K for each reach, and the identity, ``(n, m, m)``, and weights ``near (m, m)``, rows that sum to one,
    of the cells of all components about each.
    """

    roots: np.ndarray
    near: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray, weight: np.ndarray) -> Neighbours:
        """Of components ``(m, d)``, ``(m, d, d)`` with weights ``(m,)``."""
        distance = bhattacharyya(mean, covariance)
        unit = _unit(distance)
        near = weight * (np.exp(-distance / (LOCAL * unit)) + ELSEWHERE)
        roots = [root_of(np.exp(-distance / (reach * unit))) for reach in REACHES if np.isfinite(unit)]
        return cls(np.stack([*roots, np.eye(len(mean))]), near / near.sum(1, keepdims=True))


def root_of(kernel: np.ndarray) -> np.ndarray:
    """R with R R^T the kernel ``(..., m, m)``, or what of it is positive definite."""
    # with covariances that differ exp(-D / reach) need not be
    value, vector = np.linalg.eigh(kernel)
    root: np.ndarray = vector * np.sqrt(np.maximum(value, 0))[..., None, :]
    return root


def bhattacharyya(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Distances between Gaussians ``(m, d)``, ``(m, d, d)``, nats, ``(m, m)``."""
    log_det, distance = np.linalg.slogdet(covariance)[1], np.zeros((len(mean), len(mean)))
    for own_mean, own_covariance, own_log_det, out in zip(mean, covariance, log_det, distance, strict=True):
        middle, apart = (own_covariance + covariance) / 2, (own_mean - mean)[..., None]
        shape = np.linalg.slogdet(middle)[1] - (own_log_det + log_det) / 2
        place = (apart * np.linalg.solve(middle, apart)).sum((1, 2)) / 4
        out[:] = np.maximum(place + shape, 0) / 2
    return distance


def moving_alike(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """How far components ``(m, d)``, ``(m, d, d)`` share how much they move, 1 at the same place, ``(m, m)``."""
    distance = bhattacharyya(mean, covariance)
    alike: np.ndarray = np.exp(-distance / (MOVE * _unit(distance)))
    return alike


def _unit(distance: np.ndarray) -> float:
    apart = distance[~np.eye(len(distance), dtype=bool)]
    return float(np.median(apart)) if len(apart) and np.median(apart) > 0 else np.inf
