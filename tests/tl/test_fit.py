from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scratio_sc import tl

if TYPE_CHECKING:
    from pathlib import Path

FAST = {"max_steps": 2, "batch_size": 64, "n_members": 2, "progress": False}


def leaves(tree, path=()):
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def assert_same_flow(found, expected):
    found, expected = dict(leaves(found)), dict(leaves(expected))
    assert list(found) == list(expected)
    for path, value in expected.items():
        if path[0] != "params":
            np.testing.assert_array_equal(found[path], value, err_msg=str(path))


# --- what is written ---


def test_returns_none_and_adds_only_the_documented_slots(fresh, unchanged):
    expected = fresh.copy()
    assert tl.fit(fresh, "condition", **FAST) is None
    assert set(fresh.uns) == {"scratio"}
    assert set(fresh.obs) - set(expected.obs) == {"scratio_fold"}
    with unchanged(expected):
        del fresh.uns["scratio"], fresh.obs["scratio_fold"]
        expected.obs, expected.obsm["X_pca"] = fresh.obs, fresh.obsm["X_pca"]


def test_fold_is_int8_and_every_member_leaves_out_a_fold_of_all_conditions(fitted):
    fold = fitted.obs["scratio_fold"]
    assert fold.dtype == np.int8
    counts = pd.crosstab(fold, fitted.obs["condition"])
    assert list(counts.index) == [0, 1, 2, 3]
    assert (counts == 20).all(axis=None)


def test_params_are_those_of_the_call(fresh):
    tl.fit(fresh, "condition", covariates=["donor"], n_comps=2, rng=np.int64(7), **{**FAST, "batch_size": 32})
    params = fresh.uns["scratio"]["params"]
    assert params.pop("condition").tolist() == ["condition"]
    assert params.pop("covariates").tolist() == ["donor"]
    assert params.pop("numeric").tolist() == []
    assert params == {
        "use_rep": "X_pca",
        "n_comps": 2,
        "n_members": 2,
        "max_steps": "2",
        "batch_size": 32,
        "rng": 7,
        "device": "auto",
        "precision": "auto",
    }


@pytest.mark.parametrize(
    ("rng", "noted"), [(None, "none"), (np.random.default_rng(0), "generator"), (3, 3), ([1, 2], "[1, 2]")]
)
def test_params_note_the_seed(fresh, rng, noted):
    tl.fit(fresh, "condition", rng=rng, **FAST | {"max_steps": 0})
    assert fresh.uns["scratio"]["params"]["rng"] == noted


@pytest.mark.parametrize("key", ["scratio", "by_donor", "joint"])
def test_slot_holds_only_what_files_can_store(fitted, key):
    for path, value in leaves(fitted.uns[key]):
        assert all(isinstance(name, str) and "/" not in name for name in path), path
        if isinstance(value, np.ndarray):
            assert value.dtype.kind in "iufbO", path
            assert value.dtype.kind != "O" or all(type(item) is str for item in value.ravel()), path
        else:
            assert type(value) in (int, float, str, bool), path


def test_weights_are_float32(fitted):
    dtypes = {value.dtype for path, value in leaves(fitted.uns["scratio"]["members"]) if "weights" in path}
    assert dtypes == {np.dtype(np.float32)}


def test_labels_and_columns_are_no_keys(fitted):
    names = {name for path, _ in leaves(fitted.uns["joint"]) for name in path if "params" not in path}
    assert not names & {"ctrl", "stim", "drug/high", "d1", "d2", "d3", "donor"}


def test_copy_leaves_the_original(fresh, unchanged):
    with unchanged(fresh):
        copied = tl.fit(fresh, "condition", copy=True, **FAST)
    assert {"scratio"} == set(copied.uns)


def test_flows_side_by_side(fresh_fit):
    kept = dict(leaves(fresh_fit.uns["scratio"]))
    tl.fit(fresh_fit, "condition", key_added="two", rng=1, **FAST)
    assert {"scratio_fold", "two_fold"} <= set(fresh_fit.obs)
    for path, value in leaves(fresh_fit.uns["scratio"]):
        np.testing.assert_array_equal(value, kept[path])


