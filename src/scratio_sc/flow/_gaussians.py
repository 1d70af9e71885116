"""Gaussian groups as tensors: what the anchor says of cells seen through noise, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussians:
    """N(mu_c, Sigma_c) of ``k`` groups with Sigma_c = V_c diag(lambda_c) V_c^T; V_c is I where `basis` is None.

    Attributes
    ----------
    mean, variance
        mu_c and lambda_c, both ``(k, d)``.
    basis
        V_c, ``(k, d, d)``.
    """

    mean: Tensor
    variance: Tensor
    basis: Tensor | None

    def take(self, index: Tensor) -> Gaussians:
        """Some of the groups."""
        return Gaussians(self.mean[index], self.variance[index], None if self.basis is None else self.basis[index])

    def _into(self, z: Tensor, c: int) -> Tensor:
        return z if self.basis is None else z @ self.basis[c]

    def _back(self, z: Tensor, c: int) -> Tensor:
        return z if self.basis is None else z @ self.basis[c].mT

    def denoise(self, y: Tensor, sigma: Tensor, c: int) -> Tensor:
        """Posterior mean mu + Sigma (Sigma + sigma^2 I)^-1 (y - mu) at ``y (..., d)``, ``sigma (..., 1)``."""
        gain = self.variance[c] / (self.variance[c] + sigma**2)
        return self.mean[c] + self._back(self._into(y - self.mean[c], c) * gain, c)

    def denoise_groups(self, y: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
        """`denoise` of rows ``y (n, d)``, each under its own ``group (n,)``."""
        if self.basis is None:
            gain = self.variance[group] / (self.variance[group] + sigma**2)
            return self.mean[group] + (y - self.mean[group]) * gain
        out = torch.empty_like(y)
        for c in group.unique().tolist():
            rows = group == c
            out[rows] = self.denoise(y[rows], sigma[rows], c)
        return out

    def score(self, y: Tensor, sigma: Tensor, c: int) -> Tensor:
        """Score -(Sigma + sigma^2 I)^-1 (y - mu) at ``y (n, d)``, exact at small sigma too."""
        z = self._into(y - self.mean[c], c)
        return -self._back(z / (self.variance[c] + sigma**2), c)

    def log_density(self, y: Tensor, sigma: float, c: int) -> Tensor:
        """log N(y; mu, Sigma + sigma^2 I), nats, ``(n,)`` in float64."""
        z, total = self._standardised(y, sigma, c)
        return -0.5 * (z.square().sum(-1) + torch.log(2 * math.pi * total).sum())

    def smoothed_log_density(self, x: Tensor, bandwidth: float, c: int) -> Tensor:
        """E_eps log N(x + h eps; mu, Sigma + h^2 I): log N(x; mu, Sigma) as seen down to noise h, ``(n,)``."""
        z, total = self._standardised(x, bandwidth, c)
        return -0.5 * (z.square().sum(-1) + (bandwidth**2 / total + torch.log(2 * math.pi * total)).sum())

    def sample(self, n: int, sigma: float, c: int, *, generator: torch.Generator) -> Tensor:
        """Draws from N(mu, Sigma + sigma^2 I), ``(n, d)``."""
        mean = self.mean[c]
        noise = torch.randn(n, len(mean), generator=generator, device=generator.device).to(mean.device)
        return mean + self._back(noise * (self.variance[c] + sigma**2).sqrt(), c)

    def transport(self, y: Tensor, c: int, *, sigma_from: float, sigma_to: float) -> Tensor:
        """Exact probability flow of the Gaussian from one noise level to another, ``(n, d)``."""
        stretch = ((self.variance[c] + sigma_to**2) / (self.variance[c] + sigma_from**2)).sqrt()
        return self.mean[c] + self._back(self._into(y - self.mean[c], c) * stretch, c)

    def _standardised(self, y: Tensor, sigma: float, c: int) -> tuple[Tensor, Tensor]:
        exact = y.device if y.device.type != "mps" else "cpu"  # MPS has no float64
        y, mean, variance = (part.to(exact, torch.float64) for part in (y, self.mean[c], self.variance[c]))
        z = y - mean
        if self.basis is not None:
            z = z @ self.basis[c].to(exact, torch.float64)
        total = variance + sigma**2
        return z / total.sqrt(), total
