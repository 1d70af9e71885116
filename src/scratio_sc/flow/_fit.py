"""Fitting a flow: folds, members, and what the held-out cells say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.special import logsumexp
from tqdm.auto import tqdm

from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._bandwidth import HeldOut
from scratio_sc.flow._denoising_ratio import draw_directions, node_log_likelihoods
from scratio_sc.flow._design import Design
from scratio_sc.flow._device import choose_autocast, choose_device
from scratio_sc.flow._flow import ConditionalFlow
from scratio_sc.flow._member import Member
from scratio_sc.flow._network import EMBEDDING_STD, ResidualNetwork
from scratio_sc.flow._training import Progress, Schedule, Stratum, TrainingCells, train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

WIDTH, N_TRUNK, N_HEAD = 192, 1, 2
MAX_FOLDS = 4
MAX_HELD_OUT_SCORES = 24_000
SUPPORT_QUANTILE, SUPPORT_MARGIN = 0.005, 3.0


def fit_flow(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    columns: Sequence[str] = ("condition",),
    n_condition_columns: int | None = None,
    n_members: int = 4,
    max_steps: int | Literal["auto"] = "auto",
    batch_size: int = 1024,
    rng: int | np.random.Generator | None = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = False,
) -> tuple[ConditionalFlow, np.ndarray]:
    """Fit a flow and return it with the fold of every cell ``(n,)``.

    Parameters
    ----------
    x
        Cells ``(n, d)``.
    labels
        Label of each cell ``(n,)``, or of each cell and column ``(n, n_columns)``.
    columns
        Names of the columns, those of the condition first.
    n_condition_columns
        How many of the columns make the condition; all of them by default. The rest are covariates.
    n_members
        Networks. From four on, every cell is left out by one of them at least.
    max_steps
        Training steps a member; ``"auto"`` goes by the number of cells.
    batch_size
        Cells a step.
    rng
        Seed or generator that all randomness comes from.
    device, precision
        ``"auto"``, or where and how precisely to compute.
    progress
        Whether to show a progress bar.
    """
    x, labels = np.asarray(x, np.float64), np.asarray(labels).astype(str)
    labels = labels.reshape(len(labels), -1)
    rng = np.random.default_rng(rng)
    columns = columns if len(columns) == labels.shape[1] else [f"column{j}" for j in range(labels.shape[1])]
    design, group = Design.of(labels, columns, n_condition_columns or labels.shape[1])
    scale = float(np.sqrt(x.var(0).mean())) or 1.0
    x = x / scale
    n_folds = MAX_FOLDS if n_members == 1 else min(n_members, MAX_FOLDS)
    fold = draw_folds(group, n_folds, rng=rng)
    left_out = np.arange(n_members) % n_folds
    place = choose_device(device)
    n_steps = auto_steps(len(x)) if max_steps == "auto" else max_steps
    schedule = Schedule(n_steps, batch_size, autocast=choose_autocast(precision, place))
    members, records = [], []
    with tqdm(total=n_members * n_steps, desc="fitting", unit="step", disable=not progress) as bar:
        for m in range(n_members):
            bar.set_postfix_str(f"network {m + 1} of {n_members}")
            seen = fold != left_out[m]
            (member_rng,) = rng.spawn(1)
            member = new_member(x[seen], group[seen], design, rng=member_rng, device=place)
            generator = torch.Generator().manual_seed(int(member_rng.integers(2**62)))
            cells = [training_cells(member, x[part], group[part], design) for part in (seen, ~seen)]
            records.append(train(member, *cells, schedule=schedule, generator=generator, on_step=bar.update))
            members.append(member)
    seed = int(rng.integers(2**31))
    held_out, total = score_held_out(members, x, group, design, folds=(fold, left_out), seed=seed)
    support = find_support(held_out, total)
    flow = ConditionalFlow(design, scale, members, left_out, held_out, support, _history(records), seed)
    return flow, fold


def auto_steps(n_cells: int) -> int:
    """Training steps that a number of cells deserves."""
    return int(np.clip(1000 * np.sqrt(n_cells / 20_000), 300, 1500))


def draw_folds(group: np.ndarray, n_folds: int, *, rng: np.random.Generator) -> np.ndarray:
    """Fold of every cell ``(n,)``, balanced within groups."""
    fold = np.empty(len(group), np.int8)
    for c in np.unique(group):
        cells = rng.permutation(np.flatnonzero(group == c))
        fold[cells] = (np.arange(len(cells)) + rng.integers(n_folds)) % n_folds
    return fold


def new_member(
    x: np.ndarray, group: np.ndarray, design: Design, *, rng: np.random.Generator, device: torch.device
) -> Member:
    """A member whose network still says nothing: its Gaussian anchor."""
    anchor = Anchor.fit(x, group, design.features(design.groups), rng=rng)
    seed = int(rng.integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = ResidualNetwork(x.shape[1], design.n_features, width=WIDTH, n_trunk=N_TRUNK, n_head=N_HEAD)
        torch.nn.init.normal_(network.embedding.weight, std=EMBEDDING_STD)
    return Member(anchor, network, device)


def training_cells(member: Member, x: np.ndarray, group: np.ndarray, design: Design) -> TrainingCells:
    """Cells in a member's coordinates, with the strata of equal covariates in which conditions compete."""
    covariates = design.groups[:, design.n_condition_columns :]
    _, stratum_of = np.unique(covariates, axis=0, return_inverse=True)
    stratum_of = stratum_of.reshape(-1)
    strata = []
    for s in np.unique(stratum_of[group]):
        rows = np.flatnonzero(stratum_of[group] == s)
        groups, sizes = np.unique(group[rows], return_counts=True)
        prior = np.log(sizes / sizes.sum())
        strata.append(Stratum(*(torch.as_tensor(part, device=member.device) for part in (rows, groups, prior))))
    code = torch.as_tensor(group, device=member.device)
    return TrainingCells(member.coordinates(x), code, member.groups(design, design.groups), strata)


