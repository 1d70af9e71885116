"""Gaussian mixtures of the groups as tensors: what the anchor says of cells seen through noise, in closed form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scratio_sc.flow._components import ROWS_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class _Posterior:
    """What noisy vectors say of each component.

    Along its axes, distances from the mean and total variances ``(..., m, d)``, the one over the other, and its share
    ``(..., m, 1)``.
    """

    apart: Tensor
    total: Tensor
    pull: Tensor
    share: Tensor

    @classmethod
    def of(cls, apart: Tensor, total: Tensor, log_weight: Tensor, *, sizes: Sequence[int]) -> _Posterior:
        pull = apart / total
        if log_weight.shape[-1] == 1:
            return cls(apart, total, pull, torch.ones_like(apart[..., :1]))
        log_joint = log_weight - 0.5 * ((apart * pull).sum(-1) + total.log().sum(-1))
        return cls(apart, total, pull, shares_of(log_joint, sizes)[..., None])


def shares_of(log_joint: Tensor, sizes: Sequence[int]) -> Tensor:
    """Shares of components ``(..., m)`` in a cell, the same for each partition of so many components."""
    return torch.cat([part.softmax(-1) for part in log_joint.split(list(sizes), -1)], -1) / len(sizes)


def log_density_of(log_joint: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean log density ``(...)`` of partitions whose components ``(..., m)`` have weights that sum to one together."""
    parts = [part.logsumexp(-1) for part in log_joint.split(list(sizes), -1)]
    return torch.stack(parts).mean(0) + math.log(len(sizes))


def _double(values: Tensor, device: torch.device) -> Tensor:
    """In double precision; on the processor where the device has none."""
    return values.to(device if device.type != "mps" else "cpu").double()


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """Matrices ``(m, d, d)`` times vectors ``(m, d)``, ``(m, d)``."""
    return (matrix @ vector[..., None])[..., 0]


