"""Coordinates in which cells of a group vary independently, most along the first."""

from __future__ import annotations

import numpy as np

from scratio_sc.flow._components import VARIANCE_FLOOR


def eigenbasis(x: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pooled mean ``(d,)``, and eigenvectors ``(d, d)`` and eigenvalues ``(d,)`` of the covariance within groups."""
    _, code = np.unique(group, return_inverse=True)
    size = np.bincount(code)
    mean = np.stack([np.bincount(code, weights=column) for column in x.T], axis=1) / size[:, None]
    apart = x - mean[code]
    floor = VARIANCE_FLOOR * np.eye(x.shape[1])
    variance, basis = np.linalg.eigh(apart.T @ apart / max(len(x) - len(size), 1) + floor)
    variance, basis, center = np.maximum(variance[::-1], VARIANCE_FLOOR), basis[:, ::-1], x.mean(0)
    # an eigenvector has no sign of its own: a positive third moment gives it one that rotates with the embedding
    third = (((x - center) @ basis) ** 3).sum(0)
    return center, basis * np.where(third < 0, -1.0, 1.0), variance
