"""What is in the way of a result is kept, unless it is an earlier result of the same function."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scratio_sc import get, tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

FAST = {"max_steps": 0, "n_members": 2, "progress": False}
SIDES = {"target": "stim", "reference": "ctrl", "progress": False}
FOUR = {
    "a": {"condition": "stim", "donor": "d1"},
    "b": {"condition": "ctrl", "donor": "d2"},
    "reference": {"condition": "ctrl", "donor": "d1"},
    "combination": {"condition": "stim", "donor": "d2"},
    "key": "by_donor",
    "progress": False,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "batch_score": {"batch": "donor", "groupby": "condition", "use_rep": "X_pca", **FAST},
    "differential_abundance": SIDES,
    "interaction": FOUR,
    "log_density": {"condition": "stim", "progress": False},
    "log_ratio": SIDES,
    "null_check": {**SIDES, "n_permutations": 1},
    "ratio_genes": {"key": "exact"},
    "treatment_effect": {"reference": "ctrl", "progress": False},
}


@pytest.fixture(scope="module")
def _with_names_in_the_way(_fitted: AnnData) -> AnnData:
    adata = _fitted[::2].copy()
    adata.obs["d_sd"] = adata.obs["x_fold"] = adata.obs["donor"]
    tl.fit(adata, "condition", covariates=["d_sd"], **FAST)
    return adata


@pytest.fixture
def cells(_with_names_in_the_way: AnnData) -> AnnData:
    return _with_names_in_the_way.copy()


@pytest.mark.parametrize("function", OPTIONS)
def test_flow_is_kept(cells: AnnData, unchanged: Unchanged, function: str) -> None:
    with unchanged(cells), pytest.raises(ValueError, match=r"a fitted flow, .*\['scratio'\]. Use another `key_added`"):
        getattr(tl, function)(cells, **OPTIONS[function], key_added="scratio")


@pytest.mark.parametrize("function", OPTIONS)
@pytest.mark.parametrize("entry", [{"params": {"function": "other"}}, {"params": {}}, "text"])
def test_entry_of_another_function_is_kept(cells: AnnData, unchanged: Unchanged, function: str, *, entry: Any) -> None:
    cells.uns["mine"] = entry
    message = (
        rf"what tl.{function} did not write, .*\['mine'\]. Use another `key_added`, or .*`del adata.uns\['mine'\]`"
    )
    with unchanged(cells), pytest.raises(ValueError, match=message):
        getattr(tl, function)(cells, **OPTIONS[function], key_added="mine")


def test_fit_keeps_a_result(cells: AnnData, unchanged: Unchanged) -> None:
    cells.uns["log_ratio"] = {"params": {"function": "log_ratio"}}
    with unchanged(cells), pytest.raises(ValueError, match=r"what tl.fit did not write, adata.uns\['log_ratio'\]"):
        tl.fit(cells, "condition", **FAST, key_added="log_ratio")


@pytest.mark.parametrize("function", OPTIONS)
def test_earlier_result_is_replaced(cells: AnnData, function: str) -> None:
    getattr(tl, function)(cells, **OPTIONS[function])
    getattr(tl, function)(cells, **OPTIONS[function])
    assert cells.uns[function]["params"]["function"] == function


NO_QUESTIONS = {"adata", "copy", "flow", "key_added", "progress"}


@pytest.mark.parametrize("function", OPTIONS)
def test_params_are_the_arguments(cells: AnnData, function: str) -> None:
    getattr(tl, function)(cells, **OPTIONS[function])
    asked = {*inspect.signature(getattr(tl, function)).parameters} - NO_QUESTIONS
    assert asked <= {*cells.uns[function]["params"]}


@pytest.mark.parametrize("function", sorted({*OPTIONS} - {"ratio_genes"}))
def test_params_name_the_embedding(cells: AnnData, function: str) -> None:
    getattr(tl, function)(cells, **OPTIONS[function])
    assert cells.uns[function]["params"]["use_rep"] == "X_pca"


@pytest.mark.parametrize(
    "function", ["batch_score", "differential_abundance", "interaction", "log_ratio", "treatment_effect"]
)
def test_params_have_the_weights_of_nodes(cells: AnnData, function: str) -> None:
    getattr(tl, function)(cells, **OPTIONS[function])
    params = cells.uns[function]["params"]
    assert params["node_weights"].shape[-1] == params["node_bandwidths"].shape[-1] > 1


def test_weights_of_nodes_are_those_of_each_treatment(cells: AnnData) -> None:
    tl.treatment_effect(cells, reference="ctrl", progress=False)
    params, flow = cells.uns["treatment_effect"]["params"], get.flow(cells)
    for name, weights in zip(params["treatments"], params["node_weights"], strict=True):
        np.testing.assert_array_equal(weights, flow.weights(name, "ctrl"))


@pytest.mark.parametrize("function", ["differential_abundance", "interaction", "log_ratio"])
def test_covariate_is_kept(cells: AnnData, unchanged: Unchanged, function: str) -> None:
    with unchanged(cells), pytest.raises(ValueError, match=r"column that is read, adata.obs\['d_sd'\]. Use another"):
        getattr(tl, function)(cells, **OPTIONS[function] | {"key": "scratio"}, key_added="d")


def test_condition_is_kept(cells: AnnData, unchanged: Unchanged) -> None:
    with unchanged(cells), pytest.raises(ValueError, match=r"column that is read, adata.obs\['x_fold'\]"):
        tl.fit(cells, "x_fold", **FAST, key_added="x")


def test_groups_are_kept(cells: AnnData, unchanged: Unchanged) -> None:
    cells.obs["e_fdr"] = cells.obs["condition"]
    with unchanged(cells), pytest.raises(ValueError, match=r"column that is read, adata.obs\['e_fdr'\]"):
        tl.differential_abundance(cells, **SIDES, groupby="e_fdr", key_added="e")


def test_folds_are_kept(cells: AnnData, unchanged: Unchanged) -> None:
    with unchanged(cells), pytest.raises(ValueError, match=r"column that is read, adata.obs\['scratio_fold'\]"):
        tl.log_density(cells, condition="stim", progress=False, key_added="scratio_fold")


@pytest.mark.parametrize("column", ["mine", "mine_sd"])
def test_columns_of_the_user_are_kept(cells: AnnData, unchanged: Unchanged, column: str) -> None:
    cells.obs[column] = 1.0
    with unchanged(cells), pytest.raises(ValueError, match=rf"would overwrite adata.obs\['{column}'\].*del adata.obs"):
        tl.log_ratio(cells, **SIDES, key_added="mine")


def test_earlier_result_whose_entry_is_lost_is_replaced(cells: AnnData) -> None:
    tl.log_ratio(cells, **SIDES)
    del cells.uns["log_ratio"]
    tl.log_ratio(cells, **SIDES)
    assert "log_ratio" in cells.uns


COLUMNS = {
    "batch_score": "batch_score_X_pca",
    "differential_abundance": "differential_abundance_side",
    "fit": "scratio_fold",
    "interaction": "interaction_extrapolated",
    "log_density": "log_density",
    "log_ratio": "log_ratio",
}


@pytest.mark.parametrize(("function", "column"), COLUMNS.items())
def test_text_is_no_earlier_result(cells: AnnData, unchanged: Unchanged, function: str, *, column: str) -> None:
    cells.obs[column] = "my own notes"
    options = OPTIONS.get(function, {"condition": "condition", **FAST})
    if function == "fit":
        del cells.uns["scratio"]
    with unchanged(cells), pytest.raises(ValueError, match=f"would overwrite .*{column}"):
        getattr(tl, function)(cells, **options)
