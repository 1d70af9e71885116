"""Whether a trained network is worth its price: it has to tell conditions of held-out cells better than the anchor."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from scratio_sc.flow._bandwidth import fine_cuts
from scratio_sc.flow._denoising_ratio import N_NODES, anchor_parts, draw_directions, node_log_likelihoods
from scratio_sc.flow._gain import is_clear
from scratio_sc.flow._held_out import losses_of
from scratio_sc.flow._training import MIN_GAIN_SE

if TYPE_CHECKING:
    from scratio_sc.flow._member import Member
    from scratio_sc.flow._training import Stratum, TrainingCells

MAX_CELLS = 2000
N_SHARES = 4
"""Parts that the directions are cut into, of which one is enough to compare two losses of the same cells."""
MIN_SETTLED = 0.1
"""Share of what the anchor leaves open that a network has to settle: it makes scores a hundred times as dear."""


def tells_conditions_better(member: Member, cells: TrainingCells, *, seed: int) -> bool:
    """Whether the network clearly lowers the log-loss of the conditions of cells that it was not trained on.

    A network may denoise better, and so describe the cells better, and yet tell nothing of how conditions differ, or
    something wrong. Each of both is judged at the bandwidth that suits it best. What is saved has to be more than
    chance and a share of the anchor's log-loss or, where conditions hardly differ, of what the anchor itself saves.
    Without conditions that compete, the denoising decides alone.
    """
    if not cells.contested:
        return True
    rng = np.random.default_rng(seed)
    losses = [_losses(member, cells, stratum, rng=rng) for stratum in cells.contested]
    network, anchor, frequency = (each[:, each.mean(0).argmin()] for each in np.concatenate(losses, axis=1))
    saved = anchor - network
    least = MIN_SETTLED * min(anchor.mean(), (frequency - anchor).mean())
    return is_clear(saved, n_errors=MIN_GAIN_SE, least=least)


def _losses(member: Member, cells: TrainingCells, stratum: Stratum, *, rng: np.random.Generator) -> np.ndarray:
    """Log-loss by network, anchor and frequencies, cell and cut ``(3, n, n_cuts)``, nats, of part of a stratum."""
    share = math.ceil(MAX_CELLS * len(stratum.rows) / len(cells.x))
    rows = stratum.rows.cpu().numpy()
    rows = rows[rng.permutation(len(rows))[:share]]
    x, groups = cells.x[torch.as_tensor(rows, device=member.device)], cells.groups.take(stratum.groups)
    directions = draw_directions(x.shape[1], N_SHARES, rng=rng)[0]
    own = (cells.group[rows].cpu().numpy()[:, None] == stratum.groups.cpu().numpy()).argmax(1)
    prior = stratum.log_prior.cpu().double().numpy()
    anchor = anchor_parts(x, groups).cpu().numpy()
    network = node_log_likelihoods(member, member.embedding(x), groups, directions=directions).mean(0)
    by, cuts = (network, anchor, np.zeros_like(anchor)), fine_cuts(N_NODES)
    return np.stack([np.stack([losses_of(parts @ cut + prior, own) for cut in cuts], axis=1) for parts in by])
