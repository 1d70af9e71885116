"""Differential abundance: what is written, what is found, and what is refused."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scratio_sc import tl
from scratio_sc.stats._permutation import PermutationTest
from scratio_sc.tl._differential_abundance import _changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

SIDES: dict[str, Any] = {"target": "stim", "reference": "ctrl", "progress": False}
KEY = "differential_abundance"


def cells_of_donors(n_donors: int = 8, *, enriched: float = 0.6) -> AnnData:
    """Two clouds; the second is a fifth of the cells of control donors, and `enriched` of those of the others."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(n_donors), 60)
    stim = donor < n_donors // 2
    second = rng.random(len(donor)) < np.where(stim, enriched, 0.2)
    x = rng.standard_normal((len(donor), 2)) + 9 * second[:, None]
    obs = pd.DataFrame(
        {
            "condition": np.where(stim, "stim", "ctrl"),
            "sample": [f"s{d}" for d in donor],
            "donor": [f"d{d % (n_donors // 2)}" for d in donor],
            "cell_type": np.where(second, "rare/type", "other"),
        },
        index=[f"cell_{i}" for i in range(len(donor))],
    )
    adata = ad.AnnData(x.astype(np.float32), obs=obs, obsm={"X_pca": x})
    tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    return adata


@pytest.fixture(scope="module")
def _donors() -> AnnData:
    return cells_of_donors()


@pytest.fixture
def donors(_donors: AnnData) -> AnnData:
    return _donors.copy()


@pytest.fixture(scope="module")
def _tested(_donors: AnnData) -> AnnData:
    adata = _donors.copy()
    tl.differential_abundance(adata, **SIDES, sample_key="sample", groupby="cell_type")
    return adata


@pytest.fixture
def tested(_tested: AnnData) -> AnnData:
    return _tested.copy()


def test_ratio_is_that_of_log_ratio(tested: AnnData) -> None:
    tl.log_ratio(tested, **SIDES)
    for end in ("", "_sd", "_extrapolated"):
        np.testing.assert_array_equal(tested.obs[f"{KEY}{end}"], tested.obs[f"log_ratio{end}"])


def test_bandwidth_is_that_of_the_ratio_alone(tested: AnnData) -> None:
    tl.log_ratio(tested, **SIDES, bandwidth=3.0)
    wide = tl.differential_abundance(tested, **SIDES, sample_key="sample", bandwidth=3.0, copy=True)
    assert wide is not None
    np.testing.assert_array_equal(wide.obs[KEY], tested.obs["log_ratio"])
    np.testing.assert_array_equal(wide.obs[f"{KEY}_fdr"], tested.obs[f"{KEY}_fdr"])


def test_enriched_cells_go_up_and_the_others_down(tested: AnnData) -> None:
    expected = np.where(tested.obs["cell_type"] == "other", "down", "up")
    assert (tested.obs[f"{KEY}_change"] == expected).mean() > 0.98


def test_ratio_that_is_next_to_nothing_agrees_with_no_change() -> None:
    effect, adjusted = np.array([0.5, 0.5, -2.0, -2.0]), np.full(4, 0.01)
    change = _changes(PermutationTest(effect, adjusted, adjusted), np.array([0.04, 0.06, -0.1, -0.3]), 0.1)
    assert change.tolist() == ["none", "up", "none", "down"]


def test_direction_is_named_where_the_ratio_of_the_cell_agrees() -> None:
    """A cell of a type that loses may share a branch with one that gains."""
    effect, adjusted = np.array([1.0, 1.0, -1.0, 1.0, 1.0]), np.array([0.05, 0.05, 0.05, 0.2, np.nan])
    change = _changes(PermutationTest(effect, adjusted, adjusted), np.array([0.5, -0.5, -0.5, 0.5, 0.5]), 0.1)
    assert change[:4].tolist() == ["up", "none", "down", "none"]
    assert change.isna().tolist() == [False] * 4 + [True]  # without a test nothing is said


