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


def test_cells_in_another_order_than_their_folds(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert not may_be_fitted_on(flow, np.random.default_rng(0).permutation(x), fold)


def test_cells_that_were_not_fitted_do_not_count(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, np.concatenate([x, x + 9]), np.concatenate([fold, np.full(300, -1)]))


def test_some_of_the_cells(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, x[::7], fold[::7])
    assert not may_be_fitted_on(flow, -x[::7], fold[::7])


def test_very_few_cells_say_nothing(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, -x[:4], fold[:4])


def test_cells_are_known_again_in_single_precision(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert may_be_fitted_on(flow, x.astype(np.float32), fold)


def test_other_cells_of_the_same_kind(fitted: Fitted) -> None:
    flow, x, fold = fitted
    rng = np.random.default_rng(1)
    assert not may_be_fitted_on(flow, np.column_stack([rng.permutation(x[:, 0]), rng.permutation(x[:, 1])]), fold)


def test_some_of_very_many_cells_are_kept(fitted: Fitted, monkeypatch: pytest.MonkeyPatch) -> None:
    _, x, fold = fitted
    monkeypatch.setattr("scratio_sc.flow._same_cells.MAX_CELLS", 60)
    flow, fold = fit_flow(x, np.repeat(["a", "b"], 150), n_members=2, max_steps=0, progress=False)
    assert flow.sketch.shape == (60, 4)
    assert may_be_fitted_on(flow, x, fold)
    assert may_be_fitted_on(flow, x[:150], fold[:150])
    assert not may_be_fitted_on(flow, x + 1, fold)


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_another_embedding(fitted: Fitted, factor: float) -> None:
    flow, x, fold = fitted
    assert not may_be_fitted_on(flow, factor * x, fold)


def test_cells_of_which_half_bring_folds_of_another_fit(fitted: Fitted) -> None:
    flow, x, fold = fitted
    assert not may_be_fitted_on(flow, np.concatenate([x, x + 0.5]), np.tile(fold, 2))
