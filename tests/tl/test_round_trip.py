"""Flow and ratios travel with the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pytest

import scratio_sc as scratio
from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData


def leaves(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


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


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_the_stored_flow_is_the_same_bit_for_bit(cells: AnnData, tmp_path: Path, kind: str) -> None:
    stored = travelled(cells, kind, tmp_path)
    for key in ("scratio", "by_donor", "joint"):
        found, expected = dict(leaves(stored.uns[key])), dict(leaves(cells.uns[key]))
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            np.testing.assert_array_equal(found[path], value, err_msg=str(path))


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_slots_keep_their_types(cells: AnnData, tmp_path: Path, kind: str) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    stored = travelled(cells, kind, tmp_path)
    columns = ["log_ratio", "log_ratio_sd", "log_ratio_extrapolated", "scratio_fold"]
    assert [stored.obs[name].dtype.name for name in columns] == ["float32", "float32", "bool", "int8"]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_params_of_a_ratio_travel(cells: AnnData, tmp_path: Path, kind: str) -> None:
    tl.log_ratio(cells, target=["stim", "drug/high"], reference={"condition": "ctrl"}, progress=False)
    stored = travelled(cells, kind, tmp_path)
    np.testing.assert_equal(stored.uns["log_ratio"]["params"], cells.uns["log_ratio"]["params"])


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_subset_after_the_round_trip(cells: AnnData, tmp_path: Path, kind: str) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    order = np.random.default_rng(2).permutation(cells.n_obs)[:20]
    some = travelled(cells, kind, tmp_path)[order].copy()
    tl.log_ratio(some, target="stim", reference="ctrl", key_added="again", progress=False)
    np.testing.assert_allclose(some.obs["again"], some.obs["log_ratio"], atol=1e-5)


def test_concatenation_keeps_the_ratios(cells: AnnData) -> None:
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    del cells.uns["log_ratio"]
    both = ad.concat([cells[:20], cells[20:]], uns_merge="same")
    tl.log_ratio(both, target="stim", reference="ctrl", key_added="again", progress=False)
    np.testing.assert_allclose(both.obs["again"], cells.obs["log_ratio"], atol=1e-5)


def test_subset_and_order_keep_the_fold_of_a_cell(cells: AnnData) -> None:
    order = np.random.default_rng(1).permutation(cells.n_obs)
    np.testing.assert_array_equal(cells[order].obs["scratio_fold"], cells.obs["scratio_fold"].to_numpy()[order])


def test_file_of_the_flow_alone(cells: AnnData, tmp_path: Path) -> None:
    flow = scratio.get.flow(cells)
    flow.save(tmp_path / "flow.safetensors")
    again = scratio.flow.ConditionalFlow.load(tmp_path / "flow.safetensors")
    x = cells.obsm["X_pca"]
    np.testing.assert_array_equal(again.log_ratio(x, "stim", "ctrl").value, flow.log_ratio(x, "stim", "ctrl").value)


def test_a_flow_from_a_file_scores_cells(cells: AnnData, tmp_path: Path) -> None:
    scratio.get.flow(cells).save(tmp_path / "flow.safetensors")
    flow = scratio.flow.ConditionalFlow.load(tmp_path / "flow.safetensors")
    tl.log_ratio(cells, target="stim", reference="ctrl", flow=flow, key_added="of_file", progress=False)
    tl.log_ratio(cells, target="stim", reference="ctrl", flow=scratio.get.flow(cells), key_added="here", progress=False)
    np.testing.assert_array_equal(cells.obs["of_file"], cells.obs["here"])
