"""Enrichment of sets of cells in samples."""

from __future__ import annotations

import itertools
from dataclasses import replace

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
    more = replace(abundance, sample=np.append(abundance.sample, [-1] * 20))
    sets = inside([20, 25, 5, 4], [50] * 4)
    np.testing.assert_array_equal(
        more.log_enrichment(np.concatenate([sets, np.ones((20, 1), bool)])), abundance.log_enrichment(sets)
    )


@pytest.mark.parametrize(("n_side", "found"), [(4, False), (10, True)])
def test_set_that_hardly_varies_is_trusted_where_samples_are_many(n_side: int, *, found: bool) -> None:
    """Its change is small beside how much the others vary."""
    sizes, wave = [10_000] * (2 * n_side), np.resize([-1.0, 1.0], 2 * n_side)
    change = np.where(np.arange(2 * n_side) < n_side, 0.12, -0.12)
    shares = [np.exp(change + 0.04 * wave), *(np.exp(0.5 * np.roll(wave, i)) for i in range(4))]
    sets = np.concatenate([inside([*np.rint(500 * share).astype(int)], sizes) for share in shares], axis=1)
    assert (samples(sizes, n_side).test(sets).adjusted[0] < 0.03) == found


def test_pairs_cancel_what_donors_have_of_their_own() -> None:
    sizes, donors = [1000] * 12, [20, 500, 60, 250, 120, 35]
    sets = inside([int(1.5 * n) for n in donors] + donors, sizes)
    assert samples(sizes, 6, paired=True).test(sets).pvalue[0] == pytest.approx(2 / 64)
    assert samples(sizes, 6).test(sets).pvalue[0] > 0.2


def test_set_of_all_cells_is_not_significant() -> None:
    assert samples([10, 20, 30, 40], 2).test(np.ones((100, 1), bool)).pvalue[0] == 1


STEADY = [150, 152, 148, 151, 100, 101, 99, 102]
ERRATIC = [300, 30, 300, 30, 200, 15, 200, 15]
HARDLY_ANYTHING = [101, 101, 101, 101, 100, 100, 100, 100]


@pytest.mark.parametrize(("first", "second"), [(STEADY, ERRATIC), (ERRATIC, HARDLY_ANYTHING)])
def test_family_takes_neither_what_varies_most_nor_what_hardly_varies(first: list[int], second: list[int]) -> None:
    """`ERRATIC` differs the most, `HARDLY_ANYTHING` has the largest t."""
    abundance, sizes = samples([1000] * 8, 4), [1000] * 8
    sets = np.hstack([inside(first, sizes), inside(second, sizes)])
    assert abundance.test(sets, families=np.ones((1, 2), bool)).effect == abundance.test(sets).effect[0]


def orders(n: int, *, paired: bool) -> np.ndarray:
    """Every choice of n of 2n samples as the target, or of one of each pair, the target first, ``(n_choices, 2n)``."""
    if paired:
        chosen = np.array(list(itertools.product([0, n], repeat=n))) + np.arange(n)
    else:
        chosen = np.array(list(itertools.combinations(range(2 * n), n)))
    rest = (chosen + n) % (2 * n) if paired else [np.setdiff1d(np.arange(2 * n), own) for own in chosen]
    return np.hstack([chosen, rest])


@pytest.mark.parametrize("paired", [False, True])
def test_any_discovery_has_the_nominal_rate_among_all_choices_of_a_target(*, paired: bool) -> None:
    """Only if each set has the same variance in all of them."""
    n, choices = 5, orders(5, paired=paired)
    design = samples([100] * 2 * n, n, paired=paired)
    count = np.random.default_rng(0).integers(5, 60, (30, 2 * n))
    sets = np.hstack([inside(own.tolist(), [100] * 2 * n) for own in count])
    found = []
    for order in choices:
        chosen = replace(design, sample=np.argsort(order)[design.sample])
        found.append((chosen.test(sets).adjusted <= 2 / len(choices)).any())
    assert sum(found) == 2  # the target with the largest maximum, and its mirror image


def test_strata_cancel_what_batches_have_of_their_own() -> None:
    """Batches differ more than sides do; each has as many samples of both."""
    sizes, stratum = [1000] * 12, np.tile([0, 1, 2], 4)
    batch = np.array([50, 200, 450])[stratum]
    sets = inside([int(1.3 * n) + i for i, n in enumerate(batch[:6])] + [n - i for i, n in enumerate(batch[6:])], sizes)
    free = samples(sizes, 6)
    within = Abundance.of(
        free.sample, free.is_target, paired=False, n_draws=2000, rng=np.random.default_rng(0), stratum=stratum
    )
    assert within.test(sets).pvalue[0] == pytest.approx(2 / 6**3)
    assert free.test(sets).pvalue[0] > 0.2
    assert within.test(sets).effect[0] == pytest.approx(np.log(1.3), abs=0.05)


def test_samples_alone_in_their_stratum_have_no_say() -> None:
    sizes, stratum = [100] * 6, np.array([0, 0, 1, 0, 0, 2])
    design = samples(sizes, 3)
    within = Abundance.of(
        design.sample, design.is_target, paired=False, n_draws=2000, rng=np.random.default_rng(0), stratum=stratum
    )
    tests = [within.test(inside([40, 38, n, 10, 12, 90 - n], sizes)) for n in (30, 60)]
    assert tests[0].pvalue == tests[1].pvalue == pytest.approx(2 / 6)
