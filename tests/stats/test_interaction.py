"""Sums of means with signs, on Gaussians whose interaction is known."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.stats._divergence import Ratios
from scratio_sc.stats._interaction import SIGNS, weighted_means

FOLDS = np.array([0, 1])
N = 2_000


def gaussians(means: dict[str, np.ndarray]) -> tuple[Ratios, dict[str, np.ndarray]]:
    """Exact interaction of unit Gaussians in cells of all four."""
    centre = np.array([means[name] for name in SIGNS])
    x = np.repeat(centre, N, axis=0) + np.random.default_rng(0).standard_normal((len(SIGNS) * N, 2))
    log_density = -0.5 * ((x[:, None] - centre) ** 2).sum(2)
    value = log_density @ np.array([*SIGNS.values()])
    cells = {name: np.arange(k * N, (k + 1) * N) for k, name in enumerate(SIGNS)}
    return Ratios(value, np.stack([value, value]), value[None]), cells


def four(u: tuple[float, float], v: tuple[float, float], w: tuple[float, float]) -> dict[str, np.ndarray]:
    return {"combination": np.array(w), "reference": np.zeros(2), "a": np.array(u), "b": np.array(v)}


@pytest.mark.parametrize(("u", "v"), [((1, 0), (0, 2)), ((1, 0), (1, 1)), ((1, 1), (-1, 0.5))])
def test_additive_means_interact_by_a_constant_that_is_their_angle(
    u: tuple[float, float], v: tuple[float, float]
) -> None:
    score, cells = gaussians(four(u, v, tuple(np.add(u, v))))
    value, _ = weighted_means(score, cells, {"combination": 1.0}, left_out=FOLDS)
    assert value == pytest.approx(-np.dot(u, v), abs=1e-9)
    assert weighted_means(score, cells, SIGNS, left_out=FOLDS)[0] == pytest.approx(0, abs=1e-9)


def test_non_additivity_is_the_squared_distance_from_the_sum() -> None:
    u, v, w = (1.0, 0.0), (1.0, 1.0), (1.0, 2.5)
    score, cells = gaussians(four(u, v, w))
    value, se = weighted_means(score, cells, SIGNS, left_out=FOLDS)
    excess = np.subtract(w, np.add(u, v))
    assert value == pytest.approx(excess @ excess, abs=4 * se)
    assert se == pytest.approx(np.sqrt(4 * excess @ excess / N), rel=0.1)


def test_members_that_differ_widen_the_standard_error() -> None:
    score, cells = gaussians(four((1.0, 0.0), (1.0, 1.0), (1.0, 2.5)))
    apart = Ratios(score.value, np.stack([score.value - 1, score.value + 1]), score.by_partition)
    found = [weighted_means(s, cells, {"combination": 1.0}, left_out=FOLDS)[1] for s in (score, apart)]
    assert found[1] > 1 > 10 * found[0]


def test_partitions_that_differ_widen_the_standard_error() -> None:
    score, cells = gaussians(four((1.0, 0.0), (1.0, 1.0), (1.0, 2.5)))
    apart = Ratios(score.value, score.by_member, np.stack([score.value - 1, score.value + 1]))
    found = [weighted_means(s, cells, {"combination": 1.0}, left_out=FOLDS)[1] for s in (score, apart)]
    assert found[1] == pytest.approx(np.hypot(found[0], np.sqrt(2)))
