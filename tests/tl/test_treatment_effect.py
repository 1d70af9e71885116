"""Treatment effects: exact truths, what is compared with what, and what is said where there is nothing to compare."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scratio_sc import datasets, tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

FAST = {"max_steps": 0, "n_members": 2, "progress": False}
NO_EFFECT = "effects could not be measured"


def effects(adata: AnnData, reference: Any = "ctrl", **options: Any) -> pd.DataFrame:
    """Table indexed by treatment, group and sample."""
    tl.treatment_effect(adata, reference=reference, progress=False, **options)
    return adata.uns["treatment_effect"]["table"].set_index(["target", "group", "sample"])


def cells_at(x: np.ndarray, **obs: Any) -> AnnData:
    return AnnData(obs=pd.DataFrame(obs).rename(str), obsm={"X_pca": x})


COUNTS = {"ctrl": (250, 350), "abundance": (450, 150), "response": (300, 300)}
MOVED = 1.5


@pytest.fixture(scope="module")
def mixture() -> AnnData:
    """Two cell types far apart: "abundance" changes their numbers alone, "response" also moves the first."""
    parts = [(name, k, n) for name, counts in COUNTS.items() for k, n in enumerate(counts)]
    condition, kind = (np.concatenate([np.repeat(part[i], part[2]) for part in parts]) for i in (0, 1))
    x = np.random.default_rng(0).standard_normal((len(kind), 2))
    x[:, 0] += 8.0 * kind
    x[(condition == "response") & (kind == 0), 1] += MOVED
    adata = cells_at(x, condition=condition, cell_type=np.array(["type_0", "type_1"])[kind])
    tl.fit(adata, "condition", **FAST | {"n_members": 4})
    return adata


@pytest.fixture(scope="module")
def _donors() -> AnnData:
    """Of four donors the first responds, two do not, and the last has treated cells only."""
    rng = np.random.default_rng(0)
    donor = np.repeat(["d1", "d2", "d3", "d4"], 160)
    condition = np.tile(["ctrl", "stim"], 320)
    condition[donor == "d4"] = "stim"
    x = rng.standard_normal((640, 2))
    x[(donor == "d1") & (condition == "stim"), 0] += 2
    adata = cells_at(x, condition=condition, donor=donor)
    tl.fit(adata, "condition", covariates=["donor"], **FAST)
    return adata


@pytest.fixture
def donors(_donors: AnnData) -> AnnData:
    return _donors.copy()


def test_shifted_gaussians_have_the_exact_divergence() -> None:
    adata = datasets.gaussian_shift(1_500, n_dims=2)
    tl.fit(adata, "condition", **FAST)
    row = effects(adata, "reference").loc[("target", "(all)", "(all)")]
    assert row["kl_target"] == pytest.approx(1, abs=4 * row["kl_target_se"])
    assert row["kl_reference"] == pytest.approx(1, abs=4 * row["kl_reference_se"])
    assert row["js"] == pytest.approx(0.2019, abs=4 * row["js_se"])  # by quadrature
    assert max(row["kl_target_se"], row["kl_reference_se"], row["js_se"]) < 0.3


def test_response_within_a_type_is_exact_though_its_share_changes(mixture: AnnData) -> None:
    row = effects(mixture, groupby="cell_type").loc[("response", "type_0", "(all)")]
    for name in ("kl_target", "kl_reference"):
        assert row[name] == pytest.approx(MOVED**2 / 2, abs=4 * row[f"{name}_se"])
        assert row[f"{name}_se"] < 0.4


def test_only_the_cell_type_that_moves_responds(mixture: AnnData) -> None:
    responds = effects(mixture, groupby="cell_type").xs("(all)", level="sample")["responds"]
    assert responds["response", "type_0"]
    assert not responds["response", "type_1"]
    assert not responds["abundance"][["type_0", "type_1"]].any()


def test_abundance_is_no_response_of_a_type_but_one_of_all_cells(mixture: AnnData) -> None:
    table = effects(mixture, groupby="cell_type").xs("(all)", level="sample").loc["abundance"]
    exact = sum(n / 600 * np.log(n / m) for n, m in zip(COUNTS["abundance"], COUNTS["ctrl"], strict=True))
    assert table["kl_target"]["(all)"] == pytest.approx(exact, abs=0.05)
    assert table["kl_target"].drop("(all)").abs().max() < 0.02


def test_composition_is_the_log_ratio_of_the_shares(mixture: AnnData) -> None:
    table = effects(mixture, groupby="cell_type")
    share = pd.crosstab(mixture.obs["condition"], mixture.obs["cell_type"], normalize="index")
    expected = np.log(share.loc["abundance", "type_1"] / share.loc["ctrl", "type_1"])
    assert table.loc[("abundance", "type_1", "(all)"), "composition"] == pytest.approx(expected)
    assert np.isnan(table.loc[("abundance", "(all)", "(all)"), "composition"])


def test_table_is_ranked(mixture: AnnData) -> None:
    tl.treatment_effect(mixture, reference="ctrl", groupby="cell_type", progress=False)
    assert mixture.uns["treatment_effect"]["table"]["js"].is_monotonic_decreasing


def test_expectations_are_means_of_the_log_ratio(mixture: AnnData) -> None:
    tl.log_ratio(mixture, target="response", reference="ctrl", progress=False)
    mean = mixture.obs.groupby("condition", observed=True)["log_ratio"].mean()
    row = effects(mixture).loc[("response", "(all)", "(all)")]
    assert row["kl_target"] == pytest.approx(mean["response"], abs=1e-5)
    assert row["kl_reference"] == pytest.approx(-mean["ctrl"], abs=1e-5)


def test_types_that_the_fit_holds_fixed_are_compared_by_their_ratios_alone(mixture: AnnData) -> None:
    adata = mixture[mixture.obs["condition"] != "abundance"].copy()
    tl.fit(adata, "condition", covariates=["cell_type"], **FAST, key_added="held")
    tl.log_ratio(adata, target="response", reference="ctrl", key="held", progress=False)
    mean = adata.obs.groupby(["cell_type", "condition"], observed=True)["log_ratio"].mean()
    row = effects(adata, groupby="cell_type", key="held").loc[("response", "type_0", "(all)")]
    assert row["kl_target"] == pytest.approx(mean["type_0", "response"], abs=1e-5)
    assert row["kl_reference"] == pytest.approx(-mean["type_0", "ctrl"], abs=1e-5)


def test_donors_respond_each_on_its_own(donors: AnnData) -> None:
    with pytest.warns(UserWarning, match=NO_EFFECT):
        table = effects(donors, sample_key="donor").loc["stim", "(all)"]
    assert table["responds"][["d1", "d2", "d3"]].tolist() == [True, False, False]
    assert table.loc["d1", "kl_target"] == pytest.approx(2, abs=4 * table.loc["d1", "kl_target_se"])


def test_donor_of_one_condition_has_no_effect_and_says_so(donors: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"stim / d4 \(one side only\)"):
        row = effects(donors, sample_key="donor").loc[("stim", "(all)", "d4")]
    assert row["flag"] == "one side only"
    assert np.isnan(row["js"])


def test_cells_of_donors_of_one_condition_do_not_count(donors: AnnData) -> None:
    assert effects(donors).loc[("stim", "(all)", "(all)"), "n_target"] == 240


def test_covariate_that_determines_the_condition_leaves_no_effect() -> None:
    rng = np.random.default_rng(0)
    condition = np.tile(["ctrl", "stim"], 60)
    adata = cells_at(rng.standard_normal((120, 2)), condition=condition, batch=np.where(condition == "ctrl", "x", "y"))
    with pytest.warns(UserWarning, match="Every level of 'batch' has cells of one 'condition' only"):
        tl.fit(adata, "condition", covariates=["batch"], **FAST)
    with pytest.warns(UserWarning, match="confounded"):
        row = effects(adata).iloc[0]
    assert row["flag"] == "confounded"
    assert np.isnan(row[["js", "kl_target", "kl_reference"]].astype(float)).all()
    assert row["responds"] is pd.NA


def test_sample_without_any_cells_of_a_group_is_of_few_cells(donors: AnnData) -> None:
    donors.obs["group"] = np.where(donors.obs["donor"] == "d1", "rare", "common")
    with pytest.warns(UserWarning, match=NO_EFFECT):
        table = effects(donors, groupby="group", sample_key="donor")
    assert table.loc[("stim", "rare", "d2"), "flag"] == "few cells"


@pytest.mark.parametrize("argument", ["groupby", "sample_key"])
def test_parts_of_one_condition_each_have_no_effect_of_their_own(donors: AnnData, argument: str) -> None:
    donors.obs["sample"] = donors.obs["donor"].astype(str) + donors.obs["condition"].astype(str)
    with pytest.raises(ValueError, match=f"{argument}='sample': no level of it has cells of both the reference"):
        effects(donors, **{argument: "sample"})


def test_groups_and_samples_are_two_columns(donors: AnnData) -> None:
    with pytest.raises(ValueError, match="groupby and sample_key both name 'donor'"):
        effects(donors, groupby="donor", sample_key="donor")


def test_groups_of_few_cells_are_named(mixture: AnnData) -> None:
    some = mixture[::3].copy()
    some.obs["group"] = np.where(np.arange(some.n_obs) % 20, "common", "rare")
    with pytest.warns(UserWarning, match=r"response / rare \(few cells: \d+ and \d+\)"):
        row = effects(some, groupby="group").loc[("response", "rare", "(all)")]
    assert row["flag"] == "few cells"
    assert np.isnan(row["js"])


def test_sides_that_never_touch_are_flagged_but_bounded() -> None:
    x = np.random.default_rng(0).standard_normal((200, 2)) + 30 * (np.arange(200)[:, None] % 2)
    adata = cells_at(x, condition=np.tile(["ctrl", "stim"], 100))
    tl.fit(adata, "condition", **FAST)
    row = effects(adata).iloc[0]
    assert (row["flag"], row["extrapolated"]) == ("extrapolated", 1)
    assert row["js"] == pytest.approx(np.log(2), abs=1e-3)


def test_sides_that_cannot_be_told_apart_are_said_to_show_no_difference() -> None:
    x = np.random.default_rng(0).standard_normal((400, 2))
    adata = cells_at(x, condition=np.tile(["ctrl", "stim"], 200), cell_type=np.repeat(["one", "two"], 200))
    tl.fit(adata, "condition", **FAST)
    assert set(effects(adata, groupby="cell_type")["flag"]) == {"no difference"}


def test_labels_exchanged_since_the_fit_give_negative_divergences_and_a_warning(mixture: AnnData) -> None:
    exchanged = mixture.copy()
    names = {"ctrl": "response", "response": "ctrl", "abundance": "abundance"}
    exchanged.obs["condition"] = exchanged.obs["condition"].astype(str).map(names)
    with pytest.warns(UserWarning, match="negative beyond its error in response.*exchanged since the fit"):
        table = effects(exchanged)
    assert table.loc[("response", "(all)", "(all)"), "js"] < 0


def test_labels_renamed_since_the_fit_are_refused(mixture: AnnData) -> None:
    renamed = mixture.copy()
    renamed.uns.pop("treatment_effect", None)
    renamed.obs["condition"] = "new " + renamed.obs["condition"].astype(str)
    with pytest.raises(ValueError, match=r"No cell has a label of the fit in adata.obs\['condition'\].*'new ctrl'"):
        effects(renamed)
    assert "treatment_effect" not in renamed.uns


def test_every_level_of_one_of_several_condition_columns(fitted: AnnData) -> None:
    table = effects(fitted, {"condition": "ctrl"}, key="joint").reset_index()
    assert sorted(table["target"]) == ["drug/high", "stim"]
    assert fitted.uns["treatment_effect"]["params"]["reference"] == "condition=ctrl"


def test_every_combination_of_the_columns_that_are_named(fitted: AnnData) -> None:
    table = effects(fitted, {"condition": "ctrl", "donor": "d1"}, key="joint").reset_index()
    assert len(table) == 5
    assert "condition=stim, donor=d2" in set(table["target"])


def test_reference_of_several_levels(fitted: AnnData) -> None:
    assert effects(fitted, ["ctrl", "drug/high"]).reset_index()["target"].tolist() == ["stim"]


def test_cells_without_a_group_count_for_all_alone(mixture: AnnData) -> None:
    some = mixture.copy()
    some.obs["group"] = np.where(np.arange(some.n_obs) % 2, "half", None)
    with pytest.warns(UserWarning, match="900 of 1800 cells have no label in 'group' and are left out of its rows"):
        table = effects(some, groupby="group").loc["response"]
    assert set(table.index.get_level_values("group")) == {"half", "(all)"}
    assert table["n_target"]["(all)"].item() == 600 > table["n_target"]["half"].item()


@pytest.mark.parametrize("file", ["h5ad", "zarr"])
def test_round_trip(mixture: AnnData, tmp_path: Path, file: str) -> None:
    cells = mixture.copy()
    cells.obs["group"] = np.where(np.arange(cells.n_obs) % 200, "common", "rare")
    with pytest.warns(UserWarning, match=NO_EFFECT):
        effects(cells, groupby="group")
    getattr(cells, f"write_{file}")(tmp_path / "cells")
    read = getattr(ad, f"read_{file}")(tmp_path / "cells").uns["treatment_effect"]
    expected = cells.uns["treatment_effect"]
    assert expected["table"]["responds"].isna().any()
    pd.testing.assert_frame_equal(read["table"], expected["table"], check_dtype=False, check_index_type=False)
    np.testing.assert_equal(dict(read["params"]), expected["params"])


def test_copy_leaves_the_cells_alone(fitted: AnnData, unchanged: Unchanged) -> None:
    with unchanged(fitted):
        copy = tl.treatment_effect(fitted, reference="ctrl", progress=False, copy=True)
    assert "treatment_effect" in copy.uns


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"reference": "ctlr"}, KeyError, ["'ctlr'", "Did you mean 'ctrl'"]),
        ({"reference": ["ctrl", "stim", "drug/high"]}, ValueError, ["every level of 'condition'", "Name fewer"]),
        ({"reference": "ctrl", "key": "joint"}, TypeError, ["several columns", "'donor'"]),
        ({"reference": {"dose": "1"}}, KeyError, ["'dose'", "'condition'"]),
        ({"groupby": "cell_tpye"}, KeyError, ["'cell_tpye'", "there: 'condition'"]),
        ({"groupby": "condition"}, ValueError, ["groupby='condition'", "treatments differ in"]),
        ({"sample_key": "condition"}, ValueError, ["sample_key='condition'", "donors"]),
        ({"groupby": "nameless"}, ValueError, ["empty label in 'nameless'"]),
        ({"sample_key": "nameless"}, ValueError, ["empty label in 'nameless'"]),
        ({"groupby": "all"}, ValueError, [r"'\(all\)'", "Rename"]),
        ({"bandwidth": -1}, ValueError, ["bandwidth=-1", "'auto'"]),
        ({"key": "flow"}, KeyError, ["'flow'", "tl.fit"]),
        ({"key_added": "a/b"}, ValueError, ["a/b", "a_b"]),
    ],
)
def test_bad_input(
    fitted: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    fitted.obs["all"], fitted.obs["nameless"] = "(all)", ""
    with unchanged(fitted), pytest.raises(error) as caught:
        tl.treatment_effect(fitted, progress=False, **{"reference": "ctrl", **options})
    for part in parts:
        assert re.search(part, str(caught.value))


@pytest.mark.filterwarnings("ignore:Cells that lie far from all others")
def test_outlier_outweighs_nothing() -> None:
    rng = np.random.default_rng(0)
    condition = np.tile(["ctrl", "drug"], 200)
    x = rng.standard_normal((400, 2)) + (condition == "drug")[:, None]
    tables = []
    for far in (x[0, 0], -1e4):
        x[0, 0] = far
        adata = AnnData(obs=pd.DataFrame({"condition": condition}).rename(str), obsm={"X_pca": x.copy()})
        tl.fit(adata, "condition", max_steps=0, n_members=4, progress=False)
        tl.treatment_effect(adata, reference="ctrl", progress=False)
        tables.append(adata.uns["treatment_effect"]["table"].iloc[0])
    without, beside = tables
    tl.treatment_effect(some := adata[:60].copy(), reference="ctrl", progress=False)
    assert some.uns["treatment_effect"]["table"].iloc[0]["n_reference"] == 29  # of a part of the cells, too
    assert beside["js"] == pytest.approx(without["js"], rel=0.2)
    assert beside["kl_reference"] == pytest.approx(without["kl_reference"], rel=0.2)
    assert beside["n_reference"] == without["n_reference"] - 1


def test_effects_without_standard_error_are_not_said_to_be_none(mixture: AnnData) -> None:
    alone = cells_at(mixture.obsm["X_pca"], condition=mixture.obs["condition"].to_numpy())
    with pytest.warns(UserWarning, match="one member"):
        tl.fit(alone, "condition", **FAST | {"n_members": 1})
    table = effects(alone)
    assert table["js"].notna().all()
    assert table["responds"].isna().all()


def test_cells_of_labels_that_the_fit_has_not_seen_are_counted(mixture: AnnData) -> None:
    renamed = mixture.copy()
    renamed.obs["condition"] = renamed.obs["condition"].astype(str).replace("response", "III")
    with (
        pytest.warns(UserWarning, match=r"600 cells have labels in 'condition' .* not fitted on \('III'\)"),
        pytest.warns(UserWarning, match=NO_EFFECT),
    ):
        effects(renamed)


def test_cells_that_lost_their_label_are_counted(mixture: AnnData) -> None:
    lost = mixture.copy()
    lost.obs.loc[lost.obs_names[(lost.obs["condition"] == "response").to_numpy()][:70], "condition"] = np.nan
    with pytest.warns(UserWarning, match="70 cells have no label in 'condition', and take no part"):
        effects(lost)


def test_reference_without_cells_is_refused(mixture: AnnData) -> None:
    left = mixture[mixture.obs["condition"] != "ctrl"].copy()
    with pytest.raises(ValueError, match="No cell is of the reference 'ctrl'"):
        effects(left)
