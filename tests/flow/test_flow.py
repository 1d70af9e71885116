"""Log ratios, densities and samples of a flow, and what must not change them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm, ortho_group
from scipy.stats import t as student_t

from scratio_sc.flow import ConditionalFlow, _batches, _components, _denoising_ratio, _ode, fit_flow
from scratio_sc.flow._bandwidth import choose_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import LogRatio
    from scratio_sc.flow._member import Member

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

METHODS = ["denoising", "ode"]
CONTRASTS = [("stim", "ctrl"), ("ctrl", "stim"), ("drug", "stim")]


def anchor_log_densities(flow: ConditionalFlow, x: np.ndarray, level: str) -> np.ndarray:
    """Log densities of the mixtures that the members start from, in the embedding's units, ``(n_members, n)``."""
    c, out = flow.design.levels[0].index(level), []
    for member in flow.members:
        anchor = member.anchor
        weight = np.exp(anchor.log_weight + anchor.weight_effect[c])
        mean = flow.scale * (anchor.center + (anchor.mean + anchor.mean_effect[c]) @ anchor.basis.T)
        covariance = flow.scale**2 * anchor.basis @ inner_covariances(member, c) @ anchor.basis.T
        density = weight[:, None] * [multivariate_normal(*each).pdf(x) for each in zip(mean, covariance, strict=True)]
        mine = [anchor.partition == p for p in range(anchor.n_parts)]
        out.append(np.mean([np.log(density[part].sum(0) / weight[part].sum()) for part in mine], axis=0))
    return np.stack(out)


def inner_covariances(member: Member, c: int) -> np.ndarray:
    """Covariances of the components of a group in a member's coordinates, ``(m, d, d)``."""
    anchor = member.anchor
    variance, rotation = anchor.variance, anchor.rotation
    if anchor.own_share:
        variance, rotation = anchor.own_variance[c], anchor.own_rotation[c]
    return rotation * variance[:, None] @ rotation.transpose(0, 2, 1)


def exact_ratios(flow: ConditionalFlow, x: np.ndarray, target: str, reference: str) -> np.ndarray:
    """Log ratios of these mixtures, ``(n_members, n)``."""
    return anchor_log_densities(flow, x, target) - anchor_log_densities(flow, x, reference)


def alone(flow: ConditionalFlow, *members: int) -> ConditionalFlow:
    """The flow of some of its members."""
    some = {"members": [flow.members[m] for m in members], "left_out": flow.left_out[list(members)]}
    return ConditionalFlow(**{**vars(flow), **some})


def plain(flow: ConditionalFlow, x: np.ndarray, target: Any, reference: Any, **options: Any) -> np.ndarray:
    """Log ratio at the finest bandwidth."""
    return flow.log_ratio(x, target, reference, **{"bandwidth": 0, **options}).value


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
    sd = anchor_flow.log_ratio(cells, "stim", "ctrl", bandwidth=0).sd
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


# --- a cell by itself


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_order_of_cells_does_not_matter(flow: ConditionalFlow, cells: np.ndarray, fold: np.ndarray, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(cells))[:40]
    there = flow.log_ratio(cells[order], "stim", "ctrl", fold=fold[order])
    back = np.argsort(order)
    here = flow.log_ratio(cells[order[back]], "stim", "ctrl", fold=fold[order[back]])
    np.testing.assert_allclose(there.value[back], here.value, atol=1e-5)
    np.testing.assert_allclose(there.sd[back], here.sd, atol=1e-5)


def test_neighbours_of_a_cell_do_not_matter(flow: ConditionalFlow, cells: np.ndarray) -> None:
    together = plain(flow, cells[:8], "stim", "ctrl")
    single = np.concatenate([plain(flow, cells[i : i + 1], "stim", "ctrl") for i in range(8)])
    np.testing.assert_allclose(together, single, atol=1e-5)


