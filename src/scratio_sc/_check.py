"""AnnData to arrays: every input is checked here, before anything is computed or written."""

from __future__ import annotations

import difflib
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scratio_sc._keys import FlowKeys
from scratio_sc.flow import ConditionalFlow
from scratio_sc.flow._storage import from_dict

if TYPE_CHECKING:
    from anndata import AnnData

MIN_CELLS = 20
METHODS = ("denoising", "ode")
logger = logging.getLogger("scratio_sc")


def named(names: Iterable[object]) -> str:
    """Names quoted and joined for a message."""
    return ", ".join(map(repr, names)) or "none"


@dataclass(frozen=True)
class Labels:
    """Labels as text ``(n_cells, n_columns)`` and whether a cell has all of them ``(n_cells,)``."""

    columns: tuple[str, ...]
    text: np.ndarray
    complete: np.ndarray


def columns_of(condition: str | Sequence[str]) -> tuple[str, ...]:
    """One column name or several, as a tuple."""
    return (condition,) if isinstance(condition, str) else tuple(condition)


def read_representation(adata: AnnData, use_rep: str, n_comps: int | None) -> np.ndarray:
    """Embedding ``(n_cells, d)`` in float64, finite and not constant."""
    if use_rep not in adata.obsm:
        make = "`sc.pp.pca(adata)`" if use_rep == "X_pca" else f"store it as `adata.obsm[{use_rep!r}]`"
        msg = f"No {use_rep!r} in adata.obsm (there: {named(adata.obsm)}). Make it first: {make}; or set `use_rep`."
        raise KeyError(msg)
    stored = adata.obsm[use_rep]
    x = np.asarray(stored.toarray() if sparse.issparse(stored) else stored, np.float64)
    if x.ndim != 2 or not x.shape[1]:
        msg = f"adata.obsm[{use_rep!r}] has shape {x.shape}; expected (n_cells, n_dims)."
        raise ValueError(msg)
    if n_comps is not None:
        if not 1 <= n_comps <= x.shape[1]:
            msg = f"n_comps={n_comps}, but adata.obsm[{use_rep!r}] has {x.shape[1]} dimensions. Use 1 to {x.shape[1]}."
            raise ValueError(msg)
        x = x[:, :n_comps]
    bad = ~np.isfinite(x).all(1)
    if bad.any():
        msg = (
            f"adata.obsm[{use_rep!r}] is NaN or infinite in {bad.sum()} of {len(x)} cells "
            f"(first: {named(adata.obs_names[bad][:3])}). Remove them: `adata = adata[np.isfinite(adata.obsm[{use_rep!r}]).all(1)]`."
        )
        raise ValueError(msg)
    return x


def check_varies(x: np.ndarray, use_rep: str) -> None:
    """Refuse an embedding in which all cells are the same."""
    if not np.ptp(x, axis=0).any():
        msg = f"All cells are the same point in adata.obsm[{use_rep!r}]: there is nothing to fit. Use another `use_rep`."
        raise ValueError(msg)


