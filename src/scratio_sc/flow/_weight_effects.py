"""Effects of levels on log weights: what is expected of them, and what cells tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scratio_sc.flow._distances import root_of
from scratio_sc.flow._same_levels import BROAD, together
from scratio_sc.flow._sizes import SPREADS, prior_variance

if TYPE_CHECKING:
    from scratio_sc.flow._columns import Column
    from scratio_sc.flow._sizes import Sizes

MIN_OTHERS = 1e-3
RIDGE = 1e-6
PRICE = 3.0
"""Nats by which a variance of its own has to explain effects better, beside those for the choice among components."""


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
        return root_of(shared @ shared.swapaxes(1, 2) + np.diag(self.apart)) if self.apart.any() else shared


@dataclass(frozen=True)
class Told:
    """What the cells of each level of a column tell of its effects by themselves, levels of that kind.

    ``information (n_levels, m, m)``, and information times estimates ``pull (n_levels, m)``, of so many cells
    ``(n_levels,)``.
    """

    information: np.ndarray
    pull: np.ndarray
    n_cells: np.ndarray
    kind: str

    @classmethod
    def of(
        cls, column: Column, gradient: np.ndarray, information: np.ndarray, *, moved: np.ndarray, n_cells: np.ndarray
    ) -> Told:
        """Of groups of ``n_cells (n_groups,)``, whose log weights have since been ``moved (n_groups, m)`` by others."""
        pull = column.total(gradient - np.einsum("gkl,gl->gk", information, moved))
        return cls(column.information(information), pull, column.information(n_cells), column.kind)

    def known(self, sets: np.ndarray) -> Known:
        """What they tell of the effects of each of some sets of levels ``(n_levels,)``."""
        own, pull = together(self.information, sets), together(self.pull, sets)
        if self.kind in {"trend", "constant"}:
            return Known(own, pull, 1)
        # the weights are taken from those of all cells, to which a level belongs: its variance is 1 / own - 1 / all
        # (all log weights may rise together: nothing is known along that direction, and nothing has to be)
        others = own.sum(0) - own + MIN_OTHERS * own + RIDGE * np.eye(own.shape[1]) + np.trace(own.sum(0)) / own[0].size
        beside = own @ np.linalg.inv(others)
        n_free = int(own.any((1, 2)).sum()) - 1
        precision, pull = own + beside @ own, pull + np.einsum("lkj,lj->lk", beside, pull)
        unit = _units(together(self.n_cells, sets), n_free + 1)
        return Known(precision * unit[:, None, None] ** 2, pull * unit[:, None], n_free, unit)


@dataclass(frozen=True)
class Known:
    """What cells tell of the effects of each level of a column, or set of levels.

    Precision ``(n_levels, m, m)`` of the estimates, precision times estimates ``(n_levels, m)``, and how many of the
    levels are free: all but one where they are compared with each other. Effects are measured in such units
    ``(n_levels,)`` as are expected to be alike.
    """

    precision: np.ndarray
    pull: np.ndarray
    n_free: int
    unit: np.ndarray | float = 1.0

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

    def without(self, apart: np.ndarray) -> Known:
        """What cells tell of the effects to which others of variance ``apart (m,)`` are added: V counts as an error."""
        some = np.flatnonzero(apart)
        if not len(some):
            return self
        across = self.precision[:, :, some]
        lost = across @ np.linalg.inv(np.diag(1 / apart[some]) + across[:, some])
        pull = self.pull - (lost @ self.pull[:, some, None])[..., 0]
        return Known(self.precision - lost @ across.swapaxes(1, 2), pull, self.n_free, self.unit)

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
        """Expected effects ``(n_levels, m)`` under the prior N(0, R R^T), in nats."""
        value, vector, pull = self._along(root)
        effects: np.ndarray = np.einsum("lij,lj->li", root @ vector, pull / (1 + value))
        return (effects.T * self.unit).T

    def chosen_by_cells(self, chosen: np.ndarray) -> np.ndarray:
        """S V S of estimates S e by such roots, where V is their covariance, nats², ``(n_levels, m, m)``."""
        value, vector, _ = self._along(chosen)
        return (_along_vectors(chosen @ vector, value / (1 + value) ** 2).T * np.square(self.unit)).T

    def withheld(self, estimate: np.ndarray, chosen: np.ndarray, roots: np.ndarray, *, sizes: Sizes) -> np.ndarray:
        """What an ``estimate (n_levels, m)`` is expected to withhold of the effects, squared, ``(n_levels, m, m)``.

        Their squared distance, over all tau R as likely as they are, less what cells have ``chosen (n_levels, m, m)``
        of it, which is another part of the error. About what levels have in common: levels that make up all cells err
        against each other, and n of them by n / (n - 1) of what each would by itself.
        """
        estimate, likely = (estimate.T / self.unit).T, sizes.likely(self.evidence(roots))
        out = np.zeros_like(self.precision)
        tau = SPREADS[:, None, None]
        for root, by_spread in zip(roots, likely.swapaxes(0, 1), strict=True):
            value, vector, pull = self._along(root)
            into = root @ vector
            variance = tau**2 / (1 + tau**2 * value)
            out += _along_vectors(into, np.einsum("lt,tlk->lk", by_spread, variance))
            apart = np.einsum("lik,tlk->tli", into, variance * pull) - estimate
            out += np.einsum("lt,tli,tlj->lij", by_spread, apart, apart)
        out -= (chosen.T / np.square(self.unit)).T
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


def _units(n_cells: np.ndarray, n_levels: int) -> np.ndarray:
    """Size of the effects of levels of so many cells about the weights of all cells together, ``(n_levels,)``.

    Effects u of levels that are alike are of one size about what the levels have in common; about all cells, to which
    level l belongs with a share w_l, it has the effect u_l - sum_k w_k u_k: a small one where it is most of them. In
    units of what the effects of as many levels of as many cells each would be.
    """
    share = n_cells / max(n_cells.sum(), 1)
    square = (1 - share) ** 2 + np.sum(share**2) - share**2
    return np.sqrt(np.maximum(square, RIDGE) / (1 - 1 / n_levels)) if n_levels > 1 else np.ones(len(n_cells))


def _along_vectors(into: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Covariances ``(n_levels, m, m)`` of what has such variances ``(n_levels, k)`` along ``into (n_levels, m, k)``."""
    out: np.ndarray = (into * variance[:, None]) @ into.swapaxes(1, 2)
    return out
