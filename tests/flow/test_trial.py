from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from scratio_sc.flow import _fit, _trial
from scratio_sc.flow._fit import training_cells
from scratio_sc.flow._member import Member
from scratio_sc.flow._trial import tells_conditions_better

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import ConditionalFlow
    from scratio_sc.flow._training import TrainingCells


@pytest.fixture
def learned(learned_flow: ConditionalFlow) -> Member:
    """A member that may be changed; its network knows of bumps that its anchor does not know of."""
    (member,) = learned_flow.members
    return Member(member.anchor, copy.deepcopy(member.network), member.device)


@pytest.fixture
def judged(learned: Member, learned_flow: ConditionalFlow, two_shapes: tuple[np.ndarray, np.ndarray]) -> TrainingCells:
    x, labels = two_shapes
    group = (labels == "stim").astype(int)
    return training_cells(learned, x / learned_flow.scale, group, design=learned_flow.design)


def test_network_that_knows_more_is_kept(learned: Member, judged: TrainingCells) -> None:
    assert tells_conditions_better(learned, judged, seed=0)


@pytest.mark.parametrize(
    ("anchor", "network", "kept"),
    [(0.3, 0.29, False), (0.3, 0.25, True), (0.65, 0.648, False), (0.65, 0.64, True)],
    ids=["little of much", "much of much", "little of little", "much of little"],
)
def test_network_has_to_settle_a_share_of_what_the_anchor_leaves_open(
    learned: Member,
    judged: TrainingCells,
    monkeypatch: pytest.MonkeyPatch,
    *,
    anchor: float,
    network: float,
    kept: bool,
) -> None:
    losses = np.broadcast_to(np.array([network, anchor, 0.69])[:, None, None], (3, 100, 5))
    monkeypatch.setattr(_trial, "_losses", lambda *_, **__: losses)
    assert tells_conditions_better(learned, judged, seed=0) == kept


def test_gain_that_may_be_chance_is_not_enough(
    learned: Member, judged: TrainingCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = 0.1 + np.resize([1.0, -1.0], 100)  # mean 0.1, standard error 0.1
    losses = np.stack([0.4 - saved, np.full(100, 0.4), np.full(100, 0.69)])[..., None]
    monkeypatch.setattr(_trial, "_losses", lambda *_, **__: losses)
    assert not tells_conditions_better(learned, judged, seed=0)


def test_network_that_is_wrong_is_not_kept(learned: Member, judged: TrainingCells) -> None:
    with torch.no_grad():
        for expert in (learned.network.coarse, learned.network.fine):
            for part in expert.outlet.parameters():
                part.neg_()
    assert not tells_conditions_better(learned, judged, seed=0)


def test_network_that_says_nothing_is_not_kept(learned: Member, judged: TrainingCells) -> None:
    learned.network.silence()
    assert learned.network.silent
    assert not tells_conditions_better(learned, judged, seed=0)


def test_without_rivals_there_is_nothing_to_judge(
    learned: Member, learned_flow: ConditionalFlow, two_shapes: tuple[np.ndarray, np.ndarray]
) -> None:
    cells = training_cells(learned, two_shapes[0][:400], np.zeros(400, int), design=learned_flow.design)
    learned.network.silence()
    assert tells_conditions_better(learned, cells, seed=0)


def test_all_members_are_silent_where_the_first_fails(
    fit: Callable[..., tuple[ConditionalFlow, np.ndarray]],
    two_shapes: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def trained(member: Member, *_: TrainingCells, **__: object) -> _fit.Losses:
        with torch.no_grad():
            member.network.fine.outlet.bias.fill_(1.0)
        return _fit.Losses(np.arange(1), np.zeros(1, np.float32), np.zeros(1, np.float32))

    monkeypatch.setattr(_fit, "train", trained)
    flow, _ = fit(*two_shapes, n_members=2, max_steps=10)
    assert all(member.network.silent for member in flow.members)
