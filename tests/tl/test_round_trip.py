"""Flow and ratios travel with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pytest

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def travelled(adata: AnnData, kind: str, folder: Path) -> AnnData:
    """The same after writing and reading."""
    if kind == "h5ad":
        adata.write_h5ad(folder / "cells.h5ad")
        return ad.read_h5ad(folder / "cells.h5ad")
    adata.write_zarr(folder / "cells.zarr")
    return ad.read_zarr(folder / "cells.zarr")


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("target", ["stim", "drug/high"])
def test_ratios_are_the_same_bit_for_bit(cells: AnnData, tmp_path: Path, *, kind: str, target: str) -> None:
    tl.log_ratio(cells, target=target, reference="ctrl", progress=False)
    stored = travelled(cells, kind, tmp_path)
    np.testing.assert_array_equal(stored.obs["log_ratio"], cells.obs["log_ratio"])
    tl.log_ratio(stored, target=target, reference="ctrl", progress=False)
    np.testing.assert_array_equal(stored.obs["log_ratio"], cells.obs["log_ratio"])


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_a_fit_with_covariates_travels_too(cells: AnnData, tmp_path: Path, kind: str) -> None:
    stored = travelled(cells, kind, tmp_path)
    for adata in (cells, stored):
        tl.log_ratio(adata, target="stim", reference="ctrl", key="by_donor", progress=False)
    np.testing.assert_array_equal(stored.obs["log_ratio"], cells.obs["log_ratio"])


def test_subset_and_order_keep_the_fold_of_a_cell(cells: AnnData) -> None:
    order = np.random.default_rng(1).permutation(cells.n_obs)
    np.testing.assert_array_equal(cells[order].obs["scratio_fold"], cells.obs["scratio_fold"].to_numpy()[order])


def test_file_of_the_flow_alone(cells: AnnData, tmp_path: Path) -> None:
    flow = scratio.get.flow(cells)
    flow.save(tmp_path / "flow.safetensors")
    again = scratio.flow.ConditionalFlow.load(tmp_path / "flow.safetensors")
    x = cells.obsm["X_pca"]
    np.testing.assert_array_equal(again.log_ratio(x, "stim", "ctrl").value, flow.log_ratio(x, "stim", "ctrl").value)