def read_labels(adata: AnnData, columns: Sequence[str]) -> Labels:
    """Labels of obs columns as text; a KeyError names a missing column and the closest there is."""
    for column in columns:
        if column not in adata.obs:
            close = difflib.get_close_matches(str(column), map(str, adata.obs.columns), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            msg = f"No column {column!r} in adata.obs (there: {named(adata.obs.columns)}).{hint}"
            raise KeyError(msg)
    parts = [_as_text(adata.obs[column]) for column in columns]
    return Labels(tuple(columns), np.column_stack([p[0] for p in parts]), np.all([p[1] for p in parts], axis=0))


def _as_text(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    known = column.notna().to_numpy()
    text = np.full(len(column), "", object)
    values = column.to_numpy(object)[known]
    # a NaN among integers makes them floats; 1.0 should still be called "1"
    whole = pd.api.types.is_float_dtype(column) and all(float(v).is_integer() for v in values)
    text[known] = [str(int(v)) if whole else str(v) for v in values]
    return text.astype(str), known


def check_levels(labels: Labels, n_condition_columns: int) -> None:
    """Refuse a condition of one level, or a level of too few cells; warn of cells without labels."""
    missing = int((~labels.complete).sum())
    condition = labels.columns[:n_condition_columns]
    combined = pd.Series([" / ".join(row) for row in labels.text[labels.complete, :n_condition_columns]], dtype=object)
    sizes = combined.value_counts()
    if len(sizes) < 2:
        msg = f"{named(condition)} has one level only ({named(sizes.index)}): a comparison needs two. Use another column."
        raise ValueError(msg)
    small = sizes[sizes < MIN_CELLS]
    if len(small):
        listed = ", ".join(f"{level!r} ({n})" for level, n in small.items())
        msg = (
            f"Too few cells in {named(condition)} for {listed}: at least {MIN_CELLS} are needed. "
            "Drop these cells, for example `adata = adata[~adata.obs[column].isin([...])]`, or merge the levels."
        )
        raise ValueError(msg)
    if missing:
        names = named(labels.columns)
        warnings.warn(f"{missing} cells without a label in {names} are left out of the fit.", UserWarning, stacklevel=4)


def read_flow(adata: AnnData, key: str) -> ConditionalFlow:
    """Flow stored in `adata.uns[key]`."""
    if key not in adata.uns:
        msg = f"No {key!r} in adata.uns. Fit a flow first: `scratio_sc.tl.fit(adata, condition)`."
        raise KeyError(msg)
    return from_dict(adata.uns[key])


def read_fold(adata: AnnData, key: str) -> np.ndarray | None:
    """Fold of every cell ``(n_cells,)``, None where the cells were not fitted with this flow."""
    column = FlowKeys(key).fold
    if column not in adata.obs:
        return None
    return pd.to_numeric(adata.obs[column]).fillna(-1).to_numpy(np.int64)


def read_flow_params(adata: AnnData, key: str) -> tuple[str, int | None]:
    """Representation that a flow was fitted on, and how many of its components."""
    params = adata.uns.get(key, {}).get("params", {})
    n_comps = int(params.get("n_comps", 0))
    return str(params.get("use_rep", "X_pca")), n_comps or None


def read_flow_and_cells(
    adata: AnnData, key: str, flow: ConditionalFlow | None, *, use_rep: str | None
) -> tuple[ConditionalFlow, np.ndarray, np.ndarray | None]:
    """The flow to score with, the cells ``(n_cells, d)``, and their folds where it was fitted on them."""
    if flow is not None:
        return flow, read_representation(adata, use_rep or "X_pca", None), None
    stored = read_flow(adata, key)
    fitted_rep, n_comps = read_flow_params(adata, key)
    return stored, read_representation(adata, use_rep or fitted_rep, n_comps), read_fold(adata, key)


def check_method(method: str) -> None:
    """Refuse a way of scoring that does not exist."""
    if method not in METHODS:
        msg = f"method={method!r} is unknown. Use one of {named(METHODS)}."
        raise ValueError(msg)


def read_own_labels(adata: AnnData, flow: ConditionalFlow, specs: Sequence[object]) -> np.ndarray | None:
    """Labels of the columns that not every side names ``(n_cells, n_columns)``; None where all are named."""
    design = flow.design
    needed = [column for column in design.columns if not all(_names(spec, column, design.columns) for spec in specs)]
    if not needed:
        return None
    labels = read_labels(adata, needed)
    out = np.full((adata.n_obs, len(design.columns)), "", object)
    for j, column in enumerate(needed):
        out[:, design.columns.index(column)] = labels.text[:, j]
    return out.astype(str)


def _names(spec: object, column: str, columns: Sequence[str]) -> bool:
    return column in spec if isinstance(spec, Mapping) else column == columns[0]


def as_spec(side: Any) -> Any:
    """A side of a contrast with its labels as text."""
    if isinstance(side, Mapping):
        return {str(column): as_spec(value) for column, value in side.items()}
    if isinstance(side, list | tuple | set | np.ndarray | pd.Index):
        return [_label(value) for value in side]
    return _label(side)


def _label(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def describe(side: Any) -> str:
    """A side of a contrast for people to read."""
    if isinstance(side, Mapping):
        return ", ".join(f"{column}={describe(value)}" for column, value in side.items())
    return " + ".join(side) if isinstance(side, list) else str(side)


def log_written(function: str, slots: Sequence[str]) -> None:
    """Say which slots were written."""
    logger.info("%s: added %s", function, ", ".join(slots))
