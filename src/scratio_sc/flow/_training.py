"""Training of one member: learn to denoise the cells, then also to tell their conditions apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scratio_sc.flow._denoising_ratio import N_NODES, anchor_parts, remainders
from scratio_sc.flow._member import Groups, Member
from scratio_sc.flow._path import SIGMA_MAX, SIGMA_MIN

MAX_RIVALS = 6
DETACH = 0
FIRST_JUDGED_NODE = 2
"""The coarsest nodes see too little of a cell to be asked for its condition."""


@dataclass(frozen=True)
class Schedule:
    """How a member is trained.

    Attributes
    ----------
    n_steps
        Steps in all.
    contrast_share
        Share of them, at the end, in which the conditions are told apart too.
    batch_size, contrast_batch_size
        Cells a step for the denoising loss and for the contrast loss.
    contrast_weight
        Weight of the contrast loss (nats) against the denoising loss.
    learning_rate, warm_up, decay
        Of AdamW at its highest, the steps until then, and the decay of the weights' moving average.
    autocast
        Whether matrix products are taken in bfloat16.
    """

    n_steps: int
    batch_size: int = 1024
    contrast_share: float = 0.4
    contrast_batch_size: int = 128
    contrast_weight: float = 4.0
    learning_rate: float = 2e-3
    warm_up: int = 200
    decay: float = 0.99
    autocast: bool = False


@dataclass(frozen=True)
class Stratum:
    """Cells that share their covariates: their rows ``(n,)``, their groups ``(k,)`` and log frequencies ``(k,)``."""

    rows: Tensor
    groups: Tensor
    log_prior: Tensor


@dataclass(frozen=True)
class TrainingCells:
    """Cells in a member's coordinates ``(n, d)``, the group of each ``(n,)``, and the strata in which groups compete."""

    x: Tensor
    group: Tensor
    groups: Groups
    strata: list[Stratum]


@dataclass(frozen=True)
class Progress:
    """Losses recorded while training: ``step``, ``loss`` and ``held_out_loss``, each ``(n_records,)``."""

    step: np.ndarray
    loss: np.ndarray
    held_out_loss: np.ndarray


def denoising_loss(member: Member, cells: TrainingCells, rows: Tensor, *, generator: torch.Generator) -> Tensor:
    """Mean squared error of F against (x - A_c) / c_out at stratified noise levels.

    With log sigma uniform this is the likelihood weighting. A Gaussian that is right scores 1.
    """
    n = len(rows)
    low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
    stratified = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    log_sigma = (low + (high - low) * stratified).to(member.device)
    x, group = cells.x[rows], cells.group[rows]
    sigma = log_sigma.exp()[:, None]
    y = x + sigma * torch.randn(x.shape, generator=generator).to(member.device)
    target = (x - cells.groups.gaussians.denoise_groups(y, sigma, group)) / member.output_scale(sigma)
    code = member.network.noise_code(log_sigma)
    hidden = member.network.trunk(member.whiten(y, sigma), code)
    out = member.network.head(hidden, member.network.group_code(code, cells.groups.features[group]))
    return functional.mse_loss(out.float(), target)


def contrast_loss(member: Member, cells: TrainingCells, *, n: int, generator: torch.Generator) -> Tensor:
    """Cross-entropy of the conditions under the flow's own log likelihoods, seen at every bandwidth.

    The cells of a step share their covariates, so that groups differ in their condition alone. Judging the partial sums at
    every node, not the whole alone, keeps the coarse log ratios as good as they can be.
    """
    sizes = torch.tensor([float(len(stratum.rows)) for stratum in cells.strata])
    stratum = cells.strata[int(torch.multinomial(sizes, 1, generator=generator))]
    chosen = torch.randperm(len(stratum.groups), generator=generator)[:MAX_RIVALS].sort().values
    rivals, rows = stratum.groups[chosen], stratum.rows
    if len(chosen) < len(stratum.groups):
        rows = rows[torch.isin(cells.group[rows], rivals)]
    rows = rows[torch.randint(len(rows), (n,), generator=generator)]
    x, groups = cells.x[rows], cells.groups.take(rivals)
    noise = torch.randn(n, N_NODES, 1, x.shape[1], generator=generator).to(member.device)
    parts = remainders(member, x, torch.cat([noise, -noise], dim=2), groups)
    if DETACH: parts = torch.cat([parts[..., :DETACH].detach(), parts[..., DETACH:]], -1)
    logits = (parts + anchor_parts(x, groups).to(parts)).cumsum(-1)[..., FIRST_JUDGED_NODE:]
    logits = logits + stratum.log_prior[chosen][:, None]
    label = (cells.group[rows][:, None] == rivals).int().argmax(1)
    return functional.cross_entropy(logits, label[:, None].expand(-1, logits.shape[-1]))


def train(
    member: Member,
    cells: TrainingCells,
    held_out: TrainingCells,
    *,
    schedule: Schedule,
    generator: torch.Generator,
    on_step: Callable[[], None],
) -> Progress:
    """Train the member's network in place; it ends as the moving average of its weights."""
    network, total = member.network, schedule.n_steps
    fused = member.device.type in {"cpu", "cuda"}
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=fused
    )
    warm_up = min(schedule.warm_up, max(total // 4, 1))
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / warm_up, 1) * 0.5 * (1 + math.cos(math.pi * i / max(total, 1)))
    )
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(schedule.decay))
    contrast_from = round(total * (1 - schedule.contrast_share))
    autocast = torch.autocast(member.device.type, torch.bfloat16, enabled=schedule.autocast)
    records: list[tuple[int, float, float]] = []
    every = max(1, total // 20)
    for step in range(total):
        rows = torch.randint(len(cells.x), (schedule.batch_size,), generator=generator)
        with autocast:
            loss = denoising = denoising_loss(member, cells, rows, generator=generator)
            if step >= contrast_from and any(len(s.groups) > 1 for s in cells.strata):
                n = schedule.contrast_batch_size
                loss = denoising + schedule.contrast_weight * contrast_loss(member, cells, n=n, generator=generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
        average.update_parameters(network)
        if step % every == every - 1:
            records.append((step + 1, float(denoising.detach()), _held_out_loss(member, held_out, autocast)))
        on_step()
    if total:
        network.load_state_dict(average.module.state_dict())
    step_, loss_, held_out_ = np.array(records, np.float64).reshape(-1, 3).T
    return Progress(step_.astype(np.int64), loss_.astype(np.float32), held_out_.astype(np.float32))


@torch.no_grad()
def _held_out_loss(member: Member, cells: TrainingCells, autocast: torch.autocast) -> float:
    if not len(cells.x):
        return float("nan")
    same_noise = torch.Generator().manual_seed(0)
    with autocast:
        rows = torch.arange(min(len(cells.x), 1024))
        return float(denoising_loss(member, cells, rows, generator=same_noise))
