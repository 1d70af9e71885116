"""Cells drawn from the flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from scratio_sc import tl

if TYPE_CHECKING:
    from anndata import AnnData


def test_moments_are_those_of_the_condition(fitted: AnnData) -> None:
    drawn = tl.sample(fitted, 400, condition="stim").obsm["X_pca"]
    cells = fitted.obsm["X_pca"][(fitted.obs["condition"] == "stim").to_numpy()]
    np.testing.assert_allclose(drawn.mean(0), cells.mean(0), atol=0.3)
    np.testing.assert_allclose(drawn.std(0), cells.std(0), atol=0.3)


def test_names_the_condition(fitted: AnnData) -> None:
    assert set(tl.sample(fitted, 5, condition="stim").obs["condition"]) == {"stim"}


def test_same_seed_same_cells(fitted: AnnData) -> None:
    first, second = (tl.sample(fitted, 5, condition="stim", rng=3).obsm["X_pca"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_covariates_have_to_be_named(fitted: AnnData) -> None:
    with pytest.raises(ValueError, match="'donor'"):
        tl.sample(fitted, 5, condition="stim", key="by_donor")


def test_no_cells(fitted: AnnData) -> None:
    with pytest.raises(ValueError, match="n_cells=0"):
        tl.sample(fitted, 0, condition="stim")
