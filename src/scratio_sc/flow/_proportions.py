"""How groups differ in the proportions of the components: log weights with effects that components near by share.

Component k has the log weight b_k + sum_f feature_gf effect_fk in group g, up to a constant. Components that lie close
together tend to change alike: the effects of a level are a Gaussian process over the components (Rasmussen & Williams
2006), N(0, tau^2 S K S) with K_kl = exp(-D_kl / reach), D the Bhattacharyya distance and S = diag(s). tau and the
reach are those of most marginal likelihood by Laplace's approximation; the reach is the same for all levels of a
column, and so is tau unless the levels tell otherwise (see `Sizes`). So small components learn from their neighbours
how they change, and where labels are random, tau is 0. Often a few types change and the others do not: s_k^2 is the
expected square of the effects about component k, found together with them (expectation-maximisation), so that changes
are shrunk less where they are large. A component whose effects are far larger than those of the others, as of a rare
type that alone changes, is given a variance of its own beside that, where this is clearly likelier (Tipping & Faul
2003). Levels that cannot be told apart share their effects (`_same_levels`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import expit, log_softmax

from scratio_sc.flow._columns import Column, turns
from scratio_sc.flow._distances import Neighbours
from scratio_sc.flow._same_levels import MAX_LEVELS, same_levels
from scratio_sc.flow._sizes import SPREADS, Sizes
from scratio_sc.flow._weight_effects import EffectPrior, Known, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design

N_SCORING, N_SEEKING = 8, 3
"""Steps to the effects, and those after which sizes that differ between levels stay: else they may go to and fro."""
N_BACKFITTING = 3
MAX_STEP = 1.5
TOLERANCE = 1e-8


def log_weights(logit: np.ndarray, partition: np.ndarray) -> np.ndarray:
    """Log weights ``(..., m)`` that sum to one, each partition of the components ``(m,)`` with the same share."""
    out = np.empty_like(logit)
    for p in np.unique(partition):
        out[..., partition == p] = log_softmax(logit[..., partition == p], axis=-1)
    return out - np.log(len(np.unique(partition)))


@dataclass(frozen=True)
class _Scoring:
    """Gradient ``(n_groups, m)`` and Fisher information ``(n_groups, m, m)`` of the likelihood in the log weights.

    Of ``n_cells (n_groups,)``. ``steady`` is the information with the cells that the weights expect of a component
    beyond those that it has: without them steps overshoot where a component is empty.
    """

    gradient: np.ndarray
    information: np.ndarray
    steady: np.ndarray
    n_cells: np.ndarray

    @classmethod
    def at(cls, log_weight: np.ndarray, density: Sequence[Tensor]) -> _Scoring:
        """At log weights ``(n_groups, m)``, of cells of ``density (n_cells, m)`` in each group."""
        surplus = []
        for weight, cells in zip(torch.as_tensor(log_weight).exp(), density, strict=True):
            share = cells * weight
            share /= share.sum(1, keepdim=True).clamp(min=1e-300)
            surplus.append(share.sub_(weight))
        gradient = torch.stack([s.sum(0) for s in surplus]).numpy()
        information = torch.stack([s.T @ s for s in surplus]).numpy()
        lacking, weight = np.maximum(-gradient, 0), np.exp(log_weight)
        beside = np.eye(log_weight.shape[1]) - weight[:, None]
        steady = information + (beside * lacking[..., None]).swapaxes(1, 2) @ beside
        return cls(gradient, information, steady, np.array([len(cells) for cells in density]))


class _Priors:
    """Priors of the effects of each column: given, or those of most marginal likelihood among neighbours.

    ``roots[j]`` are the roots of the covariances that they expect of the levels of column j, ``(n_levels, m, m)``.
    """

    def __init__(self, prior: Neighbours | Sequence[EffectPrior], columns: list[Column], *, base: np.ndarray) -> None:
        self._columns, self._base = columns, base
        if isinstance(prior, Neighbours):
            self._kernels, self._near = prior.roots, prior.near
            self._sought = [j for j, column in enumerate(columns) if column.kind != "constant"]
            self.of_column = [EffectPrior.broad(len(base), column.n_levels) for column in columns]
        else:
            self._sought, self.of_column = [], [*prior]
        self.roots = [np.zeros(0)] * len(columns)
        self._sizes: dict[int, Sizes] = {}
        self._doubt = np.zeros(len(columns))
        self._scale = np.ones((len(columns), len(base)))

    def settled(self, j: int, *, seeking: bool) -> bool:
        """Whether cells have nothing more to say of column j."""
        return not seeking and (j not in self._sought or self._sizes[j].differ)

    def update(self, j: int, told: Told, *, seeking: bool) -> None:
        """Let cells tell of column j: its prior where that is sought, how large each of its effects may be."""
        prior = self.of_column[j]
        if j not in self._sought:
            self.roots[j] = told.known(prior.sets).roots(prior)
            return
        tried = self._tried(j)
        if seeking:
            sizes, prior, rest, self._doubt[j] = self._seek(told, tried)
        else:
            rest = told.known(prior.sets).without(prior.apart)
            sizes = Sizes.alike(rest.evidence(tried))
        self._sizes[j] = sizes
        self.of_column[j] = prior = replace(prior, root=tried[sizes.kernel], share=sizes.share)
        shared = rest.shared_roots(prior)
        self.roots[j] = prior.with_apart(shared)
        if shared.any():
            self._scale[j] = rest.scale(shared, near=self._near, weight=np.exp(self._base))

    def _seek(self, told: Told, tried: np.ndarray) -> tuple[Sizes, EffectPrior, Known, float]:
        """Sizes of the effects, and where they are alike, levels that share them and components that stand apart.

        Also what is known of the effects that components share, and how likely it is that levels share none.
        """
        prior = EffectPrior.broad(len(self._base), len(told.pull))
        known = told.known(prior.sets)
        sizes = Sizes.of(known.evidence(tried))
        if sizes.differ:
            return sizes, prior, known, 0.0
        size, doubt = SPREADS @ sizes.share, 0.0
        if size and told.kind == "levels" and len(told.pull) <= MAX_LEVELS:
            sets, gained = same_levels(told.information, told.pull, root=size * tried[sizes.kernel])
            if len(np.unique(sets)) < len(sets):
                doubt = float(expit(-gained))
                prior = replace(prior, sets=sets)
                known = told.known(sets)
                sizes = Sizes.alike(known.evidence(tried))
        apart = known.standing_apart(tried)
        if not apart.any():
            return sizes, prior, known, doubt
        rest = known.without(apart)
        return Sizes.alike(rest.evidence(tried)), replace(prior, apart=apart), rest, doubt

    def expected(self, j: int, told: Told) -> np.ndarray:
        """Expected effects of the levels of column j ``(n_levels, m)``."""
        sets = self.of_column[j].sets
        return told.known(sets).expected(self.roots[j])[sets]

    def withheld(self, effects: np.ndarray, density: Sequence[Tensor], *, design: Design) -> np.ndarray:
        """What shrinking withholds of effects where their prior was sought, squared, ``(n_features, m, m)``."""
        out = np.zeros((len(effects), len(self._base), len(self._base)))
        if self._sought:
            features = design.features(design.groups)
            scoring = _Scoring.at(log_softmax(self._base + features @ effects, axis=-1), density)
        for j in self._sought:
            column = self._columns[j]
            own = features[:, column.features] @ effects[column.features]
            told = Told.of(column, scoring.gradient, scoring.information, moved=-own, n_cells=scoring.n_cells)
            prior = self.of_column[j]
            rest, shared = told.known(prior.sets).without(prior.apart), prior.apart == 0
            tried, roots = self._tried(j), rest.shared_roots(prior)
            estimate, chosen = rest.expected(roots), rest.chosen_by_cells(roots)
            found = rest.withheld(estimate, chosen, tried, sizes=self._sizes[j])[prior.sets]
            if self._doubt[j]:
                single = told.known(np.arange(len(told.pull))).without(prior.apart)
                sizes = Sizes.alike(single.evidence(tried))
                apart = single.withheld(estimate[prior.sets], chosen[prior.sets], tried, sizes=sizes)
                found += self._doubt[j] * (apart - found)
            out[column.features] = found * np.outer(shared, shared)  # hardly any of what stands apart
        return out

    def _tried(self, j: int) -> np.ndarray:
        return self._scale[j, :, None] * self._kernels


def fit_effects(
    density: Sequence[Tensor],
    base: np.ndarray,
    start: np.ndarray,
    *,
    design: Design,
    prior: Neighbours | Sequence[EffectPrior],
) -> tuple[np.ndarray, list[EffectPrior], np.ndarray]:
    """Effects on log weights about ``base (m,)`` of most posterior density, by Fisher scoring.

    Of cells of ``density (n_cells, m)`` in each group, from the effects ``start (n_features, m)``. The prior of each
    column is given, or the best is sought among neighbours. Returns the effects, the priors, and where these were
    sought, the square of what shrinking withholds of each effect ``(n_features, m, m)``.
    """
    columns, features = Column.all_of(design), design.features(design.groups)
    priors = _Priors(prior, columns, base=base)
    effects = start
    for n_done in range(N_SCORING):
        last, before, seeking = effects, features @ effects, n_done < N_SEEKING
        scoring = _Scoring.at(log_softmax(base + before, axis=-1), density)
        effects = last.copy()
        for column in columns:
            if column.kind == "rest":
                effects[column.features] = 0
        for j in turns(columns, effects, n_sweeps=N_BACKFITTING):
            column = columns[j]
            effects[column.features] = 0
            moved = features @ effects - before
            if not priors.settled(j, seeking=seeking):
                told = Told.of(column, scoring.gradient, scoring.information, moved=moved, n_cells=scoring.n_cells)
                priors.update(j, told, seeking=seeking)
            steady = Told.of(column, scoring.gradient, scoring.steady, moved=moved, n_cells=scoring.n_cells)
            effects[column.features] = priors.expected(j, steady)
        step = np.abs(features @ effects - before).max(initial=0)
        if step > MAX_STEP:
            effects = last + (effects - last) * MAX_STEP / step
        elif step < TOLERANCE:
            break
    return effects, priors.of_column, priors.withheld(effects, density, design=design)
