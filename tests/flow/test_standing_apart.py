"""Components that change far more than the others: found where there is one, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow._weight_effects import Known


def levels_of(effects: np.ndarray, *, precision: float = 50.0) -> Known:
    """Effects ``(n_levels, m)`` known to 1 / precision, each by itself."""
    return Known(precision * np.eye(effects.shape[1])[None].repeat(len(effects), 0), precision * effects, len(effects))


def test_large_effect_among_small_ones_stands_apart() -> None:
    effects = 0.1 * np.random.default_rng(0).standard_normal((2, 30))
    effects[:, 4] = [2.0, -2.0]
    apart = levels_of(effects).standing_apart(np.eye(30)[None])
    assert np.flatnonzero(apart).tolist() == [4]
    assert 1 < apart[4] < 10


@pytest.mark.parametrize("size", [0.0, 0.3, 2.0])
def test_nothing_stands_apart_of_effects_alike(size: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        effects = size * rng.standard_normal((2, 30)) + rng.standard_normal((2, 30)) / np.sqrt(50)
        assert not levels_of(effects).standing_apart(np.eye(30)[None]).any()
