"""Log likelihoods by the pointwise I-MMSE identity (Kong et al. 2023).

With gamma = 1 / sigma^2 and D_c(., sigma) the denoiser of group c, against any Gaussian N_c with posterior mean A_c,

    log p_c(x) = log N_c(x) + 1/2 int_0^inf E_eps[ |x - A_c(x + sigma eps)|^2 - |x - D_c(x + sigma eps)|^2 ] d gamma.

The Gaussian part is exact; only the network's correction u = D_c - A_c is summed over nodes in gamma, where the bracket is
u . (2 (x - A_c) - u). All groups share nodes and directions, so noise that they have in common leaves their differences.
Stopped at noise level h, the integral is the log likelihood of the cell seen through a Gaussian kernel of width h.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from scratio_sc.flow._member import Groups, Member
from scratio_sc.flow._path import Nodes, gauss_legendre_nodes

N_NODES = 8
MIN_DIRECTIONS = 16
ROWS_PER_CHUNK = 8192


def nodes() -> Nodes:
    """The nodes every log likelihood is summed over."""
    return gauss_legendre_nodes(N_NODES)


def draw_directions(n_dims: int, n_parts: int, *, rng: np.random.Generator) -> np.ndarray:
    """Noise that stands for the Gaussian average, ``(n_parts, n_nodes, m, d)``: one share of it a part.

    At each node the vectors +-sqrt(d) q_j of a random rotation: antithetic and orthogonal, so that their average is exact for
    quadratic functions. In few dimensions several rotations are taken, with radii that match the fourth moment too. The
    parts together hold every vector once; members that score the same cell take a part each.
    """
    n_rotations = max(1, math.ceil(MIN_DIRECTIONS / n_dims))
    n_rotations += n_rotations % 2 if n_rotations > 1 else 0
    n_vectors = n_rotations * n_dims
    out = np.empty((N_NODES, n_vectors, n_dims))
    for node in range(N_NODES):
        for r in range(n_rotations):
            q, _ = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))
            swing = 0.0 if n_rotations == 1 else (-1) ** r * math.sqrt(2 * n_dims)
            out[node, r * n_dims : (r + 1) * n_dims] = q * math.sqrt(n_dims + swing)
    share = max(1, n_vectors // n_parts)
    parts = [out[:, np.arange(p * share, (p + 1) * share) % n_vectors] for p in range(n_parts)]
    half = np.stack(parts)
    return np.concatenate([half, -half], axis=2)


def remainders(member: Member, x: Tensor, directions: Tensor, groups: Groups) -> Tensor:
    """Network's part of the log likelihood of each cell, group and node, ``(n, k, n_nodes)``.

    ``x (n, d)`` in the member's coordinates; ``directions (n or 1, n_nodes, m, d)``. Differentiable.
    """
    grid = nodes()
    sigma = torch.as_tensor(grid.sigma, dtype=torch.float32, device=x.device)[:, None, None]
    weight = torch.as_tensor(grid.weight, dtype=torch.float32, device=x.device)
    y = x[:, None, None] + sigma * directions
    noise = member.network.noise_code(sigma[None, :, :, 0].log())
    hidden = member.network.trunk(member.whiten(y, sigma), noise)
    scale = member.output_scale(sigma)
    parts = []
    for c, features in enumerate(groups.features):
        code = member.network.group_code(noise, features)
        correction = member.network.head(hidden, code).float() * scale
        error = x[:, None, None] - groups.gaussians.denoise(y, sigma, c)
        parts.append((correction * (2 * error - correction)).sum(-1).mean(-1) * weight)
    return torch.stack(parts, dim=1)


def anchor_parts(x: Tensor, groups: Groups) -> Tensor:
    """The Gaussians' part of the log likelihood in the band of each node, in closed form, ``(n, k, n_nodes)`` float64."""
    edges = [*nodes().bandwidth[:-1].tolist(), 0.0]
    parts = [
        torch.stack([groups.gaussians.smoothed_log_density(x, h, c) for h in edges], dim=-1)
        for c in range(len(groups.features))
    ]
    whole = torch.stack(parts, dim=1)
    return whole.diff(dim=-1, prepend=torch.zeros_like(whole[..., :1]))


@torch.inference_mode()
def node_log_likelihoods(member: Member, x: np.ndarray, directions: np.ndarray, groups: Groups) -> np.ndarray:
    """Log likelihood of cells ``(n, d)`` under groups, by node, ``(n, k, n_nodes)`` float64; the sum over nodes is log p_c(x).

    Works through the cells in chunks whose number of network rows is bounded; no cell depends on its neighbours.
    """
    noise = torch.as_tensor(directions, dtype=torch.float32, device=member.device)[None]
    step = max(1, ROWS_PER_CHUNK // (noise.shape[1] * noise.shape[2]))
    out = np.empty((len(x), len(groups.features), N_NODES))
    for start in range(0, len(x), step):
        cells = member.coordinates(x[start : start + step])
        part = remainders(member, cells, noise, groups).double().cpu() + anchor_parts(cells, groups).cpu()
        out[start : start + step] = part.numpy()
    return out
