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
    contrast = Contrast(side == "target", scored=every, comparable=comparable, far=~every, ratios=ratios)
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
