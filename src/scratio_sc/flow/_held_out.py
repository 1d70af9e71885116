"""Cells judged by members that had not seen them: they choose bandwidths, and say whether ratios can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import logsumexp
from tqdm.auto import tqdm

from scratio_sc.flow._baselines import score_baselines
from scratio_sc.flow._denoising_ratio import N_NODES, draw_directions, node_log_likelihoods
from scratio_sc.flow._threads import at_once, side_by_side

if TYPE_CHECKING:
    from scratio_sc.flow._design import Design
    from scratio_sc.flow._folds import Folds
    from scratio_sc.flow._member import Member

MIN_HELD_OUT, MIN_PER_CONDITION = 500, 50
MAX_SCORES, MAX_NETWORK_SCORES, MAX_CONDITION_SCORES = 60_000, 6_000, 500_000
"""Log likelihoods of a cell under a condition: in closed form, by networks, and for want of cells a condition."""
N_SHARES = 2
"""Parts that the directions are cut into, of which one is enough for what many cells say together."""
SUPPORT_QUANTILE, SUPPORT_MARGIN = 0.005, 3.0


@dataclass(frozen=True)
class HeldOut:
    """Log likelihoods of cells under every condition, by members that had not seen them.

    Attributes
    ----------
    parts
        Log likelihood by node ``(n, n_conditions, n_nodes)``, each cell's own covariates kept.
    condition
        Condition of each cell ``(n,)``.
    log_prior
        Log frequency of each condition among the cells with its covariates ``(n, n_conditions)``; -inf where there are
        none.
    baselines
        Log likelihood by the `BASELINES`, fitted to the other folds ``(n, n_conditions, n_baselines)``.
    kept
        Share of the cells of each condition that are among these, drawn at random from those that a member had not
        seen, ``(n_conditions,)``.
    group
        Group of the design that each cell is of ``(n,)``.
    """

    parts: np.ndarray
    condition: np.ndarray
    log_prior: np.ndarray
    baselines: np.ndarray
    kept: np.ndarray
    group: np.ndarray

    @property
    def log_frequency(self) -> np.ndarray:
        """Log frequency of each condition among the cells kept, up to a constant of each cell ``(n, n_conditions)``."""
        return self.log_prior + np.log(self.kept)

    def of(self, conditions: np.ndarray) -> HeldOut:
        """The cells of some conditions that have a choice between them, and these conditions as the only rivals."""
        contested = np.isfinite(self.log_prior[:, conditions]).sum(1) > 1
        rivals = self.where(np.isin(self.condition, conditions) & contested)
        return replace(
            rivals,
            parts=rivals.parts[:, conditions],
            condition=np.searchsorted(conditions, rivals.condition),
            log_prior=rivals.log_prior[:, conditions],
            baselines=rivals.baselines[:, conditions],
            kept=self.kept[conditions],
        )

    def where(self, cells: np.ndarray) -> HeldOut:
        """Some of the cells, by a mask ``(n,)``."""
        of_cell = ("parts", "condition", "log_prior", "baselines", "group")
        return replace(self, **{name: getattr(self, name)[cells] for name in of_cell})

    def side(self, conditions: np.ndarray) -> tuple[np.ndarray, float]:
        """Which cells stand for a mixture of conditions ``(n,)``: of each the same share; and the log of it.

        Cells come in random order, so the first of a condition are as good as any. Of many small conditions, of which
        less than a cell each is due, some give one.
        """
        share, cells = self.kept[conditions].min(initial=1.0), np.zeros(len(self.condition), bool)
        own = [np.flatnonzero(self.condition == c) for c in conditions]
        due = np.cumsum([len(mine) * share / self.kept[c] for c, mine in zip(conditions, own, strict=True)])
        for mine, n in zip(own, np.diff(np.rint(np.round(due, 6)).astype(int), prepend=0), strict=True):
            cells[mine[:n]] = True
        return cells, float(np.log(share))

    def losses(self, weights: np.ndarray) -> np.ndarray:
        """Log-loss of each cell's condition under prior odds times likelihood ratio, nats ``(n,)``."""
        return losses_of(self.parts @ weights + self.log_frequency, self.condition)


def losses_of(joint: np.ndarray, condition: np.ndarray) -> np.ndarray:
    """Log-loss ``(n,)`` of the condition of cells ``(n,)`` by joint log probabilities ``(n, n_conditions)``, nats."""
    total: np.ndarray = logsumexp(joint, axis=1)
    return total - joint[np.arange(len(joint)), condition]


