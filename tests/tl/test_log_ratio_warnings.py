"""Log ratios that should not be taken at face value: what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


def rotated(x: np.ndarray) -> np.ndarray:
    return np.column_stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]]) / np.sqrt(2)


@pytest.mark.filterwarnings("ignore:The two sides cannot be told apart")
@pytest.mark.parametrize("change", [rotated, np.negative, lambda x: 2 * x])
def test_embedding_that_has_changed_since_the_fit(change: Callable[[np.ndarray], np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.gamma(1, size=200), rng.normal(0, 2, 200)])
    adata = ad.AnnData(obs=pd.DataFrame({"condition": ["a", "b"] * 100}).rename(str), obsm={"X_pca": x})
    tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    adata.obsm["X_pca"] = change(x)
    with pytest.warns(UserWarning, match=r"adata.obsm\['X_pca'\] is not what the flow was fitted on"):
        tl.log_ratio(adata, target="a", reference="b", progress=False)


def test_cells_of_a_donor_with_one_condition_are_said_to_be_confounded() -> None:
    rng = np.random.default_rng(0)
    condition, donor = np.repeat(["a", "b"], 60), np.repeat(["d1", "d2"], 60)
    obs = pd.DataFrame({"condition": condition, "donor": donor}).rename(str)
    adata = ad.AnnData(obs=obs, obsm={"X_pca": rng.standard_normal((120, 2))})
    with pytest.warns(UserWarning, match="Every level of 'donor' has cells of one 'condition' only"):
        tl.fit(adata, "condition", covariates=["donor"], max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="100% of the cells have covariates that the fit has not seen under both"):
        tl.log_ratio(adata, target="a", reference="b", progress=False)


def test_combination_that_no_cell_has_is_named() -> None:
    rng = np.random.default_rng(0)
    drug, time = np.repeat(["no", "no", "yes"], 60), np.repeat(["early", "late", "late"], 60)
    adata = ad.AnnData(obs=pd.DataFrame({"drug": drug, "time": time}).rename(str), obsm={"X_pca": rng.random((180, 2))})
    tl.fit(adata, ["drug", "time"], max_steps=0, n_members=2, progress=False)
    sides = [{"drug": each, "time": "early"} for each in ("yes", "no")]
    with pytest.warns(UserWarning, match="No cell was fitted with the combination drug=yes, time=early"):
        tl.log_ratio(adata, target=sides[0], reference=sides[1], progress=False)


@pytest.mark.filterwarnings("error")
def test_warning_made_an_error_writes_nothing(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"][fresh.obs["condition"] == "stim"] += 50
    tl.fit(fresh, "condition", max_steps=0, n_members=2, progress=False)
    with unchanged(fresh), pytest.raises(UserWarning, match="hardly overlap"):
        tl.log_ratio(fresh, target="stim", reference="ctrl", progress=False)


def test_nothing_found_is_no_proof_that_there_is_nothing() -> None:
    adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    adata.obs["arm"] = np.random.default_rng(0).permutation(np.tile(["a", "b"], adata.n_obs // 2))
    tl.fit(adata, "arm", max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="cannot be told apart"):
        tl.log_ratio(adata, target="a", reference="b", progress=False)
    assert not adata.obs["log_ratio"].any()


def three_conditions(*, place_of_third: float, seed: int = 0) -> AnnData:
    rng = np.random.default_rng(seed)
    condition = np.repeat(["a", "b", "c"], 100)
    x = rng.standard_normal((300, 2)) + place_of_third * (condition == "c")[:, None] + 0.5 * (condition == "b")[:, None]
    return ad.AnnData(obs=pd.DataFrame({"condition": condition}).rename(str), obsm={"X_pca": x})


@pytest.mark.filterwarnings("error")
def test_new_cells_of_a_third_condition_of_the_fit_are_no_strangers() -> None:
    fitted, new = three_conditions(place_of_third=30), three_conditions(place_of_third=30, seed=1)
    tl.fit(fitted, "condition", max_steps=0, n_members=2, progress=False)
    tl.log_ratio(new, target="b", reference="a", flow=scratio.get.flow(fitted), progress=False)
    assert new.obs["log_ratio_extrapolated"][(new.obs["condition"] == "c").to_numpy()].all()


def test_new_cells_like_none_of_the_fit_are_strangers_beside_a_third_condition() -> None:
    fitted, new = three_conditions(place_of_third=30), three_conditions(place_of_third=-30, seed=1)
    tl.fit(fitted, "condition", max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="33% of the cells are like no cells of the fit"):
        tl.log_ratio(new, target="b", reference="a", flow=scratio.get.flow(fitted), progress=False)


@pytest.mark.parametrize(("turn", "n_warnings"), [(np.asarray, 0), (np.fliplr, 1)])
def test_new_cells_whose_labels_contradict_their_ratios_are_named(
    turn: Callable[[np.ndarray], np.ndarray], n_warnings: int, recwarn: pytest.WarningsRecorder
) -> None:
    """Axes that have changed places, among cells like those of the fit, are seen by the labels alone."""
    fitted, new = (scratio.datasets.gaussian_shift(400, n_dims=2, rng=seed) for seed in range(2))
    for adata in (fitted, new):
        adata.obsm["X_pca"] = adata.obsm["X_pca"] * np.where(adata.obs[["condition"]] == "target", [1, -1], 1)
    tl.fit(fitted, "condition", max_steps=0, n_members=2, progress=False)
    new.obsm["X_pca"] = turn(new.obsm["X_pca"])
    tl.log_ratio(new, target="target", reference="reference", flow=scratio.get.flow(fitted), progress=False)
    told = [str(one.message) for one in recwarn if one.category is UserWarning]
    assert len(told) == n_warnings
    assert all("400 cells of both sides were not fitted, and their own labels contradict" in one for one in told)


def test_new_cells_of_one_side_contradict_nothing() -> None:
    fitted, new = (scratio.datasets.gaussian_shift(400, n_dims=2, rng=seed) for seed in range(2))
    tl.fit(fitted, "condition", max_steps=0, n_members=2, progress=False)
    new = new[new.obs["condition"] == "target"].copy()
    tl.log_ratio(new, target="target", reference="reference", flow=scratio.get.flow(fitted), progress=False)


def test_a_bandwidth_that_leaves_nothing_is_to_blame(fresh_fit: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"At bandwidth=1e\+09 nothing .* bandwidth='auto'") as caught:
        tl.log_ratio(fresh_fit, target="stim", reference="ctrl", bandwidth=1e9, progress=False)
    assert len(caught) == 1


def test_a_bandwidth_is_not_to_blame_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(obs=pd.DataFrame({"condition": np.repeat(["a", "b"], 150)}).rename(str))
    adata.obsm["X_pca"] = rng.standard_normal((300, 2))
    tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    with pytest.warns(UserWarning, match="That does not prove them equal"):
        tl.log_ratio(adata, target="a", reference="b", bandwidth=0.5, progress=False)