def score_held_out(
    members: list[Member],
    x: np.ndarray,
    group: np.ndarray,
    design: Design,
    *,
    folds: tuple[np.ndarray, np.ndarray],
    seed: int,
) -> tuple[HeldOut, np.ndarray]:
    """Held-out log likelihoods under every condition, and the log density of each cell under its own, nats."""
    fold, left_out = folds
    conditions, condition_of = design.conditions, design.condition_of(design.groups)
    covariates = design.groups[group, design.n_condition_columns :]
    limit = max(MAX_HELD_OUT_SCORES // len(conditions), 500)
    chosen = np.isin(fold, left_out)
    cells = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(chosen))[:limit])
    parts, log_prior = [], []
    kinds, kind = np.unique(np.column_stack([covariates[cells], fold[cells]]), axis=0, return_inverse=True)
    out = np.empty((len(cells), len(conditions), 0))
    for i, (*own, own_fold) in enumerate(kinds):
        where = np.flatnonzero(kind.reshape(-1) == i)
        rows = np.column_stack([conditions, np.tile(np.array(own, np.int64), (len(conditions), 1))])
        judges = [members[m] for m in np.flatnonzero(left_out == own_fold)]
        directions = draw_directions(x.shape[1], len(judges), rng=np.random.default_rng(seed))
        each = [
            node_log_likelihoods(member, x[cells[where]], part, member.groups(design, rows))
            for member, part in zip(judges, directions, strict=True)
        ]
        if not out.shape[2]:
            out = np.empty((len(cells), len(conditions), each[0].shape[2]))
            log_prior = np.empty((len(cells), len(conditions)))
        out[where] = np.mean(each, axis=0)
        index = design.group_of(rows)
        sizes = np.where(index >= 0, design.sizes[index], 0)
        with np.errstate(divide="ignore"):
            log_prior[where] = np.log(sizes / sizes.sum())
    own_condition = condition_of[group[cells]]
    total = out.sum(2)[np.arange(len(cells)), own_condition]
    return HeldOut(out.astype(np.float32), own_condition, np.asarray(log_prior, np.float32)), total


def find_support(held_out: HeldOut, total: np.ndarray) -> np.ndarray:
    """Log density below which hardly any cell of a condition lies, ``(n_conditions,)``, with a margin."""
    n_conditions = held_out.parts.shape[1]
    out = np.full(n_conditions, -np.inf)
    for c in range(n_conditions):
        own = total[held_out.condition == c]
        if len(own):
            out[c] = np.quantile(own, SUPPORT_QUANTILE) - SUPPORT_MARGIN
    return out


def _history(records: list[Progress]) -> dict[str, np.ndarray]:
    return {
        "step": records[0].step,
        "loss": np.stack([record.loss for record in records], axis=1),
        "held_out_loss": np.stack([record.held_out_loss for record in records], axis=1),
    }
