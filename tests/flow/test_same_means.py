"""Which levels share their mean: the closest ones, as far as chance explains what they are apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scratio_sc.flow import _same_means
from scratio_sc.flow._same_means import MIN_CELLS, choice, gate, price, same_means


def drawn(seed: int, n_levels: int, m: int, *, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Whitened means ``(n_levels, m, 2)`` of few and many cells ``(n_levels, m)`` around one of three places."""
    rng = np.random.default_rng(seed)
    n = rng.choice([1.0, 2.0, 20.0, 50.0], (n_levels, m))
    place = rng.integers(3, size=(n_levels, 1, 1))
    return rng.standard_normal((n_levels, m, 2)) / np.sqrt(n)[..., None] + apart * place, n


def sets_by_looking_at_all_pairs(z: np.ndarray, n: np.ndarray, weight: np.ndarray) -> list[list[int]]:
    """Sets of levels, each from its cells alone: the closest two first, as long as any may be united."""
    sets, most = [[i] for i in range(len(z))], gate(z.shape[2], weight)
    while True:
        pairs = {}
        for i, a in enumerate(sets):
            for j, b in enumerate(sets[:i]):
                (n_a, mean_a), (n_b, mean_b) = ((n[s].sum(0), (n[s][..., None] * z[s]).sum(0)) for s in (a, b))
                square = ((mean_a / n_a[:, None] - mean_b / n_b[:, None]) ** 2).sum(1)
                far = weight @ (n_a * n_b / (n_a + n_b) * square) - choice(len(a), np.array(len(b)))
                if far <= most or min(weight @ n_a, weight @ n_b) < MIN_CELLS:
                    pairs[i, j] = far
        if not pairs:
            return sets
        i, j = min(pairs, key=lambda pair: pairs[pair])
        sets[j] += sets.pop(i)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    n_levels=st.integers(1, 15),
    m=st.integers(1, 3),
    apart=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_sets_are_those_of_a_search_of_all_pairs(seed: int, n_levels: int, m: int, apart: float) -> None:
    z, n = drawn(seed, n_levels, m, apart=apart)
    alike = np.eye(m) + 0.5 * (1 - np.eye(m))
    for found, weight in zip(same_means(z, n, alike=alike).T, alike, strict=True):
        expected = sets_by_looking_at_all_pairs(z, n, weight)
        own = [np.flatnonzero(found == found[levels[0]]).tolist() for levels in expected]
        assert own == [sorted(levels) for levels in expected]


def test_sets_are_named_by_one_of_their_levels() -> None:
    z, n = drawn(0, 12, 4, apart=2.0)
    sets = same_means(z, n, alike=np.eye(4))
    np.testing.assert_array_equal(np.take_along_axis(sets, sets, 0), sets)


def test_components_seen_at_once_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    z, n = drawn(0, 12, 7, apart=1.0)
    alike = np.exp(-np.abs(np.subtract.outer(np.arange(7), np.arange(7))))
    expected = same_means(z, n, alike=alike)
    monkeypatch.setattr(_same_means, "MAX_ELEMENTS", 3 * 7 * 12**2)
    np.testing.assert_array_equal(same_means(z, n, alike=alike), expected)


def test_components_that_move_apart_have_no_say() -> None:
    """All but the first tell the levels apart."""
    z, n = np.zeros((2, 3, 2)), np.full((2, 3), 100.0)
    z[1, 1:] = 9
    sets = same_means(z, n, alike=np.eye(3))
    np.testing.assert_array_equal(sets[0] == sets[1], [True, False, False])


def test_price_is_that_of_one_set_after_the_other() -> None:
    sets = np.array([[0, 0], [0, 0], [2, 0], [0, 0], [4, 0]])
    one_by_one = gate(3) + choice(3.0, np.array(1)) + gate(3) + choice(4.0, np.array(1))
    assert price(sets, 3) == pytest.approx(one_by_one)


def test_of_many_levels_each_stands_apart_from_all_or_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_same_means, "MAX_LEVELS", 11)
    n = np.full((12, 2), 100.0)
    z = np.random.default_rng(0).standard_normal((12, 2, 2)) / 10
    z[[0, 7], 0] += 3
    n[3], z[3] = 1, 9  # too few to tell
    sets = same_means(z, n, alike=np.eye(2))
    np.testing.assert_array_equal(sets[:, 0], [0, 1, 1, 1, 1, 1, 1, 7, 1, 1, 1, 1])
    assert len(np.unique(sets[:, 1])) == 1
