"""Each kind of bad input: the error names the offender and the way out, and `adata` stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def raises(error: type[Exception], *parts: str) -> Any:
    """Context that expects an error whose text has all the parts."""
    pattern = "(?s)" + "".join(f"(?=.*{part})" for part in parts)
    return pytest.raises(error, match=pattern)


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
def test_fit_refuses(
    fresh: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    options = {"condition": "condition", "max_steps": 2, **options}
    condition = options.pop("condition")
    with unchanged(fresh), raises(error, *parts):
        tl.fit(fresh, condition, progress=False, **options)


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


def test_constant_embedding(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"] = np.ones((fresh.n_obs, 2), np.float32)
    with unchanged(fresh), raises(ValueError, "X_pca", "same point", "use_rep"):
        tl.fit(fresh, "condition", progress=False)


def test_one_level(fresh: AnnData, unchanged: Unchanged) -> None:
    fresh = fresh[fresh.obs["condition"] == "ctrl"].copy()
    with unchanged(fresh), raises(ValueError, "'condition'", "only level", "'?ctrl'?", "two levels"):
        tl.fit(fresh, "condition", progress=False)


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
    with pytest.warns(UserWarning, match="3 of 60 cells have no label in 'condition'"):
        tl.fit(fresh, "condition", max_steps=2, n_members=2, batch_size=64, progress=False)
    assert (fresh.obs["scratio_fold"] == -1).to_numpy().nonzero()[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("side", ["target", "reference"])
@pytest.mark.parametrize(
    ("level", "error", "parts"),
    [
        ("stmi", KeyError, ["'stmi'", "'ctrl', 'drug/high', 'stim'", "Did you mean 'stim'"]),
        ({"dose": "1"}, KeyError, ["'dose'", "'condition'"]),
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
        ({"method": "sde"}, ValueError, ["'sde'", "'denoising', 'ode'"]),
        ({"key": "flow"}, KeyError, ["'flow'", r"scratio_sc\.tl\.fit"]),
        ({"flow": 3}, TypeError, ["`flow` is of type int", r"scratio_sc\.get\.flow"]),
        ({"key_added": "a/b"}, ValueError, ["a/b", "a_b"]),
        ({"key_added": "condition"}, ValueError, ["condition", "overwrite"]),
    ],
)
def test_log_ratio_refuses(
    cells: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    with unchanged(cells), raises(error, *parts):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False, **options)


def test_cells_of_other_dimensions(fitted: AnnData, fresh: AnnData, unchanged: Unchanged) -> None:
    fresh.obsm["X_pca"] = np.ones((fresh.n_obs, 5), np.float32)
    flow = scratio.get.flow(fitted)
    with unchanged(fresh), raises(ValueError, "5 dimensions", "fitted on 2"):
        tl.log_ratio(fresh, target="stim", reference="ctrl", flow=flow, progress=False)


def test_weights_of_another_format_version(cells: AnnData, unchanged: Unchanged) -> None:
    cells.uns["scratio"]["format_version"] = 99
    with unchanged(cells), raises(ValueError, "scratio", "format_version 99", "Fit again"):
        tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)


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


def test_own_level_missing_does_not_matter_where_it_is_named(cells: AnnData) -> None:
    cells.obs["condition"] = pd.Series(cells.obs["condition"].astype(object)).where(np.arange(cells.n_obs) >= 2)
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    assert cells.obs["log_ratio"].notna().all()