def score_held_out(
    members: list[Member],
    x: np.ndarray,
    design: Design,
    *,
    group: np.ndarray,
    folds: Folds,
    seed: int,
    weights: np.ndarray | None = None,
    progress: bool = False,
) -> tuple[HeldOut, np.ndarray]:
    """Held-out log likelihoods under every condition, and the log density of each cell under its own, nats.

    The latter by the first opinion: a second one tells conditions apart, and is no good description of cells. Of many
    cells, a random part, in which no condition is rarer than it has to be. A cell keeps its own covariates. With
    ``weights (n_nodes,)``, nodes of equal weights side by side are known together only, and no baselines.
    """
    conditions, condition = design.conditions, design.condition_of(design.groups[group])
    judged = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(folds.of_cell, folds.left_out)))
    limit = max_judged(len(conditions), in_closed_form=all(member.network.silent for member in members))
    cells = judged[in_turn(condition[judged])[:limit]]
    n_kept, n_judged = (np.bincount(condition[part], minlength=len(conditions)) for part in (cells, judged))
    kept = np.maximum(n_kept, 1) / np.maximum(n_judged, 1)
    covariates = design.groups[group[cells], design.n_condition_columns :]
    left_out = folds.of_cell[cells][None] == folds.left_out[:, None]
    parts, density = np.zeros((len(cells), len(conditions), N_NODES)), np.zeros(len(cells))
    log_prior = np.empty((len(cells), len(conditions)), np.float32)
    directions, *_ = draw_directions(x.shape[1], N_SHARES, rng=np.random.default_rng(seed))

    def of_member(asked: tuple[Member, np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        member, mine, rows = asked
        found = node_log_likelihoods(
            member, x[cells[mine]], member.groups(design, rows), directions=directions, weights=weights
        )
        own = np.arange(len(mine)), condition[cells[mine]]
        return found.mean(0), found[: member.anchor.n_parts].mean(0).sum(-1)[own]

    asked = []
    for own in np.unique(covariates, axis=0):
        same = (covariates == own).all(1)
        rows = np.column_stack([conditions, np.tile(own, (len(conditions), 1))])
        log_prior[same] = design.log_frequencies(rows)
        asked += [(member, np.flatnonzero(same & left_out[m]), rows) for m, member in enumerate(members)]
    at_most = at_once(members[0].device)
    with tqdm(total=int(left_out.sum()), desc="judging", unit="cell", disable=not progress) as bar:
        found = side_by_side(of_member, asked, at_most=at_most)
        for (_, mine, _), (by_node, under_own) in zip(asked, found, strict=True):
            parts[mine] += by_node
            density[mine] += under_own
            bar.update(len(mine))
    n_judges = left_out.sum(0)
    parts, density = parts / n_judges[:, None, None], density / n_judges
    baselines = np.empty((*parts.shape[:2], 0))
    if weights is None:
        baselines = score_baselines(x, condition, design.stratum[group], cells=cells, fold=folds.of_cell)
    held_out = HeldOut(parts.astype(np.float32), condition[cells], log_prior, baselines, kept, group[cells])
    return held_out, density


def max_judged(n_conditions: int, *, in_closed_form: bool) -> int:
    """How many cells are judged at most, under so many conditions each."""
    if not in_closed_form:
        return max(MAX_NETWORK_SCORES // n_conditions, MIN_HELD_OUT)
    enough = min(MIN_PER_CONDITION * n_conditions, MAX_CONDITION_SCORES // n_conditions)
    return max(MAX_SCORES // n_conditions, enough, MIN_HELD_OUT)


def in_turn(condition: np.ndarray) -> np.ndarray:
    """Order of cells of conditions ``(n,)`` in which each condition that has cells left takes its turn, ``(n,)``."""
    turn = np.empty(len(condition), np.int64)
    for c in np.unique(condition):
        turn[condition == c] = np.arange((condition == c).sum())
    return np.argsort(turn, kind="stable")


def find_support(held_out: HeldOut, density: np.ndarray) -> np.ndarray:
    """Log density below which hardly any cell of a condition lies, ``(n_conditions,)``, with a margin."""
    n_conditions = held_out.parts.shape[1]
    out = np.full(n_conditions, -np.inf)
    for c in range(n_conditions):
        own = density[held_out.condition == c]
        if len(own):
            out[c] = np.quantile(own, SUPPORT_QUANTILE) - SUPPORT_MARGIN
    return out