def test_a_second_fit_replaces_the_first(fresh_fit):
    tl.fit(fresh_fit, "donor", **FAST)
    assert fresh_fit.uns["scratio"]["params"]["condition"].tolist() == ["donor"]


def test_results_of_a_former_flow_of_another_column_are_named(fresh_fit):
    tl.log_ratio(fresh_fit, target="stim", reference="ctrl", progress=False)
    with pytest.warns(UserWarning, match=r"What it gave is still there, .*: 'log_ratio'"):
        tl.fit(fresh_fit, "donor", **FAST)


def test_results_are_those_of_the_same_fit_again(fresh_fit):
    tl.log_ratio(fresh_fit, target="stim", reference="ctrl", progress=False)
    tl.fit(fresh_fit, "condition", **FAST, rng=1)  # where a warning would be an error


def test_log_names_the_slots(fresh, caplog):
    with caplog.at_level(logging.INFO, logger="scratio_sc"):
        tl.fit(fresh, "condition", key_added="mine", **FAST)
    assert caplog.messages[-1] == "fit: added uns['mine'], obs['mine_fold']"


@pytest.mark.parametrize("progress", [False, True])
def test_progress(fresh, capsys, progress):
    tl.fit(fresh, "condition", **FAST | {"progress": progress})
    out, err = capsys.readouterr()
    assert out == ""
    assert ("fitting" in err) is progress
    assert bool(err) is progress


def test_interrupt_leaves_adata_as_it_was(fresh, unchanged, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("scratio_sc.flow._fit.train", interrupt)
    with unchanged(fresh), pytest.raises(KeyboardInterrupt):
        tl.fit(fresh, "condition", **FAST)


# --- randomness ---


@pytest.mark.parametrize("rng", [0, np.int64(0), np.random.default_rng(0)], ids=["int", "numpy", "generator"])
def test_same_seed_same_flow(fresh, fresh_fit, rng):
    tl.fit(fresh, "condition", rng=rng, **FAST)
    assert_same_flow(fresh.uns["scratio"], fresh_fit.uns["scratio"])
    np.testing.assert_array_equal(fresh.obs["scratio_fold"], fresh_fit.obs["scratio_fold"])


@pytest.mark.parametrize("rng", [1, None])
def test_another_seed_another_flow(fresh, fresh_fit, rng):
    tl.fit(fresh, "condition", rng=rng, **FAST)
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        assert_same_flow(fresh.uns["scratio"]["members"], fresh_fit.uns["scratio"]["members"])


# --- inputs that work ---


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(
            lambda x: pd.DataFrame(x, index=[f"cell_{i}" for i in range(len(x))]).add_prefix("PC"), id="frame"
        ),
        pytest.param(sparse.csr_matrix, id="csr_matrix"),
        pytest.param(sparse.csc_array, id="csc_array"),
        pytest.param(lambda x: x.astype(np.float64), id="float64"),
        pytest.param(np.asfortranarray, id="fortran"),
    ],
)
def test_kind_of_array_makes_no_difference(fresh, fresh_fit, stored):
    fresh.obsm["X_pca"] = stored(fresh.obsm["X_pca"])
    tl.fit(fresh, "condition", **FAST)
    assert_same_flow(fresh.uns["scratio"], fresh_fit.uns["scratio"])


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_coarse_numbers_fit_as_the_floats_they_are(fresh, dtype):
    coarse = (8 * fresh.obsm["X_pca"] + 64).astype(dtype)
    other = fresh.copy()
    fresh.obsm["X_pca"], other.obsm["X_pca"] = coarse, coarse.astype(np.float64)
    for adata in (fresh, other):
        tl.fit(adata, "condition", **FAST)
    assert_same_flow(fresh.uns["scratio"], other.uns["scratio"])


def test_none_is_no_covariate_and_no_number(fresh, fresh_fit):
    tl.fit(fresh, "condition", covariates=None, numeric=None, **FAST)
    assert_same_flow(fresh.uns["scratio"], fresh_fit.uns["scratio"])


