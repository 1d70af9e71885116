"""Sides of a contrast as functions are given them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scratio_sc import _sides
from scratio_sc.flow._design import Design


@pytest.mark.parametrize(
    ("side", "spec"),
    [
        ("a", "a"),
        (1, "1"),
        (np.int8(1), "1"),
        (np.float32(1), "1"),
        (np.True_, "True"),
        ([1.0, "b"], ["1", "b"]),
        (("a", "b"), ["a", "b"]),
        ({"b", "a"}, ["a", "b"]),
        (np.array([1, 2]), ["1", "2"]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (["a"], "a"),
        (pd.Series([True, False]), ["True", "False"]),
        ({"dose": 1.0, "donor": [1, 2]}, {"dose": "1", "donor": ["1", "2"]}),
        ([], []),
    ],
)
def test_sides(side, spec):
    assert _sides.as_spec(side) == spec


@pytest.mark.parametrize(
    ("spec", "text"), [("a", "a"), (["a", "b"], "a + b"), ({"dose": "1", "donor": ["x", "y"]}, "dose=1, donor=x + y")]
)
def test_sides_for_people(spec, text):
    assert _sides.describe(spec) == text


@pytest.fixture
def flow():
    labels = np.array([["a", "x", "1"], ["b", "y", "2"], ["all", "x", "3"]])
    return SimpleNamespace(design=Design.of(labels, ["arm", "donor", "dose"], 1, numeric=["dose"])[0])


@pytest.mark.parametrize(
    ("side", "pairs"),
    [
        ("all", [["arm", "all"]]),
        (["b", "a"], [["arm", "a"], ["arm", "b"]]),
        (..., [["arm", "a"], ["arm", "all"], ["arm", "b"]]),
        ({"donor": "x", "arm": "a"}, [["donor", "x"], ["arm", "a"]]),
        ({"arm": "a", "dose": "2"}, [["arm", "a"]]),
        ({"dose": "2"}, []),
    ],
    ids=str,
)
def test_levels_that_a_side_names(flow, side, pairs):
    levels = _sides.levels_of(flow, {"target": side})["target"]
    assert levels.tolist() == pairs
    assert (levels.ndim, levels.dtype) == (2, object)
