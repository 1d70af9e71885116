"""Standard errors of numbers that members and partitions disagree about."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from scratio_sc.flow._standard_error import standard_error

FOLDS = np.arange(4)
RNG = np.random.default_rng(0)
BY_MEMBER, BY_PARTITION = RNG.standard_normal((4, 5)), RNG.standard_normal((3, 5))


def jackknife(by_member: np.ndarray) -> np.ndarray:
    """The textbook's jackknife over as many folds as members, widened as Student's t is."""
    n = len(by_member)
    spread = np.sqrt((n - 1) / n * np.square(by_member - by_member.mean(0)).sum(0))
    return spread * student_t(n - 1).ppf(0.95) / norm.ppf(0.95)


@pytest.mark.parametrize("n_partitions", [1, 3])
def test_partitions_that_agree_leave_the_jackknife(n_partitions: int) -> None:
    agreed = np.tile(BY_PARTITION[0], (n_partitions, 1))
    np.testing.assert_allclose(standard_error(BY_MEMBER, agreed, FOLDS), jackknife(BY_MEMBER))


def test_members_that_agree_leave_the_spread_of_the_partitions() -> None:
    agreed = np.tile(BY_MEMBER[0], (4, 1))
    np.testing.assert_allclose(standard_error(agreed, BY_PARTITION, FOLDS), BY_PARTITION.std(0, ddof=1))


def test_both_add_up_as_variances() -> None:
    expected = np.hypot(jackknife(BY_MEMBER), BY_PARTITION.std(0, ddof=1))
    np.testing.assert_allclose(standard_error(BY_MEMBER, BY_PARTITION, FOLDS), expected)


def test_members_that_left_out_the_same_fold_count_as_one() -> None:
    twice = np.concatenate([BY_MEMBER, BY_MEMBER[:1]])
    expected = standard_error(BY_MEMBER, BY_PARTITION, FOLDS)
    np.testing.assert_allclose(standard_error(twice, BY_PARTITION, np.append(FOLDS, 0)), expected)


@pytest.mark.parametrize("n_members", [1, 4])
def test_one_fold_knows_no_error(n_members: int) -> None:
    assert np.isnan(standard_error(BY_MEMBER[:n_members], BY_PARTITION, np.zeros(n_members, int))).all()