def test_n_comps_takes_the_first(fresh, fresh_fit):
    fresh.obsm["X_pca"] = np.column_stack([fresh.obsm["X_pca"], np.arange(fresh.n_obs)])
    tl.fit(fresh, "condition", n_comps=2, **FAST)
    assert_same_flow(fresh.uns["scratio"], fresh_fit.uns["scratio"])


def test_one_dimension(fresh):
    fresh.obsm["X_pca"] = fresh.obsm["X_pca"][:, :1]
    tl.fit(fresh, "condition", **FAST)
    tl.log_ratio(fresh, target="stim", reference="ctrl", progress=False)
    assert fresh.obs["log_ratio"].corr(fresh.obs["exact"]) > 0.8


def test_constant_dimension(fresh):
    fresh.obsm["X_pca"] = np.column_stack([fresh.obsm["X_pca"], np.full(fresh.n_obs, 3.0)])
    tl.fit(fresh, "condition", **FAST)
    tl.log_ratio(fresh, target="stim", reference="ctrl", progress=False)
    assert fresh.obs["log_ratio"].corr(fresh.obs["exact"]) > 0.8


@pytest.mark.filterwarnings("ignore:A flow of one member")
def test_single_member_has_no_spread(fresh):
    tl.fit(fresh, "condition", **FAST | {"n_members": 1})
    tl.log_ratio(fresh, target="stim", reference="ctrl", progress=False)
    assert fresh.obs["log_ratio_sd"].isna().all()
    assert fresh.obs["log_ratio"].notna().all()


def test_no_steps_leave_the_gaussian_anchor(fresh):
    tl.fit(fresh, "condition", **FAST | {"max_steps": 0})
    tl.log_ratio(fresh, target="stim", reference="ctrl", progress=False)
    assert fresh.obs["log_ratio"].corr(fresh.obs["exact"]) > 0.8


def test_fewer_cells_than_a_batch_and_more(fresh):
    small, large = fresh.copy(), fresh.copy()
    tl.fit(small, "condition", **{**FAST, "batch_size": 1})
    tl.fit(large, "condition", **{**FAST, "batch_size": 500})
    shapes = [{path: np.shape(value) for path, value in leaves(adata.uns["scratio"])} for adata in (small, large)]
    assert shapes[0] == shapes[1]