@pytest.mark.parametrize(("cells_per_chunk", "rows_per_chunk"), [(7, 8192), (2048, 100), (3, 1)])
def test_chunks_do_not_matter(
    monkeypatch: pytest.MonkeyPatch,
    flow: ConditionalFlow,
    cells: np.ndarray,
    cells_per_chunk: int,
    rows_per_chunk: int,
) -> None:
    x = cells[::15]
    ratio, density = plain(flow, x, "stim", "ctrl"), flow.log_likelihood(x, "stim")
    monkeypatch.setattr(_batches, "CELLS_PER_CHUNK", cells_per_chunk)
    monkeypatch.setattr(_denoising_ratio, "ROWS_PER_CHUNK", rows_per_chunk)
    np.testing.assert_allclose(plain(flow, x, "stim", "ctrl"), ratio, atol=1e-5)
    np.testing.assert_allclose(flow.log_likelihood(x, "stim"), density, atol=1e-5)


def test_neighbours_do_not_matter_to_method_ode(flow: ConditionalFlow, cells: np.ndarray) -> None:
    one = alone(flow, 0)
    together = plain(one, cells[:4], "stim", "ctrl", method="ode")
    single = np.concatenate([plain(one, cells[i : i + 1], "stim", "ctrl", method="ode") for i in range(4)])
    np.testing.assert_allclose(together, single, atol=1e-3)


def test_neighbours_do_not_matter_to_random_probes(
    monkeypatch: pytest.MonkeyPatch, curved_flow: ConditionalFlow, curved_cells: np.ndarray
) -> None:
    monkeypatch.setattr(_ode, "EXACT_DIVERGENCE_DIMS", 2)
    one = alone(curved_flow, 0)
    together = plain(one, curved_cells[:4], "stim", "ctrl", method="ode")
    backwards = plain(one, curved_cells[3::-1], "stim", "ctrl", method="ode")
    np.testing.assert_allclose(together, backwards[::-1], atol=1e-3)


