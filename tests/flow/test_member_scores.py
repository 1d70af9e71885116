"""Densities of several sides by each member."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow import fit_flow
from scratio_sc.flow._member_scores import member_scores, observed


@pytest.fixture(scope="module")
def fitted() -> tuple:
    """Flow of two conditions and two donors, one combination missing, with its cells, labels and folds."""
    rng = np.random.default_rng(0)
    labels = np.array([["ctrl", "d1"], ["stim", "d1"], ["ctrl", "d2"], ["both", "d1"]])[np.arange(160) % 4]
    x = rng.standard_normal((160, 2)) + (labels[:, :1] == "stim")
    flow, fold = fit_flow(x, labels, columns=["condition", "donor"], n_condition_columns=1, max_steps=0, n_members=2)
    return flow, x, labels, fold


def test_difference_of_two_sides_is_the_log_ratio(fitted: tuple) -> None:
    flow, x, labels, fold = fitted
    weights = flow.weights("stim", "ctrl")
    scores = member_scores(flow, x, ["stim", "ctrl"], own=labels, fold=fold, weights=weights)
    ratio = flow.log_ratio(x, "stim", "ctrl", own=labels, fold=fold)
    np.testing.assert_allclose(scores.value[:, 0] - scores.value[:, 1], ratio.value, atol=1e-9)
    np.testing.assert_array_equal(scores.far.any(1), ratio.extrapolated)


def test_cells_without_their_own_label_have_no_score(fitted: tuple) -> None:
    flow, x, labels, _ = fitted
    strange = labels.copy()
    strange[:3, 1] = "d9"
    scores = member_scores(
        flow, x, ["stim", "ctrl"], own=strange, fold=None, weights=np.ones(len(flow.node_bandwidths))
    )
    assert np.isnan(scores.value[:3]).all()
    assert np.isfinite(scores.value[3:]).all()


def test_covariates_seen_on_one_side_only_are_not_observed(fitted: tuple) -> None:
    flow, x, labels, _ = fitted
    np.testing.assert_array_equal(observed(flow, len(x), ["stim", "ctrl"], own=labels), labels[:, 1] == "d1")
