"""How far two groups of cells are apart, from their log ratios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from scratio_sc.flow._standard_error import standard_error

if TYPE_CHECKING:
    from scratio_sc.flow._member_scores import MemberScores

NAMES = ("kl_target", "kl_reference", "js")
"""KL(target || reference), KL(reference || target) and the Jensen-Shannon divergence, nats."""
Counts = int | np.ndarray
FAR_OUT = 50.0
TINY = 1e-12


@dataclass(frozen=True)
class Ratios:
    """Log ratios of n cells, nats.

    Out of fold ``(n,)``, by each member ``(n_members, n)``, and by each partition ``(n_partitions, n)``.
    """

    value: np.ndarray
    by_member: np.ndarray
    by_partition: np.ndarray

    @classmethod
    def of(cls, scores: MemberScores, signs: np.ndarray) -> Ratios:
        """Sums of the log densities of k sides with their signs ``(k,)``."""
        parts = scores.value, scores.by_member, scores.by_partition
        return cls(*((part * signs).sum(-1) for part in parts))

    def take(self, cells: np.ndarray) -> Ratios:
        """Those of some cells."""
        return Ratios(self.value[cells], self.by_member[:, cells], self.by_partition[:, cells])


@dataclass(frozen=True)
class Share:
    """Log ratio of the shares that a cell type has among the cells of both sides, nats, and its variance."""

    log_ratio: float
    variance: float

    @classmethod
    def of(cls, target: tuple[Counts, Counts], reference: tuple[Counts, Counts]) -> Share:
        """Cells of the type and cells in all, on each side; or in each of several strata, which agree on the ratio.

        Strata by Mantel and Haenszel (1959), log sum_s a_s n_bs / n_s - log sum_s b_s n_as / n_s; the variance, by
        Greenland and Robins (1985), is that of drawing the cells. It is infinite where no stratum has the type on both.
        """
        a, n_a, b, n_b = (np.atleast_1d(np.asarray(part, float)) for part in (*target, *reference))
        n = np.maximum(n_a + n_b, 1)
        here, there = float((a * n_b / n).sum()), float((b * n_a / n).sum())
        if not (here and there):
            return cls(0.0, np.inf)
        drawn = float(((a + b) * n_a * n_b / n**2 - a * b / n).sum())
        return cls(float(np.log(here) - np.log(there)), max(drawn, 0.0) / (here * there))


def divergences(target: np.ndarray, reference: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """The divergences of `NAMES` ``(3,)`` from log ratios of the cells of both sides, less an offset.

    KL(t || r) = E_t[r], KL(r || t) = -E_r[r], and with log p_t / ((p_t + p_r) / 2) = log 2 - log(1 + e^-r),
    JS = log 2 - E_t[log(1 + e^-r)] / 2 - E_r[log(1 + e^r)] / 2.
    """
    t, r = target - offset, reference - offset
    return np.array([t.mean(), -r.mean(), -0.5 * (_excess(-t).mean() + _excess(r).mean())])


def _excess(ratio: np.ndarray) -> np.ndarray:
    """log(1 + e^r) - log 2, cell by cell: 0 to the last digit where all ratios are 0, and so are mean and variance."""
    excess: np.ndarray = np.logaddexp(0, ratio) - np.log(2)
    return excess


def normalisation(target: np.ndarray, reference: np.ndarray, share: Share) -> tuple[float, float]:
    """What a log ratio exceeds the ratio within a cell type by, and the variance of that; nats.

    log p(x | t) / p(x | r) = log p(x | t, type) / p(x | r, type) + log share of the type under t / under r, within the
    columns that the ratio holds fixed: a type that is one of them has all of it, and the ratio exceeds nothing. Counted
    shares have the error of counting, which a ratio that shrinks chance does not share. So the ratio is normalised
    by the cells themselves: Bennett's acceptance ratio (1976) is the c at which E_t[sigmoid(c - r)] =
    E_r[sigmoid(r - c)]. It does not exist where the sides never touch; the counts take over as it becomes uncertain.

    Its variance is that of the delta method, (Var_t[p] / n_t + Var_r[q] / n_r) / (E_t[p (1 - p)] + E_r[q (1 - q)])^2
    with p and q the two sigmoids, plus 1 / I^2. I = sum p (1 - p) + sum q (1 - q) counts the cells that are in doubt: a
    sum over so many has a relative variance of about 1 / I, and its square is of the next order in the logarithm. That
    is negligible where many are in doubt; where hardly any are, the delta method knows only how alike these few are.
    """

    def imbalance(c: float) -> float:
        return float(expit(c - target).mean() - expit(reference - c).mean())

    ends = [*np.quantile(target, [0, 1]), *np.quantile(reference, [0, 1])]
    balanced = brentq(imbalance, min(ends) - FAR_OUT, max(ends) + FAR_OUT)
    there, here = expit(balanced - target), expit(reference - balanced)
    doubt = there * (1 - there), here * (1 - here)
    slope = max(doubt[0].mean() + doubt[1].mean(), TINY)
    in_doubt = max(doubt[0].sum() + doubt[1].sum(), TINY)
    variance = (there.var() / len(there) + here.var() / len(here)) / slope**2 + 1 / in_doubt**2
    with np.errstate(divide="ignore"):
        weight = 1 / (1 + variance / np.float64(share.variance))
    return float(weight * balanced + (1 - weight) * share.log_ratio), float(weight * variance)


def divergence_of(
    target: Ratios, reference: Ratios, *, left_out: np.ndarray, share: Share | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The divergences of `NAMES` and their standard errors, ``(3,)`` each; within a cell type where a share is given.

    The variance over cells and that of the fit, whose members left out the folds ``left_out (n_members,)``, add up.
    """
    offset, of_offset = (0.0, 0.0) if share is None else normalisation(target.value, reference.value, share)
    value = divergences(target.value, reference.value, offset)

    def each(targets: np.ndarray, references: np.ndarray) -> np.ndarray:
        pairs = zip(targets, references, strict=True)
        return np.array([divergences(t, r, 0.0 if share is None else normalisation(t, r, share)[0]) for t, r in pairs])

    of_fit = standard_error(
        each(target.by_member, reference.by_member), each(target.by_partition, reference.by_partition), left_out
    )
    t, r = target.value - offset, reference.value - offset
    of_t, of_r = variance_of_mean(t), variance_of_mean(r)
    # at the balance the Jensen-Shannon divergence is at its largest, so that the offset's error does not move it
    of_js = 0.25 * (variance_of_mean(_excess(-t)) + variance_of_mean(_excess(r)))
    over_cells = np.array([of_t + of_offset, of_r + of_offset, of_js])
    return value, np.sqrt(over_cells + of_fit**2)


def by_name(value: np.ndarray, se: np.ndarray) -> dict[str, float]:
    """Divergences and their standard errors ``(3,)`` as columns of a table."""
    pairs = zip(NAMES, (value + 0.0).tolist(), se.tolist(), strict=True)  # -0 is 0
    return {name: number for at, one, error in pairs for name, number in ((at, one), (f"{at}_se", error))}


def variance_of_mean(values: np.ndarray) -> float:
    """Variance of the mean of independent values."""
    return float(values.var(ddof=1) / len(values))
