"""The log ratio in its slots."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


def ratio(adata: AnnData, target: Any = "stim", reference: Any = "ctrl", **options: Any) -> np.ndarray:
    """Log ratio of a copy."""
    scored = tl.log_ratio(adata, target=target, reference=reference, progress=False, copy=True, **options)
    assert scored is not None
    return scored.obs[options.get("key_added", "log_ratio")].to_numpy()


def test_writes_the_documented_slots_alone(cells: AnnData) -> None:
    before = set(cells.obs), set(cells.uns), set(cells.obsm)
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert set(cells.obs) - before[0] == {"log_ratio", "log_ratio_sd", "log_ratio_extrapolated"}
    assert set(cells.uns) - before[1] == {"log_ratio"}
    assert set(cells.obsm) == before[2]


@pytest.mark.parametrize(
    ("column", "dtype"), [("log_ratio", "float32"), ("log_ratio_sd", "float32"), ("log_ratio_extrapolated", "bool")]
)
def test_types_of_the_slots(cells: AnnData, column: str, dtype: str) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert cells.obs[column].dtype == dtype


def test_params_are_those_of_the_call(cells: AnnData) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", bandwidth=1, progress=False)
    params = cells.uns["log_ratio"]["params"]
    weights, bandwidths = params.pop("node_weights"), params.pop("node_bandwidths")
    losses = params.pop("held_out_log_loss"), params.pop("held_out_log_loss_prior")
    levels = {side: pairs.tolist() for side, pairs in params.pop("levels").items()}
    assert levels == {"target": [["condition", "stim"]], "reference": [["condition", "ctrl"]]}
    assert params == {
        "function": "log_ratio",
        "target": "stim",
        "reference": "ctrl",
        "key": "scratio",
        "use_rep": "X_pca",
        "method": "denoising",
        "bandwidth": 1.0,
    }
    assert weights.shape == bandwidths.shape
    assert all(type(loss) is float and 0 < loss < np.inf for loss in losses)


@pytest.mark.parametrize(
    ("side", "text"),
    [
        ("stim", "stim"),
        (["stim", "drug/high"], "stim + drug/high"),
        ({"stim", "drug/high"}, "drug/high + stim"),
        ({"condition": "stim"}, "condition=stim"),
        ({"condition": ["stim", "drug/high"]}, "condition=stim + drug/high"),
    ],
)
def test_params_name_a_side(cells: AnnData, *, side: Any, text: str) -> None:
    few = cells[:3].copy()
    tl.log_ratio(few, target=side, reference="ctrl", progress=False)
    assert few.uns["log_ratio"]["params"]["target"] == text


@pytest.mark.parametrize(("method", "bandwidth", "noted"), [("denoising", "auto", "auto"), ("ode", "auto", 0.0)])
def test_params_have_the_bandwidth_that_was_used(
    cells: AnnData, *, method: Any, bandwidth: Any, noted: str | float
) -> None:
    few = cells[:1].copy()
    tl.log_ratio(few, target="stim", reference="ctrl", method=method, bandwidth=bandwidth, progress=False)
    assert few.uns["log_ratio"]["params"]["bandwidth"] == noted


def test_follows_the_exact_ratio(fitted: AnnData) -> None:
    tl.log_ratio(fitted, target="stim", reference="ctrl", progress=False)
    assert fitted.obs["log_ratio"].corr(fitted.obs["exact"]) > 0.9


def test_antisymmetric(cells: AnnData) -> None:
    np.testing.assert_array_equal(ratio(cells, "stim", "ctrl"), -ratio(cells, "ctrl", "stim"))


def test_transitive_at_the_finest_bandwidth(cells: AnnData) -> None:
    steps = ratio(cells, "stim", "drug/high", bandwidth=0) + ratio(cells, "drug/high", "ctrl", bandwidth=0)
    np.testing.assert_allclose(ratio(cells, "stim", "ctrl", bandwidth=0), steps, atol=1e-5)


def test_a_cell_does_not_depend_on_its_neighbours(cells: AnnData) -> None:
    order = np.random.default_rng(0).permutation(cells.n_obs)[:20]
    np.testing.assert_allclose(ratio(cells[order].copy()), ratio(cells)[order], atol=1e-5)


def test_cells_without_a_fold_are_scored_by_all_members(cells: AnnData) -> None:
    flow = scratio.get.flow(cells)
    bare = cells.copy()
    del bare.obs["scratio_fold"]
    with pytest.warns(UserWarning, match="No column 'scratio_fold' in adata.obs: .* not out of fold"):
        by_all = ratio(bare)
    np.testing.assert_array_equal(by_all, ratio(bare, flow=flow))


def test_the_own_flow_passed_by_hand_is_warned_of(fitted: AnnData) -> None:
    flow = scratio.get.flow(fitted)
    del fitted.obs["scratio_fold"]
    with pytest.warns(UserWarning, match="fitted on these very cells, and scored by it they are not out of fold"):
        ratio(fitted, flow=flow)


def test_a_given_flow_knows_its_embedding(fresh: AnnData) -> None:
    fresh.obsm["X_scVI"] = fresh.obsm["X_pca"] + 3
    tl.fit(fresh, "condition", use_rep="X_scVI", max_steps=0, n_members=2, progress=False)
    new = fresh[:20].copy()
    new.obsm["X_scVI"] = new.obsm["X_scVI"] + 0.1
    expected = ratio(new, flow=scratio.get.flow(fresh), use_rep="X_scVI")
    np.testing.assert_array_equal(ratio(new, flow=scratio.get.flow(fresh)), expected)


def test_another_embedding_than_that_of_the_fit_is_refused(cells: AnnData, unchanged: Unchanged) -> None:
    cells.obsm["X_other"] = cells.obsm["X_pca"]
    with (
        unchanged(cells),
        pytest.raises(ValueError, match=r"use_rep='X_other'.* fitted on 'X_pca'.*Leave `use_rep` out") as refused,
    ):
        tl.log_ratio(cells, target="stim", reference="ctrl", use_rep="X_other", progress=False)
    assert "`scratio.tl.fit(adata, 'condition', use_rep='X_other')`" in str(refused.value)


def test_embedding_computed_again_for_some_cells_is_warned_of(cells: AnnData) -> None:
    some = cells[::2].copy()
    some.obsm["X_pca"] = some.obsm["X_pca"][:, ::-1].copy()
    with pytest.warns(UserWarning, match="is not what the flow was fitted on"):
        ratio(some)


def test_other_cells_in_another_embedding_are_warned_of(cells: AnnData) -> None:
    some = cells[::2].copy()
    some.obsm["X_pca"] = some.obsm["X_pca"][:, ::-1] * [1, -1] + [8, 8]
    with pytest.warns(UserWarning, match="like no cells of the fit.*the embedding computed again") as caught:
        ratio(some, flow=scratio.get.flow(cells))
    assert len(caught) == 1


@pytest.mark.filterwarnings("ignore:The two sides cannot be told apart")
def test_type_of_a_condition_that_is_not_compared_is_no_other_embedding() -> None:
    rng = np.random.default_rng(0)
    condition = np.repeat(["a", "b", "c"], 100)
    x = rng.standard_normal((300, 2)) + 20 * (np.arange(300) >= 220)[:, None]
    adata = ad.AnnData(obs=pd.DataFrame({"condition": condition}).rename(str), obsm={"X_pca": x})
    tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    tl.log_ratio(adata, target="b", reference="a", progress=False)
    assert adata.obs["log_ratio_extrapolated"][condition == "c"].mean() > 0.7


@pytest.mark.filterwarnings("ignore:adata.obsm..X_pca.. is not what the flow was fitted on")
def test_extrapolated_is_the_share_of_the_scored_cells(fitted: AnnData) -> None:
    some = fitted[:100].copy()
    some.obs["donor"] = np.where(np.arange(100) < 50, None, some.obs["donor"])
    some.obsm["X_pca"] = some.obsm["X_pca"] + 50
    with pytest.warns(UserWarning, match="100% of their cells have hardly any cells|not scored"):
        tl.log_ratio(some, target="stim", reference="ctrl", key="by_donor", progress=False)
    assert some.obs["log_ratio_extrapolated"].mean() == 0.5
    assert some.uns["log_ratio"]["overlap"]["extrapolated"] == 1


def test_contrast_that_no_cell_can_judge_has_no_calibration(fitted: AnnData) -> None:
    tl.log_ratio(fitted, target={"donor": "d1"}, reference={"donor": "d2"}, key="by_donor", progress=False)
    assert np.isnan(fitted.uns["log_ratio"]["calibration"]["expected_calibration_error"])
    with pytest.raises(ValueError, match="nothing to draw for 'donor=d1'"):
        scratio.pl.calibration(fitted, show=False)


def test_a_given_flow_scores_cells_without_labels(fitted: AnnData, fresh: AnnData) -> None:
    del fresh.obs["condition"]
    tl.log_ratio(fresh, target="stim", reference="ctrl", flow=scratio.get.flow(fitted), progress=False)
    assert fresh.obs["log_ratio"].corr(fresh.obs["exact"]) > 0.9
    assert fresh.uns["log_ratio"]["params"]["key"] == ""


def test_several_ratios_side_by_side(cells: AnnData) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", key_added="first", progress=False)
    first = cells.obs["first"].copy()
    tl.log_ratio(cells, target="drug/high", reference="ctrl", key_added="second", progress=False)
    np.testing.assert_array_equal(cells.obs["first"], first)


def test_own_covariate_differs_from_their_mixture(cells: AnnData) -> None:
    donors = ["d1", "d2"]
    own = ratio(cells, key="by_donor")
    mixed = ratio(
        cells,
        {"condition": "stim", "donor": donors},
        {"condition": "ctrl", "donor": donors},
        key="by_donor",
    )
    assert not np.allclose(own, mixed)


def test_several_condition_columns(cells: AnnData) -> None:
    values = ratio(cells, {"condition": "stim"}, {"condition": "ctrl"}, key="joint", bandwidth=0)
    assert np.isfinite(values).all()


def test_plain_ratio_by_ode_is_close(cells: AnnData) -> None:
    few = cells[:6].copy()
    by_ode = ratio(few, method="ode")
    np.testing.assert_allclose(by_ode, ratio(few, bandwidth=0), atol=0.5)


def test_copy_leaves_the_original(cells: AnnData, unchanged: Unchanged) -> None:
    with unchanged(cells):
        scored = tl.log_ratio(cells, target="stim", reference="ctrl", progress=False, copy=True)
    assert scored is not None
    assert "log_ratio" in scored.obs


def test_log_names_the_slots(cells: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "scratio_sc"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert "obs['log_ratio'], obs['log_ratio_sd'], obs['log_ratio_extrapolated']" in caplog.text


@pytest.mark.parametrize("progress", [True, False])
def test_progress(cells: AnnData, capsys: pytest.CaptureFixture[str], *, progress: bool) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("scoring" in err) is progress
    assert bool(err) is progress


@pytest.mark.parametrize(
    "side",
    [["stim"], {"condition": "stim"}, {"condition": ["stim"]}, np.array(["stim"]), pd.Index(["stim"]), {"stim"}],
    ids=["list", "dict", "dict of list", "array", "index", "set"],
)
def test_forms_of_a_side(cells: AnnData, side: Any) -> None:
    few = cells[:8].copy()
    np.testing.assert_array_equal(ratio(few, side), ratio(few))


def test_order_in_a_mixture_does_not_matter(cells: AnnData) -> None:
    few = cells[:8].copy()
    one, other = (ratio(few, list(side)) for side in (("stim", "drug/high"), ("drug/high", "stim")))
    np.testing.assert_array_equal(one, other)


def test_a_mixture_is_the_mean_of_the_likelihoods(cells: AnnData) -> None:
    """Conditions of as many cells weigh the same; every cell is scored by the one member that had not seen it."""
    parts = [ratio(cells, level, bandwidth=0) for level in ("stim", "drug/high")]
    mixed = ratio(cells, ["stim", "drug/high"], bandwidth=0)
    np.testing.assert_allclose(mixed, np.logaddexp(*parts) - np.log(2), atol=1e-5)


def test_fitted_cells_are_scored_out_of_fold(cells: AnnData) -> None:
    fold = cells.obs["scratio_fold"].to_numpy()
    expected = scratio.get.flow(cells).log_ratio(cells.obsm["X_pca"], "stim", "ctrl", fold=fold).value
    np.testing.assert_array_equal(ratio(cells), expected.astype(np.float32))


def test_cells_that_joined_later_are_scored_by_all_members(cells: AnnData) -> None:
    """`ad.concat` leaves NaN where one part has no folds."""
    old, new = cells[:6].copy(), cells[6:12].copy()
    del new.obs["scratio_fold"]
    both = ad.concat([old, new], join="outer", uns_merge="first")
    np.testing.assert_array_equal(ratio(both), np.concatenate([ratio(old), ratio(new, flow=scratio.get.flow(cells))]))


def test_unnamed_covariate_is_the_own_one_of_each_cell(cells: AnnData) -> None:
    own = ratio(cells, key="by_donor")
    for donor in ("d1", "d2"):
        named = ratio(cells, *({"condition": level, "donor": donor} for level in ("stim", "ctrl")), key="by_donor")
        mine = (cells.obs["donor"] == donor).to_numpy()
        np.testing.assert_array_equal(own[mine], named[mine])


def test_unnamed_condition_column_is_the_own_one_of_each_cell(cells: AnnData) -> None:
    mine = cells[cells.obs["donor"] == "d2"].copy()
    sides = ({"condition": level, "donor": "d2"} for level in ("stim", "ctrl"))
    named = ratio(mine, *sides, key="joint", bandwidth=0)  # "auto" is judged by the cells of the sides that are named
    own = ratio(mine, {"condition": "stim"}, {"condition": "ctrl"}, key="joint", bandwidth=0)
    np.testing.assert_array_equal(own, named)


def test_condition_can_be_held_while_a_covariate_is_compared(cells: AnnData) -> None:
    mine = cells[cells.obs["condition"] == "ctrl"].copy()
    own = ratio(mine, {"donor": "d2"}, {"donor": "d1"}, key="by_donor")
    named = ratio(mine, *({"condition": "ctrl", "donor": donor} for donor in ("d2", "d1")), key="by_donor")
    np.testing.assert_array_equal(own, named)


@pytest.mark.filterwarnings("ignore:On held-out cells")
def test_bandwidth_beyond_all_cells_sees_nothing(cells: AnnData) -> None:
    assert np.abs(ratio(cells, bandwidth=1e4)).max() < 0.01 < np.abs(ratio(cells, bandwidth=0)).max()


@pytest.mark.filterwarnings("ignore:On held-out cells")
def test_a_wider_bandwidth_says_less(cells: AnnData) -> None:
    narrow, wide = (np.abs(ratio(cells, bandwidth=width)).mean() for width in (0, 2.0))
    assert wide < narrow


def test_far_cells_alone_are_extrapolated(fitted: AnnData) -> None:
    fitted.obsm["X_pca"][:5] += 50
    few = fitted[:100].copy()
    tl.log_ratio(few, target="stim", reference="ctrl", progress=False)
    assert few.obs["log_ratio_extrapolated"][:5].all()
    assert few.obs["log_ratio_extrapolated"][5:].mean() < 0.1


def test_standard_errors_are_positive(cells: AnnData) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert (cells.obs["log_ratio_sd"] > 0).all()


def test_no_cells(cells: AnnData) -> None:
    empty = cells[:0].copy()
    tl.log_ratio(empty, target="stim", reference="ctrl", progress=False)
    assert empty.obs["log_ratio"].dtype == np.float32


def test_view_becomes_actual_and_its_parent_stays(cells: AnnData, unchanged: Unchanged) -> None:
    view = cells[5:10]
    with unchanged(cells), pytest.warns(ad.ImplicitModificationWarning):
        tl.log_ratio(view, target="stim", reference="ctrl", progress=False)
    np.testing.assert_allclose(view.obs["log_ratio"], ratio(cells)[5:10], atol=1e-5)


def test_backed(cells: AnnData, tmp_path: Path) -> None:
    cells.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    tl.log_ratio(backed, target="stim", reference="ctrl", progress=False)
    np.testing.assert_array_equal(backed.obs["log_ratio"], ratio(cells))
    backed.file.close()


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_names_of_cells_make_no_difference(cells: AnnData) -> None:
    other = cells.copy()
    other.obs_names = ["cell"] * other.n_obs
    np.testing.assert_array_equal(ratio(other), ratio(cells))


def test_order_of_categories_makes_no_difference(cells: AnnData) -> None:
    other = cells.copy()
    other.obs["donor"] = pd.Categorical(other.obs["donor"], categories=["d9", "d2", "d1"])
    np.testing.assert_array_equal(ratio(other, key="by_donor"), ratio(cells, key="by_donor"))


def test_interrupt_leaves_adata_as_it_was(
    cells: AnnData, unchanged: Unchanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scratio_sc.flow._scores.node_log_likelihoods", interrupt)
    with unchanged(cells), pytest.raises(KeyboardInterrupt):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
