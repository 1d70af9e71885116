"""The residual networks that say what a mixture cannot: one for coarse noise, one for fine noise.

They share nothing, so that what is learned to tell conditions apart at fine noise cannot disturb the coarse log
ratios, which denoising alone learns best.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

N_FREQUENCIES = 16
N_CODE = 64
EMBEDDING_STD = 3.0
BOUNDARY = 1.0
"""Noise level, for an embedding of mean variance 1, above which the coarse expert answers."""


class FilmBlock(nn.Module):
    """Residual block whose normalised input is scaled and shifted by a code."""

    def __init__(self, width: int, n_code: int) -> None:
        super().__init__()
        self.film = nn.Linear(n_code, 2 * width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, hidden: Tensor, code: Tensor) -> Tensor:
        """Hidden ``(..., width)`` and a code ``(..., n_code)`` that broadcasts against it."""
        scale, shift = self.film(code).chunk(2, dim=-1)
        normed = functional.layer_norm(hidden, hidden.shape[-1:])
        return hidden + self.outer(functional.silu(self.inner(torch.addcmul(shift, normed, 1 + scale))))


class ResidualNetwork(nn.Module):
    """F(z, log sigma, group) in two parts: a trunk that all groups share, and a head that knows the group.

    The trunk is computed once for all groups, which makes scoring many groups cheap. The output starts at zero: before
    training, the model is its anchor.
    """

    frequency: Tensor

    def __init__(self, n_dims: int, n_features: int, *, width: int, n_trunk: int, n_head: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.logspace(-1.0, 0.8, N_FREQUENCIES), persistent=False)
        self.embedding = nn.Linear(n_features, N_CODE, bias=False)
        self.noise = nn.Sequential(nn.Linear(2 * N_FREQUENCIES, N_CODE), nn.SiLU(), nn.Linear(N_CODE, N_CODE))
        self.inlet = nn.Linear(n_dims, width)
        self.shared = nn.ModuleList(FilmBlock(width, N_CODE) for _ in range(n_trunk))
        self.grouped = nn.ModuleList(FilmBlock(width, 2 * N_CODE) for _ in range(n_head))
        self.outlet = nn.Linear(width, n_dims)
        nn.init.zeros_(self.outlet.weight)
        nn.init.zeros_(self.outlet.bias)

    def noise_code(self, log_sigma: Tensor) -> Tensor:
        """Code ``(..., N_CODE)`` of noise levels ``(...)``."""
        phase = log_sigma[..., None] * self.frequency
        code: Tensor = self.noise(torch.cat([phase.sin(), phase.cos()], dim=-1))
        return code

    def group_code(self, noise_code: Tensor, features: Tensor) -> Tensor:
        """Code ``(..., 2 N_CODE)`` of noise level and group ``(..., n_features)``, broadcast together."""
        embedded = self.embedding(features)
        shape = torch.broadcast_shapes(noise_code.shape[:-1], embedded.shape[:-1])
        return torch.cat([noise_code.expand(*shape, -1), embedded.expand(*shape, -1)], dim=-1)

    def trunk(self, z: Tensor, noise_code: Tensor) -> Tensor:
        """Hidden state ``(..., width)`` of whitened noisy cells ``(..., d)``, the same for every group."""
        hidden: Tensor = self.inlet(z)
        for block in self.shared:
            hidden = block(hidden, noise_code)
        return hidden

    def head(self, hidden: Tensor, group_code: Tensor) -> Tensor:
        """F ``(..., d)`` under one group."""
        for block in self.grouped:
            hidden = block(hidden, group_code)
        out: Tensor = self.outlet(functional.silu(functional.layer_norm(hidden, hidden.shape[-1:])))
        return out


class Experts(nn.Module):
    """A coarse and a fine `ResidualNetwork`, each asked on its side of `BOUNDARY` only."""

    def __init__(self, n_dims: int, n_features: int, *, widths: tuple[int, int], n_trunk: int, n_head: int) -> None:
        super().__init__()
        coarse, fine = (
            ResidualNetwork(n_dims, n_features, width=width, n_trunk=n_trunk, n_head=n_head) for width in widths
        )
        self.coarse, self.fine = coarse, fine
        for expert in (coarse, fine):
            nn.init.normal_(expert.embedding.weight, std=EMBEDDING_STD)

    @property
    def silent(self) -> bool:
        """Whether neither expert says anything, so that the anchor speaks alone."""
        return not any(part.any() for expert in (self.coarse, self.fine) for part in expert.outlet.parameters())

    @torch.no_grad()
    def silence(self) -> None:
        """Let the anchor speak alone."""
        for expert in (self.coarse, self.fine):
            for part in expert.outlet.parameters():
                part.zero_()

    def at(self, sigma: float) -> ResidualNetwork:
        """The expert for a noise level."""
        return self.coarse if sigma > BOUNDARY else self.fine
