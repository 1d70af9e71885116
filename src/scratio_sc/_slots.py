"""Slots of an AnnData: which may be written, and what was."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_numeric_dtype

from scratio_sc._check import check_anndata, function_of, is_flow, params_of
from scratio_sc._keys import FlowKeys
from scratio_sc._warn import warn
from scratio_sc.flow._arguments import check_bool, named, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from anndata import AnnData

WORDS = {"change": {"down", "none", "up"}, "side": {"target", "reference"}}
"""Labels that functions write to columns of `obs` whose names end so; to all others, numbers and truth values."""
OF_FLOWS = {"log_ratio", "log_density", "differential_abundance", "treatment_effect", "interaction", "null_check"}
"""Functions whose results are of the flow that `params` name as ``key``."""
logger = logging.getLogger("scratio_sc")


def check_slots(
    adata: AnnData,
    key_added: Any,
    function: str,
    *,
    columns: Sequence[str] = (),
    reads: Iterable[str | None] = (),
    copy: bool,
) -> None:
    """Refuse slots that files do not keep, that hold anything but a result of `function`, or that cannot be written.

    Written are `adata.uns[key_added]` and the `columns` of `obs`; `reads` are columns of `obs`, which have to stay.
    """
    check_anndata(adata)
    check_bool(copy=copy)
    if not isinstance(key_added, str) or not key_added:
        refuse("key_added", key_added, "the name of the slots to write", types=str)
    if "/" in key_added:
        msg = (
            f"key_added={key_added!r} contains '/', which h5ad and zarr files do not keep in names. "
            f"Use for example key_added={key_added.replace('/', '_')!r}."
        )
        raise ValueError(msg)
    _check_entry(adata, key_added, function)
    _check_columns(adata, key_added, function, columns=columns, kept=[*reads, *_folds(adata, but=key_added)])
    if adata.isbacked and (copy or adata.is_view):
        what = "copy=True needs the cells" if copy else "A view of a backed AnnData has to be"
        msg = f"{what} in memory: `adata = adata.to_memory()` first."
        raise ValueError(msg)


def _check_entry(adata: AnnData, key_added: str, function: str) -> None:
    """Refuse to overwrite an entry of `uns` that anything but `function` wrote."""
    entry = adata.uns.get(key_added)
    if entry is None or function_of(entry) == function:
        return
    what, way_out = "a fitted flow", ""
    if not is_flow(entry):
        what, way_out = f"what tl.{function} did not write", f", or delete that first: `del adata.uns[{key_added!r}]`"
    msg = f"key_added={key_added!r} would overwrite {what}, adata.uns[{key_added!r}]. Use another `key_added`{way_out}."
    raise ValueError(msg)


def _check_columns(
    adata: AnnData, key_added: str, function: str, *, columns: Sequence[str], kept: Sequence[str | None]
) -> None:
    """Refuse to overwrite columns of `obs` that have to stay, or that `function` did not write."""
    taken = next((column for column in columns if column in kept), None)
    if taken:
        msg = (
            f"key_added={key_added!r} would overwrite a column that is read, adata.obs[{taken!r}]. Use another "
            "`key_added`."
        )
        raise ValueError(msg)
    present = [column for column in columns if column in adata.obs]
    # of the default name it may be an earlier result whose entry got lost, as `ad.concat` loses entries
    lost = key_added in {function, "scratio"} and all(_may_be_ours(adata.obs[name], name) for name in present)
    if present and not lost and key_added not in adata.uns:
        strange = present[0]
        msg = (
            f"key_added={key_added!r} would overwrite adata.obs[{strange!r}], which tl.{function} did not write. Use "
            f"another `key_added`, or delete that first: `del adata.obs[{strange!r}]`."
        )
        raise ValueError(msg)


def _may_be_ours(column: pd.Series, name: str) -> bool:
    """Whether a column of `obs` holds what functions write under its name: numbers, truth values or `WORDS`."""
    words = WORDS.get(name.rpartition("_")[2], set())
    return is_numeric_dtype(column) or all(isinstance(value, str) and value in words for value in column.dropna())


def warn_of_former(adata: AnnData, key: str, **now: Any) -> None:
    """Warn of results that a flow of `key` of other columns or another embedding gave, before it is replaced."""
    before = params_of(adata.uns.get(key))
    if not before or all([*np.ravel(before.get(name, []))] == [*np.ravel(value)] for name, value in now.items()):
        return
    stale = [
        name
        for name, entry in adata.uns.items()
        if function_of(entry) in OF_FLOWS and params_of(entry).get("key") == key
    ]
    if stale:
        warn(
            f"adata.uns[{key!r}] held a flow of other columns or another embedding. What it gave is still there, and "
            f"not of the new one: {named(stale)}. Run these functions again, or give each flow a `key_added`."
        )


def _folds(adata: AnnData, *, but: str) -> list[str]:
    """Columns with the folds of all flows but one."""
    return [FlowKeys(str(key)).fold for key, entry in adata.uns.items() if key != but and is_flow(entry)]


def log_written(function: str, slots: Sequence[str]) -> None:
    """Say which slots were written."""
    logger.info("%s: added %s", function, ", ".join(slots))
