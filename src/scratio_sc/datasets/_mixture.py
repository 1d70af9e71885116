"""Gaussian mixtures: distributions to draw cells from whose densities are known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Mixture of ``k`` Gaussians in ``d`` dimensions."""

    weights: Floats
    """``(k,)``, summing to 1."""
    means: Floats
    """``(k, d)``."""
    covariances: Floats
    """``(k, d, d)``, positive definite."""

    @classmethod
    def single(cls, mean: Floats, covariance: Floats) -> GaussianMixture:
        """One Gaussian with ``mean`` ``(d,)`` and ``covariance`` ``(d, d)``."""
        return cls(np.ones(1), mean[None], covariance[None])

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.intp]]:
        """Draw points ``(n, d)``, and the component each of them comes from ``(n,)``."""
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        x = rng.standard_normal((n, self.means.shape[1]))
        for k, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            members = component == k
            x[members] = mean + x[members] @ cholesky(covariance, lower=True).T
        return x, component

    def log_density(self, x: Floats) -> Floats:
        """Log density of each row of ``x`` ``(n, d)``, in nats, shape ``(n,)``."""
        components = zip(self.means, self.covariances, strict=True)
        of_component = np.stack([_normal_log_density(x, mean, covariance) for mean, covariance in components])
        density: Floats = logsumexp(of_component, axis=0, b=self.weights[:, None])
        return density


def _normal_log_density(x: Floats, mean: Floats, covariance: Floats) -> Floats:
    """Log density ``(n,)`` of one Gaussian at the rows of ``x`` ``(n, d)``."""
    factor = cholesky(covariance, lower=True)
    whitened = solve_triangular(factor, (x - mean).T, lower=True)
    log_norm = np.log(np.diag(factor)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
    density: Floats = -0.5 * np.square(whitened).sum(axis=0) - log_norm
    return density
