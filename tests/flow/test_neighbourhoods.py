"""Neighbourhoods found without labels."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow._neighbourhoods import MIN_CELLS, find_neighbourhoods


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


def test_scale_and_place_do_not_matter(clouds: tuple[np.ndarray, np.ndarray]) -> None:
    near, far = (find_neighbourhoods(z, rng=np.random.default_rng(1)) for z in (clouds[0], 50 * clouds[0] + 1000))
    np.testing.assert_array_equal(near, far)
