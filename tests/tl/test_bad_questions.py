"""Ratios, densities and samples that cannot be given: what is refused, and that nothing changes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from helpers.errors import raises

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


@pytest.mark.parametrize("side", ["target", "reference"])
@pytest.mark.parametrize(
    ("level", "error", "parts"),
    [
        ("stmi", KeyError, ["'stmi'", "'ctrl', 'drug/high', 'stim'", "Did you mean 'stim'"]),
        ({"dose": "1"}, KeyError, ["'dose'", "'condition'"]),
        (None, TypeError, ["A side is None", "means all"]),
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
        ({"key": "flow"}, KeyError, ["'flow'", r"`scratio\.tl\.fit"]),
        ({"key": "by_doner"}, KeyError, ["'by_doner'", "there: 'scratio'", "Did you mean 'by_donor'", "`key`"]),
        ({"flow": 3}, TypeError, ["`flow` is of type int", r"`scratio\.get\.flow"]),
        ({"use_rep": "X_umap"}, ValueError, ["'X_umap'", "fitted on 'X_pca'"]),
        ({"use_rep": 3}, TypeError, ["use_rep", "int", "name of an embedding"]),
        ({"key": ["scratio"]}, TypeError, [r"key=\['scratio'\]", "name of a flow"]),
        ({"method": 3}, TypeError, ["method=3", "'denoising'"]),
        ({"target": {"conditon": "stim"}}, KeyError, ["no column 'conditon'", "Did you mean 'condition'"]),
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
    with unchanged(cells), raises(ValueError, "X_pca", "1 dimensions", "fitted on 2", "Restore", "fit again"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


def test_longer_embedding_can_be_cut_as_advised(cells: AnnData) -> None:
    fitted_on = cells.obsm["X_pca"]
    cells.obsm["X_pca"] = np.column_stack([fitted_on, np.ones((cells.n_obs, 3), np.float32)])
    with pytest.raises(ValueError, match="the first 2 of these") as refused:
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    exec(re.findall("these: `(.*?)`", str(refused.value))[0], {"adata": cells})
    np.testing.assert_array_equal(cells.obsm["X_pca"], fitted_on)


def test_embedding_to_score_that_is_not_finite(cells: AnnData, unchanged: Unchanged) -> None:
    cells.obsm["X_pca"][3, 0] = np.nan
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
    with unchanged(cells), raises(ValueError, r"adata\.uns\['scratio'\]", "no stored flow", r"`scratio\.tl\.fit"):
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
    with unchanged(cells), raises(ValueError, "damaged", name, r"`scratio\.tl\.fit"):
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
        ({"key": "flow"}, KeyError, ["'flow'", r"`scratio\.tl\.fit"]),
        ({"flow": {}}, TypeError, ["`flow` is of type dict", r"`scratio\.get\.flow"]),
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
        ({"key": "flow"}, KeyError, ["'flow'", r"`scratio\.tl\.fit"]),
        ({"key": "by_donor"}, ValueError, ["'donor'", "'condition': ..., 'donor': ...", "'d1', 'd2'"]),
    ],
)
def test_sample_refuses(
    cells: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    with unchanged(cells), raises(error, *parts):
        tl.sample(cells, **{"n_cells": 5, "condition": "stim", **options})


def test_own_level_missing_does_not_matter_where_it_is_named(cells: AnnData) -> None:
    cells.obs["condition"] = pd.Series(cells.obs["condition"].astype(object)).where(np.arange(cells.n_obs) >= 2)
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert cells.obs["log_ratio"].notna().all()
