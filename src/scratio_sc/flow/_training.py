"""Training of one member: learn to denoise the cells, then also to tell their conditions apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from scratio_sc.flow._denoising_ratio import N_COARSE, N_NODES, anchor_parts, remainders
from scratio_sc.flow._gain import is_clear
from scratio_sc.flow._member import Member
from scratio_sc.flow._network import BOUNDARY
from scratio_sc.flow._path import SIGMA_MAX, SIGMA_MIN
from scratio_sc.flow._threads import in_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scratio_sc.flow._member import Groups
    from scratio_sc.flow._network import Experts

    Autocast = Callable[[], torch.autocast]

MAX_RIVALS = 6
FOCUS_SHARE = 0.6
FIRST_LOOK, MIN_TRIAL = 80, 150
"""Steps after which a network has to be better than its anchor beyond chance, and by `MIN_GAIN`, to be trained on."""
MIN_GAIN, MIN_GAIN_SE = 0.002, 2.0
"""What a network has to save on held-out cells: a share of the anchor's denoising loss, and standard errors."""
N_RECORDS = 20
MAX_JUDGED = 4096
FOCUS_COARSE = (BOUNDARY, 6.0)
FOCUS_FINE = (0.1, BOUNDARY)


@dataclass(frozen=True)
class Schedule:
    """How a member is trained.

    Attributes
    ----------
    n_steps
        Steps in all.
    contrast_share
        Share of them, at the end, in which the conditions are told apart too.
    batch_size
        Cells a step for the denoising loss; the contrast loss, with more work a cell, takes an eighth.
    contrast_weight
        Weight of the contrast loss (nats) against the denoising loss.
    learning_rate, warm_up, decay
        Of AdamW at its highest, the steps until then, and the decay of the weights' moving average.
    autocast
        Whether matrix products are taken in bfloat16.
    """

    n_steps: int
    batch_size: int = 1024
    contrast_share: float = 0.35
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
    """Cells in a member's coordinates ``(n, d)``, the group of each ``(n,)``, and the strata where groups compete."""

    x: Tensor
    group: Tensor
    groups: Groups
    strata: list[Stratum]

    @cached_property
    def contested(self) -> list[Stratum]:
        """Strata in which a cell may be of several groups."""
        return [stratum for stratum in self.strata if len(stratum.groups) > 1]


@dataclass(frozen=True)
class Losses:
    """Losses recorded while training: ``step``, ``loss`` and ``held_out_loss``, each ``(n_records,)``."""

    step: np.ndarray
    loss: np.ndarray
    held_out_loss: np.ndarray


@dataclass(frozen=True)
class Noisy:
    """Rows of cells for one of the experts ``(n,)``, their log noise levels ``(n,)`` and the noise ``(n, d)``."""

    fine: bool
    rows: Tensor
    log_sigma: Tensor
    noise: Tensor

    @classmethod
    def of(cls, cells: TrainingCells, rows: Tensor, *, generator: torch.Generator) -> list[Noisy]:
        """Half of the rows for either expert."""
        half, d = len(rows) // 2, cells.x.shape[1]
        return [
            cls(
                fine,
                part,
                draw_log_sigma(len(part), fine=fine, generator=generator).to(cells.x.device),
                torch.randn(len(part), d, generator=generator).to(cells.x),
            )
            for fine, part in ((False, rows[:half]), (True, rows[half:]))
        ]


def denoising_errors(member: Member, cells: TrainingCells, noisy: Noisy) -> Tensor:
    """Mean squared error of F against (x - A_c) / c_out of each cell ``(n,)``.

    With log sigma uniform this is the likelihood weighting; most of the noise levels are drawn where conditions
    differ. A single Gaussian that is right scores 1.
    """
    expert, log_sigma = member.network.fine if noisy.fine else member.network.coarse, noisy.log_sigma
    x, group = cells.x[noisy.rows], cells.group[noisy.rows]
    sigma = log_sigma.exp()[:, None]
    y = x + sigma * noisy.noise
    target = (x - cells.groups.mixtures.denoise_groups(y, sigma, group)) / member.output_scale(sigma)
    code = expert.noise_code(log_sigma)
    hidden = expert.trunk(member.whiten(y, sigma), code)
    out = expert.head(hidden, expert.group_code(code, cells.groups.features[group]))
    return (out.float() - target).square().mean(-1)


def draw_log_sigma(n: int, *, fine: bool, generator: torch.Generator) -> Tensor:
    """Log noise levels of one expert ``(n,)``, stratified: most in its focus, the rest over its whole range."""
    edges = (SIGMA_MIN, BOUNDARY) if fine else (BOUNDARY, SIGMA_MAX)
    focus = FOCUS_FINE if fine else FOCUS_COARSE
    uniform = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    low, high = (math.log(edge) for edge in edges)
    start, stop = (math.log(edge) for edge in focus)
    inside = start + (stop - start) * uniform / FOCUS_SHARE
    outside = low + (high - low) * (uniform - FOCUS_SHARE) / (1 - FOCUS_SHARE)
    return torch.where(uniform < FOCUS_SHARE, inside, outside)


