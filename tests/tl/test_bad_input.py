"""Each kind of bad input: the error names the offender and the way out, and `adata` stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


def raises(error: type[Exception], *parts: str) -> Any:
    """Context that expects an error whose text has all the parts."""
    pattern = "(?s)" + "".join(f"(?=.*{part})" for part in parts)
    return pytest.raises(error, match=pattern)


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
        ({"covariates": None}, TypeError, ["covariates=None", "name of a column"]),
        ({"covariates": ["donor", "donor"]}, ValueError, ["'donor' is named 2 times in `covariates`"]),
        ({"covariates": "exact"}, ValueError, ["'exact' has 60 levels in 60 cells", r"`pd\.cut`", "leave it out"]),
        ({"condition": "exact"}, ValueError, ["Too few cells in 'exact'", "and 40 more", "60 levels", r"`pd\.cut`"]),
        ({"use_rep": "x_pca"}, KeyError, ["'x_pca'", "Did you mean 'X_pca'"]),
        ({"use_rep": "X"}, KeyError, ["'X'", r"sc\.pp\.pca\(adata\)"]),
        ({"use_rep": np.zeros((60, 2))}, TypeError, ["use_rep=.*ndarray", "name of an embedding"]),
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
    with unchanged(fresh), raises(ValueError, "'condition'", "only level", "'?ctrl'?", "two levels"):
        tl.fit(fresh, "condition", progress=False)


def test_no_labels_at_all(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obs["condition"] = np.nan
    with unchanged(fresh), raises(ValueError, "'condition'", "no cell has a label", "two levels"):
        tl.fit(fresh, "condition", progress=False)


def test_no_cells(fresh: AnnData, unchanged: Unchanged) -> None:
    empty = fresh[:0].copy()
    with unchanged(empty), raises(ValueError, "'condition'", "no cell has a label"):
        tl.fit(empty, "condition", progress=False)


def test_cells_without_labels_do_not_count_towards_a_level(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obs["donor"] = fresh.obs["donor"].where(np.arange(fresh.n_obs) >= 30)
    with unchanged(fresh), raises(ValueError, r"'ctrl' \(15\)", "30 cells without a label", "at least 20"):
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
    with unchanged(fresh), raises(ValueError, "stim", "19", "20", "merge"):
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


@pytest.mark.parametrize("side", ["target", "reference"])
@pytest.mark.parametrize(
    ("level", "error", "parts"),
    [
        ("stmi", KeyError, ["'stmi'", "'ctrl', 'drug/high', 'stim'", "Did you mean 'stim'"]),
        ({"dose": "1"}, KeyError, ["'dose'", "'condition'"]),
        (None, KeyError, ["'None'", "'ctrl', 'drug/high', 'stim'"]),
        (["ctrl", "stmi"], KeyError, ["'stmi'", "Did you mean 'stim'"]),
        ({}, ValueError, ["names no level"]),
        ([], ValueError, ["No level|names no level", "'ctrl'"]),
    ],
)
def test_unknown_side(
    cells: AnnData, unchanged: Unchanged, *, side: str, level: Any, error: type[Exception], parts: list[str]
) -> None:
    sides = {"target": "stim", "reference": "ctrl", side: level}
    with unchanged(cells), raises(error, *parts):
        tl.log_ratio(cells, **sides, progress=False)


@pytest.mark.parametrize(
    ("target", "reference"),
    [("stim", "stim"), (["ctrl", "stim"], ["stim", "ctrl"]), ({"condition": "stim"}, "stim"), (["stim"], "stim")],
)
def test_both_sides_the_same(cells: AnnData, unchanged: Unchanged, *, target: Any, reference: Any) -> None:
    with unchanged(cells), raises(ValueError, "stim", "the same", "Name two sides"):
        tl.log_ratio(cells, target=target, reference=reference, progress=False)


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"bandwidth": -1.0}, ValueError, [r"bandwidth=-1\.0", "'auto'"]),
        ({"bandwidth": "wide"}, ValueError, ["bandwidth='wide'", "'auto'"]),
        ({"bandwidth": None}, TypeError, ["bandwidth=None", "'auto'"]),
        ({"bandwidth": float("nan")}, ValueError, ["bandwidth=nan", "positive width"]),
        ({"bandwidth": float("inf")}, ValueError, ["bandwidth=inf", "positive width"]),
        ({"bandwidth": True}, TypeError, ["bandwidth=True", "positive width"]),
        ({"bandwidth": 1.0, "method": "ode"}, ValueError, [r"bandwidth=1\.0", "method='denoising'"]),
        ({"target": ["stim", "drug/high"], "method": "ode"}, ValueError, ["one level", "method='denoising'"]),
        ({"method": "sde"}, ValueError, ["'sde'", "'denoising', 'ode'"]),
        ({"key": "flow"}, KeyError, ["'flow'", r"scratio_sc\.tl\.fit"]),
        ({"key": "by_doner"}, KeyError, ["'by_doner'", "there: 'scratio'", "Did you mean 'by_donor'", "`key`"]),
        ({"flow": 3}, TypeError, ["`flow` is of type int", r"scratio_sc\.get\.flow"]),
        ({"use_rep": "X_umap"}, ValueError, ["'X_umap'", "fitted on 'X_pca'"]),
        ({"target": "stim", "key": "joint"}, TypeError, ["several columns", "'condition': ..., 'donor': ..."]),
        ({"key_added": "a/b"}, ValueError, ["a/b", "a_b"]),
        ({"key_added": "condition"}, ValueError, ["condition", "overwrite"]),
    ],
)
def test_log_ratio_refuses(
    cells: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    with unchanged(cells), raises(error, *parts):
        tl.log_ratio(cells, **{"target": "stim", "reference": "ctrl", "progress": False, **options})


def test_cells_of_other_dimensions(fitted: AnnData, fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"] = np.ones((fresh.n_obs, 5), np.float32)
    flow = scratio.get.flow(fitted)
    with unchanged(fresh), raises(ValueError, "5 dimensions", "fitted on 2"):
        tl.log_ratio(fresh, target="stim", reference="ctrl", flow=flow, progress=False)


def test_weights_of_another_format_version(cells: AnnData, unchanged: Unchanged) -> None:
    cells.uns["scratio"]["format_version"] = 99
    with unchanged(cells), raises(ValueError, "scratio", "format_version 99", "Fit again"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def test_stored_embedding_of_other_dimensions(cells: AnnData, unchanged: Unchanged) -> None:
    cells.obsm["X_pca"] = cells.obsm["X_pca"][:, :1]
    with unchanged(cells), raises(ValueError, "X_pca", "1 dimensions", "fitted on 2", "use_rep"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def test_embedding_to_score_that_is_not_finite(cells: AnnData, unchanged: Unchanged) -> None:
    set_embedding(cells, 3, np.nan)
    with unchanged(cells), raises(ValueError, f"1 of {cells.n_obs} cells", cells.obs_names[3], "Remove them"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def damage(entry: dict[str, Any], path: str, value: Any) -> None:
    *parents, leaf = path.split(" ")
    for name in parents:
        entry = entry[name]
    entry[leaf] = value


@pytest.mark.parametrize(
    ("path", "value", "part"),
    [
        ("params", "text", "'params'"),
        ("params use_rep", 3, "'params'"),
        ("params n_comps", "many", "'params'"),
        ("format_version", "text", ""),
        ("seed", {}, ""),
        ("scale", "text", ""),
        ("design", 3, ""),
        ("design groups", np.array(["a", "b"]), "groups"),
        ("members 0", 3, ""),
        ("members 0 weights", "text", ""),
        ("members 0 weights fine.inlet.weight", np.ones((3, 2)), ""),
        ("members 0 anchor center", np.array([np.nan, 0.0]), "center"),
        ("members 0 anchor basis", np.ones((3, 3)), "basis"),
        ("held_out", {}, "parts"),
    ],
)
def test_damaged_entry(cells: AnnData, unchanged: Unchanged, *, path: str, value: Any, part: str) -> None:
    damage(cells.uns["scratio"], path, value)
    with unchanged(cells), raises(ValueError, r"adata\.uns\['scratio'\]", "damaged", part, "Fit again"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


@pytest.mark.parametrize("entry", ["text", {}, {"params": {"use_rep": "X_pca"}}])
def test_entry_of_another_tool(cells: AnnData, unchanged: Unchanged, entry: Any) -> None:
    cells.uns["scratio"] = entry
    with unchanged(cells), raises(ValueError, r"adata\.uns\['scratio'\]", "no stored flow", r"scratio_sc\.tl\.fit"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def test_column_of_folds_that_holds_something_else(cells: AnnData, unchanged: Unchanged) -> None:
    cells.obs["scratio_fold"] = "first"
    with unchanged(cells), raises(ValueError, "scratio_fold", "first", "Delete the column"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def test_backed_cells_are_not_copied(fresh: AnnData, tmp_path: Path) -> None:
    fresh.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with raises(ValueError, "copy=True", r"`adata = adata\.to_memory\(\)`"):
        tl.fit(backed, "condition", copy=True, progress=False)
    backed.file.close()


def test_view_of_backed_cells(fresh: AnnData, tmp_path: Path) -> None:
    fresh.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    with raises(ValueError, "view of a backed AnnData", r"`adata = adata\.to_memory\(\)`"):
        tl.fit(backed[:50], "condition", progress=False)
    backed.file.close()


@pytest.mark.parametrize("name", ["design", "members", "scale", "held_out", "support"])
def test_damaged_entry_names_what_is_missing(cells: AnnData, unchanged: Unchanged, name: str) -> None:
    del cells.uns["scratio"][name]
    with unchanged(cells), raises(ValueError, "damaged", name, r"scratio_sc\.tl\.fit"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def test_own_level_missing_gives_nan_for_these_cells_alone(cells: AnnData) -> None:
    cells.obs["donor"] = pd.Series(cells.obs["donor"].astype(object)).where(np.arange(cells.n_obs) >= 2)
    with pytest.warns(UserWarning, match="2 of 35 cells are not scored"):
        tl.log_ratio(cells, target="stim", reference="ctrl", key="by_donor", progress=False)
    assert cells.obs["log_ratio"].isna().to_numpy().nonzero()[0].tolist() == [0, 1]


def test_own_level_that_the_fit_has_not_seen(cells: AnnData) -> None:
    cells.obs["donor"] = cells.obs["donor"].astype(str).where(np.arange(cells.n_obs) >= 2, "d9")
    with pytest.warns(UserWarning, match=r"2 of 35 cells are not scored .*'donor'.*'d9'") as caught:
        tl.log_ratio(cells, target="stim", reference="ctrl", key="by_donor", progress=False)
    assert caught[0].filename == __file__
    assert cells.obs["log_ratio"].isna().to_numpy().nonzero()[0].tolist() == [0, 1]


def test_own_level_needed_without_its_column(cells: AnnData, unchanged: Unchanged) -> None:
    del cells.obs["donor"]
    with unchanged(cells), raises(KeyError, "'donor'", "there: 'condition'", "name them all", "'donor': ..."):
        tl.log_ratio(cells, target="stim", reference="ctrl", key="by_donor", progress=False)


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"condition": "stmi"}, KeyError, ["'stmi'", "Did you mean 'stim'"]),
        ({"method": "sde"}, ValueError, ["'sde'", "'denoising', 'ode'"]),
        ({"key": "flow"}, KeyError, ["'flow'", r"scratio_sc\.tl\.fit"]),
        ({"flow": {}}, TypeError, ["`flow` is of type dict", r"scratio_sc\.get\.flow"]),
        ({"key_added": "a/b"}, ValueError, ["a/b", "a_b"]),
    ],
)
def test_log_density_refuses(
    cells: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    with unchanged(cells), raises(error, *parts):
        tl.log_density(cells, **{"condition": "stim", "progress": False, **options})


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"condition": "stmi"}, KeyError, ["'stmi'", "Did you mean 'stim'"]),
        ({"n_cells": 0}, ValueError, ["n_cells=0", "1 or more"]),
        ({"n_cells": 10.0}, TypeError, [r"n_cells=10\.0", "integer"]),
        ({"rng": "seed"}, TypeError, ["'seed'", "0 or more"]),
        ({"key": "flow"}, KeyError, ["'flow'", r"scratio_sc\.tl\.fit"]),
        ({"key": "by_donor"}, ValueError, ["'donor'", "'condition': ..., 'donor': ...", "'d1', 'd2'"]),
    ],
)
def test_sample_refuses(
    cells: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    with unchanged(cells), raises(error, *parts):
        tl.sample(cells, **{"n_cells": 5, "condition": "stim", **options})


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


def test_own_level_missing_does_not_matter_where_it_is_named(cells: AnnData) -> None:
    cells.obs["condition"] = pd.Series(cells.obs["condition"].astype(object)).where(np.arange(cells.n_obs) >= 2)
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert cells.obs["log_ratio"].notna().all()
