"""Interactions: exact truths on Gaussians, how the four sides are named, and bad input."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scratio_sc import tl
from scratio_sc.flow._member_scores import MemberScores
from scratio_sc.tl import _interaction

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from scratio_sc.flow import ConditionalFlow

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

MEANS = {"none": (0.0, 0.0), "A": (1.0, 0.0), "B": (0.0, 1.0), "A+B": (1.0, 1.0), "C": (1.0, 0.0), "A+C": (3.5, 0.0)}
SIDES = {"a": "A", "b": "B", "reference": "none"}


def simulated(n: int = 250) -> AnnData:
    """Unit Gaussians: B adds to A, at a right angle; C goes the way of A, and more than adds to it."""
    condition = np.repeat(list(MEANS), n)
    x = np.random.default_rng(0).normal([MEANS[c] for c in condition])
    obs = pd.DataFrame({"condition": condition, "donor": "d1"}).rename(str)
    obs["drug"] = obs["condition"].map({"A": "yes", "A+B": "yes"}).fillna("no")
    obs["cytokine"] = obs["condition"].map({"B": "yes", "A+B": "yes"}).fillna("no")
    return AnnData(x, obs=obs, obsm={"X_pca": x})


@pytest.fixture(scope="module")
def _combined() -> AnnData:
    adata = simulated()
    tl.fit(adata, "condition", max_steps=0, n_members=4, progress=False)
    return adata


@pytest.fixture
def combined(_combined: AnnData) -> AnnData:
    return _combined.copy()


def summary_of(adata: AnnData, **options: Any) -> dict[str, Any]:
    tl.interaction(adata, progress=False, **{**SIDES, **options})
    return adata.uns["interaction"]["summary"]


def test_sides_that_lie_apart_are_flagged() -> None:
    adata = simulated(60)
    adata.obsm["X_pca"][(adata.obs["condition"] == "A+B").to_numpy()] += 12
    tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="100% of the cells of the four sides have hardly any cells of one of them"):
        found = summary_of(adata)
    assert found["flag"] == "extrapolated"
    assert np.isfinite(found["interaction"])


def test_additive_effects_at_a_right_angle_do_not_interact(combined: AnnData) -> None:
    found = summary_of(combined)
    for name in ("interaction", "non_additivity"):
        assert found[name] == pytest.approx(0, abs=3 * found[f"{name}_se"])
        assert found[f"{name}_se"] < 0.5


def test_more_than_additive_means(combined: AnnData) -> None:
    """With w = u + v + e along one line, non-additivity is e^2 and the mean interaction w e - (w^2 - u^2 - v^2) / 2."""
    found = summary_of(combined, b="C")
    exact = 3.5 * 1.5 - (3.5**2 - 1 - 1) / 2
    assert found["non_additivity"] == pytest.approx(1.5**2, abs=4 * found["non_additivity_se"])
    assert found["interaction"] == pytest.approx(exact, abs=4 * found["interaction_se"])
    assert found["non_additivity"] > 2 * found["non_additivity_se"]


def test_interaction_is_the_combination_less_the_sum_of_singles(combined: AnnData) -> None:
    found = summary_of(combined, b="C")
    assert found["interaction"] == pytest.approx(found["combination"] - found["sum_of_singles"])


def test_cells_have_the_interaction_of_the_log_ratios(combined: AnnData) -> None:
    summary_of(combined, bandwidth=0)
    expected = 0.0
    for sign, target in ((1, "A+B"), (-1, "A"), (-1, "B")):
        tl.log_ratio(combined, target=target, reference="none", bandwidth=0, progress=False)
        expected = expected + sign * combined.obs["log_ratio"]
    np.testing.assert_allclose(combined.obs["interaction"], expected, atol=1e-4)
    assert (combined.obs["interaction_sd"] > 0).all()
    assert combined.obs["interaction_extrapolated"].dtype == bool


def test_what_is_withheld_from_all_four_is_in_the_standard_error(
    combined: AnnData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where members agree, it is all there is."""
    root = np.random.default_rng(0).standard_normal((4, 4))

    def agreed(flow: ConditionalFlow, x: np.ndarray, sides: list[Any], **_: Any) -> MemberScores:
        density = np.zeros((len(flow.members), len(x), len(sides)))
        withheld = np.tile(root @ root.T, (len(x), 1, 1))
        return MemberScores(density, density[:1], density[0], np.zeros(density[0].shape, bool), withheld, 1)

    monkeypatch.setattr(_interaction, "member_scores", agreed)
    summary_of(combined)
    signs = np.array([1, 1, -1, -1])  # of the combination, the reference and both treatments
    np.testing.assert_allclose(combined.obs["interaction_sd"], np.sqrt(signs @ root @ root.T @ signs), rtol=1e-6)