def test_view_becomes_actual_and_its_parent_stays(fitted, unchanged):
    view = fitted[: fitted.n_obs // 2]
    with unchanged(fitted), pytest.warns(ad.ImplicitModificationWarning):
        tl.fit(view, "condition", key_added="half", **FAST)
    assert not view.is_view
    assert "half" in view.uns


def test_view_is_not_written_with_copy(fresh, unchanged):
    view = fresh[:50]
    with unchanged(fresh):
        copied = tl.fit(view, "condition", copy=True, **FAST)
    assert view.is_view
    assert not copied.is_view


def test_backed(fresh, fresh_fit, tmp_path):
    fresh.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    tl.fit(backed, "condition", **FAST)
    assert_same_flow(backed.uns["scratio"], fresh_fit.uns["scratio"])
    backed.file.close()


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_names_of_cells_make_no_difference(fresh, fresh_fit):
    fresh.obs_names = ["cell"] * fresh.n_obs
    tl.fit(fresh, "condition", **FAST)
    np.testing.assert_array_equal(fresh.obs["scratio_fold"], fresh_fit.obs["scratio_fold"])


LABELS = {
    "int": ([0, 1], 1, 0),
    "float": ([0.5, 1.0], 1.0, 0.5),
    "float32": (np.array([0.1, 1], np.float32), 1, 0.1),
    "whole floats": ([0.0, 1.0], np.float32(1), 0),
    "bool": ([False, True], True, False),
    "str": (["a", "b"], "b", "a"),
    "category": (pd.Categorical(["a", "b"], categories=["unused", "b", "a"]), "b", "a"),
    "category of floats": (pd.Categorical([0.0, 1.0]), 1.0, 0),
    "nullable int": (pd.array([0, 1], dtype="Int64"), np.int64(1), 0),
    "nullable bool": (pd.array([False, True], dtype="boolean"), np.True_, False),
    "date": (pd.to_datetime(["2024-01-01", "2024-02-01"]), pd.Timestamp("2024-02-01"), "2024-01-01 00:00:00"),
    "duration": (pd.to_timedelta(["1h", "2h"]), pd.Timedelta("2h"), np.timedelta64(1, "h")),
    "slash": (["a", "a/b"], "a/b", "a"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_kind_of_label_makes_no_difference(fresh, fresh_fit, kind):
    """The ratio is that of the same cells with labels of text, whatever the labels are and are called by."""
    values, target, reference = LABELS[kind]
    code = (fresh.obs["condition"] == "stim").to_numpy(int)
    fresh.obs["label"] = pd.Series(values).take(code).array
    tl.fit(fresh, "label", **FAST)
    few, expected = fresh[:9].copy(), fresh_fit[:9].copy()
    tl.log_ratio(few, target=target, reference=reference, progress=False)
    tl.log_ratio(expected, target="stim", reference="ctrl", progress=False)
    np.testing.assert_array_equal(few.obs["log_ratio"], expected.obs["log_ratio"])


def test_integers_keep_their_names_beside_missing_labels(fresh):
    """A missing label makes floats of integers; 1 is still called 1."""
    fresh.obs["batch"] = (fresh.obs["condition"] == "stim").astype(float)
    fresh.obs.loc[fresh.obs_names[:3], "batch"] = np.nan
    with pytest.warns(UserWarning, match="no label"):
        tl.fit(fresh, "batch", **FAST)
    assert fresh.uns["scratio"]["design"]["levels"]["0"].tolist() == ["0", "1"]


def test_unused_categories_are_no_levels(fresh):
    fresh.obs["condition"] = fresh.obs["condition"].cat.add_categories(["never"])
    tl.fit(fresh, "condition", **FAST)
    assert fresh.uns["scratio"]["design"]["levels"]["0"].tolist() == ["ctrl", "stim"]


def test_outlier_is_named_and_left_out(fresh: ad.AnnData) -> None:
    fresh.obsm["X_pca"][4] = 1e4
    with pytest.warns(UserWarning, match=r"far from all others in adata.obsm\['X_pca'\].*'cell_4'\. Their ratios"):
        tl.fit(fresh, "condition", max_steps=0, n_members=2, progress=False)
    assert fresh.obs["scratio_fold"].to_numpy()[4] == -1
    tl.log_ratio(fresh, target="stim", reference="ctrl", progress=False)
    assert fresh.obs["log_ratio_extrapolated"].iloc[4]


@pytest.mark.parametrize("use_rep", ["X_umap", "X_tsne", "X_draw_graph_fa"])
def test_embedding_that_is_a_drawing_is_fitted_with_a_warning(fresh: ad.AnnData, use_rep: str) -> None:
    fresh.obsm[use_rep] = fresh.obsm["X_pca"]
    with pytest.warns(UserWarning, match=f"'{use_rep}' is made to be looked at.*PCA"):
        tl.fit(fresh, "condition", use_rep=use_rep, **FAST)


def test_copies_of_cells_are_warned_of(fresh: ad.AnnData) -> None:
    fresh.obsm["X_pca"][1::4] = fresh.obsm["X_pca"][::4]
    with pytest.warns(
        UserWarning, match=r"25% of the cells lie exactly where others lie in adata.obsm\['X_pca'\].*duplicated"
    ):
        tl.fit(fresh, "condition", **FAST)


def test_dimensions_of_very_different_scales_are_warned_of(fresh: ad.AnnData) -> None:
    fresh.obsm["X_pca"] = fresh.obsm["X_pca"] * np.r_[1e4, np.ones(fresh.obsm["X_pca"].shape[1] - 1)]
    with pytest.warns(UserWarning, match="very different scales.*less than a hundredth"):
        tl.fit(fresh, "condition", **FAST)


def test_seed_larger_than_files_can_hold_is_kept_as_text(fresh: ad.AnnData, tmp_path: Path) -> None:
    tl.fit(fresh, "condition", rng=2**100, **FAST)
    fresh.write_h5ad(tmp_path / "cells.h5ad")
    assert ad.read_h5ad(tmp_path / "cells.h5ad").uns["scratio"]["params"]["rng"] == str(2**100)
