"""Columns of numbers in the tools: what they take, what they refuse, and what they write."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

SLOPE = 0.3
ANCHOR = {"max_steps": 0, "n_members": 2, "progress": False}


def treated() -> AnnData:
    """Unit Gaussians moved along the first axis by the dose, along the second by the age."""
    rng = np.random.default_rng(0)
    dose, age = rng.choice([0.0, 1.0, 3.0, 10.0], 400), rng.uniform(20, 60, 400)
    x = rng.standard_normal((400, 2)) + np.column_stack([SLOPE * dose, 0.05 * age])
    arm = np.where(dose > 0, "treated", "control")
    obs = pd.DataFrame({"dose": dose, "age": age, "arm": arm}, index=[f"cell_{i}" for i in range(400)])
    return AnnData(x.astype(np.float32), obs=obs, obsm={"X_pca": x.astype(np.float32)})


@pytest.fixture(scope="module")
def _dosed() -> AnnData:
    adata = treated()
    tl.fit(adata, "dose", numeric=["dose"], **ANCHOR)
    tl.fit(adata, "arm", covariates=["age"], numeric="age", key_added="by_age", **ANCHOR)
    return adata


@pytest.fixture
def dosed(_dosed: AnnData) -> AnnData:
    return _dosed.copy()


@pytest.fixture
def raw() -> AnnData:
    return treated()


def ratio(adata: AnnData, target: Any, reference: Any, **options: Any) -> np.ndarray:
    scored = tl.log_ratio(adata, target=target, reference=reference, progress=False, copy=True, **options)
    assert scored is not None
    return scored.obs["log_ratio"].to_numpy()


@pytest.mark.filterwarnings("ignore:Target and reference hardly overlap")  # 3 standard deviations apart
@pytest.mark.parametrize(("target", "reference"), [(10.0, 0.0), (6, 0), (5.5, 2)])
def test_follows_the_exact_ratio(dosed: AnnData, *, target: float, reference: float) -> None:
    x = dosed.obsm["X_pca"][:, 0]
    exact = SLOPE * (target - reference) * (x - SLOPE * (target + reference) / 2)
    found = ratio(dosed, {"dose": target}, {"dose": reference})
    assert ((found - exact) ** 2).mean() / exact.var() < 0.06


FORMS = {"float": 6.0, "int": 6, "numpy": np.float32(6), "list": [6.0], "column": {"dose": 6}, "text": {"dose": "6"}}


@pytest.mark.parametrize("side", FORMS.values(), ids=FORMS)
def test_forms_of_a_number(dosed: AnnData, side: Any) -> None:
    few = dosed[:8].copy()
    np.testing.assert_array_equal(ratio(few, side, 0), ratio(few, 6.0, 0.0))


def test_params_name_the_numbers(dosed: AnnData) -> None:
    tl.log_ratio(dosed, target={"dose": 7.5}, reference=..., progress=False)
    params = dosed.uns["log_ratio"]["params"]
    assert (params["target"], params["reference"]) == ("dose=7.5", "all")
    assert dosed.uns["scratio"]["params"]["numeric"].tolist() == ["dose"]


def test_beyond_the_fit_is_flagged_and_warned_of(dosed: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"anywhere near dose=20 \(numbers from 0 to 10 in the fit\)") as caught:
        tl.log_ratio(dosed, target=20, reference=0, progress=False)
    assert dosed.obs["log_ratio_extrapolated"].all()
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:Target and reference hardly overlap")
def test_own_number_is_that_of_its_bin(dosed: AnnData) -> None:
    one = dosed[[0]].copy()
    moved = one.copy()
    number = scratio.get.flow(dosed, key="by_age").design.numbers[1]
    moved.obs["age"] = number.value[number.bin_of(one.obs["age"].to_numpy())]
    sides = ("treated", "control")
    np.testing.assert_array_equal(ratio(one, *sides, key="by_age"), ratio(moved, *sides, key="by_age"))


@pytest.mark.filterwarnings("ignore:Target and reference hardly overlap")
def test_own_number_beyond_the_fit_is_not_scored(dosed: AnnData) -> None:
    few = dosed[:5].copy()
    few.obs["age"] = [30.0, 90.0, 40.0, np.nan, 50.0]
    with pytest.warns(UserWarning, match=r"2 of 5 cells are not scored .*'age'.*beyond those of the fit \('90'\)"):
        tl.log_ratio(few, target="treated", reference="control", key="by_age", progress=False)
    assert few.obs["log_ratio"].isna().tolist() == [False, True, False, True, False]


def test_all_ages_are_one_argument_away(dosed: AnnData) -> None:
    few = dosed[:8].copy()
    sides = [{"arm": arm, "age": ...} for arm in ("treated", "control")]
    tl.log_ratio(few, target=sides[0], reference=sides[1], key="by_age", progress=False)
    assert few.uns["log_ratio"]["params"]["target"] == "arm=treated, age=all"
    assert not np.allclose(few.obs["log_ratio"], ratio(few, "treated", "control", key="by_age"))


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_round_trip(dosed: AnnData, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cells.{suffix}"
    getattr(dosed, f"write_{suffix}")(path)
    again = getattr(ad, f"read_{suffix}")(path)
    np.testing.assert_array_equal(ratio(again, 5, 0), ratio(dosed, 5, 0))


def test_density_and_samples_know_numbers(dosed: AnnData) -> None:
    tl.log_density(dosed, condition=6.5, progress=False)
    drawn = tl.sample(dosed, 500, condition={"dose": 6.5})
    assert (drawn.obs["dose"] == 6.5).all()
    assert drawn.obsm["X_pca"][:, 0].mean() == pytest.approx(6.5 * SLOPE, abs=0.2)
    assert dosed.obs["log_density"].notna().all()


def test_density_and_samples_beyond_the_fit_are_no_evidence(dosed: AnnData) -> None:
    beyond = r"No cell was fitted anywhere near dose=500 \(numbers from 0 to 10 in the fit\): "
    with pytest.warns(UserWarning, match=beyond + "the densities continue a straight line"):
        tl.log_density(dosed, condition=500, progress=False)
    with pytest.warns(UserWarning, match=beyond + "the cells drawn continue a straight line"):
        tl.sample(dosed, 5, condition=500)


def test_null_check_keeps_bins_of_a_covariate(dosed: AnnData) -> None:
    """Were every age a stratum of its own, nothing would be permuted and the null as large as the ratio."""
    tl.null_check(dosed, target="treated", reference="control", key="by_age", n_permutations=1, progress=False)
    result = dosed.uns["null_check"]
    assert result["null"][0] < result["observed"] / 2


@pytest.mark.filterwarnings("ignore:Target and reference hardly overlap")
def test_effects_of_doses_grow(dosed: AnnData) -> None:
    tl.treatment_effect(dosed, reference=0, progress=False)
    table = dosed.uns["treatment_effect"]["table"].set_index("target")
    assert sorted(table.index) == ["1", "10", "3"]
    exact = {dose: (SLOPE * float(dose)) ** 2 / 2 for dose in table.index}
    found = table["kl_target"].to_dict()
    assert found == pytest.approx(exact, rel=0.3, abs=0.1)


@pytest.mark.filterwarnings("ignore:Target and reference hardly overlap")
def test_abundance_between_doses(dosed: AnnData) -> None:
    tl.differential_abundance(dosed, target=10, reference=0, progress=False)
    x = dosed.obsm["X_pca"][:, 0]
    assert np.corrcoef(dosed.obs["differential_abundance"], x)[0, 1] > 0.95


@pytest.mark.parametrize("dose", [7, 500])
def test_abundance_at_a_number_that_no_cells_have_is_refused(dosed: AnnData, unchanged: Unchanged, dose: float) -> None:
    with unchanged(dosed), pytest.raises(ValueError, match=f"No cells have dose={dose}: the closest have 10, and"):
        tl.differential_abundance(dosed, target=dose, reference=0, progress=False)


@pytest.mark.parametrize("tool", ["differential_abundance", "treatment_effect"])
def test_missing_column_of_numbers_is_named(dosed: AnnData, tool: str) -> None:
    del dosed.obs["dose"]
    sides = {"reference": 0} if tool == "treatment_effect" else {"target": 10, "reference": 0}
    with pytest.raises(KeyError, match=r"No column 'dose' in adata\.obs"):
        getattr(tl, tool)(dosed, **sides, progress=False)


def test_effects_against_a_number_that_no_cells_have_are_refused(dosed: AnnData) -> None:
    with pytest.raises(ValueError, match="No cells have dose=2: the closest have 1, and"):
        tl.treatment_effect(dosed, reference=2, progress=False)


@pytest.mark.parametrize(("missing", "what"), [(np.nan, "no label"), (np.inf, "an infinite number")])
def test_cells_without_a_number_are_left_out_with_a_warning(raw: AnnData, missing: float, what: str) -> None:
    raw.obs.loc[raw.obs_names[:3], "dose"] = missing
    with pytest.warns(UserWarning, match=f"3 of 400 cells have {what} in 'dose' and are left out"):
        tl.fit(raw, "dose", numeric=["dose"], **ANCHOR)
    assert (raw.obs["scratio_fold"] == -1).to_numpy().nonzero()[0].tolist() == [0, 1, 2]


def test_logarithms_of_0_are_called_so(raw: AnnData) -> None:
    raw.obs["dose"] = np.log10(raw.obs["dose"].where(raw.obs["dose"] > 0)).fillna(-np.inf)
    with pytest.warns(UserWarning, match=r"The logarithm of 0 is infinite: `np\.log1p`"):
        tl.fit(raw, "dose", numeric=["dose"], **ANCHOR)


def test_categories_that_are_numbers_count_as_numbers(raw: AnnData, dosed: AnnData) -> None:
    raw.obs["dose"] = raw.obs["dose"].astype("category")
    tl.fit(raw, "dose", numeric=["dose"], **ANCHOR)
    np.testing.assert_array_equal(ratio(raw, 5, 0), ratio(dosed, 5, 0))


def test_numbers_that_are_not_named_are_labels(raw: AnnData) -> None:
    tl.fit(raw, "dose", **ANCHOR)
    assert scratio.get.flow(raw).design.levels == (("0", "1", "10", "3"),)


@pytest.mark.parametrize(
    ("column", "options", "error", "text"),
    [
        ("arm", {}, ValueError, r"'arm'\] counts as a column of numbers, but holds .* labels: leave it out"),
        ("flag", {}, ValueError, r"'flag'\] counts as a column of numbers, but holds 'True'"),
        ("constant", {}, ValueError, "'constant' is 5 in all cells.*Leave it out"),
        ("dose", {"numeric": ["age"]}, ValueError, r"names 'age', which is neither the condition nor a covariate"),
        ("dose", {"numeric": ["Dose"]}, ValueError, r"Did you mean 'dose'\?"),
        ("dose", {"numeric": 3}, TypeError, "numeric=3, expected the name of a column of `condition` or `covariates`"),
        ("age", {"numeric": ()}, ValueError, r"say `numeric=\['age'\]`.*`pd.cut`"),
        ("missing", {}, ValueError, "Too few cells with a number in 'missing': 39 .*at least 40"),
    ],
)
def test_fit_refuses(
    raw: AnnData, unchanged: Unchanged, *, column: str, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    raw.obs["flag"], raw.obs["constant"] = True, 5.0
    raw.obs["missing"] = raw.obs["age"].where(np.arange(400) < 39)
    with unchanged(raw), pytest.raises(error, match=f"(?s){text}"):
        tl.fit(raw, column, **{"numeric": [column], **ANCHOR, **options})


@pytest.mark.parametrize(
    ("target", "reference", "text"),
    [
        ("high", 0, r"'high' is no number, but 'dose' is a column of numbers. It takes numbers from 0 to 10"),
        (np.nan, 0, "'nan' is no number"),
        (10, 10.0, r"the same.*'dose': numbers from 0 to 10"),
        ({"dose": []}, 0, "No level given for 'dose'. Known levels: numbers from 0 to 10"),
    ],
)
def test_log_ratio_refuses(dosed: AnnData, unchanged: Unchanged, *, target: Any, reference: Any, text: str) -> None:
    with unchanged(dosed), pytest.raises(ValueError, match=f"(?s){text}"):
        tl.log_ratio(dosed, target=target, reference=reference, progress=False)


def test_cells_whose_column_is_text_are_not_scored_by_a_fit_of_numbers(dosed: AnnData, unchanged: Unchanged) -> None:
    dosed.obs["age"] = "old"
    with unchanged(dosed), pytest.raises(ValueError, match=r"'age'\] counts as a column of numbers, but holds 'old'"):
        tl.log_ratio(dosed, target="treated", reference="control", key="by_age", progress=False)


def test_ratio_of_numbers_comes_without_a_warning(dosed: AnnData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tl.log_ratio(dosed, target=3, reference=0, progress=False)
