"""Enrichment of sets of cells in samples."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.stats._abundance import Abundance


def samples(sizes: list[int], n_target: int, *, paired: bool = False) -> Abundance:
    sample = np.repeat(np.arange(len(sizes)), sizes)
    is_target = np.arange(len(sizes)) < n_target
    return Abundance.of(sample, is_target, paired=paired, n_draws=2000, rng=np.random.default_rng(0))


def inside(counts: list[int], sizes: list[int]) -> np.ndarray:
    return np.concatenate([np.arange(n) < k for k, n in zip(counts, sizes, strict=True)])[:, None]


def test_equal_shares_are_zero_whatever_the_size() -> None:
    sizes = [100, 1000, 300, 50]
    enrichment = samples(sizes, 2).log_enrichment(inside([10, 100, 30, 5], sizes))
    np.testing.assert_allclose(enrichment, 0, atol=1e-12)


def test_same_share_is_the_same_enrichment_whatever_the_size() -> None:
    """Else a side with small samples would differ from one with large ones."""
    sizes = [20, 2000, 100, 400]
    enrichment = samples(sizes, 2).log_enrichment(inside([0, 0, 40, 160], sizes))
    np.testing.assert_allclose(enrichment[0, [0, 2]], enrichment[0, [1, 3]])


def test_pseudo_cells_are_those_of_a_sample_of_typical_size() -> None:
    sizes = [50] * 4
    enrichment = samples(sizes, 2).log_enrichment(inside([0, 10, 5, 5], sizes))
    np.testing.assert_allclose(enrichment[0], np.log([2 / 7, 12 / 7, 1, 1]))


def test_enrichment_is_the_log_of_the_share() -> None:
    sizes = [10**5] * 4
    enrichment = samples(sizes, 2).log_enrichment(inside([4000, 4000, 1000, 1000], sizes))
    assert enrichment[0, 0] - enrichment[0, 2] == pytest.approx(np.log(4), abs=0.01)


def test_cells_that_do_not_count_change_nothing() -> None:
    abundance = samples([50] * 4, 2)
    more = Abundance(np.append(abundance.sample, [-1] * 20), abundance.is_target, abundance.relabelling, paired=False)
    sets = inside([20, 25, 5, 4], [50] * 4)
    np.testing.assert_array_equal(
        more.log_enrichment(np.concatenate([sets, np.ones((20, 1), bool)])), abundance.log_enrichment(sets)
    )


def test_pairs_cancel_what_donors_have_of_their_own() -> None:
    sizes, donors = [1000] * 12, [20, 500, 60, 250, 120, 35]
    sets = inside([int(1.5 * n) for n in donors] + donors, sizes)
    assert samples(sizes, 6, paired=True).test(sets).pvalue[0] == pytest.approx(2 / 64)
    assert samples(sizes, 6).test(sets).pvalue[0] > 0.2


def test_set_of_all_cells_is_not_significant() -> None:
    assert samples([10, 20, 30, 40], 2).test(np.ones((100, 1), bool)).pvalue[0] == 1
