"""Genes that go with a log ratio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.stats import false_discovery_control

from scratio_sc._labels import MIN_CELLS, check_groups, read_labels, warn_of_missing
from scratio_sc._slots import check_slots, log_written
from scratio_sc._warn import warn
from scratio_sc.flow._arguments import closest, listed, named, refuse
from scratio_sc.stats._rank_correlation import p_values, rank_correlation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData

ALL = "all"
N_LOOKED_AT = 10_000
FIELDS = {"scores": np.float32, "logfoldchanges": np.float32, "pvals": np.float64, "pvals_adj": np.float64}


def ratio_genes(
    adata: AnnData,
    *,
    key: str = "log_ratio",
    groupby: str | None = None,
    layer: str | None = None,
    key_added: str = "ratio_genes",
    copy: bool = False,
) -> AnnData | None:
    """Rank genes by how they go with a log ratio: Spearman's rank correlation over cells, by cell type.

    Says in genes what a map of log ratios shows. Read it with
    ``sc.get.rank_genes_groups_df(adata, group=..., key="ratio_genes")`` as any ranking of scanpy.

    Parameters
    ----------
    adata
        Cells. Reads `adata.obs[key]`, the column of `groupby`, and `adata.X` or the layer: normalised, logarithmic
        expression.
    key
        Column of `adata.obs` with the log ratio, or any other number a cell; cells without it are left out.
    groupby
        Column of `adata.obs` with cell types. Each is ranked on its own, so that genes that only tell cell types apart
        do not count. Types of fewer than 20 cells are left out. By default all cells are one group, called "all".
    layer
        Layer with the expression; `adata.X` by default.
    key_added
        Name of the slot; without "/", which h5ad and zarr files cannot store. An earlier result of this function is
        replaced; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.uns[key_added]` : :class:`dict`
        As by :func:`scanpy.tl.rank_genes_groups`, structured arrays with a field for each group and a row for each
        gene, the most positively correlated first: ``names``; ``scores``, the rank correlation; ``pvals``, two-sided,
        and ``pvals_adj`` by Benjamini and Hochberg within a group; ``logfoldchanges``, mean expression of the cells
        with a positive ratio less that of the cells with a negative one, divided by log 2 as of log-normalised
        expression (of scaled expression they are no fold changes), NaN where all are on one side; and ``params``. A
        gene that does not vary has a score of 0 and a p-value of 1. Plots of scanpy call the panels "vs. rest"; nothing
        is compared with a rest here.

    Warns
    -----
    UserWarning
        Names groups that are left out, counts cells without a group; and tells of expression that looks like raw
        counts, which go with the depth of a cell.

    Raises
    ------
    KeyError
        If the ratio, the column of `groupby` or the layer is missing.
    ValueError
        If no group has 20 cells with a ratio that varies, `groupby` has too many levels for 20 cells each, an empty one
        or none, there are no genes, or the expression is not finite.
    TypeError
        If the column of `key` does not hold numbers, or an argument is of another type than documented.

    Notes
    -----
    Every cell with a ratio counts, of whatever condition, and extrapolated or not. Among many conditions, such as the
    perturbations of a screen, genes that tell the others apart would rank high: take the cells of both sides alone, as
    ``scratio.tl.ratio_genes(adata[adata.obs["condition"].isin(["KLF1", "control"])].copy())`` does.

    The p-values take cells as the unit, not donors, and the ratio comes from an embedding of the same genes. They sort
    genes that go with the map from genes that do not; they do not test whether a treatment changes a gene.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.ratio_genes(adata, key="exact_log_ratio")
    >>> genes = sc.get.rank_genes_groups_df(adata, group="all", key="ratio_genes")
    >>> bool((genes["scores"] > 0.5).all())
    True
    """
    check_slots(adata, key_added, "ratio_genes", copy=copy)
    ratio = _read_ratio(adata, key)
    x = _read_expression(adata, layer)
    group = np.full(adata.n_obs, ALL, object)
    known = np.isfinite(ratio)
    if groupby is not None:
        labels = read_labels(adata, (groupby,))
        check_groups(labels)
        warn_of_missing(labels, known, "the ranking")
        group, known = labels.text[:, 0].astype(object), known & labels.complete
    cells = {name: np.flatnonzero(known & (group == name)) for name in sorted(set(group[known]))}
    ranked = {name: own for name, own in cells.items() if len(own) >= MIN_CELLS and np.ptp(ratio[own]) > 0}
    _check_ranked(key, cells, ranked)
    _warn_of_counts(x, layer)
    found = {name: _ranking(x[own], ratio[own], adata.var_names.to_numpy(object)) for name, own in ranked.items()}
    adata = adata.copy() if copy else adata
    adata.uns[key_added] = {
        "params": {
            "function": "ratio_genes",
            "key": key,
            "groupby": groupby or "",
            "layer": layer or "",
            "reference": "rest",
            "method": "spearman",
            "use_raw": False,
            "corr_method": "benjamini-hochberg",
        },
        **{
            field: _structured({name: columns[field] for name, columns in found.items()})
            for field in ("names", *FIELDS)
        },
    }
    log_written("ratio_genes", [f"uns[{key_added!r}]"])
    return adata if copy else None


def _read_ratio(adata: AnnData, key: str) -> np.ndarray:
    if not isinstance(key, str):
        refuse("key", key, "the name of a column of adata.obs", types=())
    if key not in adata.obs:
        msg = (
            f"No log ratio {key!r} in adata.obs (there: {named(adata.obs.columns)}).{closest(key, adata.obs.columns)} "
            "Make it first: `scratio.tl.log_ratio(adata, target=..., reference=...)`."
        )
        raise KeyError(msg)
    column = adata.obs[key]
    if column.dtype.kind not in "fiu":
        msg = f"adata.obs[{key!r}] is of dtype {column.dtype}, expected numbers: a log ratio."
        raise TypeError(msg)
    return column.to_numpy(np.float64)


def _summed(x: sparse.csr_matrix) -> sparse.csr_matrix:
    """The same with one entry a cell and gene: several of them count as their sum."""
    if not x.has_canonical_format:
        x = x.copy()
        x.sum_duplicates()
    return x


def _read_expression(adata: AnnData, layer: str | None) -> Any:
    if not isinstance(layer, str | None):
        refuse("layer", layer, "the name of a layer, or None for adata.X", types=())
    if layer is not None and layer not in adata.layers:
        msg = f"No layer {layer!r} in adata.layers (there: {named(adata.layers)}).{closest(layer, adata.layers)}"
        raise KeyError(msg)
    x = adata.X if layer is None else adata.layers[layer]
    if x is None or not adata.n_vars:
        msg = "There is no expression in adata.X. Name a layer with `layer`, or use the AnnData that holds the genes."
        raise ValueError(msg)
    x = x if sparse.issparse(x) else x[:]  # of a backed AnnData, what is in the file
    x = _summed(sparse.csr_matrix(x)) if sparse.issparse(x) else np.asarray(x)
    sums = np.ravel(x.sum(0, dtype=np.float64))
    if not np.isfinite(sums).all():
        genes = np.flatnonzero(~np.isfinite(sums))
        where = _called(layer)
        msg = (
            f"{where} is NaN or infinite for some cells of {named(adata.var_names[genes])}. Leave these "
            "genes out, or fill in the numbers."
        )
        raise ValueError(msg)
    return x


def _called(layer: str | None) -> str:
    return "adata.X" if layer is None else f"adata.layers[{layer!r}]"


def _check_ranked(key: str, cells: Mapping[str, np.ndarray], ranked: Mapping[str, np.ndarray]) -> None:
    left_out = listed([f"{name!r} ({len(own)} cells)" for name, own in cells.items() if name not in ranked])
    need = f"at least {MIN_CELLS} cells whose {key!r} is known and varies are needed"
    if not ranked:
        msg = (
            f"No group can be ranked: {need}, found {left_out}. Use larger groups, or leave `groupby` out; by a ratio "
            "that is 0 everywhere there is nothing to rank."
        )
        raise ValueError(msg)
    if len(ranked) < len(cells):
        warn(f"Groups are left out, for {need}: {left_out}.")


def _warn_of_counts(x: Any, layer: str | None) -> None:
    values = (x.data if sparse.issparse(x) else x.ravel())[:N_LOOKED_AT]
    values = values[values != 0]
    if len(values) and (values == np.round(values)).all() and values.max() > 1:
        where = _called(layer)
        msg = (
            f"{where} looks like raw counts, which go with the depth of a cell. Normalise first: "
            "`sc.pp.normalize_total(adata)` and `sc.pp.log1p(adata)`."
        )
        warn(msg)


def _ranking(x: Any, ratio: np.ndarray, names: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the result for one group, most positive correlation first."""
    correlation = rank_correlation(x.tocsc() if sparse.issparse(x) else x, ratio)
    p = p_values(correlation, len(ratio))
    scores = np.nan_to_num(correlation)
    fold = np.full(len(names), np.nan)
    if (ratio > 0).any() and (ratio < 0).any():
        fold = np.ravel(x[ratio > 0].mean(0) - x[ratio < 0].mean(0)) / np.log(2)
    order = np.argsort(-scores, kind="stable")
    columns = {"names": names, "scores": scores, "logfoldchanges": fold, "pvals": p}
    columns["pvals_adj"] = false_discovery_control(p)
    return {field: np.asarray(values, FIELDS.get(field, object))[order] for field, values in columns.items()}


def _structured(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Structured array with a field for each group."""
    out = np.empty(len(next(iter(columns.values()))), dtype=[(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        out[name] = values
    return out
