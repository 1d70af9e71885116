"""Which cells are asked for their labels, and who competes for them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scratio_sc.flow import _contest
from scratio_sc.flow._contest import Contest
from scratio_sc.flow._design import Design

CELLS = np.random.default_rng(0).normal(size=(400, 2))
LABELS = np.random.default_rng(1).choice(["a", "b", "c"], size=400, p=[0.6, 0.3, 0.1])


def contest(labels: np.ndarray) -> Contest:
    design, group = Design.of(labels[:, None], ("condition",), 1)
    return Contest.of(torch.as_tensor(CELLS), group, design)


@pytest.fixture
def _few_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_contest, "MAX_CELLS", 100)
    monkeypatch.setattr(_contest, "MIN_CELLS", 10)


@pytest.mark.usefixtures("_few_are_asked")
def test_every_group_is_asked_in_proportion() -> None:
    asked = contest(LABELS)
    assert len(asked.x) == 100
    np.testing.assert_allclose(
        np.bincount(asked.own), np.bincount(np.unique(LABELS, return_inverse=True)[1]) / 4, atol=1
    )


@pytest.mark.usefixtures("_few_are_asked")
def test_names_of_groups_do_not_matter() -> None:
    renamed = np.select([LABELS == "a", LABELS == "b"], ["z", "y"], "x")
    torch.testing.assert_close(contest(LABELS).x, contest(renamed).x, rtol=0, atol=0)
