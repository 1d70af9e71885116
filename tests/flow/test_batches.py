"""Cells that are scored together."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow import fit_flow
from scratio_sc.flow._batches import Batch, batches
from scratio_sc.flow._contrast import named_levels, side_of
from scratio_sc.flow._denoising_ratio import N_NODES
from scratio_sc.flow._design import Design
from scratio_sc.flow._scores import denoising_scores

LABELS = np.array([("a", "x"), ("b", "x"), ("a", "y"), ("b", "y"), ("a", "z")])
DESIGN, _ = Design.of(LABELS[:4], ("condition", "donor"), 1)
FOLD = np.array([0, 1, 0, -1, 1])
LEFT_OUT = np.array([0, 1, 0])


def split(*, by_fold: bool, named: dict[str, list[int | float]] | None = None) -> list[Batch]:
    sides = [{"condition": [0]} if named is None else named]
    options = {"own": LABELS, "fold": FOLD, "left_out": LEFT_OUT, "by_fold": by_fold}
    return list(batches(DESIGN, len(LABELS), sides, **options))


def cells_of(found: list[Batch]) -> list[list[int]]:
    return [batch.cells.tolist() for batch in found]


def test_cells_of_the_same_covariates_are_together() -> None:
    assert cells_of(split(by_fold=False)) == [[0, 1], [2, 3]]


def test_cells_are_split_by_fold_where_it_matters() -> None:
    assert cells_of(split(by_fold=True)) == [[0], [1], [3], [2]]


def test_cells_are_together_where_sides_name_everything() -> None:
    assert cells_of(split(by_fold=False, named={"condition": [0], "donor": [0]})) == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("by_fold", [True, False])
def test_members_judge_cells_that_they_left_out_and_all_judge_new_ones(by_fold: bool) -> None:
    judges = {cell: batch.unseen[:, i] for batch in split(by_fold=by_fold) for i, cell in enumerate(batch.cells)}
    np.testing.assert_array_equal(judges[0], [True, False, True])
    np.testing.assert_array_equal(judges[1], [False, True, False])
    np.testing.assert_array_equal(judges[3], [True, True, True])


def test_scores_do_not_depend_on_the_split() -> None:
    rng = np.random.default_rng(0)
    labels = np.column_stack([np.repeat(["a", "b"], 150), rng.choice(["x", "y"], 300)])
    x = rng.standard_normal((300, 2)) + 6.0 * rng.integers(2, size=300)[:, None] + (labels[:, :1] == "b")
    columns = {"columns": ["condition", "donor"], "n_condition_columns": 1}
    flow, fold = fit_flow(x, labels, max_steps=0, n_members=3, **columns)
    sides = [named_levels(flow.design, side) for side in ("a", "b")]
    by_split = []
    for by_fold in (True, False):
        parts = {name: np.empty((300, 2)) for name in ("value", "far")} | {"withheld": np.empty((300, 2, 2))}
        split = batches(flow.design, 300, sides, own=labels, fold=fold, left_out=flow.left_out, by_fold=by_fold)
        for batch in split:
            mixtures = [side_of(flow.design, side, batch.own_row) for side in sides]
            found = denoising_scores(flow, x[batch.cells] / flow.scale, batch, sides=mixtures, weights=np.ones(N_NODES))
            for name, values in parts.items():
                values[batch.cells] = getattr(found, name)
        by_split.append(parts)
    for name, expected in by_split[0].items():
        assert expected.any()
        np.testing.assert_allclose(by_split[1][name], expected, rtol=1e-5, atol=1e-9)
