"""Rows of a table of effects: what counts as a response, and of which cells a type is a share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from scratio_sc import _effects
from scratio_sc._effects import Contrast, rows_of
from scratio_sc.stats._divergence import NAMES, Ratios

COUNTS = {("target", "one"): 40, ("target", "two"): 40, ("reference", "one"): 30, ("reference", "two"): 60}


def rows(*, n_confounded: int = 0) -> dict[str, dict[str, Any]]:
    """Rows by cell type, of ratios of 0; of further target cells of the first type none are like the reference."""
    side, kind = np.repeat([*COUNTS, ("target", "one")], [*COUNTS.values(), n_confounded], axis=0).T
    every, nothing = np.ones(len(side), bool), np.zeros(len(side))
    ratios = Ratios(nothing, np.stack([nothing] * 2), nothing[None])
    comparable = np.arange(len(side)) < sum(COUNTS.values())
    stratum = np.zeros(len(side), np.int64)
    contrast = Contrast(
        side == "target", scored=every, comparable=comparable, far=~every, stratum=stratum, ratios=ratios
    )
    labels = pd.DataFrame({"group": kind, "sample": ""})
    return {row["group"]: row for row in rows_of(contrast, labels, left_out=np.array([0, 1]))}


@pytest.mark.parametrize(("in_errors", "responds"), [(1.6, False), (1.7, True)])
def test_response_is_larger_than_chance_in_one_of_twenty(
    monkeypatch: pytest.MonkeyPatch, *, in_errors: float, responds: bool
) -> None:
    js = np.array([name == "js" for name in NAMES])
    found = np.where(js, 0.1 * in_errors, 9.0), np.where(js, 0.1, 1.0)
    monkeypatch.setattr(_effects, "divergence_of", lambda *_, **__: found)
    assert rows()["one"]["responds"] is responds


@pytest.mark.parametrize("n_confounded", [0, 100])
def test_composition_is_of_the_cells_that_can_be_compared(n_confounded: int) -> None:
    found = rows(n_confounded=n_confounded)
    assert found["one"]["composition"] == pytest.approx(np.log((40 / 80) / (30 / 90)))
    assert found["two"]["composition"] == pytest.approx(np.log((40 / 80) / (60 / 90)))


@pytest.mark.parametrize(("n_compared", "flag"), [(0, "confounded"), (5, "few cells")])
def test_few_cells_none_of_which_can_be_compared_are_confounded(n_compared: int, flag: str) -> None:
    every, side = np.ones(30, bool), np.arange(30) % 2 == 0
    ratios = Ratios(np.zeros(30), np.zeros((2, 30)), np.zeros((1, 30)))
    comparable, stratum = np.arange(30) < 2 * n_compared, np.zeros(30, np.int64)
    contrast = Contrast(side, scored=every, comparable=comparable, far=~every, stratum=stratum, ratios=ratios)
    (row,) = rows_of(contrast, pd.DataFrame({"group": [""] * 30, "sample": ""}), left_out=np.array([0, 1]))
    assert row["flag"] == flag


def divergence_of_first(ratio: float, stratum: list[int], sample: list[int], n: list[int]) -> float:
    """KL of cells of the first type in the first sample, all of whose ratios are one number, by stratum and sample.

    There are so many cells ``n`` of each: side by side target and reference, the first and the second type.
    """
    side, kind = np.tile([[1, 1, 0, 0], [0, 1, 0, 1]], len(n) // 4)
    side, kind, stratum, sample = (
        np.repeat(part, n) for part in (side, kind, np.repeat(stratum, 4), np.repeat(sample, 4))
    )
    every, value = np.ones(len(side), bool), np.where(side, 1.0, -1.0) * 20 + ratio
    ratios = Ratios(value, np.stack([value] * 2), value[None])
    contrast = Contrast(side == 1, scored=every, comparable=every, far=~every, stratum=stratum, ratios=ratios)
    labels = pd.DataFrame({"group": np.where(kind, "two", "one"), "sample": np.where(sample, "b", "a")})
    found = {(row["group"], row["sample"]): row for row in rows_of(contrast, labels, left_out=np.array([0, 1]))}
    return float(found["one", "a"]["kl_target"]) - 20


@pytest.mark.parametrize(
    ("stratum", "sample", "n", "exceeds"),
    [
        # each stratum has one type: its ratio is within that type
        ([0, 1], [0, 0], [600, 0, 300, 0, 0, 300, 0, 600], 0.0),
        # shares of the types differ between strata, not between sides within them
        ([0, 1], [0, 0], [570, 30, 95, 5, 40, 60, 240, 360], 0.0),
        # a sample of one type, among others that share its ratio
        ([0, 0], [0, 1], [100, 0, 100, 0, 300, 400, 100, 600], float(np.log((400 / 800) / (200 / 800)))),
    ],
)
def test_ratio_within_a_type_exceeds_what_the_ratio_knows_of_its_share(
    stratum: list[int], sample: list[int], n: list[int], exceeds: float
) -> None:
    assert divergence_of_first(0.5, stratum, sample, n) == pytest.approx(0.5 - exceeds, abs=1e-3)