def test_standard_error_knows_how_two_opinions_differ(combined: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where members agree and nothing is withheld, it is all there is: log densities of a side 1 nat to each side."""

    def apart(flow: ConditionalFlow, x: np.ndarray, sides: list[Any], **_: Any) -> MemberScores:
        density = np.zeros((len(flow.members), len(x), len(sides)))
        opinions = np.stack([density[0], density[0]])
        opinions[:, :, 0] = [[1.0], [-1.0]]
        nothing = np.zeros((len(x), len(sides), len(sides)))
        return MemberScores(density, opinions, density[0], np.zeros(density[0].shape, bool), nothing, 1)

    monkeypatch.setattr(_interaction, "member_scores", apart)
    summary_of(combined)
    np.testing.assert_allclose(combined.obs["interaction_sd"], np.sqrt(2), rtol=1e-6)


def test_summary_is_of_the_cells_of_the_combination(combined: AnnData) -> None:
    found = summary_of(combined)
    own = combined.obs.loc[combined.obs["condition"] == "A+B", "interaction"]
    assert found["interaction"] == pytest.approx(own.mean(), abs=1e-5)
    np.testing.assert_allclose(found["quantiles"], own.quantile([0.05, 0.25, 0.5, 0.75, 0.95]), atol=1e-5)


def test_combination_is_compared_with_each_treatment(combined: AnnData) -> None:
    summary_of(combined, b="C")
    table = combined.uns["interaction"]["table"].loc["combination / a"]
    assert (table["target"], table["reference"]) == ("A+C", "A")
    assert table["kl_target"] == pytest.approx(2.5**2 / 2, abs=4 * table["kl_target_se"])


def test_order_of_the_treatments_does_not_matter(combined: AnnData) -> None:
    found = summary_of(combined)
    other = summary_of(combined, a="B", b="A")
    assert other["interaction"] == pytest.approx(found["interaction"])


def test_levels_of_two_columns_are_combined() -> None:
    adata = simulated(60)
    tl.fit(adata, ["drug", "cytokine"], max_steps=0, n_members=2, progress=False)
    tl.interaction(
        adata,
        a={"drug": "yes"},
        b={"cytokine": "yes"},
        reference={"drug": "no", "cytokine": "no"},
        progress=False,
    )
    params = adata.uns["interaction"]["params"]
    assert params["combination"] == "drug=yes, cytokine=yes"
    assert params["a"] == "drug=yes, cytokine=no"


def test_names_in_either_order_are_one_combination(combined: AnnData) -> None:
    label = combined.obs["condition"].astype(str)
    label.iloc[np.flatnonzero(label == "A+B")[::2]] = "B+A"
    combined.obs["condition"] = label
    tl.fit(combined, "condition", max_steps=0, n_members=2, progress=False)
    summary_of(combined)
    assert combined.uns["interaction"]["params"]["combination"] == "A+B + B+A"
    assert combined.uns["interaction"]["table"].loc["combination / reference", "n_target"] == 250


@pytest.mark.parametrize(
    ("label", "message"),
    [(None, "20 cells have no label in 'condition'"), ("D", r"20 cells have labels in 'condition' .* \('D'\)")],
)
def test_cells_that_take_no_part_are_counted(combined: AnnData, *, label: str | None, message: str) -> None:
    combined.obs["condition"] = combined.obs["condition"].astype(object)
    combined.obs.loc[combined.obs_names[:20], "condition"] = label
    with pytest.warns(UserWarning, match=message):
        summary_of(combined)
    assert combined.uns["interaction"]["table"].loc["combination / reference", "n_reference"] == 230


def test_side_without_cells_is_asked_after(combined: AnnData) -> None:
    left = combined[combined.obs["condition"] != "none"].copy()
    with pytest.warns(UserWarning, match=r"reference 'none' \(0 of 0\)\. Were labels renamed since the fit"):
        summary_of(left)


def test_combination_that_was_never_fitted_is_named() -> None:
    adata = simulated(60)
    adata = adata[(adata.obs[["drug", "cytokine"]] == "no").any(axis=1)].copy()
    tl.fit(adata, ["drug", "cytokine"], max_steps=0, n_members=2, progress=False)
    sides = {"a": {"drug": "yes"}, "b": {"cytokine": "yes"}, "reference": {"drug": "no", "cytokine": "no"}}
    with pytest.warns(UserWarning, match="No cell was fitted with the combination drug=yes, cytokine=yes"):
        tl.interaction(adata, **sides, progress=False)


def test_too_few_cells_leave_no_summary(combined: AnnData) -> None:
    own = np.flatnonzero(combined.obs["condition"] == "A+B")
    some = combined[np.setdiff1d(np.arange(combined.n_obs), own[5:])].copy()
    with pytest.warns(UserWarning, match=r"combination 'A\+B' \(5 of 5\)"):
        found = summary_of(some)
    assert found["flag"] == "few cells"
    assert np.isnan(found["interaction"])
    assert np.isnan(some.uns["interaction"]["table"]["js"]).all()
    assert some.obs["interaction"].notna().all()


def test_confounded_covariate_leaves_no_summary() -> None:
    adata = simulated(40)
    adata.obs["donor"] = np.where(adata.obs["condition"] == "A+B", "d1", "d2")
    tl.fit(adata, "condition", covariates=["donor"], max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="No summary of the interaction"):
        found = summary_of(adata)
    assert found["flag"] == "confounded"
    assert np.isnan(found["interaction"])


def test_cells_of_covariates_without_the_combination_are_named_and_left_out() -> None:
    adata = simulated(60)
    others = (adata.obs["condition"] != "A+B").to_numpy() & (np.arange(adata.n_obs) % 2 == 0)
    adata.obs["donor"] = np.where(others, "d2", "d1")
    tl.fit(adata, "condition", covariates=["donor"], max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="42% of the cells have covariates that the fit has not seen under all four"):
        found = summary_of(adata)
    assert not found["flag"]
    assert np.isfinite(found["interaction"])
    assert adata.obs["interaction_extrapolated"][others].all()


@pytest.mark.parametrize("file", ["h5ad", "zarr"])
def test_round_trip(combined: AnnData, tmp_path: Path, file: str) -> None:
    summary_of(combined)
    getattr(combined, f"write_{file}")(tmp_path / "cells")
    read = getattr(ad, f"read_{file}")(tmp_path / "cells")
    found, expected = read.uns["interaction"], combined.uns["interaction"]
    pd.testing.assert_frame_equal(found["table"], expected["table"], check_dtype=False, check_index_type=False)
    np.testing.assert_equal(dict(found["summary"]), expected["summary"])
    np.testing.assert_array_equal(read.obs["interaction"], combined.obs["interaction"])


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"a": "a"}, KeyError, ["'a'", "Known levels"]),
        ({"b": "C", "a": "B"}, ValueError, ["'B' and 'C'", "`combination`", r"'A\+B'"]),
        ({"combination": "A"}, ValueError, ["combination and a are the same", "'A'"]),
        ({"a": "B"}, ValueError, ["a and b are the same", "'B'"]),
        ({"reference": "B"}, ValueError, ["reference and b are the same"]),
        ({"combination": ["A", "A+B"]}, ValueError, ["250 cells are on both sides, combination .* and a ", "no level"]),
        ({"combination": ["none", "A+B"]}, ValueError, ["250 cells are on both sides, combination .* and reference "]),
        ({"a": {"drug": "yes"}}, KeyError, ["no column 'drug'", "'condition'"]),
        ({"bandwidth": "wide"}, ValueError, ["'wide'", "'auto'"]),
        ({"key_added": "A/B"}, ValueError, ["A/B", "A_B"]),
        ({"key_added": "condition"}, ValueError, ["'condition'", "overwrite"]),
    ],
)
def test_bad_input(
    combined: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    with unchanged(combined), pytest.raises(error) as caught:
        tl.interaction(combined, progress=False, **{**SIDES, **options})
    for part in parts:
        assert re.search(part, str(caught.value))


def test_copy_leaves_the_cells_alone(combined: AnnData, unchanged: Unchanged) -> None:
    with unchanged(combined):
        copy = tl.interaction(combined, progress=False, copy=True, **SIDES)
    assert "interaction" in copy.obs