@dataclass(frozen=True)
class Mixtures:
    """sum_k w_ck N(mu_ck, V_ck diag(lambda_ck) V_ck^T) of ``k`` groups with ``m`` components each.

    The components may stem from several partitions of the cells, each a mixture of its own. Then log densities, and
    with them scores and posterior means, are the means of theirs: each partition counts the same for every cell,
    whichever gives it the higher density.

    Attributes
    ----------
    log_weight, mean
        log w_ck ``(k, m)`` and mu_ck ``(k, m, d)``.
    variance, rotation
        lambda_ck ``(k or 1, m, d)`` and V_ck ``(k or 1, m, d, d)``: of one group where all share them. No rotation
        where V is the identity.
    sizes
        How many components each partition has. The weights of all together sum to one.
    """

    log_weight: Tensor
    mean: Tensor
    variance: Tensor
    rotation: Tensor | None
    sizes: tuple[int, ...]

    def take(self, index: Tensor) -> Mixtures:
        """Some of the groups."""
        own = index if len(self.variance) > 1 else slice(None)
        rotation = None if self.rotation is None else self.rotation[own]
        return Mixtures(self.log_weight[index], self.mean[index], self.variance[own], rotation, self.sizes)

    @property
    def partitions(self) -> list[Mixtures]:
        """Each partition by itself."""
        parts = [self.log_weight, self.mean, self.variance, *([] if self.rotation is None else [self.rotation])]
        sizes, n = list(self.sizes), len(self.sizes)
        cut = zip(*(part.split(sizes, 1) for part in parts), strict=True)
        return [
            Mixtures(weight + math.log(n), mean, variance, rotation[0] if rotation else None, (size,))
            for size, (weight, mean, variance, *rotation) in zip(sizes, cut, strict=True)
        ]

    def _own(self, part: Tensor, c: int) -> Tensor:
        return part[c if len(part) > 1 else 0]

    def _into(self, z: Tensor, c: int) -> Tensor:
        """Vectors ``(..., d)`` along the axes of each component, ``(..., m, d)``."""
        if self.rotation is None:
            return z[..., None, :].expand(*z.shape[:-1], self.mean.shape[1], z.shape[-1])
        flat = self._own(self.rotation, c).permute(1, 0, 2).reshape(z.shape[-1], -1)
        return (z @ flat).unflatten(-1, self.mean.shape[1:])

    def _back(self, z: Tensor, c: int) -> Tensor:
        """Sum over components of vectors ``(..., m, d)`` along their axes, ``(..., d)``."""
        if self.rotation is None:
            return z.sum(-2)
        flat = self._own(self.rotation, c).permute(0, 2, 1).reshape(-1, z.shape[-1])
        return z.flatten(-2) @ flat

    def _centre(self, c: int) -> Tensor:
        """Means along the axes of their components ``(m, d)``."""
        if self.rotation is None:
            return self.mean[c]
        return torch.einsum("md,mde->me", self.mean[c], self._own(self.rotation, c))

    def _centres(self) -> Tensor:
        """The same of all groups ``(k, m, d)``."""
        if self.rotation is not None and len(self.rotation) == 1:
            return torch.einsum("kmd,mde->kme", self.mean, self.rotation[0])
        return torch.stack([self._centre(c) for c in range(len(self.mean))])

    def shares(self, x: Tensor, of_group: Tensor) -> tuple[Tensor, Tensor]:
        """How far cells ``(n, d)`` belong to each component, of groups in each such parts ``(q, k)``, ``(q, n, m)``.

        Also their squared distances from it, in its standard deviations: of groups as far as cells belong to them.
        """
        apart = ((self._into(x, c) - self._centre(c), self._own(self.variance, c)) for c in range(len(self.mean)))
        distance = torch.stack([(offset.square() / variance).sum(-1) for offset, variance in apart])
        joint = (self.log_weight - 0.5 * self.variance.log().sum(-1))[:, None] - 0.5 * distance
        share, mean_distance = [], []
        for log_part in of_group.log()[..., None, None]:
            total = (joint + log_part).logsumexp(0)
            share.append(shares_of(total, self.sizes))
            mean_distance.append(((joint + log_part - total).exp() * distance).sum(0))
        return torch.stack(share), torch.stack(mean_distance)

    def denoise(self, y: Tensor, sigma: float) -> list[Tensor]:
        """Posterior mean under each group at ``y (..., d)``, seen through noise of one level.

        Of each component y - sigma^2 (Sigma + sigma^2 I)^-1 (y - mu), weighted by its share.
        """
        rows = y.reshape(-1, y.shape[-1])
        with torch.autocast(y.device.type, enabled=False):
            pulls = self._pulls(rows, sigma, range(len(self.mean)))
            return [(rows - sigma**2 * pull).view_as(y) for pull in pulls]

    def _pulls(self, y: Tensor, sigma: float, groups: Sequence[int]) -> list[Tensor]:
        """P (y - mu), P = (Sigma + sigma^2 I)^-1, of the components of each group by their shares, at ``y (n, d)``.

        Groups that share covariances share the most of it: with means apart by delta,
        (y - mu - delta)^T P (y - mu - delta) = (y - mu)^T P (y - mu) - 2 y^T P delta + (2 mu + delta)^T P delta.
        """
        if len(groups) > 1 and len(self.variance) > 1:
            return [self._pulls(y, sigma, [c])[0] for c in groups]
        first, total = groups[0], self._own(self.variance, groups[0]) + sigma**2
        mean, precision = self.mean[first], self._precision(total, first)
        pull = torch.addmm(-_times(precision, mean).flatten(), y, precision.permute(2, 0, 1).flatten(1))
        pull = pull.unflatten(1, mean.shape)
        same = -0.5 * (((y[:, None] - mean) * pull).sum(-1) + total.log().sum(-1))
        out = []
        for c in groups:
            tilt = _times(precision, self.mean[c] - mean)
            own = self.log_weight[c] - 0.5 * ((self.mean[c] + mean) * tilt).sum(-1)
            share = shares_of(torch.addmm(own, y, tilt.T) + same, self.sizes)
            out.append((share[:, None] @ pull)[:, 0] - share @ tilt)
        return out

    def _precision(self, total: Tensor, c: int) -> Tensor:
        """Inverse covariances ``(m, d, d)`` of total variances ``(m, d)`` along the axes of each component."""
        if self.rotation is None:
            return torch.diag_embed(1 / total)
        rotation = self._own(self.rotation, c)
        return (rotation / total[:, None]) @ rotation.transpose(1, 2)

    def denoise_groups(self, y: Tensor, sigma: Tensor, group: Tensor) -> Tensor:
        """Posterior mean of rows ``y (n, d)``, each seen through its own noise ``(n, 1)`` under its ``group (n,)``."""
        out, every = torch.empty_like(y), torch.arange(len(y), device=y.device)
        own = len(self.variance) > 1
        parts = [(c, every[group == c]) for c in group.unique().tolist()] if own else [(0, every)]
        with torch.autocast(y.device.type, enabled=False):
            centre = self._centres()
            for c, rows in ((c, block) for c, part in parts for block in part.split(ROWS_AT_ONCE)):
                mine, noise = group[rows], sigma[rows]
                total = self._own(self.variance, c) + noise[..., None] ** 2
                found = _Posterior.of(
                    self._into(y[rows], c) - centre[mine], total, self.log_weight[mine], sizes=self.sizes
                )
                out[rows] = y[rows] - noise**2 * self._back(found.share * found.pull, c)
        return out

    def score(self, y: Tensor, sigma: Tensor, c: int) -> Tensor:
        """Score of the density of y at ``y (n, d)``, exact at small sigma too."""
        return -self._pulls(y, float(sigma), [c])[0]

    def log_density(self, y: Tensor, sigma: float, c: int) -> Tensor:
        """Log density of y = x + sigma eps, nats, ``(n,)`` in float64."""
        exact = self._exact(y.device)
        apart = exact._into(_double(y, y.device), c) - exact._centre(c)
        total = exact._own(exact.variance, c) + sigma**2
        parts = (apart.square() / total).sum(-1) + torch.log(2 * math.pi * total).sum(-1)
        return log_density_of(exact.log_weight[c] - 0.5 * parts, self.sizes)

    def smoothed_log_densities(self, x: Tensor, bandwidths: Sequence[float]) -> Tensor:
        """Log density of x under each group as seen down to each noise level h, ``(n, k, n_bandwidths)`` in float64.

        For one Gaussian E_eps log N(x + h eps; mu, Sigma + h^2 I). Of a mixture that has no closed form, and the
        components' are added up: the same at h = 0, and where one component has all the share.
        """
        exact = self._exact(x.device)
        x, square = _double(x, x.device), torch.tensor(bandwidths).to(exact.mean) ** 2
        return torch.cat([exact._smoothed(rows, square) for rows in x.split(ROWS_AT_ONCE)])

    def _smoothed(self, x: Tensor, square: Tensor) -> Tensor:
        """The same of few cells, at squared noise levels."""
        along, out = self._into(x, 0), []
        log_density = x.new_empty(len(x), len(square), self.mean.shape[1])
        for c, mean in enumerate(self.mean):
            along = self._into(x, c) if c and len(self.variance) > 1 else along
            new = torch.ones(len(mean), dtype=torch.bool)
            if c and len(self.variance) == 1:
                new = (mean != self.mean[c - 1]).any(1)  # of the others only the weights differ
            total = self._own(self.variance, c)[new][..., None] + square
            apart = along[:, new] - self._centre(c)[new]
            distance = torch.einsum("nmd,mdh->nhm", apart.square(), 1 / total)
            log_density[..., new] = -0.5 * (distance + (torch.log(2 * math.pi * total) + square / total).sum(1).T)
            out.append(log_density_of(self.log_weight[c] + log_density, self.sizes))
        return torch.stack(out, dim=1)

    def _exact(self, device: torch.device) -> Mixtures:
        rotation = None if self.rotation is None else _double(self.rotation, device)
        weight, mean, variance = (_double(part, device) for part in (self.log_weight, self.mean, self.variance))
        return Mixtures(weight, mean, variance, rotation, self.sizes)

    def sample(self, n: int, sigma: float, c: int, *, generator: torch.Generator) -> Tensor:
        """Draws of y = x + sigma eps, ``(n, d)``."""
        d = self.mean.shape[2]
        which = torch.multinomial(self.log_weight[c].exp().cpu(), n, replacement=True, generator=generator).to(
            self.mean.device
        )
        noise = torch.randn(n, d, generator=generator, device=generator.device).to(self.mean.device)
        along = noise * (self._own(self.variance, c)[which] + sigma**2).sqrt()
        out = self.mean[c][which]
        if self.rotation is None:
            return out + along
        return out + torch.einsum("ne,nde->nd", along, self._own(self.rotation, c)[which])

    def transport(self, y: Tensor, c: int, *, sigma_from: float, sigma_to: float) -> Tensor:
        """Probability flow from one noise level to another, of the component with the largest share, ``(n, d)``.

        Exact for one Gaussian, and where the noise is too small to blur the components together.
        """
        total = self._own(self.variance, c) + sigma_from**2
        found = _Posterior.of(self._into(y, c) - self._centre(c), total, self.log_weight[c], sizes=self.sizes)
        chosen = torch.zeros_like(found.share).scatter(-2, found.share.argmax(-2, keepdim=True), 1)
        stretch = ((self._own(self.variance, c) + sigma_to**2) / found.total).sqrt()
        return self._back(chosen * (self._centre(c) + found.apart * stretch), c)
