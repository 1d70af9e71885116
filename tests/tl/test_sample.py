"""Cells drawn from the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pytest

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from anndata import AnnData

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


def test_moments_are_those_of_the_condition(fitted: AnnData) -> None:
    drawn = tl.sample(fitted, 400, condition="stim").obsm["X_pca"]
    cells = fitted.obsm["X_pca"][(fitted.obs["condition"] == "stim").to_numpy()]
    np.testing.assert_allclose(drawn.mean(0), cells.mean(0), atol=0.3)
    np.testing.assert_allclose(drawn.std(0), cells.std(0), atol=0.3)


def test_names_the_condition(fitted: AnnData) -> None:
    assert set(tl.sample(fitted, 5, condition="stim").obs["condition"]) == {"stim"}


def test_writes_nothing(fitted: AnnData, unchanged: Unchanged) -> None:
    with unchanged(fitted):
        tl.sample(fitted, 5, condition="stim")


def test_slots(fitted: AnnData) -> None:
    drawn = tl.sample(fitted, 5, condition="stim", rng=3)
    assert drawn.shape == (5, 0)
    assert drawn.obsm["X_pca"].dtype == np.float32
    assert drawn.uns["sample"]["params"] == {"function": "sample", "condition": "stim", "key": "scratio", "rng": 3}


def test_can_be_stored(fitted: AnnData, tmp_path: Path) -> None:
    drawn = tl.sample(fitted, 5, condition=["stim", "drug/high"])
    drawn.write_h5ad(tmp_path / "drawn.h5ad")
    np.testing.assert_array_equal(ad.read_h5ad(tmp_path / "drawn.h5ad").obsm["X_pca"], drawn.obsm["X_pca"])


def test_a_list_of_one_level_is_that_level(fitted: AnnData) -> None:
    assert set(tl.sample(fitted, 5, condition=["stim"]).obs["condition"]) == {"stim"}


def test_a_mixture_has_no_label(fitted: AnnData) -> None:
    assert "condition" not in tl.sample(fitted, 5, condition=["stim", "ctrl"]).obs


def test_a_mixture_draws_from_all_its_conditions(fitted: AnnData) -> None:
    """ "stim" is moved along the first dimension, "drug/high" along the second."""
    drawn = tl.sample(fitted, 400, condition=["stim", "drug/high"]).obsm["X_pca"]
    of_both = fitted[fitted.obs["condition"].isin(["stim", "drug/high"])].obsm["X_pca"]
    np.testing.assert_allclose(drawn.mean(0), of_both.mean(0), atol=0.3)
    np.testing.assert_allclose(np.cov(drawn.T)[0, 1], np.cov(of_both.T)[0, 1], atol=0.4)


def test_all_columns_named(fitted: AnnData) -> None:
    drawn = tl.sample(fitted, 5, condition={"condition": "stim", "donor": "d2"}, key="by_donor")
    assert set(drawn.obs["donor"]) == {"d2"}


def test_another_seed_other_cells(fitted: AnnData) -> None:
    first, second = (tl.sample(fitted, 5, condition="stim", rng=seed).obsm["X_pca"] for seed in (3, None))
    assert not np.array_equal(first, second)


def test_drawn_cells_can_be_scored(fitted: AnnData) -> None:
    """Cells drawn from a condition are more likely under it, on the whole."""
    drawn = tl.sample(fitted, 50, condition="stim")
    tl.log_ratio(drawn, target="stim", reference="ctrl", flow=scratio.get.flow(fitted), progress=False)
    assert drawn.obs["log_ratio"].mean() > 0.3


def test_same_seed_same_cells(fitted: AnnData) -> None:
    first, second = (tl.sample(fitted, 5, condition="stim", rng=3).obsm["X_pca"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_covariates_have_to_be_named(fitted: AnnData) -> None:
    with pytest.raises(ValueError, match="'donor'"):
        tl.sample(fitted, 5, condition="stim", key="by_donor")


def test_no_cells(fitted: AnnData) -> None:
    with pytest.raises(ValueError, match="n_cells=0"):
        tl.sample(fitted, 0, condition="stim")
