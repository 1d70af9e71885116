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


@pytest.fixture(scope="module")
def _written(_fitted: AnnData) -> AnnData:
    """Cells with flows and ratios, as they are written."""
    cells = _fitted[::7].copy()
    tl.log_ratio(cells, target="stim", reference="ctrl", progress=False)
    sides = {"target": ["stim", "drug/high"], "reference": {"condition": "ctrl"}}
    tl.log_ratio(cells, **sides, key_added="mixture", progress=False)
    tl.log_ratio(
        cells, target="drug/high", reference="ctrl", key="by_donor", key_added="by_donor_ratio", progress=False
    )
    return cells


@pytest.fixture
def written(_written: AnnData) -> AnnData:
    return _written.copy()


@pytest.fixture(scope="module", params=["h5ad", "zarr"])
def _read(request: pytest.FixtureRequest, _written: AnnData, tmp_path_factory: pytest.TempPathFactory) -> AnnData:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "h5ad":
        _written.write_h5ad(folder / "cells.h5ad")
        return ad.read_h5ad(folder / "cells.h5ad")
    _written.write_zarr(folder / "cells.zarr")
    return ad.read_zarr(folder / "cells.zarr")


@pytest.fixture
def read(_read: AnnData) -> AnnData:
    """The same cells after writing and reading."""
    return _read.copy()


def test_ratios_are_kept_bit_for_bit(written: AnnData, read: AnnData) -> None:
    for name in ("log_ratio", "log_ratio_sd", "mixture", "by_donor_ratio"):
        np.testing.assert_array_equal(read.obs[name], written.obs[name])


def test_ratios_are_computed_again_bit_for_bit(written: AnnData, read: AnnData) -> None:
    tl.log_ratio(read, target="stim", reference="ctrl", key_added="again", progress=False)
    np.testing.assert_array_equal(read.obs["again"], written.obs["log_ratio"])


def test_ratios_with_covariates_are_computed_again_bit_for_bit(written: AnnData, read: AnnData) -> None:
    tl.log_ratio(read, target="drug/high", reference="ctrl", key="by_donor", key_added="again", progress=False)
    np.testing.assert_array_equal(read.obs["again"], written.obs["by_donor_ratio"])


@pytest.mark.parametrize("key", ["scratio", "by_donor", "joint"])
def test_flow_is_kept_bit_for_bit(written: AnnData, read: AnnData, key: str) -> None:
    found, expected = dict(leaves(read.uns[key])), dict(leaves(written.uns[key]))
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(found[path], value, err_msg=str(path))


def test_flow_is_read_from_the_slot(written: AnnData, read: AnnData) -> None:
    found, expected = (
        scratio.get.flow(adata).log_ratio(adata.obsm["X_pca"], "stim", "ctrl") for adata in (read, written)
    )
    np.testing.assert_array_equal(found.value, expected.value)


def test_slots_keep_their_types(read: AnnData) -> None:
    columns = ["log_ratio", "log_ratio_sd", "log_ratio_extrapolated", "scratio_fold"]
    assert [read.obs[name].dtype.name for name in columns] == ["float32", "float32", "bool", "int8"]


@pytest.mark.parametrize("name", ["log_ratio", "mixture"])
def test_params_of_a_ratio_are_kept(written: AnnData, read: AnnData, name: str) -> None:
    np.testing.assert_equal(read.uns[name]["params"], written.uns[name]["params"])


def test_subset_after_the_round_trip(read: AnnData) -> None:
    order = np.random.default_rng(2).permutation(read.n_obs)[:20]
    some = read[order].copy()
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
    flow, new = scratio.flow.ConditionalFlow.load(tmp_path / "flow.safetensors"), cells[:20].copy()
    new.obsm["X_pca"] = new.obsm["X_pca"] + 0.1
    tl.log_ratio(new, target="stim", reference="ctrl", flow=flow, key_added="of_file", progress=False)
    tl.log_ratio(new, target="stim", reference="ctrl", flow=scratio.get.flow(cells), key_added="here", progress=False)
    np.testing.assert_array_equal(new.obs["of_file"], new.obs["here"])


@pytest.mark.parametrize("wrong", [99, 0.5, -2])
def test_what_is_no_fold_is_refused(fitted: AnnData, *, wrong: float) -> None:
    fitted.obs["scratio_fold"] = fitted.obs["scratio_fold"].astype(float)
    fitted.obs.loc[fitted.obs_names[0], "scratio_fold"] = wrong
    with pytest.raises(ValueError, match=rf"'scratio_fold'\] holds {wrong:g}, which is no fold.*0 to 15, and -1"):
        tl.log_ratio(fitted, target="stim", reference="ctrl", progress=False)
