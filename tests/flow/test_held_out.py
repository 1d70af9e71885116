"""Held-out scores: by whom, of which cells, and what support they give."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.flows import small
from scipy.stats import norm

from scratio_sc.flow._baselines import BASELINES
from scratio_sc.flow._calibration import Judged, recalibration
from scratio_sc.flow._held_out import HeldOut, find_support, in_turn, max_judged

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


def test_rare_conditions_are_judged_first(fit: Fit) -> None:
    x, labels = small()
    rare = np.flatnonzero(labels == "b")[:12]
    cells = np.r_[np.flatnonzero(labels == "a"), rare]
    flow, _ = fit(x[cells], labels[cells], judged=30)
    assert np.bincount(flow.held_out.condition).tolist() == [18, 12]
    np.testing.assert_allclose(flow.held_out.kept, [18 / (labels == "a").sum(), 1])


@pytest.mark.parametrize(
    ("n_conditions", "in_closed_form", "n_cells"), [(2, True, 30_000), (100, True, 5_000), (2, False, 3_000)]
)
def test_many_conditions_have_cells_of_their_own(n_conditions: int, n_cells: int, *, in_closed_form: bool) -> None:
    assert max_judged(n_conditions, in_closed_form=in_closed_form) == n_cells


@pytest.mark.parametrize("reference", [[1], [1, 2]])
def test_exact_ratio_is_calibrated_on_cells_drawn_by_condition(reference: list[int]) -> None:
    """Of rare conditions more cells are judged than there are in proportion, alone and in a mixture."""
    rng, n, mean = np.random.default_rng(0), np.array([60_000, 30_000, 6_000]), np.array([0.0, 1.0, 3.0])
    of_all = rng.permutation(np.repeat([0, 1, 2], n))
    condition = of_all[in_turn(of_all)[:20_000]]
    kept = np.bincount(condition) / n
    x = rng.normal(mean[condition])
    parts = norm.logpdf(x[:, None], mean)[..., None]
    frequency = np.tile(np.log(n / n.sum()), (len(x), 1))
    held = HeldOut(parts, condition, frequency, np.zeros((len(x), 3, len(BASELINES))), kept, condition)
    slope, error, intercept = recalibration(Judged.of(held, (np.array([0]), np.array(reference)), parts[..., 0]))
    assert slope == pytest.approx(1, abs=3 * error)
    assert intercept == pytest.approx(0, abs=0.1)
    constant = held.losses(np.zeros(1)).mean()
    assert constant == pytest.approx(-np.sum(np.bincount(condition) / len(x) * np.log(np.bincount(condition) / len(x))))


@pytest.mark.parametrize(("n_large", "due"), [(2_000, 25), (20_000, 3)])
def test_many_small_conditions_beside_a_large_one_give_the_cells_that_are_due(n_large: int, due: int) -> None:
    """Though less than a cell is due of most of them."""
    n = np.array([n_large, *[100] * 10])
    condition = np.repeat(np.arange(11), [50, *[50] * 10])
    kept = np.bincount(condition) / n
    held = HeldOut(np.zeros((550, 11, 1)), condition, np.zeros((550, 11)), np.zeros((550, 11, 2)), kept, condition)
    cells, log_share = held.side(np.arange(11))
    assert np.exp(log_share) == pytest.approx(50 / n_large)
    assert abs(cells[condition > 0].sum() - due) <= 1
    assert cells[condition == 0].all()


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
    baselines = np.zeros((n, 2, len(BASELINES)))
    return HeldOut(
        np.zeros((n, 2, 1)), condition, np.zeros((n, 2)), baselines=baselines, kept=np.ones(2), group=condition
    )


def test_support_lies_below_nearly_all_cells_of_a_condition() -> None:
    rng = np.random.default_rng(0)
    condition, total = np.repeat([0, 1], 500), np.concatenate([rng.normal(0, 1, 500), rng.normal(9, 1, 500)])
    support = find_support(held_out(condition), total)
    assert np.mean(total < support[condition]) < 0.01
    assert support[1] - support[0] == pytest.approx(9.0, abs=1.0)


def test_support_of_a_condition_without_held_out_cells_is_everywhere() -> None:
    assert find_support(held_out(np.zeros(3, int)), np.zeros(3))[1] == -np.inf
