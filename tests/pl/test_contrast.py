"""Which cells are on neither side, from what a ratio and its fit wrote down."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scratio_sc.pl._contrast import of_no_side


def others(target: str, reference: str, **fit: Any) -> str:
    """Conditions on neither side, a letter a cell."""
    obs = pd.DataFrame({"arm": [*"abcd"], "donor": [*"xxyy"], "dose": [0.0, 1, 2, 3]}, index=[*"0123"])
    obs.loc["4"] = pd.Series({"donor": "x", "dose": 1.0})
    params = {"condition": np.array(["arm"], object), "covariates": np.array(["donor"], object)} | fit
    ratio = {"target": target, "reference": reference, "key": "fit"}
    adata = AnnData(obs=obs, uns={"fit": {"params": params}, "r": {"params": ratio}})
    return "".join(adata.obs["arm"][of_no_side(adata, "r")])


@pytest.mark.parametrize(
    ("target", "reference", "expected"),
    [
        ("a", "b", "cd"),
        ("a + c", "b", "d"),
        ("a", "all", ""),
        ("arm=a, donor=x", "arm=b + d, donor=x", "c"),
        ("donor=x", "donor=y", ""),
    ],
)
def test_conditions_on_neither_side(target: str, reference: str, expected: str) -> None:
    assert others(target, reference) == expected


@pytest.mark.parametrize("fit", [{"condition": []}, {"condition": ["gone"]}], ids=str)
def test_none_where_conditions_are_not_known(fit: dict[str, Any]) -> None:
    assert others("a", "b", **fit) == ""


def test_several_columns_of_conditions() -> None:
    assert others("arm=a, dose=0", "arm=b, dose=1", condition=["arm", "dose"]) == "cd"


def test_a_number_is_on_any_side() -> None:
    assert others("5", "0", condition=["dose"], numeric=["dose"]) == ""


def test_a_ratio_without_a_fit_has_no_others() -> None:
    adata = AnnData(obs=pd.DataFrame({"arm": ["a", "b"]}, index=["0", "1"]))
    adata.uns["r"] = {"params": {"target": "a", "reference": "z", "key": ""}}
    assert not of_no_side(adata, "r").any()
