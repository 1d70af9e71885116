"""Which cells are on neither side, from what a ratio and its fit wrote down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scratio_sc import tl
from scratio_sc.pl._contrast import of_no_side, share_of_target

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["all", "a", "b", "a + b", "a, donor=x"]


def others(*sides: dict[str, str], **fit: Any) -> str:
    """Conditions on no side, a letter a cell; a side has the letters that it names of each column."""
    obs = pd.DataFrame({"arm": [*"abcd"], "donor": [*"xxyy"], "dose": [0.0, 1, 2, 3]}, index=[*"0123"])
    obs.loc["4"] = pd.Series({"donor": "x", "dose": 1.0})
    params = {"condition": np.array(["arm"], object), "covariates": np.array(["donor"], object)} | fit
    pairs = [[(column, level) for column, levels in side.items() for level in levels] for side in sides]
    levels = {str(i): np.array(each, object).reshape(-1, 2) for i, each in enumerate(pairs)}
    adata = AnnData(obs=obs, uns={"fit": {"params": params}, "r": {"params": {"levels": levels, "key": "fit"}}})
    return "".join(adata.obs["arm"][of_no_side(adata, "r")])


@pytest.mark.parametrize(
    ("target", "reference", "expected"),
    [
        ({"arm": "a"}, {"arm": "b"}, "cd"),
        ({"arm": "ac"}, {"arm": "b"}, "d"),
        ({"arm": "a"}, {"arm": "abcd"}, ""),
        ({"arm": "a", "donor": "x"}, {"arm": "bd", "donor": "x"}, "c"),
        ({"donor": "x"}, {"donor": "y"}, ""),
    ],
)
def test_conditions_on_neither_side(target: dict[str, str], reference: dict[str, str], expected: str) -> None:
    assert others(target, reference) == expected


def test_conditions_on_none_of_four_sides() -> None:
    assert others(*({"arm": level} for level in "abca")) == "d"


@pytest.mark.parametrize("fit", [{"condition": []}, {"condition": ["gone"]}], ids=str)
def test_none_where_conditions_are_not_known(fit: dict[str, Any]) -> None:
    assert others({"arm": "a"}, {"arm": "b"}, **fit) == ""


def test_several_columns_of_conditions() -> None:
    assert others({"arm": "a", "dose": "0"}, {"arm": "b", "dose": "1"}, condition=["arm", "dose"]) == "cd"


def test_a_number_is_on_any_side() -> None:
    assert others({}, {}, condition=["dose"], numeric=["dose"]) == ""


def test_a_label_beside_a_number_is_compared() -> None:
    assert others({"arm": "a"}, {"arm": "b"}, condition=["arm", "dose"], numeric=["dose"]) == "cd"


@pytest.mark.parametrize("params", [{"key": "fit"}, {"key": "", "levels": {}}], ids=str)
def test_a_ratio_without_levels_or_a_fit_has_no_others(params: dict[str, Any]) -> None:
    adata = AnnData(obs=pd.DataFrame({"arm": ["a", "b"]}, index=["0", "1"]))
    adata.uns["fit"] = {"params": {"condition": np.array(["arm"], object)}}
    adata.uns["r"] = {"params": {"target": "a", "reference": "z", **params}}
    assert not of_no_side(adata, "r").any()


@pytest.fixture(scope="module")
def _fitted() -> AnnData:
    """Cells of conditions whose names look like mixtures, columns and all of them."""
    arm = np.repeat(NAMES, 40)
    x = np.random.default_rng(0).standard_normal((len(arm), 2)).astype(np.float32)
    adata = AnnData(obs=pd.DataFrame({"arm": arm}).rename(str), obsm={"X_pca": x})
    tl.fit(adata, "arm", max_steps=0, n_members=2, progress=False)
    return adata


@pytest.fixture
def fitted(_fitted: AnnData) -> AnnData:
    return _fitted.copy()


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("all", {"a + b", "a, donor=x"}),
        ("a + b", {"all", "a, donor=x"}),
        ("a, donor=x", {"all", "a + b"}),
        (["all", "a + b"], {"a, donor=x"}),
        (..., set()),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # there is nothing to find
def test_names_of_conditions_stand_for_themselves(fitted: AnnData, target: Any, expected: set[str]) -> None:
    tl.log_ratio(fitted, target=target, reference=["a", "b"], progress=False)
    assert {*fitted.obs["arm"][of_no_side(fitted, "log_ratio")]} == expected


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sides_of_an_interaction(fitted: AnnData) -> None:
    tl.interaction(fitted, a="a", b="b", reference="all", combination="a + b", progress=False)
    assert {*fitted.obs["arm"][of_no_side(fitted, "interaction")]} == {"a, donor=x"}


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sides_are_kept_in_files(fitted: AnnData, tmp_path: Path, suffix: str) -> None:
    tl.log_ratio(fitted, target="a + b", reference="all", progress=False)
    getattr(fitted, f"write_{suffix}")(tmp_path / "cells")
    read = getattr(ad, f"read_{suffix}")(tmp_path / "cells")
    assert {*read.obs["arm"][of_no_side(read, "log_ratio")]} == {"a", "b", "a, donor=x"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("arm=a, donor=x", "share of arm=a among arm=a and arm=b, donor=x"),
        ("donor=x, arm=a", "share of arm=a among arm=a and arm=b, donor=x"),
        ("arm=a, donor=y", "share of arm=a, donor=y among arm=a, donor=y and arm=b, donor=x"),
        ("a", "share of a among a and arm=b, donor=x"),
    ],
)
def test_a_level_of_both_sides_is_said_once(target: str, expected: str) -> None:
    sides = {"target": target, "reference": "arm=b, donor=x"}
    pairs = {name: [part.split("=") for part in side.split(", ") if "=" in part] for name, side in sides.items()}
    levels = {name: np.array(each, object).reshape(-1, 2) for name, each in pairs.items()}
    assert share_of_target({**sides, "levels": levels}) == expected


def test_sides_without_levels_are_written_in_full() -> None:
    sides = {"target": "arm=a, donor=x", "reference": "arm=b, donor=x"}
    assert share_of_target(sides) == "share of arm=a, donor=x among arm=a, donor=x and arm=b, donor=x"
