"""Log likelihoods by the pointwise I-MMSE identity (Kong et al. 2023).

With gamma = 1 / sigma^2 and D_c(., sigma) the denoiser of group c, against any density q_c with posterior mean A_c,

    log p_c(x) = log q_c(x) + 1/2 int_0^inf E_eps[ |x - A_c(x + sigma eps)|^2 - |x - D_c(x + sigma eps)|^2 ] d gamma.

The anchor q_c is exact; only the network's correction u = D_c - A_c is summed over nodes in gamma, where the
bracket is u . (2 (x - A_c) - u). All groups share nodes and directions, so noise that they have in common leaves their
differences. Stopped at noise level h, the integral is the log likelihood of the cell seen through a Gaussian kernel of
width h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from scratio_sc.flow._network import BOUNDARY
from scratio_sc.flow._path import Nodes, gauss_legendre_nodes

if TYPE_CHECKING:
    from scratio_sc.flow._member import Groups, Member

N_NODES = 8
MIN_DIRECTIONS, MAX_COARSE = 16, 8
ROWS_PER_CHUNK = 2048


@cache
def nodes() -> Nodes:
    """The nodes every log likelihood is summed over."""
    return gauss_legendre_nodes(N_NODES)


N_COARSE = int((nodes().sigma > BOUNDARY).sum())
"""How many of the nodes, from the coarsest, the coarse expert answers for."""


@dataclass(frozen=True)
class Directions:
    """Noise that stands for the Gaussian average: of the coarse and of the fine nodes, each ``(n_nodes, m, d)``."""

    coarse: np.ndarray
    fine: np.ndarray


def draw_directions(n_dims: int, n_parts: int, *, rng: np.random.Generator) -> list[Directions]:
    """Directions for members that score the same cells: each takes a part.

    At each node the vectors +-sqrt(d) q_j of a random rotation: antithetic and orthogonal, so that their average is
    exact for quadratic functions. In few dimensions several rotations are taken, with radii that match the fourth
    moment too; in many, the coarse nodes, where there is least to correct, take half of a part and at most
    `MAX_COARSE` vectors.
    """
    lengths = _lengths(n_dims)
    out = np.empty((N_NODES, len(lengths), n_dims))
    for vectors in out:
        for start in range(0, len(lengths), n_dims):
            q, _ = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))
            vectors[start : start + n_dims] = q * lengths[start : start + n_dims, None]
    n_vectors = len(lengths)
    out = out[:, _by_turns(n_dims, n_vectors)]
    few = n_dims < MIN_DIRECTIONS
    coarse = _shares(n_vectors, n_parts if few else max(2 * n_parts, math.ceil(n_vectors / MAX_COARSE)))
    return [
        Directions(_antithetic(out[:N_COARSE, coarse[p % len(coarse)]]), _antithetic(out[N_COARSE:, fine]))
        for p, fine in enumerate(_shares(n_vectors, n_parts))
    ]


def _lengths(n_dims: int) -> np.ndarray:
    """Length of each vector: sqrt(d); in few dimensions, lengths with the second and fourth moments of noise."""
    if n_dims == 1:
        half_normal = norm.ppf(0.5 + (np.arange(MIN_DIRECTIONS) + 0.5) / (2 * MIN_DIRECTIONS))
        lengths: np.ndarray = half_normal / np.sqrt((half_normal**2).mean())
        return lengths
    n_rotations = math.ceil(MIN_DIRECTIONS / n_dims)
    if n_rotations == 1:
        return np.full(n_dims, math.sqrt(n_dims))
    swing = math.sqrt(2 * n_dims)
    pair = np.repeat(np.sqrt([max(n_dims - swing, 0.0), n_dims + swing]), n_dims)
    return np.tile(pair, math.ceil(n_rotations / 2))


def _by_turns(n_dims: int, n_vectors: int) -> np.ndarray:
    """Order ``(n_vectors,)`` in which short and long vectors take turns, so that every part has both."""
    order = np.arange(n_vectors)
    if n_dims == 1:
        return order * 13 % n_vectors  # halves of equal mean square within 4 %
    return order if n_dims >= MIN_DIRECTIONS else order.reshape(-1, 2, n_dims).swapaxes(1, 2).reshape(-1)


def _shares(n_vectors: int, n_parts: int) -> list[np.ndarray]:
    share = math.ceil(n_vectors / n_parts)
    return [np.arange(p * share, (p + 1) * share) % n_vectors for p in range(n_parts)]


def _antithetic(vectors: np.ndarray) -> np.ndarray:
    return np.concatenate([vectors, -vectors], axis=1)


def _answered(*, fine: bool) -> slice:
    """The nodes that one expert answers for."""
    return slice(N_COARSE, None) if fine else slice(N_COARSE)


def remainders(member: Member, x: Tensor, groups: Groups, *, directions: Tensor, fine: bool) -> Tensor:
    """One expert's part of the log likelihood of each cell, by group and node, ``(n, k, n_coarse or n_fine)``.

    ``x (n, d)`` in the member's coordinates; ``directions (n or 1, n_coarse or n_fine, m, d)``. Differentiable.
    """
    grid, expert = nodes(), member.network.fine if fine else member.network.coarse
    mine = _answered(fine=fine)
    sigma = torch.as_tensor(grid.sigma[mine], dtype=torch.float32, device=x.device)[:, None, None]
    weight = torch.as_tensor(grid.weight[mine], dtype=torch.float32, device=x.device)
    y = x[:, None, None] + sigma * directions
    noise = expert.noise_code(sigma[None, :, :, 0].log())
    hidden = expert.trunk(member.whiten(y, sigma), noise)
    scale = member.output_scale(sigma)
    anchors = [groups.mixtures.denoise(y[:, i], float(s)) for i, s in enumerate(grid.sigma[mine])]
    parts = []
    for features, anchor in zip(groups.features, zip(*anchors, strict=True), strict=True):
        correction = expert.head(hidden, expert.group_code(noise, features)).float() * scale
        error = x[:, None, None] - torch.stack(anchor, dim=1)
        parts.append((correction * (2 * error - correction)).sum(-1).mean(-1) * weight)
    return torch.stack(parts, dim=1)


def anchor_parts(x: Tensor, groups: Groups, *, weights: np.ndarray | None = None) -> Tensor:
    """The anchor's part of the log likelihood, by the band of each node, ``(n, k, n_nodes)`` float64.

    Of nodes with equal ``weights (n_nodes,)`` side by side the last has the parts of all, which is less to compute.
    """
    last = np.ones(N_NODES, bool) if weights is None else np.append(np.diff(weights) != 0, True)
    bandwidth = np.append(nodes().bandwidth[:-1], 0.0)
    whole = groups.mixtures.smoothed_log_densities(x, bandwidth[last].tolist())
    out = whole.new_zeros(*whole.shape[:2], N_NODES)
    out[..., torch.as_tensor(last)] = whole.diff(dim=-1, prepend=torch.zeros_like(whole[..., :1]))
    return out


@torch.inference_mode()
def node_log_likelihoods(
    member: Member, x: np.ndarray, groups: Groups, *, directions: Directions, weights: np.ndarray | None = None
) -> np.ndarray:
    """Log likelihood of cells ``(n, d)`` by partition, group and node, ``(n_partitions, n, k, n_nodes)``.

    Summed over nodes it is log p_c(x) according to a partition; the member's is their mean, which the network corrects.

    With ``weights (n_nodes,)``, that sum is all that nodes of equal weights side by side are good for. Works through
    the cells in chunks whose number of network rows is bounded; no cell depends on its neighbours.
    """
    cells = member.coordinates(x)
    out = torch.stack([anchor_parts(cells, part, weights=weights) for part in groups.partitions]).cpu().numpy()
    if member.network.silent:
        return out
    for noise, fine in ((directions.coarse, False), (directions.fine, True)):
        noises = torch.as_tensor(noise, dtype=torch.float32, device=member.device)[None]
        step = max(1, ROWS_PER_CHUNK // noises.shape[1:3].numel())
        for start in range(0, len(x), step):
            chunk = slice(start, start + step)
            learned = remainders(member, cells[chunk], groups, directions=noises, fine=fine)
            out[:, chunk, :, _answered(fine=fine)] += learned.cpu().double().numpy()
    return out
