"""The log density in its slots."""

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

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]


def density(adata: AnnData, condition: Any, method: Any = "denoising") -> np.ndarray:
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
    # unit Gaussians of two donors, moved along the second dimension
    x = fitted.obsm["X_pca"]
    moved = np.array([0.0, 1.0])
    exact = -0.5 * x[:, 0] ** 2 + np.log(np.exp(-0.5 * (x[:, 1:] - moved) ** 2).sum(1))
    assert np.corrcoef(density(fitted, "ctrl"), exact)[0, 1] > 0.95


def test_ode_agrees(cells: AnnData) -> None:
    few = cells[:6].copy()
    np.testing.assert_allclose(density(few, "stim", "ode"), density(few, "stim"), atol=0.5)


def test_unknown_level_is_named(cells: AnnData) -> None:
    with pytest.raises(KeyError, match="'stmi'"):
        tl.log_density(cells, condition="stmi", progress=False)


def test_type_and_params(cells: AnnData) -> None:
    tl.log_density(cells, condition=["stim", "ctrl"], key_added="mine", progress=False)
    assert cells.obs["mine"].dtype == np.float32
    expected = {"condition": "stim + ctrl", "key": "scratio", "use_rep": "X_pca", "method": "denoising"}
    assert cells.uns["mine"] == {"params": {"function": "log_density", **expected}}


def test_copy_leaves_the_original(cells: AnnData, unchanged: Unchanged) -> None:
    with unchanged(cells):
        density(cells, "stim")


def test_a_mixture_is_the_mean_of_the_densities(cells: AnnData) -> None:
    """Conditions of as many cells weigh the same; every cell is scored by the one member that had not seen it."""
    parts = np.logaddexp(density(cells, "stim"), density(cells, "drug/high")) - np.log(2)
    np.testing.assert_allclose(density(cells, ["stim", "drug/high"]), parts, atol=1e-4)


def test_mixture_of_donors_stands_for_the_difference(cells: AnnData) -> None:
    """The marginal ratio over donors is the difference of the marginal densities."""
    sides = [{"condition": level, "donor": ["d1", "d2"]} for level in ("stim", "ctrl")]
    found = tl.log_ratio(
        cells, target=sides[0], reference=sides[1], key="by_donor", bandwidth=0, progress=False, copy=True
    )
    apart = []
    for side in sides:
        tl.log_density(cells, condition=side, key="by_donor", progress=False)
        apart.append(cells.obs["log_density"].to_numpy())
    # members are averaged after their logarithms are taken, in both
    np.testing.assert_allclose(found.obs["log_ratio"], apart[0] - apart[1], atol=1e-4)


def test_in_the_units_of_the_embedding(fresh: AnnData) -> None:
    """Ten times the distances in two dimensions: a hundredth of the density."""
    wide = fresh.copy()
    wide.obsm["X_pca"] = 10 * wide.obsm["X_pca"]
    for adata in (fresh, wide):
        tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
        tl.log_density(adata, condition="stim", progress=False)
    np.testing.assert_allclose(wide.obs["log_density"] + np.log(100), fresh.obs["log_density"], atol=1e-3)


def test_given_flow(cells: AnnData, fresh: AnnData) -> None:
    flow = scratio.get.flow(cells)
    del fresh.obs["condition"]
    tl.log_density(fresh, condition="stim", flow=flow, progress=False)
    expected = flow.log_likelihood(fresh.obsm["X_pca"], "stim").astype(np.float32)
    np.testing.assert_array_equal(fresh.obs["log_density"], expected)


def test_log_names_the_slots(cells: AnnData, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "scratio_sc"):
        tl.log_density(cells, condition="stim", progress=False)
    assert caplog.messages[-1] == "log_density: added obs['log_density'], uns['log_density']"


def test_silent_without_progress(cells: AnnData, capsys: pytest.CaptureFixture[str]) -> None:
    tl.log_density(cells, condition="stim", progress=False)
    assert capsys.readouterr() == ("", "")
