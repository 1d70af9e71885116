"""One member of the flow: an anchor and the network that corrects it, in the anchor's coordinates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scratio_sc.flow._mixtures import Mixtures
from scratio_sc.flow._proportions import log_weights
from scratio_sc.flow._tilt import tilted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.flow._anchor import Anchor
    from scratio_sc.flow._design import Design
    from scratio_sc.flow._network import Experts


@dataclass(frozen=True)
class Groups:
    """The groups a question is about: feature vectors ``(k, n_features)`` and mixtures, on the member's device."""

    features: Tensor
    mixtures: Mixtures

    def take(self, index: Tensor) -> Groups:
        """Some of the groups."""
        return Groups(self.features[index], self.mixtures.take(index))

    @property
    def partitions(self) -> list[Groups]:
        """The groups according to each partition of the cells, and by the second opinion after the first."""
        return [Groups(self.features, mixtures) for mixtures in self.mixtures.partitions]


class Member:
    """Denoiser D_c(y, sigma) = A_c(y, sigma) + c_out(sigma) F(z, log sigma, c).

    A_c is the posterior mean of the anchor, z = y / sqrt(spread + sigma^2) and
    c_out = sqrt(lambda sigma^2 / (lambda + sigma^2)) per coordinate, lambda the variance within groups.
    """

    def __init__(self, anchor: Anchor, network: Experts, device: torch.device) -> None:
        self.anchor = anchor
        self.network = network.to(device)
        self.device = device
        self.within = self._tensor(anchor.within)
        self.spread = self._tensor(anchor.spread)

    def widened(self, doubt: float, design: Design) -> Member:
        """The same member with an anchor that is widened (`_widening`)."""
        return Member(self.anchor.widened(doubt, design), self.network, self.device)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array, np.float32), device=self.device)

    def coordinates(self, x: np.ndarray) -> Tensor:
        """Cells ``(n, d)`` in the anchor's coordinates."""
        return self._tensor((np.asarray(x, np.float64) - self.anchor.center) @ self.anchor.basis)

    def embedding(self, x: Tensor) -> np.ndarray:
        """Inverse of `coordinates`."""
        return x.cpu().double().numpy() @ self.anchor.basis.T + self.anchor.center

    def groups(self, design: Design, rows: np.ndarray) -> Groups:
        """Rows ``(k, n_columns)`` of a design as groups; one never observed is what its columns add up to.

        As `described`, with the second opinion where there is one (`_tilt`).
        """
        features = design.features(rows)
        opinions = [self._first_opinion(design, rows, features)]
        if len(self.anchor.tilt):
            opinions.append(self._second_opinion(design, features))
        return self._groups(features, opinions)

    def described(self, design: Design, rows: np.ndarray) -> Groups:
        """The same according to where their cells lie alone."""
        features = design.features(rows)
        return self._groups(features, [self._first_opinion(design, rows, features)])

    def _first_opinion(self, design: Design, rows: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, ...]:
        """Log weights ``(k, m)``, means ``(k, m, d)``, variances and rotations (of one group where all share them)."""
        anchor = self.anchor
        variance, rotation = anchor.variance[None], anchor.rotation[None]
        if anchor.own_share:
            index = design.alike(rows)
            seen = (index >= 0)[:, None, None]
            variance = np.where(seen, anchor.own_variance[index], variance)
            rotation = np.where(seen[..., None], anchor.own_rotation[index], rotation)
        return anchor.log_weights(features), anchor.means(features), variance, rotation

    def _second_opinion(self, design: Design, features: np.ndarray) -> tuple[np.ndarray, ...]:
        """The same of mixtures that know by their slopes alone in what conditions differ."""
        anchor, common = self.anchor, features * ~design.contested
        variance, rotation = (part.astype(np.float32).astype(float) for part in (anchor.variance, anchor.rotation))
        covariance = (rotation * variance[:, None]) @ rotation.swapaxes(1, 2)  # of the precision that flows keep
        slope = torch.as_tensor(features @ anchor.tilt[:-1] + anchor.tilt[-1])
        parts = (anchor.log_weights(common), anchor.means(common), covariance)
        weight, mean = tilted(*map(torch.as_tensor, parts), slope=slope)
        return log_weights(weight.numpy(), anchor.partition), mean.numpy(), anchor.variance[None], anchor.rotation[None]

    def _groups(self, features: np.ndarray, opinions: Sequence[tuple[np.ndarray, ...]]) -> Groups:
        """Groups according to opinions, which count the same."""
        weight, *others = zip(*opinions, strict=True)
        n_own = max(len(variance) for variance in others[1])
        mean, variance, rotation = (
            np.concatenate([np.broadcast_to(one, (max(len(one), n_own), *one.shape[1:])) for one in each], axis=1)
            for each in others
        )
        identity = rotation.shape[1] == 1 and np.array_equal(
            rotation, np.broadcast_to(np.eye(mean.shape[2]), rotation.shape)
        )
        mixtures = Mixtures(
            self._tensor(np.concatenate(weight, axis=1) - math.log(len(opinions))),
            self._tensor(mean),
            self._tensor(variance),
            None if identity else self._tensor(rotation),
            tuple(np.bincount(self.anchor.partition).tolist()) * len(opinions),
        )
        return Groups(self._tensor(features), mixtures)

    def shares(self, x: np.ndarray, groups: Groups, of_group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Mixtures.shares`, in the embedding."""
        share, distance = groups.mixtures.shares(self.coordinates(x), self._tensor(of_group))
        return share.cpu().double().numpy(), distance.cpu().double().numpy()

    def whiten(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Network input of noisy cells ``y (..., d)`` at ``sigma (..., 1)``."""
        return y / (self.spread + sigma**2).sqrt()

    def output_scale(self, sigma: Tensor) -> Tensor:
        """c_out ``(..., d)`` at ``sigma (..., 1)``."""
        return sigma * (self.within / (self.within + sigma**2)).sqrt()

    def residual(self, y: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """c_out F of noisy cells ``y (n, d)`` at one noise level, a 0-d tensor, under one group ``(n_features,)``."""
        expert = self.network.at(float(sigma))
        noise = expert.noise_code(sigma.log())
        hidden = expert.trunk(self.whiten(y, sigma), noise)
        return expert.head(hidden, expert.group_code(noise, features)) * self.output_scale(sigma)


@dataclass(frozen=True)
class MemberDensity:
    """The density of one group according to one member, at any noise level, in the member's coordinates.

    Of groups according to one partition of the cells: the log density of a member is the mean of theirs.
    """

    member: Member
    groups: Groups
    index: int

    def score(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Score (D - y) / sigma^2 of the density of y, ``(n, d)``; ``sigma`` is a 0-d tensor in the trained range."""
        correction = self.member.residual(y, sigma, self.groups.features[self.index])
        return self.groups.mixtures.score(y, sigma, self.index) + correction / sigma**2

    def anchor_log_density(self, y: Tensor, sigma: float) -> Tensor:
        """Log density of the anchor at noise level sigma, nats, ``(n,)``."""
        return self.groups.mixtures.log_density(y, sigma, self.index)

    def anchor_sample(self, n: int, sigma: float, generator: torch.Generator) -> Tensor:
        """Draws from the anchor at noise level sigma, ``(n, d)``."""
        return self.groups.mixtures.sample(n, sigma, self.index, generator=generator)

    def anchor_transport(self, y: Tensor, sigma_from: float, sigma_to: float) -> Tensor:
        """Probability flow of the anchor between two noise levels, ``(n, d)``."""
        return self.groups.mixtures.transport(y, self.index, sigma_from=sigma_from, sigma_to=sigma_to)
