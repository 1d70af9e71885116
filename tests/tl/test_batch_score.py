"""Batch scores in their slots, against the exact ones, and what is refused."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scratio_sc import datasets, tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

REPS = ["X_pca", "X_corrected"]
NAMES = {"batch": "batch", "groupby": "cell_type", "use_rep": REPS}
FAST = {"n_members": 2, "max_steps": 0, "progress": False}


def simulate() -> AnnData:
    return datasets.batch_shift(240, n_dims=2, n_types=2, n_batches=2, shift=2.5, rng=1)


@pytest.fixture
def adata() -> AnnData:
    return simulate()


@pytest.fixture(scope="module")
def _scored() -> AnnData:
    adata = simulate()
    tl.batch_score(adata, **NAMES, **FAST)
    return adata


@pytest.fixture
def scored(_scored: AnnData) -> AnnData:
    return _scored.copy()


@pytest.fixture
def _no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def computed(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted in spite of bad input")

    monkeypatch.setattr("scratio_sc.stats._batch_information.fit_flow", computed)


def score(adata: AnnData, **options: Any) -> AnnData:
    found = tl.batch_score(adata, **NAMES | FAST | options, copy=True)
    assert found is not None
    return found


def table(adata: AnnData, rep: str = "X_pca") -> pd.DataFrame:
    """Rows of one representation, by group."""
    rows = adata.uns["batch_score"]["table"]
    return rows[rows["representation"] == rep].set_index("group")


def move(adata: AnnData, cell_type: str, batch: str, *, left: int) -> AnnData:
    """Cells with only `left` of a batch in a type."""
    own = np.flatnonzero((adata.obs["cell_type"] == cell_type) & (adata.obs["batch"] == batch))
    return adata[np.setdiff1d(np.arange(adata.n_obs), own[left:])].copy()


def test_writes_the_documented_slots_alone(adata: AnnData) -> None:
    before = set(adata.obs), set(adata.uns), set(adata.obsm)
    tl.batch_score(adata, **NAMES, **FAST)
    assert set(adata.obs) - before[0] == {"batch_score_X_pca", "batch_score_X_corrected"}
    assert set(adata.uns) - before[1] == {"batch_score"}
    assert set(adata.obsm) == before[2]
    assert adata.obs["batch_score_X_pca"].dtype == np.float32


def test_cells_follow_the_exact_score(scored: AnnData) -> None:
    assert scored.obs["batch_score_X_pca"].corr(scored.obs["exact_batch_score"]) > 0.95


def test_mean_is_the_exact_information() -> None:
    adata = datasets.batch_shift(1_500, n_dims=3, n_types=2, n_batches=3, shift=2.0)
    tl.batch_score(adata, **NAMES | {"use_rep": "X_pca"}, **FAST)
    for group, row in table(adata).iterrows():
        cells = adata.obs["cell_type"] == group if group != "all cells" else slice(None)
        assert row["mean"] == pytest.approx(adata.obs.loc[cells, "exact_batch_score"].mean(), abs=0.03), group


def test_corrected_cells_score_nothing(scored: AnnData) -> None:
    assert table(scored, "X_corrected")["mean"].abs().max() < 0.03


def test_where_nothing_differs_the_flag_says_so(scored: AnnData) -> None:
    assert (table(scored, "X_corrected")["flag"] == "no difference").all()
    assert (table(scored)["flag"] == "").all()


def test_lower_is_better(scored: AnnData) -> None:
    before, after = table(scored), table(scored, "X_corrected")
    assert (after["mean"] < before["mean"]).all()
    assert (after["above"] < before["above"]).all()


def test_far_apart_the_mean_is_the_maximum() -> None:
    adata = datasets.batch_shift(300, n_dims=2, n_types=2, n_batches=2, shift=30.0)
    rows = table(score(adata, use_rep="X_pca"))
    np.testing.assert_allclose(rows["mean"], rows["maximum"], atol=4e-3)  # 240 cells cannot be surer
    assert (rows["above"] == 1).all()


def test_table_counts_cells_and_averages_scores(scored: AnnData) -> None:
    rows = table(scored)
    sizes = scored.obs["cell_type"].value_counts()
    assert rows["n_cells"].to_dict() == {"all cells": 240, **sizes.to_dict()}
    assert (rows["n_batches"] == 2).all()
    means = scored.obs.groupby("cell_type", observed=True)["batch_score_X_pca"].mean()
    np.testing.assert_allclose(rows["mean"][means.index], means, atol=1e-5)
    assert rows["mean"]["all cells"] == pytest.approx((means * sizes[means.index]).sum() / 240, abs=1e-5)
    assert (rows[["mean_se", "above_se"]] >= 0).all(axis=None)


def test_a_representation_does_not_depend_on_the_others(scored: AnnData) -> None:
    alone = score(scored, use_rep="X_corrected")
    np.testing.assert_array_equal(alone.obs["batch_score_X_corrected"], scored.obs["batch_score_X_corrected"])


def test_scale_of_a_representation_makes_no_difference(scored: AnnData) -> None:
    scored.obsm["X_scaled"] = 64 * scored.obsm["X_pca"]
    again = score(scored, use_rep="X_scaled")
    np.testing.assert_allclose(again.obs["batch_score_X_scaled"], scored.obs["batch_score_X_pca"], atol=1e-4)


def test_number_of_components(adata: AnnData) -> None:
    adata.obsm["X_first"] = adata.obsm["X_pca"][:, :1]
    cut, whole = score(adata, use_rep="X_pca", n_comps=1), score(adata, use_rep="X_first")
    np.testing.assert_array_equal(cut.obs["batch_score_X_pca"], whole.obs["batch_score_X_first"])


def test_wide_bandwidth_sees_nothing(adata: AnnData) -> None:
    assert score(adata, use_rep="X_pca", bandwidth=1e4).obs["batch_score_X_pca"].abs().max() < 0.01


def test_threshold(adata: AnnData) -> None:
    shares = [table(score(adata, use_rep="X_pca", threshold=t))["above"]["all cells"] for t in (0.1, 0.9)]
    assert shares[0] > shares[1]


def test_params_are_those_of_the_call(scored: AnnData) -> None:
    params = dict(scored.uns["batch_score"]["params"])
    assert params.pop("use_rep").tolist() == REPS
    assert params.pop("node_weights").shape == params.pop("node_bandwidths").shape == (2, 8)
    assert params == {
        "function": "batch_score",
        "batch": "batch",
        "groupby": "cell_type",
        "n_comps": 0,
        "n_members": 2,
        "max_steps": "0",
        "bandwidth": "auto",
        "threshold": 0.5,
        "rng": 0,
        "device": "auto",
    }


def test_types_may_be_numbers(scored: AnnData) -> None:
    other = scored.copy()
    other.obs["cell_type"] = other.obs["cell_type"].cat.codes.astype(int)
    np.testing.assert_array_equal(score(other).obs["batch_score_X_pca"], scored.obs["batch_score_X_pca"])


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_slots_travel_with_the_data(scored: AnnData, tmp_path: Path, kind: str) -> None:
    getattr(scored, f"write_{kind}")(tmp_path / "cells")
    read = getattr(ad, f"read_{kind}")(tmp_path / "cells")
    np.testing.assert_array_equal(read.obs["batch_score_X_pca"], scored.obs["batch_score_X_pca"])
    found, expected = read.uns["batch_score"], scored.uns["batch_score"]
    pd.testing.assert_frame_equal(found["table"], expected["table"], check_dtype=False, check_index_type=False)
    np.testing.assert_equal(found["params"], expected["params"])


def test_copy_leaves_the_original(adata: AnnData, unchanged: Unchanged) -> None:
    with unchanged(adata):
        assert "batch_score" in score(adata).uns


def test_log_names_the_slots(adata: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "scratio_sc"):
        tl.batch_score(adata, **NAMES | {"use_rep": "X_pca"}, **FAST)
    assert "obs['batch_score_X_pca'], uns['batch_score']" in caplog.text


# --- types and batches that cannot be compared --------------------------------------------------------------------


def test_type_with_one_batch_is_nan_and_named(adata: AnnData) -> None:
    few = move(adata, "type_0", "batch_0", left=0)
    with pytest.warns(UserWarning, match=r"fewer than two batches of 20 cells are not scored.*'type_0'") as caught:
        scored = score(few)
    assert [warning.filename for warning in caught] == [score.__code__.co_filename]
    mine = scored.obs["cell_type"] == "type_0"
    np.testing.assert_array_equal(scored.obs["batch_score_X_pca"].isna(), mine)
    row = table(scored).loc["type_0"]
    assert row["n_cells"] == 0
    assert row[["mean", "mean_se", "information", "information_se", "above", "above_se", "maximum"]].isna().all()
    assert row["flag"] == "one batch only"
    assert table(scored)["n_cells"]["all cells"] == (~mine).sum()


@pytest.fixture
def three_batches() -> AnnData:
    return datasets.batch_shift(360, n_dims=2, n_types=2, n_batches=3, shift=2.0)


def test_few_cells_of_a_batch_in_a_type_are_nan_and_named(three_batches: AnnData) -> None:
    few = move(three_batches, "type_0", "batch_0", left=19)
    message = r"fewer than 20 cells of a type are left out .*'type_0' / 'batch_0' \(19\)"
    with pytest.warns(UserWarning, match=message), pytest.warns(UserWarning, match="in one type only: 'batch_0'"):
        scored = score(few)
    left_out = (scored.obs["cell_type"] == "type_0") & (scored.obs["batch"] == "batch_0")
    np.testing.assert_array_equal(scored.obs["batch_score_X_pca"].isna(), left_out)
    assert table(scored)["n_batches"].to_dict() == {"all cells": 3, "type_0": 2, "type_1": 3}


def test_cells_that_are_left_out_do_not_count(three_batches: AnnData) -> None:
    few = move(three_batches, "type_0", "batch_0", left=19)
    with pytest.warns(UserWarning, match="left out"), pytest.warns(UserWarning, match="in one type only"):
        scored = score(few)
    none = move(three_batches, "type_0", "batch_0", left=0)
    with pytest.warns(UserWarning, match="in one type only"):
        without = score(none)
    pd.testing.assert_frame_equal(table(scored), table(without))


def test_batch_in_one_type_only_is_named(three_batches: AnnData) -> None:
    few = move(three_batches, "type_0", "batch_0", left=0)
    message = r"compared in one type only: 'batch_0' \(of 'type_1'\).*by technique or by biology"
    with pytest.warns(UserWarning, match=message):
        scored = score(few)
    assert scored.obs["batch_score_X_pca"].notna().all()


def without_one_too_many(adata: AnnData) -> AnnData:
    """Twenty cells of a batch in the first type, of which one lies far from all others."""
    few = move(adata, "type_0", "batch_0", left=20)
    own = np.flatnonzero((few.obs["cell_type"] == "type_0") & (few.obs["batch"] == "batch_0"))
    few.obsm["X_pca"][own[0]] = 1e4
    return few


def test_type_that_an_outlier_leaves_with_one_batch_is_not_scored(adata: AnnData) -> None:
    with pytest.warns(UserWarning, match=".") as caught:
        scored = score(without_one_too_many(adata))
    said = ["far from all others in 'X_pca'", r"'type_0' / 'batch_0' \(19\)", "are not scored .*'type_0'"]
    ours = [str(one.message) for one in caught if one.category is UserWarning]
    assert [bool(re.search(*both)) for both in zip(said, ours, strict=True)] == [True] * 3
    np.testing.assert_array_equal(scored.obs["batch_score_X_pca"].isna(), scored.obs["cell_type"] == "type_0")
    assert table(scored).loc["type_0", "n_batches"] == 0


def test_only_type_that_an_outlier_leaves_with_one_batch_is_refused(adata: AnnData, unchanged: Unchanged) -> None:
    few = without_one_too_many(move(adata, "type_1", "batch_1", left=0))
    with (
        unchanged(few),
        pytest.raises(ValueError, match=r"'batch_0' \(19\). Cells .* do not count: 'cell_\d+'\. Merge"),
    ):
        score(few)


def test_batch_determined_by_type_is_refused(adata: AnnData, unchanged: Unchanged) -> None:
    few = move(move(adata, "type_0", "batch_0", left=0), "type_1", "batch_1", left=5)
    with (
        unchanged(few),
        pytest.raises(ValueError, match=r"cannot be told apart.*'type_1' / 'batch_1' \(5\).*Merge types or batches"),
    ):
        score(few)


def test_missing_labels_are_nan_and_counted(adata: AnnData) -> None:
    adata.obs["batch"] = adata.obs["batch"].astype(object).where(np.arange(240) >= 3)
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object).where(np.arange(240) != 7)
    with pytest.warns(UserWarning, match="4 of 240 cells have no label in 'batch', 'cell_type'"):
        scored = score(adata)
    assert np.flatnonzero(scored.obs["batch_score_X_pca"].isna()).tolist() == [0, 1, 2, 7]


def test_mean_below_zero_beyond_its_error_is_named(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    from scratio_sc.stats._batch_information import BatchScores
    from scratio_sc.stats._divergence import Ratios

    value = np.full(240, -0.5)
    ratios = Ratios(value, np.tile(value, (2, 1)), value[None])
    found = BatchScores(ratios, value, np.arange(2), np.ones(8), np.ones(8))
    monkeypatch.setattr(BatchScores, "of", lambda *_, **__: found)
    with pytest.warns(UserWarning, match="negative beyond its error in 'X_pca', 'X_corrected'"):
        scored = score(adata)
    assert (table(scored)["mean"] == -0.5).all()


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch": "bacth"}, KeyError, "'bacth'.*Did you mean 'batch'"),
        ({"groupby": "type"}, KeyError, "'type'.*there: 'batch', 'cell_type'"),
        ({"batch": "cell_type"}, ValueError, "both 'cell_type'.*Name two columns"),
        ({"batch": ["batch"]}, TypeError, r"batch=\['batch'\], expected the name of a column"),
        ({"groupby": None}, TypeError, "groupby=None, expected the name of a column"),
        (
            {"batch": "exact_batch_score"},
            ValueError,
            "Too few cells in 'exact_batch_score'.*with fewer batches",
        ),
        ({"groupby": "exact_batch_score"}, ValueError, "240 levels in 240 cells.*name a column with groups of cells"),
        ({"use_rep": "X_harmony"}, KeyError, "'X_harmony'.*there: 'X_pca', 'X_corrected'"),
        ({"use_rep": []}, ValueError, r"use_rep=\[\], expected at least one"),
        ({"use_rep": ["X_pca", "X_pca"]}, ValueError, "each named once"),
        ({"use_rep": None}, TypeError, "use_rep=None, expected the name of a representation"),
        ({"n_comps": 3}, ValueError, "n_comps=3.*Use 1 to 2"),
        ({"n_members": 1}, ValueError, "n_members=1, expected an integer of 2 or more"),
        ({"max_steps": -1}, ValueError, "max_steps=-1"),
        ({"bandwidth": -1.0}, ValueError, r"bandwidth=-1\.0"),
        ({"threshold": 1.0}, ValueError, r"threshold=1\.0, expected a number between 0 and 1"),
        ({"threshold": True}, TypeError, "threshold=True"),
        ({"rng": -1}, ValueError, "rng=-1"),
        ({"key_added": "a/b"}, ValueError, "a_b"),
        ({"use_rep": "X/pca"}, ValueError, r"use_rep='X/pca' contains '/'.*\['X_pca'\] = adata.obsm.pop\('X/pca'\)"),
        ({"key_added": "labels", "batch": "labels_X_pca"}, ValueError, r"a column that is read, .*'labels_X_pca'"),
        ({"groupby": "named_all"}, ValueError, "called 'all cells'.*Rename it"),
    ],
)
@pytest.mark.usefixtures("_no_fit")
def test_refused(
    adata: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    adata.obs["labels_X_pca"] = adata.obs["batch"]
    adata.obs["named_all"] = adata.obs["cell_type"].cat.rename_categories({"type_0": "all cells"})
    with unchanged(adata), pytest.raises(error, match=f"(?s){message}"):
        tl.batch_score(adata, **NAMES | FAST | options)


@pytest.mark.usefixtures("_no_fit")
def test_one_batch(adata: AnnData, unchanged: Unchanged) -> None:
    adata = adata[adata.obs["batch"] == "batch_0"].copy()
    with unchanged(adata), pytest.raises(ValueError, match=r"is 'batch_0'.*a column with two batches"):
        tl.batch_score(adata, **NAMES, **FAST)


@pytest.mark.usefixtures("_no_fit")
@pytest.mark.parametrize(("value", "message"), [(np.nan, "NaN or infinite in 240 of 240"), (1.0, "the same point")])
def test_second_representation_is_checked_first(
    adata: AnnData, unchanged: Unchanged, value: float, *, message: str
) -> None:
    adata.obsm["X_corrected"][:] = value
    with unchanged(adata), pytest.raises(ValueError, match=f"(?s)(X_corrected.*{message}|{message}.*X_corrected)"):
        tl.batch_score(adata, **NAMES, **FAST)


def test_outlier_is_named_and_not_scored(adata: AnnData) -> None:
    adata.obsm["X_pca"][7] = 1e4
    with pytest.warns(UserWarning, match=r"far from all others in 'X_pca' are not scored.*'cell_7'"):
        scored = score(adata, use_rep=["X_pca", "X_corrected"])
    missing = scored.obs[["batch_score_X_pca", "batch_score_X_corrected"]].isna().all(axis=1).to_numpy()
    assert missing.nonzero()[0] == [7]


def test_cells_that_an_outlier_leaves_alone_are_not_scored_either() -> None:
    adata = datasets.batch_shift(320, n_dims=2, n_types=2, n_batches=2)
    adata.obsm["X_corrected"][:6] = 1e3  # a rare type: six are enough to be no outliers
    adata.obsm["X_pca"][0] = 1e4
    with pytest.warns(UserWarning, match="far from all others in 'X_pca', 'X_corrected' are not scored"):
        scored = score(adata)
    for rep in REPS:
        np.testing.assert_array_equal(scored.obs[f"batch_score_{rep}"].isna(), np.arange(adata.n_obs) < 6)


def test_information_lacks_less_than_the_mean_of_the_scores() -> None:
    errors = []
    for seed in range(3):
        adata = datasets.batch_shift(900, n_dims=10, n_types=2, shift=0.7, rng=seed)
        found = table(score(adata, use_rep="X_pca", n_members=4)).loc["all cells"]
        exact = adata.obs["exact_batch_score"].mean()
        errors.append((found["mean"] - exact, found["information"] - exact))
        assert abs(found["information"] - exact) < 2 * found["information_se"]
    mean, information = np.mean(errors, axis=0)
    assert mean < -0.02
    assert abs(information) < abs(mean) / 2
