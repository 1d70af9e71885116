"""Flows of columns of numbers: what a number does, and ratios at any number against the exact ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.special import expit

from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._design import Design
from scratio_sc.flow._shrinkage import mean_effects, shrink_trend
from scratio_sc.flow._storage import from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

DOSES = np.array([0.0, 1.0, 3.0, 10.0])


# --- effects


def test_slope_that_chance_explains_is_none() -> None:
    slope, cost = shrink_trend(np.array([[[0.1, 0.1]]]), np.array([[10.0]]), whiten=np.eye(2)[None], alike=np.eye(1))
    assert not slope.any()
    assert cost == pytest.approx(0.2)


def test_slope_of_many_cells_stays() -> None:
    slope, _ = shrink_trend(np.array([[[0.5, 0.1]]]), np.array([[1e5]]), whiten=np.eye(2)[None], alike=np.eye(1))
    np.testing.assert_allclose(slope, [[[0.5, 0.1]]], rtol=1e-3)


def test_straight_line_in_the_means_is_found() -> None:
    design, _ = Design.of(np.repeat(DOSES, 50).astype(str)[:, None], ("dose",), 1, numeric=("dose",))
    shift = (0.3 * (DOSES - DOSES.mean()))[:, None, None]
    effects = mean_effects(shift, np.full((4, 1), 5e4), design, precision=np.eye(1)[None], alike=np.eye(1))
    found = np.einsum("gf,fmd->gmd", design.features(np.array([[0.0], [5.0], [20.0]])), effects)
    np.testing.assert_allclose(found[:, 0, 0], 0.3 * (np.array([0, 5, 20]) - DOSES.mean()), atol=0.01)


# --- exact truths


SLOPE = np.array([0.2, -0.1, 0.0])


def gaussian_ratio(x: np.ndarray, a: float, b: float) -> np.ndarray:
    ratio: np.ndarray = x @ SLOPE * (a - b) - SLOPE @ SLOPE * (a**2 - b**2) / 2
    return ratio


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean squared error as a share of the variance."""
    return float(((found - exact) ** 2).mean() / exact.var())


