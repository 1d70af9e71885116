"""The log density in its slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from scratio_sc import tl

if TYPE_CHECKING:
    from anndata import AnnData


def density(adata: AnnData, condition: str, method: str = "denoising") -> np.ndarray:
    scored = tl.log_density(adata, condition=condition, method=method, progress=False, copy=True)
    assert scored is not None
    return scored.obs["log_density"].to_numpy()


def test_writes_the_documented_slots_alone(cells: AnnData) -> None:
    before = set(cells.obs), set(cells.uns)
    tl.log_density(cells, condition="stim", progress=False)
    assert (set(cells.obs) - before[0], set(cells.uns) - before[1]) == ({"log_density"}, {"log_density"})


def test_difference_is_the_plain_ratio(cells: AnnData) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", bandwidth=0, progress=False)
    apart = density(cells, "stim") - density(cells, "ctrl")
    np.testing.assert_allclose(apart, cells.obs["log_ratio"], atol=1e-4)


def test_follows_the_exact_density(fitted: AnnData) -> None:
    # unit Gaussians of three donors, moved along the second dimension
    x = fitted.obsm["X_pca"]
    moved = np.array([0.0, 0.5, 1.0])
    exact = -0.5 * x[:, 0] ** 2 + np.log(np.exp(-0.5 * (x[:, 1:] - moved) ** 2).sum(1))
    assert np.corrcoef(density(fitted, "ctrl"), exact)[0, 1] > 0.95


def test_ode_agrees(cells: AnnData) -> None:
    few = cells[:6].copy()
    np.testing.assert_allclose(density(few, "stim", "ode"), density(few, "stim"), atol=0.5)


def test_unknown_level_is_named(cells: AnnData) -> None:
    with pytest.raises(KeyError, match="'stmi'"):
        tl.log_density(cells, condition="stmi", progress=False)
