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
"""Variance below which values differ by rounding alone."""
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
    def of_groups(cls, is_target: np.ndarray, n_draws: int, *, rng: np.random.Generator) -> Relabelling:
        """Mean of the target samples minus mean of the others, whichever samples are the target.

        All choices, or ``n_draws`` of them at random where there are more. ``is_target (n_samples,)``.
        """
        n, m = len(is_target), int(is_target.sum())
        exact = math.comb(n, m) <= n_draws
        if exact:
            chosen = np.array(list(itertools.combinations(range(n), m)))
        else:
            chosen = np.argsort(rng.random((n_draws, n)), axis=1)[:, :m]
        drawn = np.zeros((len(chosen), n), bool)
        np.put_along_axis(drawn, chosen, values=True, axis=1)
        return cls.of(is_target, drawn, exact=exact, weight=(1 / m, -1 / (n - m)))

    @classmethod
    def of_pairs(cls, n_pairs: int, n_draws: int, *, rng: np.random.Generator) -> Relabelling:
        """Mean of the differences within pairs, whichever of a pair is the target; all, or ``n_draws`` at random."""
        exact = 2**n_pairs <= n_draws
        if exact:
            drawn = np.array(list(itertools.product([True, False], repeat=n_pairs)))
        else:
            drawn = rng.random((n_draws, n_pairs)) < 0.5
        return cls.of(np.ones(n_pairs, bool), drawn, exact=exact, weight=(1 / n_pairs, -1 / n_pairs))

    @classmethod
    def of(cls, observed: np.ndarray, drawn: np.ndarray, *, exact: bool, weight: tuple[float, float]) -> Relabelling:
        """The observed choice first ``(n_samples,)``; those drawn ``(n_draws, n_samples)`` hold it if they are all."""
        others = drawn[(drawn != observed).any(1)] if exact else drawn
        return cls(np.where(np.concatenate([observed[None], others]), *weight), exact)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value there can be: the share of relabellings that are the observed one or its mirror."""
        likeness = np.abs(self.contrasts @ self.contrasts[0])
        return float((likeness >= TIES * likeness[0]).mean())


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
        threshold = TIES * observed[largest[order], None]
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
