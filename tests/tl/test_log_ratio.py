"""The log ratio in its slots."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from anndata import AnnData


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


def test_params_name_both_sides(cells: AnnData) -> None:
    tl.log_ratio(cells, target=["stim", "drug/high"], reference={"condition": "ctrl"}, progress=False)
    params = cells.uns["log_ratio"]["params"]
    assert (params["target"], params["reference"]) == ("drug/high + stim", "condition=ctrl") or (
        params["target"],
        params["reference"],
    ) == ("stim + drug/high", "condition=ctrl")


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
    np.testing.assert_array_equal(ratio(bare), ratio(cells, flow=flow))


def test_a_given_flow_scores_cells_without_labels(fitted: AnnData, fresh: AnnData) -> None:
    del fresh.obs["condition"]
    assert np.isfinite(ratio(fresh, flow=scratio.get.flow(fitted))).all()


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


def test_copy_leaves_the_original(cells: AnnData, unchanged: Callable[[AnnData], AbstractContextManager[None]]) -> None:
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
    assert ("scoring" in "".join(capsys.readouterr())) == progress
