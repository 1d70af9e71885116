"""Genes that go with a ratio: scipy's numbers, in the form of scanpy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from scipy.stats import false_discovery_control, spearmanr

from scratio_sc import tl

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    Unchanged = Callable[[AnnData], AbstractContextManager[None]]

N = 120


@pytest.fixture
def genes() -> AnnData:
    """Genes that rise with the ratio, fall with it, do not care, are never seen, or only tell cell types apart."""
    rng = np.random.default_rng(0)
    ratio, b = rng.standard_normal(N), np.arange(N) % 2 == 1
    rate = np.column_stack([np.exp(ratio), np.exp(-ratio), np.ones(N), np.zeros(N), 8.0 * b + 0.1])
    x = np.log1p(rng.poisson(rate))
    obs = pd.DataFrame({"log_ratio": ratio + 3 * b, "cell_type": np.where(b, "B/plasma", "T"), "text": "a"}).rename(str)
    var = pd.DataFrame(index=["up", "down", "none", "never", "marker"])
    return AnnData(sparse.csr_matrix(x), obs=obs, var=var, layers={"dense": x, "counts": np.expm1(x).round()})


def ranked(adata: AnnData, group: str = "all", **options: Any) -> pd.DataFrame:
    tl.ratio_genes(adata, **options)
    return sc.get.rank_genes_groups_df(adata, group=group, key="ratio_genes").set_index("names")


def test_scores_are_scipys(genes: AnnData) -> None:
    found = ranked(genes)
    for gene in ("up", "down", "none", "marker"):
        expected = spearmanr(genes[:, gene].X.toarray()[:, 0], genes.obs["log_ratio"])
        assert found.loc[gene, "scores"] == pytest.approx(expected.statistic, abs=1e-6)
        assert found.loc[gene, "pvals"] == pytest.approx(expected.pvalue, rel=1e-6)
    np.testing.assert_allclose(found["pvals_adj"], false_discovery_control(found["pvals"]))


def test_genes_are_ranked_from_up_to_down(genes: AnnData) -> None:
    found = ranked(genes, "T", groupby="cell_type")
    assert found.index[0] == "up"
    assert found.index[-1] == "down"
    assert found["scores"].is_monotonic_decreasing


def test_gene_that_does_not_vary(genes: AnnData) -> None:
    never = ranked(genes).loc["never"]
    assert (never["scores"], never["pvals"], never["pvals_adj"]) == (0, 1, 1)


def test_marker_of_a_type_does_not_count_within_types(genes: AnnData) -> None:
    assert ranked(genes).loc["marker", "pvals_adj"] < 1e-4
    for group in ("T", "B/plasma"):
        assert ranked(genes, group, groupby="cell_type").loc["marker", "pvals_adj"] > 0.05


def test_all_groups_in_one_table(genes: AnnData) -> None:
    tl.ratio_genes(genes, groupby="cell_type")
    table = sc.get.rank_genes_groups_df(genes, group=None, key="ratio_genes")
    assert table.groupby("group", observed=True).size().to_dict() == {"T": 5, "B/plasma": 5}


def test_fold_change_is_between_the_signs_of_the_ratio(genes: AnnData) -> None:
    found, up = ranked(genes), genes[:, "up"].X.toarray()[:, 0]
    positive = genes.obs["log_ratio"].to_numpy() > 0
    expected = (up[positive].mean() - up[~positive].mean()) / np.log(2)
    assert found.loc["up", "logfoldchanges"] == pytest.approx(expected, rel=1e-5)


def test_fold_change_is_missing_where_all_ratios_have_one_sign(genes: AnnData) -> None:
    genes.obs["log_ratio"] -= 100
    assert ranked(genes)["logfoldchanges"].isna().all()


def test_layer_and_sparse_give_the_same(genes: AnnData) -> None:
    pd.testing.assert_frame_equal(ranked(genes, layer="dense"), ranked(genes), rtol=1e-6)


def test_several_entries_of_a_cell_and_gene_count_as_their_sum(genes: AnnData) -> None:
    whole, half = ranked(genes), genes.X * 0.5
    order = np.repeat(np.arange(half.nnz), 2)
    genes.X = sparse.csr_matrix((half.data[order], half.indices[order], 2 * half.indptr), shape=half.shape)
    pd.testing.assert_frame_equal(ranked(genes), whole)
    assert genes.X.nnz == 2 * half.nnz


def test_cells_without_a_ratio_are_left_out(genes: AnnData) -> None:
    some = genes[20:].copy()
    genes.obs.loc[genes.obs_names[:20], "log_ratio"] = np.nan
    pd.testing.assert_frame_equal(ranked(genes), ranked(some))


def test_small_groups_are_named(genes: AnnData) -> None:
    genes.obs["cell_type"] = ["rare"] * 5 + ["common"] * (N - 5)
    with pytest.warns(UserWarning, match=r"left out.*'rare' \(5 cells\)"):
        tl.ratio_genes(genes, groupby="cell_type")
    assert genes.uns["ratio_genes"]["names"].dtype.names == ("common",)


@pytest.mark.parametrize(
    ("missing", "message"), [(None, "5 of 120 cells have no label in"), ("nan", "5 cells have the label 'nan' in")]
)
@pytest.mark.filterwarnings("ignore:Groups are left out")
def test_cells_without_a_group_are_counted(genes: AnnData, *, missing: str | None, message: str) -> None:
    genes.obs["cell_type"] = genes.obs["cell_type"].astype(object)
    genes.obs.loc[genes.obs_names[:5], "cell_type"] = missing
    with pytest.warns(UserWarning, match=f"{message} 'cell_type'"):
        tl.ratio_genes(genes, groupby="cell_type")


def test_raw_counts_are_told(genes: AnnData) -> None:
    with pytest.warns(UserWarning, match=r"layers\['counts'\] looks like raw counts.*log1p"):
        tl.ratio_genes(genes, layer="counts")


@pytest.mark.parametrize("file", ["h5ad", "zarr"])
def test_round_trip(genes: AnnData, tmp_path: Path, file: str) -> None:
    expected = ranked(genes, "B/plasma", groupby="cell_type")
    getattr(genes, f"write_{file}")(tmp_path / "cells")
    read = getattr(ad, f"read_{file}")(tmp_path / "cells")
    found = sc.get.rank_genes_groups_df(read, group="B/plasma", key="ratio_genes").set_index("names")
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_index_type=False)


@pytest.mark.parametrize(
    ("options", "error", "parts"),
    [
        ({"key": "log_ratoi"}, KeyError, ["'log_ratoi'", "Did you mean 'log_ratio'", "tl.log_ratio"]),
        ({"key": ["log_ratio"]}, TypeError, [r"key=\['log_ratio'\]", "name of a column"]),
        ({"layer": ["dense"]}, TypeError, [r"layer=\['dense'\]", "name of a layer"]),
        ({"key": "text"}, TypeError, ["'text'", "numbers"]),
        ({"groupby": "type"}, KeyError, ["'type'", "there: 'log_ratio'"]),
        ({"groupby": "log_ratio"}, ValueError, ["'log_ratio' has 120 levels in 120 cells", "groups of cells"]),
        ({"layer": "densee"}, KeyError, ["'densee'", "Did you mean 'dense'"]),
        ({"key": "constant"}, ValueError, ["'constant'", "varies", r"'all' \(120 cells\)"]),
        ({"key_added": "a/b"}, ValueError, ["a/b", "a_b"]),
    ],
)
def test_bad_input(
    genes: AnnData, unchanged: Unchanged, *, options: dict[str, Any], error: type[Exception], parts: list[str]
) -> None:
    genes.obs["constant"] = 1.0
    with unchanged(genes), pytest.raises(error) as caught:
        tl.ratio_genes(genes, **options)
    for part in parts:
        assert re.search(part, str(caught.value))


def test_no_expression(genes: AnnData) -> None:
    with pytest.raises(ValueError, match=r"no expression in adata\.X"):
        tl.ratio_genes(AnnData(obs=genes.obs))


def test_copy_leaves_the_cells_alone(genes: AnnData, unchanged: Unchanged) -> None:
    with unchanged(genes):
        copy = tl.ratio_genes(genes, copy=True)
    assert "ratio_genes" in copy.uns


@pytest.mark.parametrize("dense", [False, True])
def test_backed(genes: AnnData, tmp_path: Path, dense: bool) -> None:
    expected = ranked(genes)
    genes.X = genes.X.toarray() if dense else genes.X
    genes.write_h5ad(tmp_path / "cells.h5ad")
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    pd.testing.assert_frame_equal(ranked(backed), expected)
    backed.file.close()


@pytest.mark.parametrize("layer", [None, "dense"])
def test_missing_expression_is_named(genes: AnnData, unchanged: Unchanged, *, layer: str | None) -> None:
    x = genes.X if layer is None else genes.layers[layer]
    x[3, 1] = np.nan
    with unchanged(genes), pytest.raises(ValueError, match=f"NaN or infinite for some cells of '{genes.var_names[1]}'"):
        tl.ratio_genes(genes, layer=layer)


def test_empty_label_is_refused(genes: AnnData) -> None:
    genes.obs["kind"] = ["", "a"] * (genes.n_obs // 2)
    with pytest.raises(ValueError, match="an empty label in 'kind'"):
        tl.ratio_genes(genes, groupby="kind")
