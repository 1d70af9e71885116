"""How large the effects of the levels of a column are: alike, or, where that explains them better, each its own.

Effects of a level have the covariance tau^2 K. Of many perturbations most may do nothing and some much; then the sizes
tau have a distribution over the levels, which is the one of most likelihood (Kiefer & Wolfowitz 1956; Stephens 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

SPREADS = np.r_[0.0, np.geomspace(0.025, 3.2, 15)]
"""Standard deviations tau of effects, in nats."""
PRICE = 3.0
"""Nats by which sizes that differ have to explain the effects better; chance seldom makes as much of equal ones."""
N_SWEEPS = 200


@dataclass(frozen=True)
class Sizes:
    """Which of the kernels K explains the effects best, and the ``share (n_spreads,)`` of the levels of each size.

    All of them have one and the same unless they ``differ``. What size a level has, its own effects say.
    """

    kernel: int
    share: np.ndarray
    differ: bool

    @classmethod
    def alike(cls, evidence: np.ndarray) -> Sizes:
        """The same size for all levels, by the log likelihood of their effects ``(n_levels, n_kernels, n_spreads)``."""
        total = evidence.sum(0)
        kernel, spread = np.unravel_index(total.argmax(), total.shape)
        return cls(int(kernel), (np.arange(len(SPREADS)) == spread).astype(float), differ=False)

    @classmethod
    def of(cls, evidence: np.ndarray) -> Sizes:
        """The same size for all levels, or a distribution of sizes where it explains their effects clearly better."""
        enough = _best_of_one(evidence.sum(0)) + PRICE
        if evidence.max(2).sum(0).max() > enough:
            apart, share = _apart(evidence)
            kernel = int(apart.argmax())
            if apart[kernel] > enough:
                return cls(kernel, share[kernel], differ=True)
        return cls.alike(evidence)

    def likely(self, evidence: np.ndarray) -> np.ndarray:
        """How likely each kernel and size is for each level, none taken for granted, as `evidence`."""
        if not self.differ:
            return np.broadcast_to(softmax(evidence.sum(0)), evidence.shape)
        apart, share = _apart(evidence)
        with np.errstate(divide="ignore"):
            return softmax(evidence + np.log(share), axis=2) * softmax(apart)[:, None]


def prior_variance(share: np.ndarray, evidence: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Variances ``(n_levels, k)`` of normal priors that shrink as much as all sizes do on average.

    Sizes of such a share ``(n_spreads,)`` of all levels, by the log likelihood ``evidence (n_levels, n_spreads)`` of
    each; along directions in which the cells know unit effects with precision ``value (n_levels, k)``. The sizes keep
    the share E[tau^2 / (1 + tau^2 value)] of the pull, a normal prior of variance s the share s / (1 + s value).
    """
    with np.errstate(divide="ignore"):
        weight = softmax(evidence + np.log(share), axis=1)
    left = weight[..., None] / (1 + SPREADS[:, None] ** 2 * value[:, None])
    variance: np.ndarray = (SPREADS[:, None] ** 2 * left).sum(1) / left.sum(1)
    return variance


def _best_of_one(total: np.ndarray) -> float:
    """Largest log likelihood of one size, between those tried too, of ``total (n_kernels, n_spreads)``.

    Else a mixture of the two sizes beside it would stand for the one that all levels have.
    """
    kernel, i = np.unravel_index(total.argmax(), total.shape)
    best = float(total[kernel, i])
    if not 1 < i < len(SPREADS) - 1:
        return best
    below, above = total[kernel, i - 1] - best, total[kernel, i + 1] - best
    return best - float((above - below) ** 2 / (8 * (above + below))) if above + below < 0 else best


def _apart(evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood ``(n_kernels,)`` of the best distribution of sizes, and its shares ``(n_kernels, n_spreads)``.

    By expectation-maximisation from equal shares.
    """
    top = evidence.max(2, keepdims=True)
    share = np.full(evidence.shape[1:], 1 / evidence.shape[2])
    with np.errstate(under="ignore"):  # sizes that explain nothing end at 0
        likelihood = np.exp(evidence - top)
        for _ in range(N_SWEEPS):
            of_level = np.einsum("lkt,kt->lk", likelihood, share)
            share = share * np.einsum("lkt,lk->kt", likelihood, 1 / of_level) / len(evidence)
    return (np.log(np.einsum("lkt,kt->lk", likelihood, share)) + top[..., 0]).sum(0), share
