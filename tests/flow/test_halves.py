"""Half of the cells against the other: whether a second opinion serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scratio_sc.flow._components import Components
from scratio_sc.flow._design import Design
from scratio_sc.flow._folds import copies_of
from scratio_sc.flow._halves import Halves
from scratio_sc.flow._mixture_fit import Fitted, Mixture

LABELS = np.repeat(["ctrl", "stim"], 400)
ONE = Components(torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None].double())


def halves_of(labels: np.ndarray = LABELS, *, move: float = 1.0) -> Halves:
    """Two Gaussians apart by a move."""
    columns = ("condition", "donor")[: labels.shape[1]] if labels.ndim == 2 else ("condition",)
    design, group = Design.of(labels.reshape(len(labels), -1), columns, 1)
    x = np.random.default_rng(0).normal(size=(len(labels), 2))
    x[:, 0] += move * group
    return Halves.of(torch.as_tensor(x), group, design, copy=copies_of(x), rng=np.random.default_rng(0))


def test_cells_are_judged_by_the_other_half_of_each_group() -> None:
    halves = halves_of()
    assert np.bincount(halves.group).tolist() == np.bincount(halves.judge_group).tolist() == [200, 200]
    assert not np.intersect1d(halves.x[:, 0], halves.judge[:, 0]).size


def test_copies_do_not_judge_what_was_fitted_to_them() -> None:
    design, group = Design.of(LABELS[:, None], ("condition",), 1)
    x = np.tile(np.random.default_rng(0).normal(size=(100, 2)), (8, 1))
    halves = Halves.of(torch.as_tensor(x), group, design, copy=copies_of(x), rng=np.random.default_rng(0))
    assert not np.intersect1d(halves.x[:, 0], halves.judge[:, 0]).size


@pytest.mark.parametrize(("n", "chosen"), [(30, False), (300, True)])
def test_covariances_of_a_group_of_few_cells_are_not_judged(n: int, chosen: bool) -> None:
    """Nearly all judges would be of the other group, and like whatever is too sure of it."""
    design, group = Design.of(np.repeat(["ctrl", "stim"], [1000, n])[:, None], ("condition",), 1)
    x = np.random.default_rng(0).normal(size=(len(group), 2)) * np.where(group == 1, 3, 1)[:, None]
    halves = Halves.of(torch.as_tensor(x), group, design, copy=copies_of(x), rng=np.random.default_rng(0))
    assert bool(halves.candidate(Mixture.start(ONE, design.n_features)).own_share) == chosen


def serves(halves: Halves, part: Fitted) -> bool:
    return halves.second_opinion_serves([part], own_share=0.0, label_weight=0.0)


def blind(halves: Halves) -> Fitted:
    """Fitted as if groups were the same."""
    nothing = np.zeros(len(halves.group), int)
    design, group = Design.of(nothing[:, None].astype(str), ("all",), 1)
    mixture = Fitted.of(Mixture.start(ONE, 1), halves.x, group, design=design, n_sweeps=2).mixture
    pooled = Mixture.start(mixture.pooled, halves.design.n_features)
    told = seeing(halves)
    return Fitted(pooled, told.scatter, told.size, told.kinds, told.prior, told.withheld, told.hidden_moves)


def seeing(halves: Halves) -> Fitted:
    """Fitted to groups as they are."""
    start = Mixture.start(ONE, halves.design.n_features)
    return Fitted.of(start, halves.x, halves.group, design=halves.design, n_sweeps=2)


def test_second_opinion_serves_where_the_first_sees_nothing() -> None:
    halves = halves_of()
    assert serves(halves, blind(halves))


def test_second_opinion_does_not_serve_where_the_first_is_right() -> None:
    halves = halves_of()
    assert not serves(halves, seeing(halves))


def test_second_opinion_does_not_serve_where_there_is_nothing_to_tell() -> None:
    halves = halves_of(move=0.0)
    assert not serves(halves, blind(halves))


def test_few_cells_do_not_judge_a_second_opinion() -> None:
    halves = halves_of(LABELS[::6], move=3.0)
    assert not serves(halves, blind(halves))


def test_conditions_that_never_compete_have_no_second_opinion() -> None:
    halves = halves_of(np.repeat([("ctrl", "x"), ("stim", "y")], 400, axis=0), move=3.0)
    assert not serves(halves, blind(halves))


def test_smaller_ratios_alone_are_no_reason_for_a_second_opinion() -> None:
    """The first opinion has twice the ratios that it should have: half of them are right."""
    halves = halves_of(move=1.0)
    told = seeing(halves)
    twice = replace(told.mixture, mean_effect=2 * told.mixture.mean_effect)
    assert not serves(halves, replace(told, mixture=twice))
