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
from scipy.special import log_softmax

from scratio_sc.flow._columns import Column, turns
from scratio_sc.flow._distances import Neighbours
from scratio_sc.flow._same_levels import BROAD, MAX_LEVELS, same_levels, together
from scratio_sc.flow._sizes import SPREADS, Sizes, prior_variance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from scratio_sc.flow._design import Design

N_SCORING, N_SEEKING = 8, 3
"""Steps to the effects, and those after which sizes that differ between levels stay: else they may go to and fro."""
N_BACKFITTING = 3
MAX_STEP = 1.5
TOLERANCE = 1e-8
MIN_OTHERS = 1e-3
RIDGE = 1e-6
PRICE = 3.0
"""Nats by which a variance of its own has to explain effects better, beside those for the choice among components."""


def log_weights(logit: np.ndarray, partition: np.ndarray) -> np.ndarray:
    """Log weights ``(..., m)`` that sum to one, each partition of the components ``(m,)`` with the same share."""
    out = np.empty_like(logit)
    for p in np.unique(partition):
        out[..., partition == p] = log_softmax(logit[..., partition == p], axis=-1)
    return out - np.log(len(np.unique(partition)))


@dataclass(frozen=True)
class EffectPrior:
    """Prior of the effects of the levels of a column: N(0, tau^2 R R^T + diag(v)), tau of a share of them.

    ``root (m, m)`` is R, ``share (n_spreads,)`` that of the levels of each size, ``apart (m,)`` is v, 0 for most
    components; levels of the same ``sets (n_levels,)`` have the same effects. Beside that nothing in it is of a single
    level, so that what is expected of one comes from the cells that are fitted alone.
    """

    root: np.ndarray
    share: np.ndarray
    apart: np.ndarray
    sets: np.ndarray

    @classmethod
    def broad(cls, m: int, n_levels: int = 1) -> EffectPrior:
        """Of effects that are hardly shrunk."""
        share = (np.arange(len(SPREADS)) == len(SPREADS) - 1).astype(float)
        return cls(BROAD / SPREADS[-1] * np.eye(m), share, np.zeros(m), np.arange(n_levels))

    def with_apart(self, shared: np.ndarray) -> np.ndarray:
        """Roots of covariances to which v is added, of roots of those that components share ``(n_levels, m, m)``."""
        return _root(shared @ shared.swapaxes(1, 2) + np.diag(self.apart)) if self.apart.any() else shared


@dataclass(frozen=True)
class _Scoring:
    """Gradient ``(n_groups, m)`` and Fisher information ``(n_groups, m, m)`` of the likelihood in the log weights.

    ``steady`` is the information with the cells that the weights expect of a component beyond those that it has:
    without them steps overshoot where a component is empty.
    """

    gradient: np.ndarray
    information: np.ndarray
    steady: np.ndarray

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
        return cls(gradient, information, information + (beside * lacking[..., None]).swapaxes(1, 2) @ beside)


@dataclass(frozen=True)
class _Told:
    """What the cells of each level of a column tell of its effects by themselves, levels of that kind.

    ``information (n_levels, m, m)``, and information times estimates ``pull (n_levels, m)``.
    """

    information: np.ndarray
    pull: np.ndarray
    kind: str

    @classmethod
    def of(cls, column: Column, gradient: np.ndarray, information: np.ndarray, *, moved: np.ndarray) -> _Told:
        """Of groups whose log weights have since been ``moved (n_groups, m)`` by all other columns."""
        pull = column.total(gradient - np.einsum("gkl,gl->gk", information, moved))
        return cls(column.information(information), pull, column.kind)

    def known(self, sets: np.ndarray) -> _Known:
        """What they tell of the effects of each of some sets of levels ``(n_levels,)``."""
        own, pull = together(self.information, sets), together(self.pull, sets)
        if self.kind in {"trend", "constant"}:
            return _Known(own, pull, 1)
        # the weights are taken from those of all cells, to which a level belongs: its variance is 1 / own - 1 / all
        # (all log weights may rise together: nothing is known along that direction, and nothing has to be)
        others = own.sum(0) - own + MIN_OTHERS * own + RIDGE * np.eye(own.shape[1]) + np.trace(own.sum(0)) / own[0].size
        beside = own @ np.linalg.inv(others)
        n_free = int(own.any((1, 2)).sum()) - 1
        return _Known(own + beside @ own, pull + np.einsum("lkj,lj->lk", beside, pull), n_free)


