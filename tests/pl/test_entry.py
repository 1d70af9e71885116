"""Plots draw results of their own function, and say what else they find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from scratio_sc import pl

if TYPE_CHECKING:
    from anndata import AnnData

PLOTS = [name for name in pl.__all__ if name != "ratio_umap"]
ENTRIES = {
    "fit": {"format_version": 1},
    "interaction": {"table": pd.DataFrame({"kl_target": [0.0]}), "params": {"function": "interaction"}},
    "log_density": {"params": {"function": "log_density"}},
}
OTHERS = [(name, function) for name in PLOTS for function in ENTRIES if {"training": "fit"}.get(name, name) != function]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("entry", [None, 1.0, "text", {}, {"table": 1, "params": {}}], ids=str)
def test_what_no_function_wrote_is_no_result(adata: AnnData, name: str, *, entry: Any) -> None:
    adata.uns["x"] = entry
    with pytest.raises(KeyError, match=r"No [a-z ]+ in `adata.uns\['x'\]`. Run `scratio.tl"):
        getattr(pl, name)(adata, "x", show=False)


@pytest.mark.parametrize(("name", "function"), OTHERS)
def test_a_result_of_another_function_is_named(adata: AnnData, name: str, function: str) -> None:
    adata.uns["x"] = ENTRIES[function]
    message = rf"No [a-z ]+ in `adata.uns\['x'\]`, which is of `scratio.tl.{function}`. Run `scratio.tl"
    with pytest.raises(KeyError, match=message):
        getattr(pl, name)(adata, "x", show=False)
