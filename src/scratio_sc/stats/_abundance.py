"""How abundant sets of cells are in samples, and whether that goes with the condition of the sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scratio_sc.stats._permutation import PermutationTest, Relabelling

PSEUDO_CELLS = 2.0
"""Cells that are added to a sample of typical size, at the overall share, against the noise of small counts.

To others in proportion: as many to each would draw small samples towards the overall share and leave large ones where
they are, and where the samples of one side are smaller, that is a difference between the sides.
"""
PRIOR_SAMPLES = 8
"""Samples that the variances of all sets together are worth beside those of the set itself (Smyth 2004)."""


@dataclass(frozen=True)
class Abundance:
    """Samples of a contrast, each of one side.

    Attributes
    ----------
    sample
        Sample of every cell ``(n_cells,)``, -1 for cells that do not count.
    is_target
        Side of every sample ``(n_samples,)``. In a paired design, samples ``i`` and ``i + n_samples / 2`` are a pair,
        the target first.
    relabelling
        What the sides might as well have been.
    paired
        Whether the design is paired.
    stratum
        Samples that may be exchanged with each other ``(n_samples,)``; all of one stratum in a paired design.
    """

    sample: np.ndarray
    is_target: np.ndarray
    relabelling: Relabelling
    paired: bool
    stratum: np.ndarray

    @classmethod
    def of(
        cls,
        sample: np.ndarray,
        is_target: np.ndarray,
        *,
        paired: bool,
        n_draws: int,
        rng: np.random.Generator,
        stratum: np.ndarray | None = None,
    ) -> Abundance:
        """The design, with at most ``n_draws`` relabellings, of samples within a ``stratum (n_samples,)``."""
        stratum = np.zeros(len(is_target), np.int64) if stratum is None else stratum
        if paired:
            relabelling = Relabelling.of_pairs(len(is_target) // 2, n_draws, rng=rng)
        else:
            relabelling = Relabelling.of_groups(is_target, n_draws, rng=rng, stratum=stratum)
        return cls(sample, is_target, relabelling, paired, stratum)

    def log_enrichment(self, inside: np.ndarray) -> np.ndarray:
        """log((share + a) / (mean share + a)) of sets ``inside (n_cells, k)`` in each sample, ``(k, n_samples)``.

        a is `PSEUDO_CELLS` of a typical sample, the harmonic mean of their sizes.
        """
        n_samples = len(self.is_target)
        count = np.stack([inside[self.sample == s].sum(0) for s in range(n_samples)], axis=1)
        total = np.bincount(self.sample[self.sample >= 0], minlength=n_samples)
        share, a = count / total, PSEUDO_CELLS * (1 / total).mean()
        enrichment: np.ndarray = np.log((share + a) / (share.mean(1, keepdims=True) + a))
        return enrichment

    def test(self, inside: np.ndarray, *, families: np.ndarray | None = None) -> PermutationTest:
        """Test sets of cells, or families ``(m, k)`` of them by the member that differs most.

        The difference of the means is divided by sqrt(v + min(1, n / f) median v), where v is the variance of the set
        over the samples of a stratum (of pairs: the mean square of their differences), which no relabelling changes, of
        f degrees of freedom, and n is `PRIOR_SAMPLES`. Without the median it would order the relabellings as Student's
        t does; the median keeps sets of tiny variance from dominating, the less the better variances are known.
        """
        values = self.log_enrichment(inside)
        if self.paired:
            values = np.subtract(*np.split(values, 2, axis=1))
            variance, freedom = np.square(values).mean(1), values.shape[1]
        else:
            variance, freedom = self._within_strata(values)
        moderated = variance + min(1.0, PRIOR_SAMPLES / max(freedom, 1)) * np.median(variance)
        return PermutationTest.of(values, self.relabelling, variance=moderated, families=families)

    def _within_strata(self, values: np.ndarray) -> tuple[np.ndarray, int]:
        """Variance of values ``(k, n_samples)`` about the means of their strata, ``(k,)``, and its degrees of freedom.

        Of strata with both sides.
        """
        square, freedom = np.zeros(len(values)), 0
        for s in np.unique(self.stratum):
            own = self.stratum == s
            if np.ptp(self.is_target[own].astype(int)):
                square += values[:, own].var(1) * own.sum()
                freedom += int(own.sum()) - 1
        return square / max(freedom, 1), freedom
