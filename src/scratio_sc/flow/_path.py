"""The straight path x_t = t x_1 + (1 - t) eps between noise (t = 0) and cells (t = 1).

With the noise-to-signal ratio sigma = (1 - t) / t, everything on the path is a function of the denoiser
D(y, sigma) = E[x_1 | y] of y = x_t / t = x_1 + sigma eps: its velocity (D - x_t) / (1 - t) and its score
(t D - x_t) / (1 - t)^2 always agree.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIGMA_MIN = 0.02
"""Finest noise level the network is trained on and asked about, for an embedding of mean variance 1."""

SIGMA_MAX = 50.0
"""Coarsest noise level, likewise."""


def time_of(sigma: float) -> float:
    """Time 1 / (1 + sigma) at which the path has noise-to-signal ratio ``sigma``."""
    return 1 / (1 + sigma)


@dataclass(frozen=True)
class Nodes:
    """Quadrature of an integral over the signal-to-noise ratio gamma = 1 / sigma^2, from coarse to fine.

    Attributes
    ----------
    sigma
        Noise level of each node, ``(n_nodes,)``, falling.
    weight
        Weight of each node in 1/2 int ... d gamma, ``(n_nodes,)``.
    bandwidth
        Noise level at the fine end of the part of the integral each node stands for, ``(n_nodes,)``, falling to
        `SIGMA_MIN`.
    """

    sigma: np.ndarray
    weight: np.ndarray
    bandwidth: np.ndarray


def gauss_legendre_nodes(n_nodes: int) -> Nodes:
    """Gauss-Legendre nodes in t over the trained range; d gamma / 2 = dt / (t (1 - t)) / sigma^2."""
    low, high = time_of(SIGMA_MAX), time_of(SIGMA_MIN)
    position, weight = np.polynomial.legendre.leggauss(n_nodes)
    t = low + (high - low) * (position + 1) / 2
    dt = weight * (high - low) / 2
    edge = np.minimum(low + np.cumsum(dt), high)
    sigma = (1 - t) / t
    return Nodes(sigma=sigma, weight=dt / (t * (1 - t)) / sigma**2, bandwidth=(1 - edge) / edge)
