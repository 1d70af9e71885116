"""Held-out scores: by whom, of which cells, and what support they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.flows import small

from scratio_sc.flow._bandwidth import BASELINES, HeldOut
from scratio_sc.flow._fit import find_support

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import ConditionalFlow

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]


def test_held_out_scores_are_by_the_members_that_have_not_seen_the_cells(
    flow: ConditionalFlow, cells: np.ndarray, fold: np.ndarray
) -> None:
    """Held-out cells come in an order of their own, so their totals are compared sorted."""
    density = flow.log_likelihood(cells, "drug", fold=fold) + flow.n_dims * np.log(flow.scale)
    np.testing.assert_allclose(np.sort(flow.held_out.parts[:, 1].sum(1)), np.sort(density), atol=1e-3)


def test_held_out_scores_by_all_members_would_be_others(flow: ConditionalFlow, cells: np.ndarray) -> None:
    density = flow.log_likelihood(cells, "ctrl") + flow.n_dims * np.log(flow.scale)
    assert np.abs(np.sort(flow.held_out.parts[:, 0].sum(1)) - np.sort(density)).max() > 0.01


def test_held_out_conditions_are_those_of_the_cells(flow: ConditionalFlow, fit: Fit) -> None:
    assert np.bincount(flow.held_out.condition).tolist() == flow.design.sizes.tolist()
    x, labels = small()
    far, _ = fit(x + 100.0 * (labels == "b")[:, None], labels)
    joint = far.held_out.parts.sum(2)
    np.testing.assert_array_equal(joint.argmax(1), far.held_out.condition)


def test_cells_of_a_fold_that_nobody_left_out_are_not_held_out(fit: Fit) -> None:
    flow, fold = fit(*small(), n_members=1, judged=1000)
    assert len(flow.held_out.parts) == np.isin(fold, flow.left_out).sum()


def test_held_out_cells_are_limited(fit: Fit) -> None:
    flow, _ = fit(*small(), judged=20)
    assert flow.held_out.parts.shape[:2] == (20, 2)


def test_prior_is_the_frequency_of_conditions_among_equal_covariates(
    donor_flow: ConditionalFlow, donor_labels: np.ndarray
) -> None:
    share = {"d1": 0.25, "d2": 0.5, "d3": 0.0}
    expected = [share[donor] for donor in donor_labels[:, 1]]
    prior = np.exp(donor_flow.held_out.log_prior)
    np.testing.assert_allclose(np.sort(prior[:, 1]), np.sort(expected), atol=1e-6)
    np.testing.assert_allclose(prior.sum(1), 1, atol=1e-6)


def held_out(condition: np.ndarray) -> HeldOut:
    n = len(condition)
    return HeldOut(np.zeros((n, 2, 1)), condition, np.zeros((n, 2)), baselines=np.zeros((n, 2, len(BASELINES))))


def test_support_lies_below_nearly_all_cells_of_a_condition() -> None:
    rng = np.random.default_rng(0)
    condition, total = np.repeat([0, 1], 500), np.concatenate([rng.normal(0, 1, 500), rng.normal(9, 1, 500)])
    support = find_support(held_out(condition), total)
    assert np.mean(total < support[condition]) < 0.01
    assert support[1] - support[0] == pytest.approx(9.0, abs=1.0)


def test_support_of_a_condition_without_held_out_cells_is_everywhere() -> None:
    assert find_support(held_out(np.zeros(3, int)), np.zeros(3))[1] == -np.inf
