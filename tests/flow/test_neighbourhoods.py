"""Neighbourhoods found without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scratio_sc.flow import _components as components
from scratio_sc.flow import _neighbourhoods
from scratio_sc.flow._neighbourhoods import MIN_CELLS, find_neighbourhoods

if TYPE_CHECKING:
    import torch

    from scratio_sc.flow._components import Components


@pytest.fixture(scope="module")
def clouds() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    code = rng.integers(4, size=800)
    return rng.standard_normal((800, 3)) + 12 * np.eye(4, 3)[code], code


def test_each_cloud_is_a_neighbourhood(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    x, code = clouds
    found = find_neighbourhoods(x, rng=np.random.default_rng(0))
    for c in range(4):
        assert (found == (code == c)[:, None]).all(0).any()


def test_cloud_without_types_is_cut_into_pieces() -> None:
    x = np.random.default_rng(0).standard_normal((500, 2))
    found = find_neighbourhoods(x, rng=np.random.default_rng(0))
    assert found.shape[1] >= 8
    assert found.mean(0).max() < 0.6


def test_every_cell_is_somewhere_and_no_neighbourhood_twice(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    found = find_neighbourhoods(clouds[0], rng=np.random.default_rng(0))
    assert found.any(1).all()
    assert len(np.unique(found, axis=1).T) == found.shape[1]
    assert found.sum(0).min() >= MIN_CELLS


def test_components_are_not_judged_by_copies_of_cells_that_they_were_fitted_to(
    monkeypatch: pytest.MonkeyPatch, clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    shared = []

    def find_components(x: torch.Tensor, judge: torch.Tensor, **options: Any) -> Components:
        shared.append(len({*map(tuple, x.tolist())} & {*map(tuple, judge.tolist())}))
        return components.find_components(x, judge, **options)

    monkeypatch.setattr(_neighbourhoods, "find_components", find_components)
    find_neighbourhoods(np.repeat(clouds[0], 2, axis=0), rng=np.random.default_rng(0))
    assert max(shared) == 0


def test_scale_and_place_do_not_matter(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    near, far = (find_neighbourhoods(z, rng=np.random.default_rng(1)) for z in (clouds[0], 50 * clouds[0] + 1000))
    np.testing.assert_array_equal(near, far)


def test_tree_sees_cells_from_everywhere(
    monkeypatch: pytest.MonkeyPatch, clouds: tuple[np.ndarray, np.ndarray]
) -> None:
    """Of many cells it sees a part, which must not be the first ones: cells are often sorted by sample or type."""
    seen = []

    def merge_tree(x: torch.Tensor, components: Components) -> np.ndarray:
        inside = components.responsibilities(x).argmax(1).bincount(minlength=len(components.weight))
        seen.append((inside > 0).sum() / len(inside))
        return np.zeros((1, len(components.weight)), np.int8)

    monkeypatch.setattr(_neighbourhoods, "MAX_TREE_CELLS", 100)
    monkeypatch.setattr(_neighbourhoods, "merge_tree", merge_tree)
    find_neighbourhoods(clouds[0][np.argsort(clouds[1])], rng=np.random.default_rng(0))
    assert min(seen) > 0.7


@pytest.mark.parametrize("n", [2, 5, 10])
def test_few_cells_are_one_neighbourhood_at_least(n: int) -> None:
    found = find_neighbourhoods(np.random.default_rng(0).standard_normal((n, 2)), rng=np.random.default_rng(0))
    assert found.any(1).all()


@pytest.mark.parametrize("seed", range(6))
def test_copies_of_one_cell_are_one_neighbourhood_at_least(seed: int) -> None:
    """All of them may be among those that judge."""
    assert find_neighbourhoods(np.ones((40, 2)), rng=np.random.default_rng(seed)).any(1).all()


def test_outlier_changes_no_neighbourhood_of_the_others(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    found = []
    for far in (1e3, 1e5):
        x = clouds[0].copy()
        x[0] = far
        found.append(find_neighbourhoods(x, rng=np.random.default_rng(0)))
    np.testing.assert_array_equal(found[0][1:], found[1][1:])
