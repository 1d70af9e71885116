"""Whether cells bear out that one model is better than another."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow._gain import is_clear

GAIN = np.array([0.0, 2.0, 0.0, 2.0])
"""Mean 1, standard error of the mean sqrt(1 / 3)."""


@pytest.mark.parametrize(("n_errors", "clear"), [(1.0, True), (1.73, True), (1.74, False)])
def test_gain_is_clear_beyond_so_many_standard_errors(n_errors: float, *, clear: bool) -> None:
    assert is_clear(GAIN, n_errors=n_errors) == clear


@pytest.mark.parametrize(("least", "clear"), [(0.99, True), (1.0, False)])
def test_gain_is_clear_beyond_the_least_asked_for(least: float, *, clear: bool) -> None:
    assert is_clear(GAIN, least=least) == clear


def test_loss_that_is_certain_is_no_gain() -> None:
    assert not is_clear(np.full(100, -1.0))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_cells_bear_out_nothing(n: int) -> None:
    assert not is_clear(np.ones(n))