def contrast_loss(member: Member, cells: TrainingCells, *, n: int, generator: torch.Generator) -> Tensor:
    """Cross-entropy of the conditions under the flow's own log likelihoods, at every bandwidth of the fine expert.

    The cells of a step share their covariates, so that groups differ in their condition alone. Judging the partial
    sums at every node, not the whole alone, keeps each bandwidth as good as it can be.
    """
    sizes = torch.tensor([float(len(stratum.rows)) for stratum in cells.contested])
    stratum = cells.contested[int(torch.multinomial(sizes, 1, generator=generator))]
    chosen = torch.randperm(len(stratum.groups), generator=generator)[:MAX_RIVALS].sort().values
    rivals, rows = stratum.groups[chosen], stratum.rows
    if len(chosen) < len(stratum.groups):
        rows = rows[torch.isin(cells.group[rows], rivals)]
    rows = rows[torch.randint(len(rows), (n,), generator=generator)]
    x, groups = cells.x[rows], cells.groups.take(rivals)
    noise = torch.randn(n, N_NODES, 1, x.shape[1], generator=generator).to(member.device)
    noise = torch.cat([noise, -noise], dim=2)
    with torch.no_grad():
        coarse = remainders(member, x, groups, directions=noise[:, :N_COARSE], fine=False)
    parts = torch.cat([coarse, remainders(member, x, groups, directions=noise[:, N_COARSE:], fine=True)], dim=-1)
    logits = (parts + anchor_parts(x, groups).to(parts)).cumsum(-1)[..., N_COARSE:]
    logits = logits + stratum.log_prior[chosen][:, None].to(logits)
    label = (cells.group[rows][:, None] == rivals).int().argmax(1)[:, None].expand(-1, logits.shape[-1])
    return functional.cross_entropy(logits, label)


def train(
    member: Member,
    cells: TrainingCells,
    held_out: TrainingCells,
    *,
    schedule: Schedule,
    generator: torch.Generator,
    on_step: Callable[[], None],
) -> Losses:
    """Train the member's network in place; it ends as the moving average of its weights.

    Where the network does not denoise held-out cells clearly better than the anchor alone, it is put back to silence:
    at the end, and early on to save the steps where the anchor is all there is.
    """
    network, total = member.network, schedule.n_steps
    optimiser, rate = _optimiser(network, schedule, fused=member.device.type in {"cpu", "cuda"})
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(schedule.decay))
    averaged = Member(member.anchor, cast("Experts", average.module), member.device)
    contrast_from = round(total * (1 - schedule.contrast_share))
    contrasted = bool(cells.contested)
    # the cache of cast weights is one for all threads: another member's training would clear it between two uses
    precision: dict[str, Any] = {"dtype": torch.bfloat16, "enabled": schedule.autocast, "cache_enabled": False}
    autocast = partial(torch.autocast, member.device.type, **precision)
    anchor_errors = errors = held_out_errors(member, held_out, autocast)
    every = max(1, total // N_RECORDS)
    records: list[tuple[int, float, float]] = []
    for step in range(total):
        rows = torch.randint(len(cells.x), (schedule.batch_size,), generator=generator)
        optimiser.zero_grad()
        loss = learn_to_denoise(member, cells, Noisy.of(cells, rows, generator=generator), autocast=autocast)
        if contrasted and step >= contrast_from:
            with autocast():
                contrast = contrast_loss(member, cells, n=max(schedule.batch_size // 8, 1), generator=generator)
            (schedule.contrast_weight * contrast).backward()
        optimiser.step()
        rate.step()
        average.update_parameters(network)
        on_step()
        if step % every == every - 1:
            errors = held_out_errors(averaged, held_out, autocast)
            records.append((step + 1, float(loss), float(errors.mean())))
            if not worth_its_steps(errors, anchor_errors, step + 1):
                break
    if clearly_better(errors, anchor_errors):
        network.load_state_dict(average.module.state_dict())
    else:
        network.silence()
    steps, losses, held_out_losses = np.array(records, np.float64).reshape(-1, 3).T
    return Losses(steps.astype(np.int64), losses.astype(np.float32), held_out_losses.astype(np.float32))


def learn_to_denoise(member: Member, cells: TrainingCells, noisy: Sequence[Noisy], *, autocast: Autocast) -> Tensor:
    """Add the gradients of the mean denoising error, and return it.

    Experts share nothing, and are at it side by side where there is a thread to spare (`in_shares`).
    """
    n, errors = sum(len(part.rows) for part in noisy), {}

    def learn(parts: Sequence[Noisy]) -> None:
        for part in parts:
            with autocast():
                own = denoising_errors(member, cells, part).sum() / n
            own.backward()
            errors[part.fine] = own.detach()

    in_shares(learn, noisy, large=member.device.type == "cpu")
    total: Tensor = errors[False] + errors[True]
    return total


def _optimiser(
    network: torch.nn.Module, schedule: Schedule, *, fused: bool
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    total, warm_up = max(schedule.n_steps, 1), min(schedule.warm_up, max(schedule.n_steps // 4, 1))
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=fused
    )

    def factor(step: int) -> float:
        return min((step + 1) / warm_up, 1) * 0.5 * (1 + math.cos(math.pi * step / total))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


@torch.no_grad()
def held_out_errors(member: Member, cells: TrainingCells, autocast: Autocast) -> Tensor:
    """Denoising errors of cells that the member was not trained on ``(n,)``, always with the same noise."""
    same_noise = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(cells.x), generator=same_noise)[:MAX_JUDGED]
    with autocast():
        parts = [denoising_errors(member, cells, part) for part in Noisy.of(cells, rows, generator=same_noise)]
    return torch.cat(parts)


def worth_its_steps(errors: Tensor, anchor_errors: Tensor, n_steps: int) -> bool:
    """Whether a network that has been trained for so many steps may still come to be of use."""
    if n_steps < FIRST_LOOK:
        return True
    return clearly_better(errors, anchor_errors, share=MIN_GAIN if n_steps >= MIN_TRIAL else 0.0)


def clearly_better(errors: Tensor, anchor_errors: Tensor, *, share: float = MIN_GAIN) -> bool:
    """Whether the errors of the same cells are lower than the anchor's, by a share of them and beyond chance."""
    least = share * float(anchor_errors.mean())
    return is_clear((anchor_errors - errors).cpu().numpy(), n_errors=MIN_GAIN_SE, least=least)
