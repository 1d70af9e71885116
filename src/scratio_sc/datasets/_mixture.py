"""Gaussian mixtures: distributions to draw cells from whose densities are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import logsumexp


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Mixture of ``k`` Gaussians in ``d`` dimensions."""

    weights: np.ndarray
    """``(k,)``, summing to 1."""
    means: np.ndarray
    """``(k, d)``."""
    covariances: np.ndarray
    """``(k, d, d)``, positive definite."""

    @classmethod
    def single(cls, mean: np.ndarray, covariance: np.ndarray) -> GaussianMixture:
        """One Gaussian with ``mean`` ``(d,)`` and ``covariance`` ``(d, d)``."""
        return cls(np.ones(1), mean[None], covariance[None])

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw points ``(n, d)``, and the component each of them comes from ``(n,)``."""
        component = rng.choice(len(self.weights), size=n, p=self.weights)
        x = rng.standard_normal((n, self.means.shape[1]))
        for k, (mean, covariance) in enumerate(zip(self.means, self.covariances, strict=True)):
            members = component == k
            x[members] = mean + x[members] @ cholesky(covariance, lower=True).T
        return x, component

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Log density of each row of ``x`` ``(n, d)``, in nats, shape ``(n,)``."""
        components = zip(self.means, self.covariances, strict=True)
        of_component = np.stack([_normal_log_density(x, mean, covariance) for mean, covariance in components])
        return logsumexp(of_component, axis=0, b=self.weights[:, None])


def _normal_log_density(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Log density ``(n,)`` of one Gaussian at the rows of ``x`` ``(n, d)``."""
    factor = cholesky(covariance, lower=True)
    whitened = solve_triangular(factor, (x - mean).T, lower=True)
    log_norm = np.log(np.diag(factor)).sum() + 0.5 * len(mean) * np.log(2 * np.pi)
    return -0.5 * np.square(whitened).sum(axis=0) - log_norm
