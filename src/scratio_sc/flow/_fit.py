"""Fitting a flow: folds, members, and what the held-out cells say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._anchor_plan import N_PARTITIONS, AnchorPlan
from scratio_sc.flow._arguments import check_device, check_integer, check_max_steps, generator_of
from scratio_sc.flow._design import Design
from scratio_sc.flow._device import choose_autocast, choose_device, usual_torch
from scratio_sc.flow._flow import ConditionalFlow
from scratio_sc.flow._folds import FOLDS_OF_ONE, MAX_FOLDS, OUTLIER, Folds, copies_of, folds_of
from scratio_sc.flow._held_out import find_support, score_held_out
from scratio_sc.flow._member import Member
from scratio_sc.flow._network import Experts
from scratio_sc.flow._outliers import outliers
from scratio_sc.flow._same_cells import sketch_of
from scratio_sc.flow._threads import at_once, one_numpy_thread, one_torch_thread, side_by_side
from scratio_sc.flow._training import Losses, Schedule, Stratum, TrainingCells, train
from scratio_sc.flow._trial import tells_conditions_better
from scratio_sc.flow._widening import FINEST, choose_doubt
from scratio_sc.flow._withheld import padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from scratio_sc.flow._held_out import HeldOut

WIDTHS, N_TRUNK, N_HEAD = (128, 192), 1, 2
MAX_SHARES = 200_000_000
"""Cells times components of all members that are fitted at once; each takes about 32 bytes."""


@usual_torch()
@one_numpy_thread()
def fit_flow(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    columns: Sequence[str] | None = None,
    n_condition_columns: int | None = None,
    numeric: Sequence[str] = (),
    n_members: int = 16,
    max_steps: int | Literal["auto"] = "auto",
    batch_size: int = 1024,
    rng: int | np.random.Generator | None = 0,
    device: str = "auto",
    precision: str = "auto",
    progress: bool = False,
) -> tuple[ConditionalFlow, np.ndarray]:
    """Fit a flow and return it with the fold of every cell ``(n,)``, -1 for outliers, which are not fitted.

    Parameters
    ----------
    x
        Cells ``(n, d)``.
    labels
        Label of each cell ``(n,)``, or of each cell and column ``(n, n_columns)``.
    columns
        Names of the columns, those of the condition first; ``"condition"`` by default, or ``"column0"`` and so on.
    n_condition_columns
        How many of the columns make the condition; all of them by default. The rest are covariates.
    numeric
        Names of the columns that hold numbers (a dose, a time), which ratios may be asked for at any value. All other
        columns hold labels, whatever they look like.
    n_members
        Members of the ensemble. From two on, every cell is left out by one of them at least.
    max_steps
        Training steps a member; ``"auto"`` goes by the number of cells.
    batch_size
        Cells a step.
    rng
        Seed or generator that all randomness comes from.
    device, precision
        ``"auto"``, or where and how precisely to compute.
    progress
        Whether to show progress bars: of the training, and of the held-out cells judged.

    Returns
    -------
    :class:`ConditionalFlow`, and which fold each cell is in, for :meth:`ConditionalFlow.log_ratio`.

    Raises
    ------
    ValueError
        If arrays do not fit together or are not finite, `columns` or `numeric` name other columns than there are, or an
        argument is out of range.
    TypeError
        If an argument is of another type than documented.

    Examples
    --------
    >>> import numpy as np
    >>> from scratio_sc.flow import fit_flow
    >>> x = np.random.default_rng(0).standard_normal((400, 2))
    >>> x[200:, 0] += 2
    >>> flow, fold = fit_flow(x, np.repeat(["ctrl", "stim"], 200), n_members=2, max_steps=0)
    >>> ratio = flow.log_ratio(x, "stim", "ctrl", fold=fold)
    >>> bool(ratio.value[200:].mean() > ratio.value[:200].mean())
    True
    """
    check_integer(1, n_members=n_members, batch_size=batch_size)
    check_max_steps(max_steps)
    check_device(device, precision)
    x, labels = checked(x, labels)
    columns = names_of(labels, columns)
    n_condition_columns = len(columns) if n_condition_columns is None else n_condition_columns
    if not 1 <= n_condition_columns <= len(columns):
        msg = f"n_condition_columns={n_condition_columns}, expected 1 to {len(columns)}, the number of columns."
        raise ValueError(msg)
    rng = generator_of(rng)
    numeric = (numeric,) if isinstance(numeric, str) else tuple(numeric)
    layout: dict[str, Any] = {"n_condition_columns": n_condition_columns, "numeric": numeric}
    design, group = Design.of(labels, columns, **layout)
    fitted = ~outliers(x)
    fitted |= np.bincount(group, weights=fitted)[group] == 0  # no group may be lost
    if not fitted.all():
        design, group = Design.of(labels[fitted], columns, **layout)
    scale = float(np.sqrt(x[fitted].var(0).mean())) or 1.0
    scaled = x[fitted] / scale
    n_folds = FOLDS_OF_ONE if n_members == 1 else min(n_members, MAX_FOLDS)
    copy = copies_of(scaled)
    folds = Folds(folds_of(copy, group, n_folds, rng=rng), np.arange(n_members) % n_folds)
    place, seen = choose_device(device), [folds.of_cell != left_out for left_out in folds.left_out]
    n_steps = auto_steps(len(scaled)) if max_steps == "auto" else max_steps
    schedule = Schedule(n_steps, batch_size, autocast=choose_autocast(precision, place))
    with tqdm(total=N_PARTITIONS + n_members + n_steps, desc="fitting", unit="step", disable=not progress) as bar:
        bar.set_postfix_str("finding components")
        with one_torch_thread():
            plan = AnchorPlan.of(scaled, group, design, copy=copy, rng=rng, on_partition=bar.update)
        bar.update(N_PARTITIONS - bar.n)
        member_rngs = rng.spawn(n_members)
        members, judges = _untrained_members(
            scaled, group, seen, design=design, plan=plan, rngs=member_rngs, device=place, bar=bar
        )
        bar.set_postfix_str("widening components")
        seed = int(rng.integers(2**31))
        judging: dict[str, Any] = {"group": group, "folds": folds, "seed": seed}
        # widening would shift the level of a second opinion, and averages are not too sure
        doubt = 0.0 if plan.second_opinion else _doubt(judges, scaled, design, **judging)
        members, judges = ([one.widened(doubt, design) for one in each] for each in (members, judges))
        records = _train(members, scaled, group, seen=seen, design=design, schedule=schedule, rngs=member_rngs, bar=bar)
    held_out, density = score_held_out(judges, scaled, design, progress=progress, **judging)
    flow = ConditionalFlow(
        design,
        scale,
        members,
        folds.left_out,
        held_out,
        support=find_support(held_out, density),
        history=_history(records),
        seed=seed,
        sketch=sketch_of(scaled, folds.of_cell, seed),
        withheld=padded([part.withheld for part in plan.parts]).astype(np.float32),
        hidden_moves=np.concatenate([part.hidden_moves for part in plan.parts], axis=1).astype(np.float32),
    )
    fold = np.full(len(fitted), OUTLIER, np.int8)
    fold[fitted] = folds.of_cell
    return flow, fold


def _untrained_members(
    x: np.ndarray,
    group: np.ndarray,
    seen: Sequence[np.ndarray],
    *,
    design: Design,
    plan: AnchorPlan,
    rngs: Sequence[np.random.Generator],
    device: torch.device,
    bar: tqdm[Any],
) -> tuple[list[Member], list[Member]]:
    """Members that see some of the cells each, whose networks say nothing yet, and those that stand for them if judged.

    A member and the one that stands for it have the same network.
    """

    def anchors_of(cells: np.ndarray) -> tuple[Anchor, Anchor]:
        return Anchor.fit(x[cells], group[cells], design, plan=plan)

    n_shares = len(x) * max(len(part.mixture.mean) for part in plan.parts)
    at_most = min(at_once(torch.device("cpu")), max(MAX_SHARES // n_shares, 1))
    members, judges = [], []
    for m, (anchor, judge_anchor) in enumerate(side_by_side(anchors_of, seen, at_most=at_most)):
        bar.set_postfix_str(f"mixture {m + 1} of {len(seen)}")
        bar.update()
        members.append(new_member(anchor, design, rng=rngs[m], device=device))
        judges.append(Member(judge_anchor, members[m].network, device))
    return members, judges


def _doubt(judges: Sequence[Member], x: np.ndarray, design: Design, **judging: Any) -> float:
    """How far components are to be widened, by cells that the judges had not seen."""

    def judged(doubt: float) -> HeldOut:
        wider = [judge.widened(doubt, design) for judge in judges]
        return score_held_out(wider, x, design, weights=FINEST, **judging)[0]

    return choose_doubt(judged) if len(design.conditions) > 1 else 0.0


def _train(
    members: Sequence[Member],
    x: np.ndarray,
    group: np.ndarray,
    *,
    seen: Sequence[np.ndarray],
    design: Design,
    schedule: Schedule,
    rngs: Sequence[np.random.Generator],
    bar: tqdm[Any],
) -> list[Losses]:
    """Train the networks of members, and say how it went.

    Where the first network has nothing to add, the others have not either, and are not trained.
    """
    generators = [torch.Generator().manual_seed(int(own.integers(2**62))) for own in rngs]
    bar.unpause()  # what a mixture takes says nothing of the steps to come

    def trained(m: int) -> tuple[Losses, TrainingCells]:
        parts = [training_cells(members[m], x[cells], group[cells], design=design) for cells in (seen[m], ~seen[m])]
        record = train(members[m], *parts, schedule=schedule, generator=generators[m], on_step=bar.update)
        return record, parts[1]

    bar.set_postfix_str("first network" if schedule.n_steps else "no networks")
    first = members[0].network
    with one_torch_thread():
        record, held_out = trained(0)
    records = [record]
    if not first.silent and not tells_conditions_better(members[0], held_out, seed=int(rngs[0].integers(2**62))):
        first.silence()
    if not first.silent:
        bar.set_postfix_str("other networks")
        done = bar.n
        bar.reset(total=bar.total + (len(members) - 1) * schedule.n_steps)  # a bare new total is not seen in a notebook
        bar.n = bar.last_print_n = done
        at_most = at_once(members[0].device)
        records += [record for record, _ in side_by_side(trained, range(1, len(members)), at_most=at_most)]
    bar.update(bar.total - bar.n)  # of networks that stopped early
    return records


def checked(x: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Cells ``(n, d)`` (float64) and their labels ``(n, n_columns)`` (str), if they can be fitted."""
    cells, text = np.asarray(x, np.float64), np.asarray(labels).astype(str)
    if cells.ndim != 2 or len(cells) < 2 or not cells.size:
        msg = f"x has shape {cells.shape}, expected (n_cells, n_dims) with two cells or more."
        raise ValueError(msg)
    if text.ndim not in {1, 2} or len(text) != len(cells) or not text.size:
        msg = f"labels have shape {text.shape}, expected ({len(cells)},) or ({len(cells)}, n_columns), as x has cells."
        raise ValueError(msg)
    if not np.isfinite(cells).all():
        msg = f"x is not finite in {(~np.isfinite(cells)).any(1).sum()} of {len(cells)} cells. Leave them out."
        raise ValueError(msg)
    return cells, text.reshape(len(text), -1)


