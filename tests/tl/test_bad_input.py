"""Each kind of bad input: the error names the offender and the way out, and `adata` stays as it was."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from helpers.errors import raises
from scipy import sparse

from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


@pytest.fixture
def _no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs are refused before anything is computed."""

    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted in spite of bad input")

    monkeypatch.setattr("scratio_sc.tl._fit.fit_flow", computed)


def set_embedding(adata: AnnData, cell: int, value: float) -> None:
    adata.obsm["X_pca"][cell, 0] = value


def keep(adata: AnnData, level: str, n: int) -> AnnData:
    """Cells with only `n` left of a level."""
    own = np.flatnonzero(adata.obs["condition"] == level)
    return adata[np.setdiff1d(np.arange(adata.n_obs), own[n:])].copy()


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"condition": "conditoin"}, KeyError, ["'conditoin'", "there: .*'condition'", "Did you mean 'condition'"]),
        ({"condition": "CONDITION"}, KeyError, ["'CONDITION'", "Did you mean 'condition'"]),
        ({"condition": None}, TypeError, ["condition=None", "name of a column"]),
        ({"condition": ["condition", 1]}, TypeError, [r"condition=\['condition', 1\]", "name of a column"]),
        ({"covariates": 5}, TypeError, ["covariates=5", "name of a column"]),
        ({"covariates": ["donor", "donor"]}, ValueError, ["'donor' is named 2 times in `covariates`"]),
        ({"covariates": "exact"}, ValueError, ["'exact' has 60 levels in 60 cells", r"`pd\.cut`", "leave it out"]),
        ({"condition": "exact"}, ValueError, ["Too few cells in 'exact'", "and 40 more", "60 levels", r"`pd\.cut`"]),
        ({"use_rep": "x_pca"}, KeyError, ["'x_pca'", "Did you mean 'X_pca'"]),
        ({"use_rep": "X"}, KeyError, ["'X'", r"sc\.pp\.pca\(adata\)"]),
        ({"use_rep": np.zeros((60, 2))}, TypeError, ["use_rep .*ndarray", "name of an embedding"]),
        ({"n_comps": 0}, ValueError, ["n_comps=0", "1 or more"]),
        ({"n_comps": 1.0}, TypeError, [r"n_comps=1\.0", "an integer"]),
        ({"n_members": "4"}, TypeError, ["n_members='4'", "an integer of 1 or more"]),
        ({"n_members": True}, TypeError, ["n_members=True", "an integer of 1 or more"]),
        ({"batch_size": 2.5}, TypeError, [r"batch_size=2\.5", "an integer of 1 or more"]),
        ({"max_steps": 1.5}, TypeError, [r"max_steps=1\.5", "'auto' or an integer"]),
        ({"device": None}, TypeError, ["device=None", "'auto'", "'cpu'"]),
        ({"device": "meta"}, ValueError, ["device='meta'", "on this machine", "Use 'auto' or 'cpu'"]),
        ({"rng": -1}, ValueError, ["rng=-1", "0 or more", "None"]),
        ({"rng": np.random.RandomState(0)}, TypeError, ["RandomState", "np.random.default_rng"]),
        ({"key_added": ""}, ValueError, ["key_added=''", "name of the slots"]),
        ({"key_added": None}, TypeError, ["key_added=None", "name of the slots"]),
        ({"covariates": ["batch"]}, KeyError, ["'batch'", "there: .*'donor'"]),
        ({"covariates": ["condition"]}, ValueError, ["'condition'", "leave it out of `covariates`"]),
        ({"condition": ["condition", "condition"]}, ValueError, ["'condition' is named 2 times"]),
        ({"condition": []}, ValueError, ["names no column", "there: .*'condition'"]),
        ({"use_rep": "X_scVI"}, KeyError, ["'X_scVI'", "there: 'X_pca'", "use_rep"]),
        ({"n_comps": 3}, ValueError, ["n_comps=3", "2 dimensions", "1 to 2"]),
        ({"n_members": 0}, ValueError, ["n_members=0", "1 or more"]),
        ({"batch_size": 0}, ValueError, ["batch_size=0", "1 or more"]),
        ({"max_steps": -1}, ValueError, ["max_steps=-1", "'auto'"]),
        ({"max_steps": "all"}, ValueError, ["max_steps='all'", "'auto'"]),
        ({"precision": "float8"}, ValueError, ["float8", "'bfloat16'"]),
        ({"device": "tpu"}, ValueError, ["tpu", "cpu"]),
        ({"rng": "seed"}, (ValueError, TypeError), ["'seed'", "integer"]),
        ({"key_added": "my/flow"}, ValueError, ["my/flow", "my_flow"]),
        ({"copy": "no"}, TypeError, ["copy='no'", "True or False"]),
        ({"condition": {"condition": 1}}, TypeError, ["condition=.*dict", "name of a column"]),
    ],
)
@pytest.mark.usefixtures("_no_fit")
def test_fit_refuses(
    fresh: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    options = {"condition": "condition", "max_steps": 2, **options}
    condition = options.pop("condition")
    with unchanged(fresh), raises(error, *parts):
        tl.fit(fresh, condition, progress=False, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.usefixtures("_no_fit")
def test_device_that_this_machine_lacks(fresh: AnnData, unchanged: Unchanged) -> None:
    with unchanged(fresh), raises(ValueError, "device='cuda'", "on this machine", "Use 'auto' or 'cpu'"):
        tl.fit(fresh, "condition", device="cuda", progress=False)


def test_missing_pcs_name_the_call_that_makes_them(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_other"] = fresh.obsm.pop("X_pca")
    with unchanged(fresh), raises(KeyError, "'X_pca'", "there: 'X_other'", r"sc\.pp\.pca"):
        tl.fit(fresh, "condition", progress=False)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embedding_that_is_not_finite(fresh: AnnData, unchanged: Unchanged, value: float) -> None:
    set_embedding(fresh, 7, value)
    first = fresh.obs_names[7]
    with unchanged(fresh), raises(ValueError, "1 of 60 cells", first, "Remove them"):
        tl.fit(fresh, "condition", progress=False)


def test_embedding_with_a_number_that_is_no_coordinate(fresh: AnnData, unchanged: Unchanged) -> None:
    set_embedding(fresh, 7, 1e20)
    with unchanged(fresh), raises(ValueError, r"beyond 1e\+15 in 1 of 60 cells", "'cell_7'") as caught:
        tl.fit(fresh, "condition", progress=False)
    names = {"adata": fresh}
    exec(str(caught.value).split("`")[1], names)
    assert names["adata"].n_obs == 59


@pytest.mark.parametrize("stored", [np.asarray, sparse.csr_matrix, pd.DataFrame])
def test_way_out_of_an_embedding_that_is_not_finite(fresh: AnnData, stored: Callable[[Any], Any]) -> None:
    """What the error says to run can be run, and removes the cells."""
    set_embedding(fresh, 7, np.nan)
    set_embedding(fresh, 9, np.inf)
    x = pd.DataFrame(fresh.obsm["X_pca"], index=fresh.obs_names)
    fresh.obsm["X_pca"] = stored(x)
    with raises(ValueError, "2 of 60 cells", "'cell_7', 'cell_9'") as caught:
        tl.fit(fresh, "condition", progress=False)
    names = {"adata": fresh, "np": np}
    exec(str(caught.value).split("`")[1], names)
    assert set(fresh.obs_names) - set(names["adata"].obs_names) == {"cell_7", "cell_9"}


@pytest.mark.parametrize("stored", [np.array([["1", "2"]] * 60), np.array([[1.0, "2"]] * 60, object)])
def test_embedding_of_numbers_written_as_text(fresh: AnnData, unchanged: Unchanged, stored: np.ndarray) -> None:
    fresh.obsm["X_text"] = stored
    with unchanged(fresh), raises(ValueError, "X_text", "numbers", "text", "use_rep"):
        tl.fit(fresh, "condition", use_rep="X_text", progress=False)


def test_complex_embedding_is_refused(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_fourier"] = fresh.obsm["X_pca"].astype(complex)
    with unchanged(fresh), pytest.raises(ValueError, match=r"X_fourier.*but holds complex ones"):
        tl.fit(fresh, "condition", use_rep="X_fourier")


def test_column_that_is_there_twice_is_refused(fresh: AnnData) -> None:
    fresh.obs = pd.concat([fresh.obs, fresh.obs[["condition"]]], axis=1)
    with pytest.raises(ValueError, match="several columns 'condition'"):
        tl.fit(fresh, "condition")


@pytest.mark.parametrize("swapped", [True, False])
def test_first_argument_that_is_no_anndata(fresh: AnnData, swapped: bool) -> None:
    arguments = ("condition", fresh) if swapped else (fresh.obs, "condition")
    with raises(TypeError, "`adata` is of type (str|DataFrame)", "expected an AnnData"):
        tl.fit(*arguments, progress=False)
    with raises(TypeError, "`adata` is of type (str|DataFrame)", "expected an AnnData"):
        tl.log_ratio(arguments[0], target="stim", reference="ctrl")


def test_list_for_the_name_of_a_column(cells: AnnData, unchanged: Unchanged) -> None:
    with unchanged(cells), raises(TypeError, r"\['donor'\] is of type list", "name of one column"):
        tl.treatment_effect(cells, reference="ctrl", groupby=["donor"], progress=False)


def test_embedding_of_text(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"] = pd.DataFrame({"PC1": ["low"] * fresh.n_obs}, index=fresh.obs_names)
    with unchanged(fresh), raises(ValueError, "X_pca", "numbers", "low"):
        tl.fit(fresh, "condition", progress=False)


def test_embedding_without_dimensions(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"] = np.empty((fresh.n_obs, 0))
    with unchanged(fresh), raises(ValueError, "X_pca", r"\(60, 0\)", "use_rep"):
        tl.fit(fresh, "condition", progress=False)


def test_constant_embedding(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"] = np.ones((fresh.n_obs, 2), np.float32)
    with unchanged(fresh), raises(ValueError, "X_pca", "same point", "use_rep"):
        tl.fit(fresh, "condition", progress=False)


def test_one_level(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh = fresh[fresh.obs["condition"] == "ctrl"].copy()
    with unchanged(fresh), raises(ValueError, "'condition'", "only level", "'?ctrl'?", "two conditions"):
        tl.fit(fresh, "condition", progress=False)


def test_no_labels_at_all(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obs["condition"] = np.nan
    with unchanged(fresh), raises(ValueError, "'condition'", "no cell has a label"):
        tl.fit(fresh, "condition", progress=False)


def test_covariate_without_labels_is_named(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obs["batch"] = np.nan
    with unchanged(fresh), raises(ValueError, "'batch'", "no cell has a label"):
        tl.fit(fresh, "condition", covariates="batch", progress=False)


def test_column_itself_is_no_name(fresh: AnnData, unchanged: Unchanged) -> None:
    with unchanged(fresh), raises(TypeError, "condition=.*Series", "name of a column"):
        tl.fit(fresh, fresh.obs["condition"], progress=False)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", ["text", "bool", "dates", "durations"])
@pytest.mark.parametrize("categories", [False, True])
def test_numbers_are_made_as_advised(
    fresh: AnnData, unchanged: Unchanged, *, kind: str, categories: bool, missing: bool
) -> None:
    number = np.arange(fresh.n_obs) % 2
    days = pd.to_timedelta(number, "D")
    kinds = {"text": number.astype(str).astype(object), "bool": number == 1, "durations": days}
    column = pd.Series(kinds.get(kind, pd.Timestamp("2024-01-01") + days))
    if missing:
        number, column = number.astype(float), column.astype(object) if kind == "bool" else column
        number[3], column[3] = np.nan, None
    fresh.obs["day"] = (column.astype("category") if categories else column).array
    with unchanged(fresh), pytest.raises(ValueError, match="column of numbers") as refused:
        tl.fit(fresh, "condition", covariates="day", numeric="day", progress=False)
    exec(re.findall("`(.*?)`", str(refused.value))[0], {"adata": fresh, "pd": pd})
    np.testing.assert_array_equal(fresh.obs["day"].to_numpy(float), number)


def test_text_is_no_number_whatever_is_done(fresh: AnnData, unchanged: Unchanged) -> None:
    with unchanged(fresh), pytest.raises(ValueError, match=r"Fit it as labels") as refused:
        tl.fit(fresh, "condition", numeric="condition", progress=False)
    assert "astype" not in str(refused.value)


def test_labels_that_no_cell_has_together(fresh: AnnData, unchanged: Unchanged) -> None:
    n = np.arange(fresh.n_obs)
    fresh.obs["batch"] = np.where(n % 2, "x", None)
    fresh.obs["condition"] = fresh.obs["condition"].astype(object).where(n % 2 == 0)
    with unchanged(fresh), raises(ValueError, "No cell has a label in all of 'condition', 'batch'"):
        tl.fit(fresh, "condition", covariates="batch", progress=False)


def test_no_cells(fresh: AnnData, unchanged: Unchanged) -> None:
    empty = fresh[:0].copy()
    with unchanged(empty), raises(ValueError, "`adata` has no cells"):
        tl.fit(empty, "condition", progress=False)


def test_cells_without_labels_do_not_count_towards_a_level(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obs["donor"] = fresh.obs["donor"].where(np.arange(fresh.n_obs) >= 30)
    with unchanged(fresh), raises(ValueError, r"'ctrl' \(15\)", "30 cells with no label in .donor.", "at least 20"):
        tl.fit(fresh, "condition", covariates=["donor"], progress=False)


def test_too_few_cells_of_a_combination(fresh: AnnData, unchanged: Unchanged) -> None:
    with unchanged(fresh), raises(ValueError, r"'ctrl' / 'd1' \(15\)", "'condition', 'donor'", "merge"):
        tl.fit(fresh, ["condition", "donor"], progress=False)


@pytest.mark.parametrize("unlabelled", [0, 4])
def test_way_out_of_too_few_cells_of_a_combination(fresh: AnnData, unlabelled: int) -> None:
    """What the error says to run can be run, and keeps the combinations of enough cells."""
    fresh.obs["sex"] = pd.Categorical(np.where(np.arange(60) < 8, "f", "m"))
    fresh.obs["batch"] = pd.Series("b1", fresh.obs_names).where(np.arange(60) >= unlabelled)
    fit = {"condition": ["condition", "sex"], "covariates": ["batch"], "max_steps": 0, "n_members": 2}
    with raises(ValueError, r"'ctrl' / 'f' \(\d\), 'stim' / 'f'") as caught:
        tl.fit(fresh, progress=False, **fit)
    names = {"adata": fresh}
    for line in str(caught.value).split("`")[1::2]:
        exec(line, names)
    tl.fit(names["adata"], progress=False, **fit)
    assert set(names["adata"].obs["sex"]) == {"m"}


def test_level_of_too_few_cells(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh = keep(fresh, "stim", 19)
    with unchanged(fresh), raises(ValueError, "stim", "19", "20", "more cells are needed"):
        tl.fit(fresh, "condition", progress=False)


def test_twenty_cells_are_enough(fresh: AnnData) -> None:
    fresh = keep(fresh, "stim", 20)
    tl.fit(fresh, "condition", max_steps=2, n_members=2, batch_size=64, progress=False)
    assert "scratio" in fresh.uns


def test_cells_without_a_label_are_left_out_with_a_warning(fresh: AnnData) -> None:
    fresh.obs["condition"] = fresh.obs["condition"].where(np.arange(fresh.n_obs) >= 3)
    with pytest.warns(UserWarning, match="3 of 60 cells have no label in 'condition'") as caught:
        tl.fit(fresh, "condition", max_steps=2, n_members=2, batch_size=64, progress=False)
    assert (fresh.obs["scratio_fold"] == -1).to_numpy().nonzero()[0].tolist() == [0, 1, 2]
    assert caught[0].filename == __file__


def test_columns_without_missing_labels_are_not_named(fresh: AnnData) -> None:
    fresh.obs["batch"] = pd.Series(np.repeat(["x", "y"], 30), fresh.obs_names).where(np.arange(fresh.n_obs) >= 3)
    with pytest.warns(UserWarning, match="3 of 60 cells have no label in 'batch' and are left out"):
        tl.fit(fresh, "condition", covariates=["batch"], max_steps=0, n_members=2, progress=False)


def test_a_single_member_is_warned_of(fresh: AnnData) -> None:
    with pytest.warns(UserWarning, match="one member has no standard errors"):
        tl.fit(fresh, "condition", max_steps=0, n_members=1, progress=False)


def test_names_of_cells_are_no_measurement(fresh: AnnData) -> None:
    fresh.obs["condition"] = fresh.obs_names.to_numpy()
    with pytest.raises(ValueError, match="There are 60 levels: name a column with fewer conditions"):
        tl.fit(fresh, "condition", progress=False)


def test_a_small_level_of_many_is_to_be_dropped() -> None:
    guide = np.repeat([f"guide{i}" for i in range(60)], 20)[:-5]
    adata = AnnData(obs=pd.DataFrame({"guide": guide}).rename(str), obsm={"X_pca": np.zeros((len(guide), 2))})
    with pytest.raises(ValueError, match=r"Too few cells in 'guide' for 'guide59' \(15\).*Drop these cells") as caught:
        tl.fit(adata, "guide", progress=False)
    scope = {"adata": adata}
    exec(re.findall("`(adata = .*?)`", str(caught.value))[0], scope)
    assert sorted(set(scope["adata"].obs["guide"])) == sorted(f"guide{i}" for i in range(59))


@pytest.mark.parametrize(("left_out", "merge"), [("a", False), ("", True)])
def test_small_levels_are_no_use_to_drop_where_one_would_remain(*, left_out: str, merge: bool) -> None:
    obs = pd.DataFrame({"condition": np.repeat(["a", "b", "c"], [15, 15, 40])}).rename(str)
    adata = AnnData(obs=obs, obsm={"X_pca": np.zeros((70, 2))})
    adata = adata[adata.obs["condition"] != left_out].copy()
    with pytest.raises(ValueError, match=r"'b' \(15\).*more cells") as caught:
        tl.fit(adata, "condition", progress=False)
    assert ("merge" in str(caught.value)) == merge
    assert "Drop" not in str(caught.value)


def test_covariate_of_many_texts_is_no_measurement() -> None:
    obs = pd.DataFrame({"condition": ["a", "b"] * 100, "guide": [f"sg{i // 3}" for i in range(200)]}).rename(str)
    adata = AnnData(obs=obs, obsm={"X_pca": np.zeros((200, 2))})
    with pytest.raises(ValueError, match="'guide' has 67 levels in 200 cells: too few cells have each") as caught:
        tl.fit(adata, "condition", covariates=["guide"], progress=False)
    assert "numeric" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Target and reference hardly overlap")
def test_empty_text_is_a_label_and_missing_is_not(fresh: AnnData) -> None:
    fresh.obs["batch"] = fresh.obs["donor"].replace({"d1": ""})
    with pytest.warns(UserWarning, match="30 cells have the label '' in 'batch'"):
        tl.fit(fresh, "condition", covariates=["batch"], max_steps=2, n_members=2, batch_size=64, progress=False)
    few = fresh[[0, 1, 30, 31]].copy()
    few.obs["batch"] = few.obs["batch"].astype(object)
    few.obs.loc[few.obs_names[0], "batch"] = None
    with pytest.warns(UserWarning, match="1 of 4 cells are not scored"):
        tl.log_ratio(few, target="stim", reference="ctrl", progress=False)
    assert few.obs["log_ratio"].isna().tolist() == [True, False, False, False]
