"""Cells that lie apart from all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from scratio_sc.flow._outliers import MIN_NEIGHBOURS, outliers

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import ConditionalFlow

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]


def cloud(n: int = 400, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("d", [1, 3, 40])
@pytest.mark.parametrize("seed", range(3))
def test_cells_of_a_gaussian_are_none(d: int, seed: int) -> None:
    assert not outliers(cloud(d=d, seed=seed)).any()


@pytest.mark.parametrize("far", [12.0, 1e3, 1e7])
def test_cell_far_from_all_others_is_one(far: float) -> None:
    x = cloud()
    x[[5, 9]] = [[far, 0, 0], [0, -far, 0]]
    np.testing.assert_array_equal(np.flatnonzero(outliers(x)), [5, 9])


def test_rare_type_is_none_however_far() -> None:
    x = cloud()
    x[: MIN_NEIGHBOURS + 1, 0] += 1e3
    assert not outliers(x).any()


def test_few_cells_together_are_outliers() -> None:
    x = cloud()
    x[:MIN_NEIGHBOURS, 0] += 1e3
    np.testing.assert_array_equal(np.flatnonzero(outliers(x)), np.arange(MIN_NEIGHBOURS))


def test_scale_and_place_do_not_matter() -> None:
    x = cloud()
    x[3] = 20
    np.testing.assert_array_equal(outliers(x), outliers(1e-3 * x + 50))


@pytest.mark.parametrize(
    "x",
    [np.ones((50, 2)), cloud(1), np.where(np.arange(50)[:, None] < 49, 0.0, [1.0, 2.0])],
    ids=["alike", "one cell", "alike but for one"],
)
def test_cells_without_spread_have_none(x: np.ndarray) -> None:
    assert not outliers(x).any()


def test_where_many_lie_apart_they_are_what_the_cells_look_like() -> None:
    x = cloud()
    x[:20] *= np.geomspace(30, 1e6, 20)[:, None]
    assert not outliers(x).any()


def test_ratios_of_the_others_do_not_change_with_how_far_it_lies(fit: Fit) -> None:
    x, labels = cloud(), np.array(["a", "b"] * 200)
    x[labels == "b", 0] += 1
    ratios = []
    for far in (30.0, 1e6):
        x[0] = far
        flow, fold = fit(x, labels)
        assert fold[0] == -1
        ratios.append(flow.log_ratio(x[1:], "b", "a", fold=fold[1:]).value)
    np.testing.assert_array_equal(*ratios)


def test_last_cell_of_a_group_stays(fit: Fit) -> None:
    x, labels = cloud(), np.array(["a", "b"] * 200, "<U1")
    x[0], labels[0] = 100.0, "c"
    flow, fold = fit(x, labels)
    assert fold[0] >= 0
    assert "c" in flow.design.levels[0]