def names_of(labels: np.ndarray, columns: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the columns of labels ``(n, n_columns)``: those given, if they are as many."""
    n = labels.shape[1]
    if columns is None:
        return ("condition",) if n == 1 else tuple(f"column{j}" for j in range(n))
    columns = (columns,) if isinstance(columns, str) else tuple(columns)
    if len(columns) != n or len(set(columns)) < n:
        msg = f"columns={list(columns)!r}, expected {n} different names, one for each column of labels."
        raise ValueError(msg)
    return columns


def auto_steps(n_cells: int) -> int:
    """Training steps that a number of cells deserves."""
    return int(np.clip(525 * np.sqrt(n_cells / 20_000), 160, 750))


def new_member(anchor: Anchor, design: Design, *, rng: np.random.Generator, device: torch.device) -> Member:
    """A member whose network still says nothing."""
    seed = int(rng.integers(2**62))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = Experts(len(anchor.center), design.n_features, widths=WIDTHS, n_trunk=N_TRUNK, n_head=N_HEAD)
    return Member(anchor, network, device)


def training_cells(member: Member, x: np.ndarray, group: np.ndarray, *, design: Design) -> TrainingCells:
    """Cells in a member's coordinates, with the strata of equal covariates in which conditions compete."""
    stratum, strata = design.stratum[group], []
    for s in np.unique(stratum):
        rows = np.flatnonzero(stratum == s)
        groups, sizes = np.unique(group[rows], return_counts=True)
        prior = np.log(sizes / sizes.sum()).astype(np.float32)  # some devices have no float64
        strata.append(Stratum(*(torch.as_tensor(part, device=member.device) for part in (rows, groups, prior))))
    code = torch.as_tensor(group, device=member.device)
    return TrainingCells(member.coordinates(x), code, member.groups(design, design.groups), strata)


def _history(records: list[Losses]) -> dict[str, np.ndarray]:
    """Losses by step and trained member, NaN after a member stopped early."""
    step = max((record.step for record in records), key=len)
    out = {"step": step}
    for name in ("loss", "held_out_loss"):
        out[name] = np.full((len(step), len(records)), np.nan, np.float32)
        for m, record in enumerate(records):
            losses = getattr(record, name)
            out[name][: len(losses), m] = losses
    return out
