"""Permutation tests whose unit is the sample: relabellings, a moderated statistic, and p-values of many points.

All points are tested on the same relabellings. So however much they depend on each other, the largest statistic among
them is distributed under the null hypothesis as among the relabellings (Westfall & Young 1993).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

TIES = 1 - 1e-9
"""Statistics that differ by rounding alone count as equal."""
NOISE = 1e-12
"""Variance below which values differ by rounding alone, and by what share of the largest value their sums do."""
AT_ONCE = 64
"""Relabellings that are computed together."""


@dataclass(frozen=True)
class Relabelling:
    """What might as well have been observed, were the conditions of samples without meaning.

    Attributes
    ----------
    contrasts
        Coefficients of the samples (of the pairs, in a paired design) in every relabelling,
        ``(n_relabellings, n_samples)``; the first are those observed.
    exact
        Whether these are all relabellings there are, or random draws.
    """

    contrasts: np.ndarray
    exact: bool

    @classmethod
    def of_groups(
        cls, is_target: np.ndarray, n_draws: int, *, rng: np.random.Generator, stratum: np.ndarray | None = None
    ) -> Relabelling:
        """Mean of the target samples minus mean of the others, whichever samples of a stratum are the target.

        All choices, or ``n_draws`` of them at random where there are more. ``is_target (n_samples,)``, ``stratum
        (n_samples,)``; by default all samples are one. Differences of m among n samples of a stratum weigh
        m (n - m) / n, as by least squares where strata have means of their own; one of a single side has no say.
        """
        code = np.unique(np.zeros(len(is_target)) if stratum is None else stratum, return_inverse=True)[1].reshape(-1)
        n, m = np.bincount(code), np.bincount(code, weights=is_target).astype(int)
        choices = [math.comb(*each) for each in zip(n.tolist(), m.tolist(), strict=True)]
        exact = math.prod(choices) <= n_draws
        drawn = _all_choices(code, m) if exact else _some_choices(code, m, n_draws, rng=rng)
        total = max(float((m * (n - m) / n).sum()), NOISE)
        return cls.of(is_target, drawn, exact=exact, weight=(((n - m) / n)[code] / total, -(m / n)[code] / total))

    @classmethod
    def of_pairs(cls, n_pairs: int, n_draws: int, *, rng: np.random.Generator) -> Relabelling:
        """Mean of the differences within pairs, whichever of a pair is the target; all, or ``n_draws`` at random."""
        exact = 2**n_pairs <= n_draws
        if exact:
            drawn = np.array(list(itertools.product([True, False], repeat=n_pairs)))
        else:
            drawn = rng.random((n_draws, n_pairs)) < 0.5
        each = np.full(n_pairs, 1 / n_pairs)
        return cls.of(np.ones(n_pairs, bool), drawn, exact=exact, weight=(each, -each))

    @classmethod
    def of(
        cls, observed: np.ndarray, drawn: np.ndarray, *, exact: bool, weight: tuple[np.ndarray, np.ndarray]
    ) -> Relabelling:
        """The observed choice first ``(n_samples,)``; those drawn ``(n_draws, n_samples)`` hold it if they are all.

        What a sample weighs as a target and as another, ``(n_samples,)`` each.
        """
        others = drawn[(drawn != observed).any(1)] if exact else drawn
        return cls(np.where(np.concatenate([observed[None], others]), *weight), exact)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value there can be: the share of relabellings that are the observed one or its mirror."""
        likeness = np.abs(self.contrasts @ self.contrasts[0])
        return float((likeness >= TIES * likeness[0]).mean())


def _all_choices(stratum: np.ndarray, n_targets: np.ndarray) -> np.ndarray:
    """Every choice of so many targets of each stratum ``(n_strata,)``, ``(n_choices, n_samples)``."""
    members = [np.flatnonzero(stratum == s) for s in range(len(n_targets))]
    each = [itertools.combinations(own.tolist(), int(m)) for own, m in zip(members, n_targets, strict=True)]
    chosen = [list(itertools.chain(*parts)) for parts in itertools.product(*each)]
    drawn = np.zeros((len(chosen), len(stratum)), bool)
    np.put_along_axis(drawn, np.array(chosen, np.int64), values=True, axis=1)
    return drawn


def _some_choices(stratum: np.ndarray, n_targets: np.ndarray, n_draws: int, *, rng: np.random.Generator) -> np.ndarray:
    """Random choices of so many targets of each stratum ``(n_strata,)``, ``(n_draws, n_samples)``."""
    order = rng.random((n_draws, len(stratum)))
    drawn = np.zeros(order.shape, bool)
    for s, m in enumerate(n_targets.tolist()):
        own = np.flatnonzero(stratum == s)
        drawn[np.arange(n_draws)[:, None], own[np.argsort(order[:, own], axis=1)[:, :m]]] = True
    return drawn


@dataclass(frozen=True)
class PermutationTest:
    """Two-sided tests of many sets, or of families of sets.

    Attributes
    ----------
    effect
        Difference of the means, in the units of the values; of a family, that of its largest statistic. ``(m,)``.
    pvalue
        Share of the relabellings in which the statistic is as large, ``(m,)``.
    adjusted
        Share of the relabellings in which the largest of this and all smaller statistics is as large, ``(m,)``: the
        step-down maximum of Westfall & Young. The chance of one false discovery or more is at most the level at which
        it is cut, and so is the expected share of false discoveries.
    """

    effect: np.ndarray
    pvalue: np.ndarray
    adjusted: np.ndarray

    @classmethod
    def of(
        cls,
        values: np.ndarray,
        relabelling: Relabelling,
        *,
        variance: np.ndarray,
        families: np.ndarray | None = None,
    ) -> PermutationTest:
        """Tests of values ``(k, n_samples)``, studentised by a ``variance (k,)`` that no relabelling changes.

        A family is a row of ``families (m, k)`` (bool); its statistic is the largest of its members'. By default each
        set is a family.
        """
        scaled = values / np.sqrt(np.maximum(variance, NOISE))[:, None]
        members = (
            [np.array([i]) for i in range(len(values))] if families is None else list(map(np.flatnonzero, families))
        )
        contrasts = relabelling.contrasts
        observed = np.abs(scaled @ contrasts[0])
        largest = np.array([own[observed[own].argmax()] for own in members])
        order = np.argsort(observed[largest], kind="stable")
        # where samples do not differ at all, statistics are what rounding leaves: all of them are the same
        size = np.abs(scaled).max(1)
        rounding = NOISE * np.array([size[own].max() for own in members])
        threshold = (TIES * observed[largest] - rounding)[order, None]
        n_alone, n_any = np.zeros(len(members)), np.zeros(len(members))
        for start in range(0, len(contrasts), AT_ONCE):
            by_set = np.abs(scaled @ contrasts[start : start + AT_ONCE].T)
            drawn = np.stack([by_set[members[i]].max(0) for i in order])
            n_alone += (drawn >= threshold).sum(1)
            n_any += (np.maximum.accumulate(drawn, axis=0) >= threshold).sum(1)
        pvalue, adjusted = np.empty(len(members)), np.empty(len(members))
        pvalue[order] = n_alone / len(contrasts)
        # a family is not more significant than one of larger statistic
        adjusted[order] = np.maximum.accumulate(n_any[::-1])[::-1] / len(contrasts)
        return cls((values @ contrasts[0])[largest], pvalue, adjusted)