def test_same_call_gives_the_same_numbers(flow: ConditionalFlow, cells: np.ndarray) -> None:
    first, second = (plain(flow, cells[:20], "stim", "ctrl") for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_cells_have_no_ratios(flow: ConditionalFlow) -> None:
    ratio = flow.log_ratio(np.empty((0, 3)), "stim", "ctrl")
    assert ratio.value.shape == ratio.sd.shape == ratio.extrapolated.shape == (0,)


# --- changes of the embedding and of the names


def shifts(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Cells of three conditions, few because every change is fitted again."""
    labels = np.repeat(["a", "b", "c"], n // 3)
    x = np.random.default_rng(0).standard_normal((n, 3)) * [2.0, 1.0, 0.5]
    return x + np.repeat([[0.0, 0, 0], [1, 1, 0], [-1, 0.5, 0.5]], n // 3, axis=0), labels


@pytest.fixture(scope="module")
def shifts_ratio(fit: Fit) -> np.ndarray:
    x, labels = shifts()
    return plain(fit(x, labels, n_members=2)[0], x, "a", "b")


@settings(max_examples=3, deadline=None, derandomize=True)
@given(offset=st.floats(-1000, 1000))
def test_translation_leaves_the_ratio_of_gaussians_alone(fit: Fit, shifts_ratio: np.ndarray, offset: float) -> None:
    x, labels = shifts()
    x = x + offset
    np.testing.assert_allclose(plain(fit(x, labels, n_members=2)[0], x, "a", "b"), shifts_ratio, atol=1e-4)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_rotation_leaves_the_ratio_of_gaussians_alone(fit: Fit, shifts_ratio: np.ndarray, seed: int) -> None:
    x, labels = shifts()
    x = x @ ortho_group(3, seed=seed).rvs()
    np.testing.assert_allclose(plain(fit(x, labels, n_members=2)[0], x, "a", "b"), shifts_ratio, atol=1e-4)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(factor=st.floats(1e-3, 1e3))
def test_scaling_leaves_the_ratio_of_gaussians_alone(fit: Fit, shifts_ratio: np.ndarray, factor: float) -> None:
    x, labels = shifts()
    x = factor * x
    np.testing.assert_allclose(plain(fit(x, labels, n_members=2)[0], x, "a", "b"), shifts_ratio, atol=1e-4)


@pytest.mark.parametrize("change", ["move", "turn", "stretch"])
def test_change_of_the_embedding_leaves_the_ratio_of_mixtures_alone(
    fit: Fit, mixed_cells: np.ndarray, labels: np.ndarray, mixed_flow: ConditionalFlow, change: str
) -> None:
    moved = {
        "move": mixed_cells + 40.0,
        "turn": mixed_cells @ ortho_group(3, seed=1).rvs(),
        "stretch": 30 * mixed_cells,
    }
    x = moved[change]
    found = plain(fit(x, labels, judged=1000)[0], x[::10], "stim", "ctrl")
    np.testing.assert_allclose(found, plain(mixed_flow, mixed_cells[::10], "stim", "ctrl"), atol=1e-3)


def test_scaling_shifts_the_log_likelihood_by_the_change_of_volume(fit: Fit) -> None:
    x, labels = shifts()
    one, ten = (fit(s * x, labels, n_members=2)[0].log_likelihood(s * x, "a") for s in (1, 10))
    np.testing.assert_allclose(ten, one - 3 * np.log(10), atol=1e-4)


def test_scaling_the_embedding_and_the_bandwidth_leaves_the_ratio_alone(fit: Fit) -> None:
    x, labels = shifts()
    one, ten = (plain(fit(s * x, labels, n_members=2)[0], s * x, "a", "b", bandwidth=0.7 * s) for s in (1, 10))
    np.testing.assert_allclose(one, ten, atol=1e-4)


def test_new_names_in_the_same_order_leave_the_ratio_alone(fit: Fit, shifts_ratio: np.ndarray) -> None:
    x, labels = shifts()
    names = {"a": "x/1", "b": "y|2", "c": "z 3"}
    flow, _ = fit(x, np.array([names[label] for label in labels]), n_members=2)
    np.testing.assert_array_equal(plain(flow, x, "x/1", "y|2"), shifts_ratio)


def test_new_names_in_another_order_leave_the_ratio_alone(fit: Fit, shifts_ratio: np.ndarray) -> None:
    x, labels = shifts()
    names = {"a": "2", "b": "3", "c": "1"}
    flow, _ = fit(x, np.array([names[label] for label in labels]), n_members=2)
    np.testing.assert_allclose(plain(flow, x, "2", "3"), shifts_ratio, atol=1e-4)


@pytest.fixture
def trained_ratio(fit: Fit, quick_training: None, monkeypatch: pytest.MonkeyPatch) -> Callable[..., np.ndarray]:
    """Ratios of the two shapes by a flow trained on them, stretched and moved, from an anchor of Gaussians."""
    monkeypatch.setattr(_components, "MAX_COMPONENTS", 1)

    def ratio(x: np.ndarray, labels: np.ndarray, *, factor: float = 1.0, offset: float = 0.0) -> np.ndarray:
        y = factor * x + offset
        flow, _ = fit(y, labels, n_members=1, max_steps=8)
        silent = exact_ratios(flow, y[::20], "stim", "ctrl")[0]
        found = plain(flow, y[::20], "stim", "ctrl")
        assert np.abs(found - silent).max() > 0.01
        return found

    return ratio


def test_scaling_by_a_power_of_two_leaves_the_ratio_of_a_trained_flow_alone(
    trained_ratio: Callable[..., np.ndarray], two_shapes: tuple[np.ndarray, np.ndarray]
) -> None:
    found = trained_ratio(*two_shapes, factor=8.0)
    np.testing.assert_allclose(found, trained_ratio(*two_shapes), atol=1e-5)


def test_translation_leaves_the_ratio_of_a_trained_flow_alone(
    trained_ratio: Callable[..., np.ndarray], two_shapes: tuple[np.ndarray, np.ndarray]
) -> None:
    found = trained_ratio(*two_shapes, offset=32.0)
    np.testing.assert_allclose(found, trained_ratio(*two_shapes), atol=1e-3)


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
    ratio = anchor_flow.log_ratio(cells[:2], "stim", "ctrl", method="ode", bandwidth=5.0)
    np.testing.assert_array_equal(ratio.weights, np.ones(_denoising_ratio.N_NODES))


# --- covariates


def own_and_named(flow: ConditionalFlow, x: np.ndarray, labels: np.ndarray, donor: str) -> tuple[LogRatio, LogRatio]:
    own = flow.log_ratio(x, "stim", "ctrl", own=labels, bandwidth=0)
    sides = ({"treatment": level, "donor": donor} for level in ("stim", "ctrl"))
    return own, flow.log_ratio(x, *sides, bandwidth=0)


@pytest.mark.parametrize("donor", ["d1", "d2", "d3"])
def test_covariates_not_named_are_the_cells_own(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray, donor_labels: np.ndarray, donor: str
) -> None:
    own, named = own_and_named(donor_flow, donor_cells[::5], donor_labels[::5], donor)
    mine = donor_labels[::5, 1] == donor
    np.testing.assert_allclose(own.value[mine], named.value[mine], atol=1e-5)
    # a donor that is named is judged by its own cells alone
    assert named.extrapolated[mine & own.extrapolated].all()
    assert np.abs(own.value[~mine] - named.value[~mine]).min() > 1e-4


def test_named_condition_makes_the_own_one_irrelevant(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray, donor_labels: np.ndarray
) -> None:
    other = donor_labels.copy()
    other[:, 0] = "never heard of"
    first, second = (plain(donor_flow, donor_cells[::5], "stim", "ctrl", own=own[::5]) for own in (donor_labels, other))
    np.testing.assert_array_equal(first, second)


def test_combination_never_observed_is_finite_and_extrapolated(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray, donor_labels: np.ndarray
) -> None:
    ratio = donor_flow.log_ratio(donor_cells, "stim", "ctrl", own=donor_labels)
    never = donor_labels[:, 1] == "d3"
    assert np.isfinite(ratio.value).all()
    assert ratio.extrapolated[never].all()
    between = (donor_cells[:, 0] > 0) & (donor_cells[:, 0] < 2)  # where both treatments have cells
    assert not ratio.extrapolated[between & ~never].any()


def test_combination_never_observed_has_the_effect_its_columns_predict(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray, donor_labels: np.ndarray
) -> None:
    """The treatment moves all cells by 2 along the first axis, so the ratio grows by 2 there."""
    mine = donor_labels[:, 1] == "d3"
    ratio = plain(donor_flow, donor_cells[mine], "stim", "ctrl", own=donor_labels[mine])
    assert np.polyfit(donor_cells[mine, 0], ratio, 1)[0] == pytest.approx(2.0, abs=0.5)


def test_covariates_can_be_compared_themselves(donor_flow: ConditionalFlow, donor_cells: np.ndarray) -> None:
    sides = ({"treatment": "ctrl", "donor": donor} for donor in ("d3", "d1"))
    ratio = plain(donor_flow, donor_cells, *sides)
    assert np.corrcoef(ratio, donor_cells[:, 1])[0, 1] > 0.95


def test_own_levels_are_asked_for_by_name(donor_flow: ConditionalFlow, donor_cells: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Name a level of 'donor' too, or pass .* `own`"):
        donor_flow.log_ratio(donor_cells, "stim", "ctrl")


def test_cells_whose_needed_level_is_unknown_have_no_ratio(
    donor_flow: ConditionalFlow, donor_cells: np.ndarray, donor_labels: np.ndarray
) -> None:
    own = donor_labels[:6].copy()
    own[2, 1] = "d9"
    ratio = donor_flow.log_ratio(donor_cells[:6], "stim", "ctrl", own=own)
    np.testing.assert_array_equal(np.isnan(ratio.value), np.arange(6) == 2)


# --- cells far away


def test_typical_cells_are_not_extrapolated(
    flow: ConditionalFlow, anchor_flow: ConditionalFlow, cells: np.ndarray, fold: np.ndarray
) -> None:
    for either in (flow, anchor_flow):
        assert either.log_ratio(cells[::3], "drug", "ctrl", fold=fold[::3]).extrapolated.mean() < 0.1


def test_cell_far_from_all_is_extrapolated(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    ratio = anchor_flow.log_ratio(np.stack([cells.mean(0), 1000 + cells.mean(0)]), "stim", "ctrl")
    assert ratio.extrapolated.tolist() == [False, True]


def test_both_methods_agree_on_what_is_extrapolated(anchor_flow: ConditionalFlow, cells: np.ndarray) -> None:
    x = np.vstack([cells[:3], np.full((1, 3), 50.0)])
    denoising, ode = (anchor_flow.log_ratio(x, "stim", "ctrl", method=method).extrapolated for method in METHODS)
    np.testing.assert_array_equal(ode, denoising)
    assert ode[-1]


def test_cells_of_a_type_that_one_side_lacks_are_extrapolated(fit: Fit) -> None:
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((800, 2)), np.repeat(["a", "b"], 400)
    third = np.r_[np.zeros(600, bool), np.ones(200, bool)]
    x[third] += 12.0
    x[np.r_[:200, 400:500], 0] -= 12.0
    flow, _ = fit(x, labels, n_members=2)
    ratio = flow.log_ratio(x, "b", "a", bandwidth=0)
    assert ratio.extrapolated[third].all()
    assert ratio.extrapolated[~third].mean() < 0.05


def test_cells_are_extrapolated_where_fewer_than_three_of_a_side_are_to_be_expected() -> None:
    """Two clouds of one component, 3 standard deviations apart: n_a p_a / (n_a p_a + n_b p_b) of all cells are a."""
    x, labels = np.random.default_rng(0).standard_normal((400, 2)), np.repeat(["a", "b"], [300, 100])
    x[:, 0] += 3.0 * (labels == "b")
    flow, fold = fit_flow(x, labels, n_members=4, max_steps=0)
    share = 1 / (1 + 3 * np.exp(-(3.0 * x[:, 0] - 4.5)))
    expected = 400 * np.minimum(share, 1 - share)
    far = flow.log_ratio(x, "b", "a", fold=fold).extrapolated
    assert far[expected < 1].all()
    assert not far[expected > 9].any()


def test_what_is_extrapolated_does_not_hang_on_the_seed() -> None:
    """Arcs, which Gaussians cut up in another way in every fit, side by side at one end and apart at the other."""
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 400)
    angle = rng.uniform(0, np.pi, 800)
    radius = 10 + 0.5 * rng.standard_normal(800) + np.where(labels == "b", angle, 0)
    x = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    far = []
    for seed in range(3):
        flow, fold = fit_flow(x, labels, rng=seed, n_members=4, max_steps=0)
        far.append(flow.log_ratio(x, "a", "b", fold=fold).extrapolated)
    assert 0.2 < np.mean(far) < 0.8
    assert (np.any(far, axis=0) & ~np.all(far, axis=0)).mean() < 0.15


def test_disjoint_clouds_are_told_apart_and_extrapolated(fit: Fit) -> None:
    """Cells of one cloud are far from the other: the sign of the ratio is certain, its size is not."""
    x, labels = np.random.default_rng(0).standard_normal((200, 2)), np.repeat(["a", "b"], 100)
    x[:, 0] += 30.0 * (labels == "b")
    flow, _ = fit(x, labels, n_members=2)
    ratio = flow.log_ratio(x, "b", "a", bandwidth=0)
    assert np.isfinite(ratio.value).all()
    np.testing.assert_array_equal(ratio.value > 0, labels == "b")
    assert np.abs(ratio.value).min() > 20
    assert ratio.extrapolated.all()


# --- samples


def test_samples_of_gaussians_have_their_mean_and_covariance(anchor_flow: ConditionalFlow) -> None:
    n, member = 2000, anchor_flow.members[0]
    x = alone(anchor_flow, 0).sample(n, "stim")
    c = anchor_flow.design.levels[0].index("stim")
    scale, basis, anchor = anchor_flow.scale, member.anchor.basis, member.anchor
    covariance = scale**2 * basis @ inner_covariances(member, c)[0] @ basis.T
    error = np.sqrt(np.diag(covariance) / n)
    mean = scale * (anchor.center + basis @ (anchor.mean + anchor.mean_effect[c])[0])
    assert np.abs((x.mean(0) - mean) / error).max() < 4
    np.testing.assert_allclose(np.cov(x.T), covariance, atol=4 * np.sqrt(2 / n) * covariance.max())


def test_samples_of_mixtures_have_the_shares_of_their_components(mixed_flow: ConditionalFlow) -> None:
    n = 500
    x = alone(mixed_flow, 0).sample(n, "stim")
    share = (np.linalg.norm(x - [0.0, 6, 0], axis=1) < 3).mean()
    assert share == pytest.approx(0.8, abs=0.1)


def test_samples_come_from_all_members(curved_flow: ConditionalFlow) -> None:
    """Moved far apart, every member is seen in the cloud."""
    moved = []
    for m, member in enumerate(curved_flow.members):
        anchor = type(member.anchor)(**{**vars(member.anchor), "center": member.anchor.center + 100.0 * m})
        moved.append(type(member)(anchor, member.network, member.device))
    x = ConditionalFlow(**{**vars(curved_flow), "members": moved}).sample(20, "ctrl")
    found = np.round(x[:, 0] / (100.0 * curved_flow.scale)).astype(int)
    assert np.bincount(found).tolist() == [5, 5, 5, 5]


def test_samples_of_a_mixture_are_shared_out_by_cells(donor_flow: ConditionalFlow) -> None:
    x = donor_flow.sample(600, {"treatment": "ctrl", "donor": ["d1", "d3"]})
    assert (x[:, 1] < 0).mean() == pytest.approx(90 / 150, abs=0.1)


def test_samples_have_own_covariates_where_none_is_named(donor_flow: ConditionalFlow) -> None:
    x = donor_flow.sample(200, "ctrl", own=np.array(["stim", "d3"]))
    assert x.mean(0) == pytest.approx([0.0, 2.0], abs=0.5)


def test_same_seed_draws_the_same_samples(anchor_flow: ConditionalFlow) -> None:
    first, second = (anchor_flow.sample(8, "stim", rng=1) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_draws_other_samples(anchor_flow: ConditionalFlow) -> None:
    first, second = (anchor_flow.sample(8, "stim", rng=rng) for rng in (1, 2))
    assert not np.isclose(first, second).any()


def test_no_samples_are_none(anchor_flow: ConditionalFlow) -> None:
    assert anchor_flow.sample(0, "stim").shape == (0, 3)


def test_samples_without_own_covariates_ask_for_them(donor_flow: ConditionalFlow) -> None:
    with pytest.raises(ValueError, match="Name a level of 'donor' too"):
        donor_flow.sample(3, "ctrl")


# --- wrong questions


def test_samples_of_unknown_covariates_are_an_error(donor_flow: ConditionalFlow) -> None:
    with pytest.raises(KeyError, match="'d9' is not a level of 'donor'"):
        donor_flow.sample(3, "ctrl", own=np.array(["stim", "d9"]))


def test_samples_beyond_the_numbers_of_the_fit_are_an_error(fit: Fit) -> None:
    x, labels = shifts()
    age = np.linspace(20, 60, len(x)).astype(str)
    flow, _ = fit(x, np.column_stack([labels, age]), columns=("c", "age"), n_condition_columns=1, numeric=("age",))
    with pytest.raises(ValueError, match=r"beyond the fit of 'age'.*numbers from 20 to 60"):
        flow.sample(3, labels[0], own=np.array([labels[0], "90"]))


def test_unknown_level_is_an_error_with_a_suggestion(flow: ConditionalFlow, cells: np.ndarray) -> None:
    with pytest.raises(KeyError, match=r"'stimm' is not a level of 'condition'.*'ctrl', 'drug', 'stim'.*mean 'stim'"):
        flow.log_ratio(cells, "stimm", "ctrl")


@pytest.mark.parametrize("shape", [(5, 2), (5, 4), (3,)])
def test_cells_of_other_dimensions_are_an_error(flow: ConditionalFlow, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"cells have shape \(.*\), but the flow was fitted on 3 dimensions"):
        flow.log_ratio(np.zeros(shape), "stim", "ctrl")


def test_method_ode_refuses_mixtures(flow: ConditionalFlow, cells: np.ndarray) -> None:
    with pytest.raises(ValueError, match="use method='denoising' for mixtures"):
        flow.log_ratio(cells, ["stim", "drug"], "ctrl", method="ode")


def test_unknown_method_is_an_error(flow: ConditionalFlow, cells: np.ndarray) -> None:
    with pytest.raises(ValueError, match="odee"):
        flow.log_ratio(cells[:1], "stim", "ctrl", method="odee")
    with pytest.raises(ValueError, match="odee"):
        flow.log_likelihood(cells[:1], "stim", method="odee")


@pytest.mark.parametrize("bandwidth", [-1.0, -0.1, float("nan"), "fine"])
def test_bandwidth_that_is_none_is_an_error(flow: ConditionalFlow, cells: np.ndarray, bandwidth: Any) -> None:
    with pytest.raises(ValueError, match="bandwidth"):
        flow.log_ratio(cells[:1], "stim", "ctrl", bandwidth=bandwidth)


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