@pytest.fixture(scope="session")
def gaussians() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cells whose mean moves with the dose; doses are few, or all different."""
    rng = np.random.default_rng(0)
    out = {}
    for name, dose in (("few", rng.choice(DOSES, 1000)), ("many", rng.uniform(0, 10, 1000))):
        out[name] = (rng.standard_normal((1000, 3)) + dose[:, None] * SLOPE, dose)
    return out


@pytest.fixture(scope="session")
def dose_flows(
    fit: Fit, gaussians: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, tuple[ConditionalFlow, np.ndarray]]:
    options = {"columns": ("dose",), "numeric": ("dose",), "judged": 400}
    return {name: fit(x, dose, **options) for name, (x, dose) in gaussians.items()}


@pytest.mark.parametrize("kind", ["few", "many"])
@pytest.mark.parametrize("doses", [(10, 0), (3, 1), (6, 0), (7.5, 2)], ids=str)
def test_ratio_of_doses_observed_and_in_between(
    dose_flows: dict[str, Any], gaussians: dict[str, Any], *, kind: str, doses: tuple[float, float]
) -> None:
    (flow, fold), (x, _) = dose_flows[kind], gaussians[kind]
    ratio = flow.log_ratio(x, *doses, fold=fold, bandwidth=0)
    exact = gaussian_ratio(x, *doses)
    assert error(ratio.value, exact) < 0.06
    assert ratio.extrapolated[np.abs(exact) < 2].mean() < 0.05


@pytest.mark.parametrize("kind", ["few", "many"])
def test_dose_beyond_the_fit_continues_the_line_and_is_flagged(
    dose_flows: dict[str, Any], gaussians: dict[str, Any], kind: str
) -> None:
    (flow, fold), (x, _) = dose_flows[kind], gaussians[kind]
    ratio = flow.log_ratio(x, 15.0, 0.0, fold=fold, bandwidth=0)
    assert error(ratio.value, gaussian_ratio(x, 15, 0)) < 0.06
    assert ratio.extrapolated.all()


def test_number_beats_labels_at_the_doses_of_the_fit(
    fit: Fit, dose_flows: dict[str, Any], gaussians: dict[str, Any]
) -> None:
    x, dose = gaussians["few"]
    labels, label_fold = fit(x, dose.astype(int), columns=("dose",))
    flow, fold = dose_flows["few"]
    exact = gaussian_ratio(x, 3, 1)
    by_label = error(labels.log_ratio(x, 3, 1, fold=label_fold, bandwidth=0).value, exact)
    assert error(flow.log_ratio(x, 3, 1, fold=fold, bandwidth=0).value, exact) < by_label / 2


def test_flow_of_numbers_survives_storage(dose_flows: dict[str, Any], gaussians: dict[str, Any]) -> None:
    flow, x = dose_flows["many"][0], gaussians["many"][0][:50]
    again = from_dict(to_dict(flow), device="cpu")
    np.testing.assert_array_equal(again.log_ratio(x, 7.5, 1).value, flow.log_ratio(x, 7.5, 1).value)


def test_flow_of_numbers_alone_survives_a_file(fit: Fit, tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 2))
    flow, _ = fit(x, np.repeat(["0", "1", "3", "10"], 50), columns=("dose",), numeric=("dose",))
    flow.save(tmp_path / "flow.safetensors")
    loaded = ConditionalFlow.load(tmp_path / "flow.safetensors", device="cpu")
    np.testing.assert_array_equal(loaded.log_ratio(x, 2, 0).value, flow.log_ratio(x, 2, 0).value)


def test_samples_follow_the_dose(dose_flows: dict[str, Any]) -> None:
    flow = dose_flows["few"][0]
    mean = flow.sample(2000, 6.5).mean(0)
    np.testing.assert_allclose(mean, 6.5 * SLOPE, atol=0.15)


def test_proportions_follow_the_dose(fit: Fit) -> None:
    """Two cell types whose log odds are 1 - 0.3 dose: the exact ratio knows the type alone."""
    rng = np.random.default_rng(1)
    dose = rng.choice(DOSES, 1500)
    second = rng.random(1500) < expit(1 - 0.3 * dose)
    x = rng.standard_normal((1500, 3))
    x[second, 0] += 8
    flow, fold = fit(x, dose, columns=("dose",), numeric=("dose",))
    for a, b in ((10, 0), (6, 2)):
        exact = np.log(
            np.where(second, expit(1 - 0.3 * a) / expit(1 - 0.3 * b), expit(0.3 * a - 1) / expit(0.3 * b - 1))
        )
        assert error(flow.log_ratio(x, a, b, fold=fold, bandwidth=0).value, exact) < 0.1


@pytest.fixture(scope="session")
def aged(fit: Fit) -> tuple[ConditionalFlow, np.ndarray, np.ndarray]:
    """Treatment moves cells along the first axis, age along the second; age is a covariate."""
    rng = np.random.default_rng(2)
    labels = np.array([rng.choice(["ctrl", "stim"], 1000), rng.uniform(-30, 30, 1000)], object).T
    x = rng.standard_normal((1000, 2))
    x[:, 0] += 1.5 * (labels[:, 0] == "stim")
    x[:, 1] += 0.05 * labels[:, 1].astype(float)
    flow, _ = fit(x, labels, columns=("treatment", "age"), n_condition_columns=1, numeric=("age",))
    return flow, x, labels


def test_own_number_of_a_covariate_is_held(aged: tuple[ConditionalFlow, np.ndarray, np.ndarray]) -> None:
    flow, x, labels = aged
    ratio = flow.log_ratio(x, "stim", "ctrl", own=labels.astype(str), bandwidth=0)
    assert error(ratio.value, 1.5 * x[:, 0] - 1.5**2 / 2) < 0.05


def test_own_number_beyond_the_fit_is_not_scored(aged: tuple[ConditionalFlow, np.ndarray, np.ndarray]) -> None:
    flow, x, labels = aged
    own = labels[:5].astype(str)
    own[1, 1] = "90"
    assert np.isnan(flow.log_ratio(x[:5], "stim", "ctrl", own=own).value).tolist() == [False, True, *[False] * 3]


def test_covariate_is_compared_at_numbers(aged: tuple[ConditionalFlow, np.ndarray, np.ndarray]) -> None:
    flow, x, labels = aged
    ratio = flow.log_ratio(x, {"age": 20}, {"age": -20}, own=labels.astype(str), bandwidth=0)
    assert error(ratio.value, 2 * x[:, 1]) < 0.05


def test_slopes_may_differ_between_labels(fit: Fit) -> None:
    """One drug moves cells with its dose, the other does nothing."""
    rng = np.random.default_rng(3)
    drug, dose = rng.choice(["active", "inert"], 1200), rng.choice(DOSES, 1200)
    x = rng.standard_normal((1200, 2))
    x[:, 0] += 0.2 * dose * (drug == "active")
    labels = np.array([drug, dose], object).T
    flow, fold = fit(x, labels, columns=("drug", "dose"), numeric=("dose",))
    sides = {name: [{"drug": name, "dose": dose} for dose in (8, 0)] for name in ("active", "inert")}
    active, inert = (flow.log_ratio(x, *sides[name], fold=fold, bandwidth=0).value for name in ("active", "inert"))
    exact = 1.6 * x[:, 0] - 1.6**2 / 2
    assert error(active, exact) < 0.05
    assert (inert**2).mean() / exact.var() < 0.05


def test_combination_never_observed_is_additive_and_flagged(fit: Fit) -> None:
    """Donor "d3" was never treated: the exact ratio of its cells is known, as donors and treatment add up."""
    rng = np.random.default_rng(4)
    pairs = np.array([("ctrl", "d1"), ("stim", "d1"), ("ctrl", "d2"), ("stim", "d2"), ("ctrl", "d3")])
    labels = np.repeat(pairs, 200, axis=0)
    x = rng.standard_normal((1000, 2))
    x[:, 0] += 1.5 * (labels[:, 0] == "stim")
    x[:, 1] += [{"d1": -2.0, "d2": 0.0, "d3": 2.0}[donor] for donor in labels[:, 1]]
    flow, fold = fit(x, labels, columns=("treatment", "donor"), n_condition_columns=1)
    ratio = flow.log_ratio(x, "stim", "ctrl", own=labels, fold=fold, bandwidth=0)
    unseen = labels[:, 1] == "d3"
    exact = 1.5 * x[:, 0] - 1.5**2 / 2
    assert error(ratio.value[unseen], exact[unseen]) < 0.05
    assert ratio.extrapolated[unseen].all()
    assert ratio.extrapolated[~unseen].mean() < 0.1


def test_all_donors_are_one_argument_away(donor_flow: ConditionalFlow, donor_cells: np.ndarray) -> None:
    named = [{"treatment": side, "donor": ["d1", "d2", "d3"]} for side in ("stim", "ctrl")]
    short = [{"treatment": side, "donor": ...} for side in ("stim", "ctrl")]
    expected, found = (donor_flow.log_ratio(donor_cells[:20], *sides).value for sides in (named, short))
    np.testing.assert_array_equal(found, expected)