def test_table_of_groups(tested: AnnData) -> None:
    table = tested.uns[KEY]["groups"].set_index("group")
    assert table["n_cells"].to_dict() == tested.obs["cell_type"].value_counts().to_dict()
    assert table.loc["rare/type", "log_fold_change"] == pytest.approx(np.log(3), abs=0.25)
    assert table.loc["rare/type", "pvalue"] == pytest.approx(2 / 70)
    assert table.loc["rare/type", "share_up"] > 0.98
    median = tested.obs.groupby("cell_type", observed=True)[KEY].median()
    np.testing.assert_allclose(table["median_log_ratio"], median[table.index], rtol=1e-6)


def test_exchanged_sides_exchange_the_directions(tested: AnnData) -> None:
    tl.differential_abundance(
        tested, target="ctrl", reference="stim", sample_key="sample", key_added="back", progress=False
    )
    np.testing.assert_allclose(tested.obs["back_fdr"], tested.obs[f"{KEY}_fdr"])
    assert (tested.obs["back_change"] == "up").sum() == (tested.obs[f"{KEY}_change"] == "down").sum() > 0


def test_cells_know_their_side(tested: AnnData) -> None:
    expected = tested.obs["condition"].map({"stim": "target", "ctrl": "reference"})
    assert (tested.obs[f"{KEY}_side"].astype(str) == expected).all()


def test_share_of_extrapolated_cells_is_that_of_the_group(tested: AnnData) -> None:
    table = tested.uns[KEY]["groups"].set_index("group")
    expected = tested.obs.groupby("cell_type")[f"{KEY}_extrapolated"].mean()
    np.testing.assert_allclose(table["share_extrapolated"], expected[table.index])


def test_pairs_of_samples_with_one_condition_each_are_called_so(donors: AnnData) -> None:
    with (
        pytest.warns(UserWarning, match="are left out of the test"),
        pytest.warns(UserWarning, match=r"there are 0 pairs .* `sample_key` names the donor"),
    ):
        tl.differential_abundance(donors, **SIDES, sample_key="sample", paired=True)


def test_paired_donors(donors: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"With 4 pairs of samples the smallest p-value there can be is 0\.125,"):
        tl.differential_abundance(donors, **SIDES, sample_key="donor", paired=True, groupby="cell_type")
    np.testing.assert_allclose(donors.uns[KEY]["groups"]["pvalue"], 2 / 16)


def test_no_difference_gives_no_discoveries() -> None:
    adata = cells_of_donors(enriched=0.2)
    tl.differential_abundance(adata, **SIDES, sample_key="sample")
    assert (adata.obs[f"{KEY}_change"] == "none").all()


def test_without_samples_there_are_ratios_alone(donors: AnnData) -> None:
    tl.differential_abundance(donors, **SIDES, groupby="cell_type")
    assert donors.obs[KEY].notna().all()
    assert donors.obs[f"{KEY}_fdr"].isna().all()
    assert donors.obs[f"{KEY}_change"].isna().all()
    assert donors.uns[KEY]["groups"][["pvalue", "share_up"]].isna().all(axis=None)


def test_one_sample_a_side_has_no_pvalues(donors: AnnData) -> None:
    one = donors[donors.obs["sample"].isin(["s0", "s4"])].copy()
    with pytest.warns(UserWarning, match="No p-values: the sample is the unit .* 1 samples of the target and 1 of"):
        tl.differential_abundance(one, **SIDES, sample_key="sample")
    assert one.obs[f"{KEY}_pvalue"].isna().all()


def test_small_samples_are_left_out(donors: AnnData) -> None:
    small = np.flatnonzero(donors.obs["sample"] == "s0")[5:]
    fewer = donors[np.setdiff1d(np.arange(donors.n_obs), small)].copy()
    with pytest.warns(UserWarning, match="left out of the test, as they have fewer than 20 cells: 's0'"):
        tl.differential_abundance(fewer, **SIDES, sample_key="sample")
    assert fewer.uns[KEY]["params"]["n_relabellings"] == 35


