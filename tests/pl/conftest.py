"""Plots are drawn without a window, and every test has to close what it opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scratio_sc import datasets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    rc = mpl.rcParams.copy()
    yield
    plt.close("all")
    assert mpl.rcParams == rc


@pytest.fixture
def adata() -> AnnData:
    """Sixty cells with two ratios of the same contrast, one of another, and none extrapolated."""
    adata = datasets.gaussian_shift(60, n_dims=2)
    adata.obsm["X_umap"] = adata.obsm["X_pca"]
    rng = np.random.default_rng(0)
    for key, scale, target in [("log_ratio", 1.0, "stim"), ("wide", 5.0, "stim"), ("other", 1.0, "drug")]:
        adata.obs[key] = (scale * rng.standard_normal(60)).astype(np.float32)
        adata.uns[key] = {"params": {"target": target, "reference": "ctrl"}}
    return adata
