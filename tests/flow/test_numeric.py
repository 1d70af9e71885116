"""Columns of numbers: bins, the functions of a number, and ratios at any number against the exact ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._columns import Column
from scratio_sc.flow._contrast import conditions_of, named_levels, side_of
from scratio_sc.flow._design import Design
from scratio_sc.flow._numeric import MAX_BINS, MAX_SHAPES, Numeric
from scratio_sc.flow._shrinkage import mean_effects, shrink_trend
from scratio_sc.flow._storage import from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

DOSES = np.array([0.0, 1.0, 3.0, 10.0])


# --- bins and functions of one column


def test_few_numbers_are_their_own_bins() -> None:
    number = Numeric.of(np.repeat(DOSES, [5, 1, 2, 2]))
    np.testing.assert_array_equal(number.value, DOSES)
    assert number.bin_of(np.array([-1, 0, 0.4, 0.6, 2.1, 6, 7, 10, 99])).tolist() == [0, 0, 0, 1, 2, 2, 3, 3, 3]


def test_many_numbers_are_cut_into_bins_of_as_many_cells() -> None:
    numbers = np.random.default_rng(0).lognormal(size=1000)
    number = Numeric.of(numbers)
    assert np.bincount(number.bin_of(numbers)).tolist() == [100] * MAX_BINS


def test_bin_has_the_mean_of_its_cells() -> None:
    numbers = np.arange(100.0)
    np.testing.assert_allclose(Numeric.of(numbers).value, numbers.reshape(10, 10).mean(1))


def test_number_of_most_cells_is_a_bin_of_its_own() -> None:
    numbers = np.r_[np.zeros(500), np.random.default_rng(0).uniform(1, 2, 500)]
    number = Numeric.of(numbers)
    assert number.value[0] == 0
    assert np.bincount(number.bin_of(numbers))[0] == 500


@pytest.mark.parametrize("number", [0.1, 1.1, 6.7])
def test_rounding_moves_no_number_into_the_next_bin(number: float) -> None:
    """The mean of 400 times .1 is a little more than .1."""
    numbers = np.r_[np.full(400, number), np.random.default_rng(0).uniform(number + 2, number + 5, 300)]
    found = Numeric.of(numbers)
    np.testing.assert_array_equal(found.bin_of(found.value), np.arange(len(found.value)))
    assert found.value[0] == number


NUMBERS = st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 2)), min_size=2, max_size=60).filter(
    lambda v: max(v) - min(v) > 0.05
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers=NUMBERS.map(np.array))
def test_shapes_are_standardised_and_uncorrelated(numbers: np.ndarray) -> None:
    number = Numeric.of(numbers)
    shapes = number.shapes[number.bin_of(numbers)]
    assert 1 <= shapes.shape[1] <= min(MAX_SHAPES, len(number.value) - 1)
    np.testing.assert_allclose(shapes.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(shapes.T @ shapes / len(numbers), np.eye(shapes.shape[1]), atol=1e-6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers=NUMBERS.map(np.array))
def test_shapes_at_the_values_of_bins_are_those_of_the_bins(numbers: np.ndarray) -> None:
    number = Numeric.of(numbers)
    np.testing.assert_allclose(number.at(number.value), number.shapes, atol=1e-6)


def test_first_shape_is_a_straight_line_everywhere() -> None:
    at = np.linspace(-5, 20, 11)
    line = Numeric.of(np.repeat(DOSES, 5)).at(at)[:, 0]
    np.testing.assert_allclose(np.diff(line, 2), 0, atol=1e-12)


def test_other_shapes_are_straight_between_bins_and_level_beyond_the_fit() -> None:
    number = Numeric.of(np.repeat(DOSES, 5))
    middle = number.at(np.array([6.5]))[0]
    np.testing.assert_allclose(middle, number.shapes[2:].mean(0))
    np.testing.assert_allclose(number.at(np.array([50.0]))[0, 1:], number.shapes[-1, 1:])


@pytest.mark.parametrize(("number", "covered"), [(0, True), (10, True), (10.05, True), (11, False), (-1, False)])
def test_range_has_a_small_margin(number: float, covered: bool) -> None:
    assert Numeric.of(DOSES).covers(np.array([number])).tolist() == [covered]


# --- designs


LABELS = np.array([("stim", "0"), ("ctrl", "0"), ("stim", "2.5"), ("stim", "10"), ("ctrl", "0")])
DESIGN, GROUP = Design.of(LABELS, ("treatment", "dose"), 2, numeric=("dose",))


def test_groups_have_the_values_of_bins() -> None:
    assert DESIGN.groups.tolist() == [[0, 0], [1, 0], [1, 2.5], [1, 10]]
    assert GROUP.tolist() == [1, 0, 2, 3, 0]


def test_number_has_no_levels() -> None:
    assert DESIGN.levels == (("ctrl", "stim"), ())
    assert DESIGN.numeric == ("dose",)


def test_number_in_between_belongs_to_the_nearest_group() -> None:
    assert DESIGN.group_of(np.array([[1, 3.0], [1, 9.0]])).tolist() == [2, 3]


@pytest.mark.parametrize("row", [[1, 11.0], [1, -1.0], [0, 10.0]])
def test_number_beyond_the_fit_or_without_cells_has_no_group(row: list[float]) -> None:
    assert DESIGN.group_of(np.array([row])).tolist() == [-1]


def test_features_follow_the_exact_number() -> None:
    rows = np.array([[1, 5.0], [1, 5.1]])
    assert (DESIGN.features(rows)[0] != DESIGN.features(rows)[1]).any()


def test_features_are_as_many_as_announced() -> None:
    assert DESIGN.features(DESIGN.groups).shape == (4, DESIGN.n_features)


def test_numbers_beyond_the_fit_are_encoded_as_unknown() -> None:
    rows = DESIGN.encode(np.array([["stim", "3"], ["ctrl", "99"], ["new", "text"]]))
    np.testing.assert_array_equal(rows, [[1, 2.5], [0, np.nan], [-1, np.nan]])
    assert DESIGN.known(rows).tolist() == [[True, True], [True, False], [False, False]]


def test_cells_are_among_levels_by_label_and_by_bin() -> None:
    doses = np.array(["2.4", "9", "99", "text"])
    assert DESIGN.among("dose", doses, [2.0, 10.0]).tolist() == [True, True, False, False]
    assert DESIGN.among("treatment", np.array(["stim", "new"]), [0, 1]).tolist() == [True, False]


@pytest.mark.parametrize(("column", "level"), [("treatment", 1), ("dose", 2.5), ("dose", 10.0), ("dose", 1 / 3)])
def test_name_of_a_level_is_read_back(column: str, level: float) -> None:
    assert DESIGN.level(column, DESIGN.name(column, level)) == level


@pytest.mark.parametrize("text", ["high", "nan", "inf", ""])
def test_text_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=rf"{text!r} is no number, but 'dose' is a column of numbers.*from 0 to 10"):
        DESIGN.level("dose", text)


def test_fit_of_text_as_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="'high' is no number, but 'dose'"):
        Design.of(np.array([["1"], ["high"]]), ("dose",), 1, numeric=("dose",))


def test_constant_is_refused() -> None:
    with pytest.raises(ValueError, match="'dose' is 5 in all cells: leave it out"):
        Design.of(np.array([["5"], ["5.0"]]), ("dose",), 1, numeric=("dose",))


def test_unknown_column_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names no column 'age'. Columns: 'dose'"):
        Design.of(np.array([["1"], ["2"]]), ("dose",), 1, numeric=("age",))


def test_sides_name_numbers() -> None:
    assert named_levels(DESIGN, {"dose": [10, 2.25], "treatment": "stim"}) == {"dose": [2.25, 10.0], "treatment": [1]}


def test_ellipsis_names_all_labels_and_all_bins() -> None:
    assert named_levels(DESIGN, {"treatment": ..., "dose": ...}) == {"treatment": [0, 1], "dose": [0.0, 2.5, 10.0]}


def test_numbers_are_judged_by_the_condition_that_holds_them() -> None:
    sides = [named_levels(DESIGN, {"treatment": "stim", "dose": dose}) for dose in (9.0, 0.5)]
    target, reference = conditions_of(DESIGN, *sides)
    assert (target.tolist(), reference.tolist()) == ([3], [1])


def test_numbers_of_one_bin_are_judged_by_no_condition() -> None:
    sides = [named_levels(DESIGN, {"treatment": "stim", "dose": dose}) for dose in (9.0, 10)]
    assert [len(side) for side in conditions_of(DESIGN, *sides)] == [0, 0]


def test_mixture_over_all_numbers_weighs_bins_by_their_cells() -> None:
    side = side_of(DESIGN, named_levels(DESIGN, {"dose": ..., "treatment": ...}), np.array([0, 0.0]))
    assert side.rows.tolist() == DESIGN.groups.tolist()
    np.testing.assert_allclose(np.exp(side.log_weights), [0.4, 0.2, 0.2, 0.2])


def test_groups_of_the_same_labels_are_taken_together() -> None:
    assert DESIGN.over_numbers(np.array([1, 2, 4, 8])).tolist() == [1, 14, 14, 14]


@pytest.mark.parametrize(("row", "group"), [([0, 7.0], 0), ([1, 99.0], 1), ([2, 0.0], -1)])
def test_group_of_the_same_labels(row: list[float], group: int) -> None:
    assert DESIGN.alike(np.array([row])).tolist() == [group]


def test_numbers_alone_are_all_of_the_same_labels() -> None:
    design, _ = Design.of(np.array([["1"], ["2"], ["4"]]), ("dose",), 1, numeric=("dose",))
    assert design.n_label_combinations == 1
    assert design.alike(np.array([[3.0], [9.0]])).tolist() == [0, 0]


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


def test_terms_are_the_features_in_order() -> None:
    starts = [column.start for column in Column.all_of(DESIGN)]
    assert starts == sorted(starts)
    assert Column.all_of(DESIGN)[-1].features.stop == DESIGN.n_features


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