def test_same_seed_gives_the_same(tested: AnnData) -> None:
    again = tl.differential_abundance(tested, **SIDES, sample_key="sample", groupby="cell_type", copy=True)
    assert again is not None
    pd.testing.assert_frame_equal(again.obs, tested.obs)


def test_copy_leaves_the_cells_alone(donors: AnnData, unchanged: Unchanged) -> None:
    with unchanged(donors):
        tl.differential_abundance(donors, **SIDES, sample_key="sample", copy=True)


def test_file_keeps_everything(tested: AnnData, tmp_path: Path) -> None:
    tested.write_h5ad(tmp_path / "cells.h5ad")
    stored = ad.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(stored.uns[KEY]["groups"], tested.uns[KEY]["groups"], check_dtype=False)
    np.testing.assert_array_equal(stored.obs[f"{KEY}_fdr"], tested.obs[f"{KEY}_fdr"])
    assert stored.uns[KEY]["params"]["n_relabellings"] == 70


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sample_key": "smaple"}, KeyError, "No column 'smaple'.*Did you mean 'sample'"),
        ({"groupby": "type"}, KeyError, "No column 'type'"),
        ({"sample_key": "donor"}, ValueError, "Sample 'd0' of 'donor' has cells of both sides.*paired=True"),
        ({"paired": True}, ValueError, "paired=True .* `sample_key`"),
        ({"paired": "no", "sample_key": "sample"}, TypeError, "paired='no', expected True or False"),
        ({"bandwidth": -1.0}, ValueError, r"bandwidth=-1\.0, expected 'auto'"),
        ({"alpha": 0}, ValueError, "alpha=0, expected a number between 0 and 1"),
        ({"alpha": "5%"}, TypeError, "alpha='5%'"),
        ({"n_permutations": 0}, ValueError, "n_permutations=0, expected an integer of 1 or more"),
        ({"target": "stmi"}, KeyError, "'stmi' is not a level.*Did you mean 'stim'"),
        ({"target": "ctrl"}, ValueError, "are the same"),
        ({"target": ["stim", "ctrl"]}, ValueError, "240 cells are on both sides"),
        ({"key": "flow"}, KeyError, "No flow 'flow'"),
        ({"key_added": "a/b"}, ValueError, "a_b"),
        ({"groupby": "unknown", "sample_key": "sample"}, ValueError, "groupby='unknown': no cell of the target or"),
        ({"groupby": "nameless"}, ValueError, "480 cells have an empty label in 'nameless'"),
        ({"groupby": "cell"}, ValueError, "'cell' has 480 levels in 480 cells"),
    ],
)
def test_bad_input_is_refused(
    donors: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    donors.obs["unknown"], donors.obs["nameless"], donors.obs["cell"] = np.nan, "", donors.obs_names.to_numpy()
    with unchanged(donors), warnings.catch_warnings(), pytest.raises(error, match=f"(?s){text}"):
        tl.differential_abundance(donors, **SIDES | options)


def test_side_whose_label_was_renamed_since_the_fit_is_refused(donors: AnnData, unchanged: Unchanged) -> None:
    donors.obs["condition"] = donors.obs["condition"].astype(str).replace("ctrl", "control")
    with (
        unchanged(donors),
        pytest.raises(ValueError, match=r"No cell is of the reference 'ctrl'.*renamed since the fit"),
    ):
        tl.differential_abundance(donors, **SIDES, groupby="cell_type")


@pytest.mark.filterwarnings("ignore:Samples of 'sample' are left out of the test")
@pytest.mark.parametrize(
    ("missing", "message"),
    [(np.nan, "5 of 480 cells have no label in"), ("nan", "5 cells have the label 'nan' in")],
)
@pytest.mark.parametrize(("argument", "column"), [("sample_key", "sample"), ("groupby", "cell_type")])
def test_cells_without_sample_or_group_are_counted(
    donors: AnnData, *, missing: object, message: str, argument: str, column: str
) -> None:
    donors.obs[column] = donors.obs[column].astype(object)
    donors.obs.loc[donors.obs_names[:5], column] = missing
    with pytest.warns(UserWarning, match=f"{message} '{column}'"):
        tl.differential_abundance(donors, **SIDES | {argument: column})


def test_few_permutations_are_told_apart_from_few_samples(donors: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"nothing can be significant at alpha=0\.1.*raise `n_permutations`"):
        tl.differential_abundance(donors, **SIDES, sample_key="sample", n_permutations=1)


def test_cells_of_labels_that_the_fit_has_not_seen_are_counted(donors: AnnData) -> None:
    donors.obs.iloc[:10, donors.obs.columns.get_loc("condition")] = "renamed"
    with pytest.warns(UserWarning, match=r"10 cells have labels in 'condition' .* \('renamed'\), and take no part"):
        tl.differential_abundance(donors, **SIDES)


def in_batches(batch_of_sample: list[str]) -> AnnData:
    """The samples of `cells_of_donors`, fitted within batches."""
    adata = cells_of_donors()
    adata.obs["batch"] = adata.obs["sample"].map({f"s{i}": batch for i, batch in enumerate(batch_of_sample)})
    tl.fit(adata, "condition", covariates=["batch"], max_steps=0, n_members=2, progress=False)
    return adata


def test_samples_are_exchanged_within_batches() -> None:
    adata = in_batches(list("aabbaabb"))
    tl.differential_abundance(adata, **SIDES, sample_key="sample")
    assert adata.uns[KEY]["params"]["n_relabellings"] == 6 * 6


def test_samples_without_the_other_side_in_their_batch_are_named() -> None:
    adata = in_batches(list("aaabaaaa"))
    with pytest.warns(UserWarning, match="one of the other side within 'batch' have no say in the test: 's3'"):
        tl.differential_abundance(adata, **SIDES, sample_key="sample")
    assert adata.uns[KEY]["params"]["n_relabellings"] == 35


def test_cells_without_a_batch_leave_the_others_in_theirs() -> None:
    adata = in_batches(list("aabbaabb"))
    adata.obs.loc[["cell_0", "cell_70"], "batch"] = np.nan
    with pytest.warns(UserWarning, match="2 of 480 cells are not scored"):
        tl.differential_abundance(adata, **SIDES, sample_key="sample")
    assert adata.uns[KEY]["params"]["n_relabellings"] == 6 * 6


def test_samples_without_a_batch_are_not_exchanged_with_each_other() -> None:
    adata = in_batches(list("aaabaaab"))
    adata.obs.loc[adata.obs["sample"].isin(["s3", "s7"]), "batch"] = np.nan
    no_say, unscored = "within 'batch' have no say in the test: 's3', 's7'", "are not scored"
    with pytest.warns(UserWarning, match=no_say), pytest.warns(UserWarning, match=unscored):
        tl.differential_abundance(adata, **SIDES, sample_key="sample")
    assert adata.uns[KEY]["params"]["n_relabellings"] == 20


def test_batches_that_go_with_the_condition_leave_no_test() -> None:
    adata = in_batches(list("aaabbbbb"))
    no_test, no_evidence = "No p-values: the fit holds 'batch' fixed", "are no evidence"
    with pytest.warns(UserWarning, match=no_test), pytest.warns(UserWarning, match=no_evidence):
        tl.differential_abundance(adata, **SIDES, sample_key="sample")
    assert adata.obs[KEY + "_pvalue"].isna().all()


def test_types_that_the_fit_holds_fixed_are_said_to_change_no_ratio() -> None:
    adata = cells_of_donors()
    tl.fit(adata, "condition", covariates=["cell_type"], max_steps=0, n_members=2, progress=False)
    differs, nothing = "'cell_type' fixed, which differs within samples", "cannot be told apart"
    with pytest.warns(UserWarning, match=differs), pytest.warns(UserWarning, match=nothing):
        tl.differential_abundance(adata, **SIDES, sample_key="sample", groupby="cell_type")
    assert (adata.uns[KEY]["groups"]["pvalue"] < 0.05).all()
