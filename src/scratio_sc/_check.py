"""What functions are given first: an AnnData, and the flow that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData

from scratio_sc.flow._arguments import closest, named, refuse, usable_device
from scratio_sc.flow._storage import from_dict

if TYPE_CHECKING:
    from scratio_sc.flow import ConditionalFlow


def check_anndata(adata: Any) -> None:
    """Refuse what is no AnnData."""
    if not isinstance(adata, AnnData):
        msg = f"`adata` is of type {type(adata).__name__}, expected an AnnData as the first argument."
        raise TypeError(msg)


def is_flow(entry: object) -> bool:
    """Whether an entry of `uns` is a fitted flow."""
    return isinstance(entry, Mapping) and "format_version" in entry


def params_of(entry: object) -> Mapping[str, Any]:
    """How an entry of `uns` was made; empty where that is not written down."""
    params = entry.get("params") if isinstance(entry, Mapping) else None
    return params if isinstance(params, Mapping) else {}


def function_of(entry: object) -> str | None:
    """Name of the function of `tl` that wrote an entry of `uns`; None where it was none of them."""
    return "fit" if is_flow(entry) else params_of(entry).get("function")


def fit_call(adata: AnnData, key: str, **options: Any) -> str:
    """The call that fits the flow of `key`, for a message: on its own columns, where it is there and names them."""
    entry = adata.uns.get(key)
    params = params_of(entry) if is_flow(entry) else {}
    columns = {name: [*map(str, np.ravel(params.get(name, [])))] for name in ("condition", "covariates", "numeric")}
    condition, *others = columns.pop("condition") or ["condition"]
    arguments = {name: mine for name, mine in columns.items() if mine} | options
    if key != "scratio" and (entry is None or is_flow(entry)):
        arguments["key_added"] = key
    named_ones = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return f"`scratio.tl.fit(adata, {[condition, *others] if others else condition!r}{named_ones})`"


def read_flow(adata: AnnData, key: str) -> ConditionalFlow:
    """Flow stored in `adata.uns[key]`."""
    check_anndata(adata)
    if not isinstance(key, str):
        refuse("key", key, "the name of a flow in adata.uns", types=())
    if key not in adata.uns:
        flows = [name for name, entry in adata.uns.items() if is_flow(entry)]
        other = f"{closest(key, flows)} Name one with `key`, or fit one" if flows else " Fit one first"
        msg = f"No flow {key!r} in adata.uns (there: {named(flows)}).{other}: {fit_call(adata, key)}."
        raise KeyError(msg)
    try:
        return from_dict(adata.uns[key], device=usable_device(params_of(adata.uns[key]).get("device", "auto")))
    except ValueError as error:
        msg = f"adata.uns[{key!r}]: {error} To fit one: {fit_call(adata, key)}."
        raise ValueError(msg) from error