@dataclass(frozen=True)
class _Known:
    """What cells tell of the effects of each level of a column, or set of levels.

    Precision ``(n_levels, m, m)`` of the estimates, precision times estimates ``(n_levels, m)``, and how many of the
    levels are free: all but one where they are compared with each other.
    """

    precision: np.ndarray
    pull: np.ndarray
    n_free: float

    def evidence(self, roots: np.ndarray) -> np.ndarray:
        """Log marginal likelihood of each tau R for the effects of each level, ``(n_levels, n_roots, n_spreads)``."""
        along = (self._along(root) for root in roots)
        return np.stack([self._evidence(value, pull) for value, _, pull in along], axis=1)

    def _evidence(self, value: np.ndarray, pull: np.ndarray) -> np.ndarray:
        tau, value, pull = SPREADS[:, None], value[:, None], pull[:, None]
        gain = (tau * pull) ** 2 / (1 + tau**2 * value) - np.log1p(tau**2 * value)
        evidence: np.ndarray = gain.sum(2) * self.n_free / len(value) / 2
        return evidence

    def roots(self, prior: EffectPrior) -> np.ndarray:
        """Roots of the prior covariances of the effects of each level, ``(n_levels, m, m)``."""
        return prior.with_apart(self.without(prior.apart).shared_roots(prior))

    def shared_roots(self, prior: EffectPrior) -> np.ndarray:
        """The same of what components share, tau^2 R R^T."""
        value, vector, pull = self._along(prior.root)
        variance = prior_variance(prior.share, self._evidence(value, pull), value)
        roots: np.ndarray = prior.root @ (vector * np.sqrt(variance)[:, None])
        return roots

    def without(self, apart: np.ndarray) -> _Known:
        """What cells tell of the effects to which others of variance ``apart (m,)`` are added: V counts as an error."""
        some = np.flatnonzero(apart)
        if not len(some):
            return self
        across = self.precision[:, :, some]
        lost = across @ np.linalg.inv(np.diag(1 / apart[some]) + across[:, some])
        pull = self.pull - (lost @ self.pull[:, some, None])[..., 0]
        return _Known(self.precision - lost @ across.swapaxes(1, 2), pull, self.n_free)

    def standing_apart(self, roots: np.ndarray) -> np.ndarray:
        """Variances ``(m,)`` that single components need beside each tau R, 0 for most: the likeliest one by one."""
        m, rest = self.pull.shape[1], self
        apart = np.zeros(m)
        for _ in range(m):
            alike, gains = zip(*map(rest._gains, roots), strict=True)
            gained = np.add(np.stack(alike)[..., None, None], gains)
            if gained.max() <= np.max(alike) + PRICE + np.log(m):
                break
            *_, k, v = np.unravel_index(gained.argmax(), gained.shape)
            apart[k] += SPREADS[v] ** 2
            rest = self.without(apart)
        return apart

    def _gains(self, root: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Log marginal likelihood by tau ``(n_spreads,)``, and what variances add ``(n_spreads, m, n_spreads)``.

        With A the inverse covariance of the estimates e under a prior, a variance v of component k adds
        (q^2 v / (1 + s v) - log(1 + s v)) / 2, with q = (A e)_k and s = A_kk (Tipping & Faul 2003).
        """
        value, vector, pull = self._along(root)
        into, tau = (self.precision @ root @ vector).swapaxes(1, 2), SPREADS[:, None]
        explained = tau**2 / (1 + tau**2 * value[:, None])
        q = self.pull[:, None] - (explained * pull[:, None]) @ into
        s = np.maximum(self.precision.diagonal(axis1=1, axis2=2)[:, None] - explained @ into**2, 0)
        share = self.n_free / len(value) / 2
        gains = [share * (q**2 * v / (1 + s * v) - np.log1p(s * v)).sum(0) for v in SPREADS**2]
        return self._evidence(value, pull).sum(0), np.stack(gains, axis=-1)

    def expected(self, root: np.ndarray) -> np.ndarray:
        """Expected effects ``(n_levels, m)`` under the prior N(0, R R^T)."""
        value, vector, pull = self._along(root)
        effects: np.ndarray = np.einsum("lij,lj->li", root @ vector, pull / (1 + value))
        return effects

    def withheld(self, roots: np.ndarray, chosen: np.ndarray, *, sizes: Sizes) -> np.ndarray:
        """What shrinking by ``chosen`` roots is expected to withhold of the effects, squared, ``(n_levels, m, m)``.

        Expected over all tau R, as likely as they are, is the squared distance of the effects from the estimates; what
        the choice of the cells adds to it (S V S of estimates S e of covariance V) is another part of their error.
        Levels that make up all cells err against each other, and n of them by n / (n - 1) of what each would by itself.
        """
        estimate, likely = self.expected(chosen), sizes.likely(self.evidence(roots))
        out = np.zeros_like(self.precision)
        tau = SPREADS[:, None, None]
        for root, by_spread in zip(roots, likely.swapaxes(0, 1), strict=True):
            value, vector, pull = self._along(root)
            into = root @ vector
            variance = tau**2 / (1 + tau**2 * value)
            out += _between(into, np.einsum("lt,tlk->lk", by_spread, variance))
            apart = np.einsum("lik,tlk->tli", into, variance * pull) - estimate
            out += np.einsum("lt,tli,tlj->lij", by_spread, apart, apart)
        value, vector, _ = self._along(chosen)
        out -= _between(chosen @ vector, value / (1 + value) ** 2)
        return out * (1 + 1 / self.n_free) if len(out) > 1 and self.n_free > 0 else out

    def scale(self, root: np.ndarray, *, near: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Root of the expected square of the effects about each component, ``(m,)``, one on average.

        Of all levels together, so that those of large effects decide.
        """
        # an effect that all components share is none
        value, vector, pull = self._along(root)
        along = (root - (weight @ root)[..., None, :]) @ vector
        mean = np.einsum("lkj,lj->lk", along, pull / (1 + value))
        square = near @ (mean**2 + np.einsum("lkj,lj->lk", along**2, 1 / (1 + value))).mean(0)
        out: np.ndarray = np.sqrt(square / np.maximum(weight @ square, 1e-300))
        return out

    def _along(self, root: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Eigenvalues and eigenvectors of R^T precision R, and the pull along them; R of all levels or of each."""
        value, vector = np.linalg.eigh(root.swapaxes(-1, -2) @ self.precision @ root)
        return np.maximum(value, 0), vector, (self.pull[:, None] @ root @ vector)[:, 0]


def _root(covariance: np.ndarray) -> np.ndarray:
    value, vector = np.linalg.eigh(covariance)
    roots: np.ndarray = vector * np.sqrt(np.maximum(value, 0))[..., None, :]
    return roots


def _between(into: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Covariances ``(n_levels, m, m)`` of what has such variances ``(n_levels, k)`` along ``into (n_levels, m, k)``."""
    out: np.ndarray = (into * variance[:, None]) @ into.swapaxes(1, 2)
    return out


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
        self._scale = np.ones((len(columns), len(base)))

    def settled(self, j: int, *, seeking: bool) -> bool:
        """Whether cells have nothing more to say of column j."""
        return not seeking and (j not in self._sought or self._sizes[j].differ)

    def update(self, j: int, told: _Told, *, seeking: bool) -> None:
        """Let cells tell of column j: its prior where that is sought, how large each of its effects may be."""
        prior = self.of_column[j]
        if j not in self._sought:
            self.roots[j] = told.known(prior.sets).roots(prior)
            return
        tried = self._tried(j)
        if seeking:
            sizes, prior, rest = self._seek(told, tried)
        else:
            rest = told.known(prior.sets).without(prior.apart)
            sizes = Sizes.alike(rest.evidence(tried))
        self._sizes[j] = sizes
        self.of_column[j] = prior = replace(prior, root=tried[sizes.kernel], share=sizes.share)
        shared = rest.shared_roots(prior)
        self.roots[j] = prior.with_apart(shared)
        if shared.any():
            self._scale[j] = rest.scale(shared, near=self._near, weight=np.exp(self._base))

    def _seek(self, told: _Told, tried: np.ndarray) -> tuple[Sizes, EffectPrior, _Known]:
        """Sizes of the effects, and where they are alike, levels that share them and components that stand apart.

        Also what is known of the effects that components share.
        """
        prior = EffectPrior.broad(len(self._base), len(told.pull))
        known = told.known(prior.sets)
        sizes = Sizes.of(known.evidence(tried))
        if sizes.differ:
            return sizes, prior, known
        size = SPREADS @ sizes.share
        if size and told.kind == "levels" and len(told.pull) <= MAX_LEVELS:
            sets = same_levels(told.information, told.pull, root=size * tried[sizes.kernel])
            if len(np.unique(sets)) < len(sets):
                prior = replace(prior, sets=sets)
                known = told.known(sets)
                sizes = Sizes.alike(known.evidence(tried))
        apart = known.standing_apart(tried)
        if not apart.any():
            return sizes, prior, known
        rest = known.without(apart)
        return Sizes.alike(rest.evidence(tried)), replace(prior, apart=apart), rest

    def expected(self, j: int, told: _Told) -> np.ndarray:
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
            told, prior = _Told.of(column, scoring.gradient, scoring.information, moved=-own), self.of_column[j]
            rest, shared = told.known(prior.sets).without(prior.apart), prior.apart == 0
            found = rest.withheld(self._tried(j), rest.shared_roots(prior), sizes=self._sizes[j])
            out[column.features] = (found * np.outer(shared, shared))[prior.sets]  # hardly any of what stands apart
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
                told = _Told.of(column, scoring.gradient, scoring.information, moved=moved)
                priors.update(j, told, seeking=seeking)
            steady = _Told.of(column, scoring.gradient, scoring.steady, moved=moved)
            effects[column.features] = priors.expected(j, steady)
        step = np.abs(features @ effects - before).max(initial=0)
        if step > MAX_STEP:
            effects = last + (effects - last) * MAX_STEP / step
        elif step < TOLERANCE:
            break
    return effects, priors.of_column, priors.withheld(effects, density, design=design)
