"""Baselines that a ratio has to beat."""

from __future__ import annotations

import numpy as np
from scipy.stats import multivariate_normal

from scratio_sc.flow._baselines import UNSEEN, score_baselines

N = 400
RNG = np.random.default_rng(0)
CONDITION, STRATUM, FOLD = np.arange(N) % 2, np.arange(N) // 2 % 3, np.arange(N) % 5
CELLS = RNG.standard_normal((N, 2)) * [1.0, 0.5] + CONDITION[:, None]
ASKED = np.arange(0, N, 7)


def score(
    x: np.ndarray, *, condition: np.ndarray = CONDITION, stratum: np.ndarray = STRATUM, fold: np.ndarray = FOLD
) -> np.ndarray:
    return score_baselines(x, condition, stratum, cells=ASKED, fold=fold)


def test_baselines_of_a_cell_know_nothing_of_its_fold() -> None:
    moved = CELLS.copy()
    moved[(FOLD == 0) & ~np.isin(np.arange(N), ASKED)] += 5
    own = FOLD[ASKED] == 0
    np.testing.assert_array_equal(score(moved)[own], score(CELLS)[own])
    assert (score(moved)[~own] != score(CELLS)[~own]).any()


def test_baselines_are_gaussians_of_the_other_folds() -> None:
    found = score(CELLS, stratum=np.zeros(N, int))[FOLD[ASKED] == 2]
    seen = [CELLS[(FOLD != 2) & (c == CONDITION)] for c in range(2)]
    shared = np.mean([np.cov(part.T, bias=True) for part in seen], axis=0)
    asked = CELLS[ASKED[FOLD[ASKED] == 2]]
    for c, part in enumerate(seen):
        for b, covariance in enumerate([shared, np.cov(part.T, bias=True)]):
            expected = multivariate_normal(part.mean(0), covariance).logpdf(asked)
            np.testing.assert_allclose(found[:, c, b], expected, rtol=0.01, atol=0.02)


def test_what_strata_add_makes_no_difference() -> None:
    donors = CELLS + np.array([[0.0, 0.0], [30.0, -4.0], [-9.0, 2.0]])[STRATUM]
    np.testing.assert_allclose(score(donors), score(CELLS), atol=1e-4)


def test_strata_of_unequal_conditions_take_nothing_of_their_difference() -> None:
    """A stratum with more cells of the condition that lies higher is no higher itself."""
    far = CELLS + 10.0 * CONDITION[:, None]
    stratum = (RNG.random(N) < 0.2 + 0.6 * CONDITION).astype(int)
    conditions_differ = score(far, stratum=stratum)[..., 0]
    assert np.abs(conditions_differ[:, 0] - conditions_differ[:, 1]).min() > 20


def test_strata_that_nearly_go_with_the_condition_are_told_apart_from_it() -> None:
    stratum = np.where(RNG.random(N) < 0.02, 1 - CONDITION, CONDITION)
    donors = CELLS + np.array([[0.0, 0.0], [30.0, -4.0]])[stratum]
    np.testing.assert_allclose(score(donors, stratum=stratum), score(CELLS, stratum=stratum), atol=1e-3)


def test_fewer_conditions_than_strata_or_more_make_no_difference() -> None:
    """Either are eliminated first."""
    stratum = np.arange(N) % 2
    condition = np.arange(N) // 2 % 3
    donors = CELLS + np.array([[0.0, 0.0], [30.0, -4.0]])[stratum]
    found = [score(x, condition=condition, stratum=stratum) for x in (donors, CELLS)]
    np.testing.assert_allclose(*found, atol=1e-4)


def test_condition_that_other_folds_lack_is_unlikely() -> None:
    condition = np.where(FOLD == 3, 2, CONDITION)
    found = score(CELLS, condition=condition)
    assert (found[FOLD[ASKED] == 3][:, 2] == UNSEEN).all()
    assert (found[FOLD[ASKED] != 3] > UNSEEN).all()
