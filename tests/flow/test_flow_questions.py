"""What a flow is asked: covariates, cells far away, samples, and questions that are wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.flows import METHODS, alone, inner_covariances, plain, shifts

from scratio_sc.flow import ConditionalFlow, fit_flow
from scratio_sc.flow._denoising_ratio import N_NODES

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import LogRatio
    from scratio_sc.flow._contrast import SideSpec

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

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


def test_cells_of_a_covariate_named_on_both_sides_judge(donor_flow: ConditionalFlow) -> None:
    weights = np.ones(N_NODES)
    sides = [{"treatment": treatment, "donor": "d1"} for treatment in ("stim", "ctrl")]
    design, held = donor_flow.design, donor_flow.held_out
    of_donor = design.groups[held.group, 1] == design.level("donor", "d1")
    named, every = donor_flow.judge(*sides, weights), donor_flow.judge("stim", "ctrl", weights)
    assert 0 < len(named.ratio) == of_donor.sum() < len(every.ratio)
    assert np.isin(named.ratio, every.ratio).all()


@pytest.mark.parametrize(
    ("target", "reference"),
    [
        ({"treatment": "stim", "donor": "d1"}, {"treatment": "ctrl", "donor": "d2"}),
        ({"treatment": "stim", "donor": ...}, {"treatment": "ctrl", "donor": ...}),
        ({"treatment": "stim", "donor": "d1"}, {"treatment": "ctrl"}),
        ({"treatment": "stim", "donor": "d3"}, {"treatment": "ctrl", "donor": "d3"}),
    ],
)
def test_nobody_judges_what_labels_within_covariates_do_not_tell(
    donor_flow: ConditionalFlow, target: SideSpec, reference: SideSpec
) -> None:
    """Two donors, mixtures of donors, the own donor against another, a donor who was never treated."""
    weights = np.ones(N_NODES)
    assert not len(donor_flow.judge(target, reference, weights).ratio)
    assert all(not len(each.ratio) for each in donor_flow.judge_baselines(target, reference).values())


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


@pytest.mark.parametrize("wrong", [{"fold": np.zeros(4, int)}, {"own": np.array(["stim"] * 5)}])
def test_labels_and_folds_that_do_not_go_with_the_cells_are_an_error(
    flow: ConditionalFlow, cells: np.ndarray, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(wrong))} has shape .*, expected \(5"):
        flow.log_ratio(cells[:5], "stim", "ctrl", **wrong)


def test_method_ode_refuses_mixtures(flow: ConditionalFlow, cells: np.ndarray) -> None:
    with pytest.raises(ValueError, match="use method='denoising' for mixtures"):
        flow.log_ratio(cells, ["stim", "drug"], "ctrl", method="ode")


def test_unknown_method_is_an_error(flow: ConditionalFlow, cells: np.ndarray) -> None:
    with pytest.raises(ValueError, match="odee"):
        flow.log_ratio(cells[:1], "stim", "ctrl", method="odee")
    with pytest.raises(ValueError, match="odee"):
        flow.log_likelihood(cells[:1], "stim", method="odee")
    with pytest.raises(TypeError, match="method=3"):
        flow.log_ratio(cells[:1], "stim", "ctrl", method=3)


@pytest.mark.parametrize("bandwidth", [-1.0, -0.1, float("nan"), "fine"])
def test_bandwidth_that_is_none_is_an_error(flow: ConditionalFlow, cells: np.ndarray, bandwidth: Any) -> None:
    with pytest.raises(ValueError, match="bandwidth"):
        flow.log_ratio(cells[:1], "stim", "ctrl", bandwidth=bandwidth)
