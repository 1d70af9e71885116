"""Whether cells can be those of the fit."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._fit import fit_flow
from scratio_sc.flow._same_cells import may_be_fitted_on

Fitted = tuple[ConditionalFlow, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.gamma(1, size=300), rng.normal(0, 2, 300)])
    flow, fold = fit_flow(x, np.repeat(["a", "b"], 150), n_members=2, max_steps=0, progress=False)
    return flow, x, fold


def test_the_cells_themselves(fitted: Fitted) -> None:
    assert may_be_fitted_on(*fitted)


def test_the_cells_in_another_order(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, x[::-1], fold[::-1])


def test_cells_that_were_not_fitted_do_not_count(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, np.concatenate([x, x + 9]), np.concatenate([fold, np.full(300, -1)]))


def test_some_of_the_cells_say_nothing(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, -x[:200], fold[:200])


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_another_embedding(fitted: Fitted, factor: float) -> None:
    flow, x, fold = fitted
    assert not may_be_fitted_on(flow, factor * x, fold)
