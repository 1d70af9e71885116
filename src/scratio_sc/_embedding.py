"""The embedding of cells, and the cells of a fit, read from AnnData."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
from scipy import sparse

from scratio_sc._check import fit_call, params_of, read_flow
from scratio_sc._keys import FlowKeys
from scratio_sc._warn import warn
from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._arguments import check_integer, closest, named
from scratio_sc.flow._folds import MAX_FOLDS
from scratio_sc.flow._same_cells import are_fitted, may_be_fitted_on

if TYPE_CHECKING:
    from anndata import AnnData

DRAWINGS = re.compile(r"(^|_)(umap|tsne|phate|draw_graph)(_|$)", re.IGNORECASE)
"""Names of embeddings that are drawn, not measured in."""
MAX_COPIED = 0.05
"""Share of cells that are copies of others from which on they are warned of."""
LARGEST = 1e15
"""Numbers beyond this are no coordinates, and their squares more than single precision holds."""
MIN_SPREAD, NORMAL_QUARTILES = 0.01, 1.349
"""Least spread of a dimension, as a share of that of all; distance of the quartiles of a Gaussian of deviation 1."""


def read_representation(adata: AnnData, use_rep: str, n_comps: int | None = None) -> np.ndarray:
    """Embedding ``(n_cells, d)`` in float64, finite."""
    x = _stored(adata, use_rep)
    if n_comps is not None:
        check_integer(1, n_comps=n_comps)
        if n_comps > x.shape[1]:
            msg = f"n_comps={n_comps}, but adata.obsm[{use_rep!r}] has {x.shape[1]} dimensions. Use 1 to {x.shape[1]}."
            raise ValueError(msg)
        x = x[:, :n_comps]
    _check_finite(x, adata, use_rep)
    if DRAWINGS.search(use_rep):
        msg = (
            f"{use_rep!r} is made to be looked at: it tears cells apart and squeezes them together, so densities in it "
            "mean little. Use an embedding that keeps distances (PCA, Harmony, scVI), and draw the ratios on this one."
        )
        warn(msg)
    return x


def dense(stored: Any) -> np.ndarray:
    """What a slot holds as an array, whether sparse, a table or an array."""
    return np.asarray(stored.toarray() if sparse.issparse(stored) else stored)


def _check_name(use_rep: object) -> None:
    if not isinstance(use_rep, str):
        msg = f"use_rep is of type {type(use_rep).__name__}, expected the name of an embedding in adata.obsm."
        raise TypeError(msg)


def _stored(adata: AnnData, use_rep: str) -> np.ndarray:
    _check_name(use_rep)
    if use_rep not in adata.obsm:
        make = "`sc.pp.pca(adata)`" if use_rep == "X_pca" else f"store it as `adata.obsm[{use_rep!r}]`"
        if use_rep == "X":
            make = "`sc.pp.pca(adata)`, or of few markers `adata.obsm['X'] = adata.X`"
        msg = (
            f"No {use_rep!r} in adata.obsm (there: {named(adata.obsm)}).{closest(use_rep, adata.obsm)} "
            f"Make it first: {make}; or name another with `use_rep`."
        )
        raise KeyError(msg)
    raw = dense(adata.obsm[use_rep])
    numbers = f"adata.obsm[{use_rep!r}] has to hold numbers and nothing else"
    text = [value for value in raw.flat if isinstance(value, str | bytes)] if raw.dtype.kind in "OSU" else []
    if text:
        msg = f"{numbers}, but there is text in it ({text[0]!r}). Use another `use_rep`."
        raise ValueError(msg)
    if raw.dtype.kind == "c":
        msg = f"{numbers}, but holds complex ones. Take their real part, or use another `use_rep`."
        raise ValueError(msg)
    try:
        x = raw.astype(np.float64)
    except (TypeError, ValueError) as error:
        msg = f"{numbers}: {error}."
        raise ValueError(msg) from error
    if x.ndim != 2 or not x.shape[1]:
        msg = f"adata.obsm[{use_rep!r}] has shape {x.shape}, expected (cells, dimensions). Use another `use_rep`."
        raise ValueError(msg)
    return x


def _check_finite(x: np.ndarray, adata: AnnData, use_rep: str) -> None:
    infinite = ~np.isfinite(x).all(1)
    bad = infinite if infinite.any() else (np.abs(x) > LARGEST).any(1)
    if bad.any():
        stored = f"adata.obsm[{use_rep!r}]"
        array = f"{stored}.toarray()" if sparse.issparse(adata.obsm[use_rep]) else stored
        what, good = f"beyond {LARGEST:g}", f"(abs({array}) <= {LARGEST:g})"
        if infinite.any():
            what, good = "NaN or infinite", f"np.isfinite({array})"
        msg = (
            f"{stored} is {what} in {bad.sum()} of {len(x)} cells (first: {named(adata.obs_names[bad][:3])}). "
            f"Remove them: `adata = adata[{good}.all(axis=1)].copy()`."
        )
        raise ValueError(msg)


def check_varies(x: np.ndarray, use_rep: str) -> None:
    """Refuse an embedding in which all cells are the same."""
    if not np.ptp(x, axis=0).any():
        msg = f"All cells are the same point in adata.obsm[{use_rep!r}]: nothing can be fitted. Use another `use_rep`."
        raise ValueError(msg)


def warn_of_copies(x: np.ndarray, use_rep: str) -> None:
    """Warn where many cells ``(n, d)`` may be copies of others, which are no evidence of their own."""
    copied = float(pd.DataFrame(x).duplicated().mean())
    if copied > MAX_COPIED:
        msg = (
            f"{copied:.0%} of the cells lie exactly where others lie in adata.obsm[{use_rep!r}]. If they are copies, "
            "as oversampling makes them, each counts as evidence of its own: effects are found where there are none, "
            "and errors are too small. Keep each cell once then: "
            f"`adata = adata[~pd.DataFrame(adata.obsm[{use_rep!r}]).duplicated().to_numpy()].copy()`."
        )
        warn(msg)


def warn_of_scales(x: np.ndarray, use_rep: str) -> None:
    """Warn where most cells ``(n, d)`` hardly vary in a dimension, beside how far cells lie apart on the whole."""
    low, high = np.quantile(x, [0.25, 0.75], axis=0)
    scale = np.sqrt(x.var(0).mean())
    narrow = np.flatnonzero((high > low) & ((high - low) / NORMAL_QUARTILES < MIN_SPREAD * scale))
    if len(narrow):
        msg = (
            f"Dimensions of adata.obsm[{use_rep!r}] are of very different scales, or some cells lie very far apart: "
            f"in {len(narrow)} of {x.shape[1]} (the first: {narrow[0]}) most cells vary by less than a hundredth of "
            "the spread over all dimensions, and differences are lost there. Leave such dimensions out if they mean "
            "nothing, as some of an autoencoder; scale them if they do; or remove the cells far away."
        )
        warn(msg)


def warn_of_outliers(names: pd.Index, use_rep: str) -> None:
    """Name the cells that a fit leaves out, where there are any."""
    if len(names):
        msg = (
            f"Cells that lie far from all others in adata.obsm[{use_rep!r}] are left out of the fit, which they would "
            f"spoil: {named(names)}. Their ratios are no evidence and are flagged as extrapolated. Look whether they "
            "are doublets or artefacts."
        )
        warn(msg)


def read_fold(adata: AnnData, key: str) -> np.ndarray | None:
    """Fold of every cell ``(n_cells,)``; None, and a warning, where there is no column of it."""
    column = FlowKeys(key).fold
    if column not in adata.obs:
        msg = (
            f"No column {column!r} in adata.obs: nothing says which cells the flow was fitted on, so all members score "
            "all cells, and those of the fit are not out of fold. Fit again if this is the fitted object. `ad.concat` "
            f"drops the column unless all objects have it: give it to others first, `other.obs[{column!r}] = -1`."
        )
        warn(msg)
        return None
    try:
        numbers = pd.to_numeric(adata.obs[column]).fillna(-1)
        fold = numbers.to_numpy(np.int64)
    except (TypeError, ValueError) as error:
        msg = f"adata.obs[{column!r}] does not hold the folds of the fit ({error}). Delete the column, or fit again."
        raise ValueError(msg) from error
    wrong = numbers[(fold < -1) | (fold >= MAX_FOLDS) | (numbers != fold)]
    if len(wrong):
        msg = (
            f"adata.obs[{column!r}] holds {wrong.iloc[0]:g}, which is no fold: folds are 0 to {MAX_FOLDS - 1}, and -1 "
            "for cells that were not fitted. Set other cells to -1, or fit again."
        )
        raise ValueError(msg)
    return fold


def read_flow_params(adata: AnnData, key: str) -> tuple[str, int | None]:
    """Representation that a flow was fitted on, and how many of its components."""
    params = params_of(adata.uns[key])
    use_rep, n_comps = params.get("use_rep"), params.get("n_comps")
    if not isinstance(use_rep, str) or not isinstance(n_comps, Integral):
        msg = (
            f"adata.uns[{key!r}]: The stored flow is damaged at 'params': it does not say which embedding it was "
            f"fitted on. Fit again with {fit_call(adata, key)}."
        )
        raise ValueError(msg)
    return use_rep, int(n_comps) or None


def _check_is_of_fit(adata: AnnData, key: str, use_rep: str | None, *, fitted_rep: str) -> None:
    """Refuse another embedding than that of the stored flow."""
    if use_rep is not None:
        _check_name(use_rep)
    if use_rep not in (None, fitted_rep):
        msg = (
            f"use_rep={use_rep!r}, but the flow in adata.uns[{key!r}] was fitted on {fitted_rep!r}, and its ratios "
            "mean nothing elsewhere. Leave `use_rep` out, or fit on it: "
            f"{fit_call(adata, key, use_rep=use_rep)}."
        )
        raise ValueError(msg)


def _refuse_dimensions(found: int, fitted: int, rep: str, *, again: str) -> NoReturn:
    """Of a flow that was given, or of the stored one, whose cells are those of its embedding and which fits `again`."""
    way_out, name, option = f"Restore that embedding, or fit again with {again}.", rep, ""
    if not again:
        way_out, name = "Bring the cells into the embedding of the fit and name it with `use_rep`.", "X_cut"
        option = f", use_rep={name!r}"
    msg = f"adata.obsm[{rep!r}] has {found} dimensions, but the flow was fitted on {fitted}. {way_out}"
    if found > fitted:
        cut = f"adata.obsm[{name!r}] = adata.obsm[{rep!r}][:, :{fitted}]"
        msg += f" If the fit took the first {fitted} of these: `{cut}`{option}."
    raise ValueError(msg)


def _warn_of_own_cells(flow: ConditionalFlow, x: np.ndarray) -> None:
    """Cells scored by a flow that was passed, and may have been fitted on them."""
    if are_fitted(flow, x):
        msg = (
            "`flow` was fitted on these very cells, and scored by it they are not out of fold: what it says of them is "
            "too certain. Score them in the object of the fit without `flow`: by its folds, each cell is scored by "
            "members that have not seen it."
        )
        warn(msg)


@dataclass(frozen=True)
class Cells:
    """Cells to score ``(n_cells, d)``, their folds ``(n_cells,)`` if the flow was fitted on them, and the embedding."""

    x: np.ndarray
    fold: np.ndarray | None
    use_rep: str

    def take(self, index: np.ndarray) -> Cells:
        """Some of the cells."""
        return Cells(self.x[index], None if self.fold is None else self.fold[index], self.use_rep)

    @property
    def new(self) -> np.ndarray:
        """Cells that were not fitted ``(n_cells,)``; far from all sides, one of them could outweigh a whole mean."""
        return np.ones(len(self.x), bool) if self.fold is None else self.fold < 0


def read_flow_and_cells(
    adata: AnnData, key: str, flow: ConditionalFlow | None = None, *, use_rep: str | None = None
) -> tuple[ConditionalFlow, Cells]:
    """The flow to score with, by default the one of `key`, and the cells; warns where they are not those of the fit."""
    n_comps, fold, fitted_rep, given = None, None, "X_pca", flow is not None
    if flow is None:
        flow = read_flow(adata, key)
        fitted_rep, n_comps = read_flow_params(adata, key)
        fold = read_fold(adata, key)
        _check_is_of_fit(adata, key, use_rep, fitted_rep=fitted_rep)
    elif not isinstance(flow, ConditionalFlow):
        msg = (
            f"`flow` is of type {type(flow).__name__}, expected a ConditionalFlow: `scratio.get.flow(adata)` of the "
            "cells it was fitted on, or `scratio.flow.ConditionalFlow.load(path)`."
        )
        raise TypeError(msg)
    else:
        fitted_rep = flow.embedding or fitted_rep
    rep = use_rep or fitted_rep
    x = _stored(adata, rep)
    if x.shape[1] != flow.n_dims and not (n_comps and x.shape[1] > flow.n_dims):
        _refuse_dimensions(x.shape[1], flow.n_dims, rep, again="" if given else fit_call(adata, key))
    x = x[:, : flow.n_dims]
    _check_finite(x, adata, rep)
    if given:
        _warn_of_own_cells(flow, x)
    if fold is not None and not may_be_fitted_on(flow, x, fold):
        msg = (
            f"adata.obsm[{rep!r}] is not what the flow was fitted on: it has changed since, its rows are in another "
            f"order than the cells, or some bring the folds of another fit in adata.obs[{FlowKeys(key).fold!r}]. Such "
            "ratios mean nothing. Restore it, set the folds of cells that were not in this fit to -1, or fit again "
            f"with {fit_call(adata, key)}."
        )
        warn(msg)
    return flow, Cells(x, fold, rep)
