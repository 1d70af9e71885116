"""Log ratios, densities and samples of a flow, and what must not change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.flows import METHODS, alone, anchor_log_densities, exact_ratios, plain, shifts
from scipy.special import logsumexp
from scipy.stats import norm
from scipy.stats import t as student_t

from scratio_sc.flow import ConditionalFlow, _denoising_ratio
from scratio_sc.flow._bandwidth import choose_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

CONTRASTS = [("stim", "ctrl"), ("ctrl", "stim"), ("drug", "stim")]


@pytest.fixture(params=["shared covariance", "own covariances", "mixtures"])
def exact(request: pytest.FixtureRequest, labels: np.ndarray) -> tuple[ConditionalFlow, np.ndarray]:
    """A flow whose networks are silent, of two members, and some cells of each condition."""
    names = {"shared covariance": "", "own covariances": "curved_", "mixtures": "mixed_"}
    name = names[request.param]
    flow, cells = request.getfixturevalue(f"{name or 'anchor_'}flow"), request.getfixturevalue(f"{name}cells")
    for member in flow.members:
        assert bool(member.anchor.own_share) == (request.param == "own covariances")
        assert (len(member.anchor.mean) > 1) == (request.param == "mixtures")
    assert len(cells) == len(labels)
    return alone(flow, 0, 1), cells[::30]


# --- the truth where networks are silent


def test_ratio_is_the_difference_of_scores(exact: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = exact
    ratio = plain(flow, x, "stim", "ctrl")
    for batch in flow.scores(x, ["stim", "ctrl"]):
        np.testing.assert_allclose(batch.value[:, 0] - batch.value[:, 1], ratio[batch.cells], atol=1e-12)


def test_empty_side_is_the_own_combination(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray, donor_labels: np.ndarray
) -> None:
    cells = np.arange(0, len(donor_cells), 10)
    x, own = donor_cells[cells], donor_labels[cells]
    condition, donor = donor_flow.design.columns
    seen = np.zeros(len(x), int)
    for batch in donor_flow.scores(x, [{}], own=own):
        label = own[batch.cells[0]]
        (named,) = donor_flow.scores(x[batch.cells], [{condition: label[0], donor: label[1]}])
        np.testing.assert_array_equal(batch.value, named.value)
        seen[batch.cells] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("target", "reference"), CONTRASTS)
def test_ratio_of_silent_members_is_exact(
    exact: tuple[ConditionalFlow, np.ndarray], method: str, target: str, reference: str
) -> None:
    flow, x = exact
    expected = exact_ratios(flow, x, target, reference).mean(0)
    assert np.ptp(expected) > 2
    np.testing.assert_allclose(plain(flow, x, target, reference, method=method), expected, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_log_likelihood_of_silent_members_is_exact(exact: tuple[ConditionalFlow, np.ndarray], method: str) -> None:
    flow, x = exact
    expected = anchor_log_densities(flow, x, "drug").mean(0)
    np.testing.assert_allclose(flow.log_likelihood(x, "drug", method=method), expected, atol=1e-3)


def test_methods_agree_on_silent_members(exact: tuple[ConditionalFlow, np.ndarray]) -> None:
    flow, x = exact
    first, second = (plain(flow, x, "stim", "ctrl", method=method) for method in METHODS)
    np.testing.assert_allclose(first, second, atol=1e-3)


def test_log_likelihood_of_a_mixture_is_that_of_the_mixture(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray
) -> None:
    one, x = alone(donor_flow, 0), donor_cells[::10]
    parts = [one.log_likelihood(x, {"treatment": level, "donor": "d1"}) for level in ("ctrl", "stim")]
    mixture = one.log_likelihood(x, {"treatment": ["ctrl", "stim"], "donor": "d1"})
    np.testing.assert_allclose(mixture, logsumexp(np.add(np.log([[0.75], [0.25]]), parts), axis=0), atol=1e-6)


def test_trained_flow_finds_a_gaussian_shift(fit: Fit) -> None:
    shift, n = np.array([2.0, 0.0, 1.0]), 300
    x, labels = np.random.default_rng(0).standard_normal((2 * n, 3)), np.repeat(["a", "b"], n)
    x[n:] += shift
    flow, _ = fit(x, labels, max_steps=20, n_members=2)
    truth, found = x[::3] @ shift - shift @ shift / 2, plain(flow, x[::3], "b", "a")
    assert np.corrcoef(found, truth)[0, 1] > 0.99
    assert np.mean((found - truth) ** 2) < 0.1 * truth.var()


def test_trained_flow_finds_what_gaussians_cannot_say(
    learned_flow: ConditionalFlow, two_shapes: tuple[np.ndarray, np.ndarray]
) -> None:
    """Between the two bumps of "stim", where its Gaussian is highest, cells are "ctrl"."""
    x, labels = two_shapes[0][::4], two_shapes[1][::4]
    straight = exact_ratios(learned_flow, x, "stim", "ctrl")[0]
    assert np.abs(straight).mean() < 0.5
    found = plain(learned_flow, x, "stim", "ctrl")
    assert found[labels == "stim"].mean() - found[labels == "ctrl"].mean() > 1
    assert plain(learned_flow, np.zeros((1, 2)), "stim", "ctrl") < -1


def test_anchor_finds_what_gaussians_cannot_say(fit: Fit, two_shapes: tuple[np.ndarray, np.ndarray]) -> None:
    """The same without any training, where the bumps of "stim" are components."""
    x, labels = two_shapes[0][::4], two_shapes[1][::4]
    flow, _ = fit(*two_shapes, n_members=2)
    found = plain(flow, x, "stim", "ctrl")
    assert found[labels == "stim"].mean() - found[labels == "ctrl"].mean() > 1
    assert plain(flow, np.zeros((1, 2)), "stim", "ctrl") < -1


def test_held_out_log_loss_of_shifted_conditions_is_below_that_of_their_frequencies(
    anchor_flow: ConditionalFlow,
) -> None:
    judged = anchor_flow.judge("stim", "ctrl", np.ones(_denoising_ratio.N_NODES))
    assert judged.log_loss < 0.8 * judged.prior_log_loss
    assert judged.prior_log_loss == pytest.approx(np.log(2))


# --- the algebra of ratios


@pytest.mark.parametrize("bandwidth", ["auto", 0, 1.5])
@pytest.mark.parametrize(("target", "reference"), [("stim", "ctrl"), (["stim", "drug"], "ctrl")])
def test_ratio_is_antisymmetric(
    flow: ConditionalFlow, cells: np.ndarray, bandwidth: Any, target: Any, reference: Any
) -> None:
    there = flow.log_ratio(cells[::5], target, reference, bandwidth=bandwidth)
    back = flow.log_ratio(cells[::5], reference, target, bandwidth=bandwidth)
    np.testing.assert_array_equal(there.value, -back.value)
    np.testing.assert_array_equal(there.sd, back.sd)
    np.testing.assert_array_equal(there.extrapolated, back.extrapolated)


def test_ratio_is_transitive(flow: ConditionalFlow, cells: np.ndarray) -> None:
    way = plain(flow, cells[::5], "ctrl", "drug") + plain(flow, cells[::5], "drug", "stim")
    np.testing.assert_allclose(plain(flow, cells[::5], "ctrl", "stim"), way, atol=1e-6)


def test_ratio_is_the_difference_of_log_likelihoods(flow: ConditionalFlow, cells: np.ndarray) -> None:
    x = cells[::5]
    expected = flow.log_likelihood(x, "stim") - flow.log_likelihood(x, "ctrl")
    np.testing.assert_allclose(plain(flow, x, "stim", "ctrl"), expected, atol=1e-6)


def test_ratio_of_a_level_to_itself_is_zero(flow: ConditionalFlow, cells: np.ndarray) -> None:
    np.testing.assert_array_equal(flow.log_ratio(cells[:5], "stim", "stim").value, np.zeros(5))


def test_mixture_is_the_sum_of_its_densities_weighted_by_cells(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray
) -> None:
    one, x, reference = alone(donor_flow, 0), donor_cells[::10], {"treatment": "ctrl", "donor": "d3"}
    parts = [plain(one, x, {"treatment": level, "donor": "d1"}, reference) for level in ("ctrl", "stim")]
    mixture = plain(one, x, {"treatment": ["ctrl", "stim"], "donor": "d1"}, reference)
    np.testing.assert_allclose(np.exp(mixture), 0.75 * np.exp(parts[0]) + 0.25 * np.exp(parts[1]), rtol=1e-5)


def test_mixture_of_all_levels_lies_between_them(flow: ConditionalFlow, cells: np.ndarray) -> None:
    levels = flow.design.levels[0]
    to_all = np.stack([plain(flow, cells[::5], level, list(levels)) for level in levels])
    assert np.all(to_all.max(0) >= 0)
    assert np.all(to_all <= np.log(3) + 1e-6)


# --- members


def test_ratio_is_the_average_over_members(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    each = exact_ratios(anchor_flow, cells, "stim", "ctrl")
    np.testing.assert_allclose(plain(anchor_flow, cells, "stim", "ctrl"), each.mean(0), atol=1e-4)


def test_standard_error_is_the_jackknife_over_folds_widened_for_few_folds(
    anchor_flow: ConditionalFlow, cells: np.ndarray
) -> None:
    each = exact_ratios(anchor_flow, cells, "stim", "ctrl")
    n_folds = len(each)
    expected = np.sqrt((n_folds - 1) / n_folds * ((each - each.mean(0)) ** 2).sum(0))
    expected *= student_t(n_folds - 1).ppf(0.95) / norm.ppf(0.95)
    nothing_hidden = {**vars(anchor_flow), "hidden_moves": np.zeros_like(anchor_flow.hidden_moves)}
    sd = ConditionalFlow(**nothing_hidden).log_ratio(cells, "stim", "ctrl", bandwidth=0).sd
    np.testing.assert_allclose(sd, expected, rtol=1e-3, atol=1e-4)


def test_members_that_left_out_the_same_fold_count_as_one(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    twice = alone(anchor_flow, 0, 1, 2, 3, 0)
    expected = anchor_flow.log_ratio(cells[::5], "stim", "ctrl", bandwidth=0).sd
    np.testing.assert_allclose(twice.log_ratio(cells[::5], "stim", "ctrl", bandwidth=0).sd, expected, atol=1e-5)


def test_one_member_knows_no_standard_error(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    assert np.isnan(alone(anchor_flow, 0).log_ratio(cells[:5], "stim", "ctrl").sd).all()


def test_cells_of_the_fit_are_scored_by_the_members_that_have_not_seen_them(
    flow: ConditionalFlow, cells: np.ndarray, fold: np.ndarray
) -> None:
    x, fold = cells[::5], fold[::5]
    found = plain(flow, x, "stim", "ctrl", fold=fold)
    density = flow.log_likelihood(x, "stim", fold=fold)
    for m, own in enumerate(flow.left_out):
        mine, one = fold == own, alone(flow, m)
        np.testing.assert_allclose(found[mine], plain(one, x[mine], "stim", "ctrl"), atol=1e-5)
        np.testing.assert_allclose(density[mine], one.log_likelihood(x[mine], "stim"), atol=1e-5)


def test_cells_of_no_fold_are_scored_by_all_members(flow: ConditionalFlow, cells: np.ndarray) -> None:
    x = cells[::10]
    found = plain(flow, x, "stim", "ctrl", fold=np.full(len(x), -1))
    np.testing.assert_array_equal(found, plain(flow, x, "stim", "ctrl"))


def test_method_ode_keeps_to_unseen_members_too(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    two, x = alone(anchor_flow, 0, 1), cells[:4]
    each = exact_ratios(two, x, "stim", "ctrl")
    for m in range(2):
        fold = np.full(len(x), two.left_out[m])
        np.testing.assert_allclose(plain(two, x, "stim", "ctrl", method="ode", fold=fold), each[m], atol=1e-3)


# --- bandwidth


def test_no_bandwidth_weighs_every_node_by_one(flow: ConditionalFlow) -> None:
    np.testing.assert_array_equal(flow.weights("stim", "ctrl", bandwidth=0), np.ones(_denoising_ratio.N_NODES))


def test_weights_of_a_bandwidth_are_those_of_its_node(flow: ConditionalFlow) -> None:
    weights = flow.weights("stim", "ctrl", bandwidth=float(flow.node_bandwidths[2]))
    np.testing.assert_allclose(weights, np.arange(_denoising_ratio.N_NODES) < 3, atol=1e-9)


def test_node_bandwidths_are_in_the_units_of_the_embedding(fit: Fit) -> None:
    x, labels = shifts()
    one, ten = (fit(s * x, labels, n_members=2)[0].node_bandwidths for s in (1, 10))
    np.testing.assert_allclose(ten, 10 * one)


def test_huge_bandwidth_sees_no_difference(flow: ConditionalFlow, cells: np.ndarray) -> None:
    np.testing.assert_allclose(plain(flow, cells[::5], "stim", "ctrl", bandwidth=1e9), 0, atol=1e-5)


def test_wider_bandwidth_sees_smaller_differences(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    bandwidths = (0, 1, 3, 10, 100)
    spread = [plain(anchor_flow, cells[::5], "stim", "ctrl", bandwidth=h).std() for h in bandwidths]
    assert np.all(np.diff(spread) < 0)


def test_weights_of_three_sides_are_judged_by_cells_of_all(flow: ConditionalFlow) -> None:
    np.testing.assert_array_equal(flow.weights("stim", "ctrl", "drug"), choose_weights(flow.held_out.of(np.arange(3))))


def test_ratio_says_which_weights_it_used(flow: ConditionalFlow, cells: np.ndarray) -> None:
    ratio = flow.log_ratio(cells[:5], "stim", "ctrl")
    np.testing.assert_array_equal(ratio.weights, flow.weights("stim", "ctrl"))
    np.testing.assert_array_equal(plain(flow, cells[:5], "stim", "ctrl", bandwidth="auto"), ratio.value)


def test_method_ode_knows_the_finest_bandwidth_only(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    ratio = anchor_flow.log_ratio(cells[:2], "stim", "ctrl", method="ode")
    np.testing.assert_array_equal(ratio.weights, np.ones(_denoising_ratio.N_NODES))
    with pytest.raises(ValueError, match="needs method='denoising'"):
        anchor_flow.log_ratio(cells[:2], "stim", "ctrl", method="ode", bandwidth=5.0)


# --- devices and progress


def test_flow_on_another_device_gives_the_same_numbers(flow: ConditionalFlow, cells: np.ndarray) -> None:
    np.testing.assert_array_equal(
        plain(flow.to("cpu"), cells[:5], "stim", "ctrl"), plain(flow, cells[:5], "stim", "ctrl")
    )


def test_flow_stays_where_it_is_when_taken_to_another_device(fit: Fit) -> None:
    x, labels = shifts()
    flow, _ = fit(x, labels, n_members=1)
    flow.to("meta")
    assert {p.device for p in flow.members[0].network.parameters()} == {torch.device("cpu")}


def test_progress_bar_counts_the_cells(
    flow: ConditionalFlow, cells: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.log_ratio(cells[:12], "stim", "ctrl", progress=True)
    assert "12/12" in capsys.readouterr().err
    flow.log_likelihood(cells[:12], "stim", progress=True)
    assert "12/12" in capsys.readouterr().err


def test_without_progress_nothing_is_printed(
    flow: ConditionalFlow, cells: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.log_ratio(cells[:12], "stim", "ctrl")
    flow.log_likelihood(cells[:12], "stim")
    assert capsys.readouterr() == ("", "")
