"""The anchor that cells judge: its priors come from the cells that it sees."""

from __future__ import annotations

import dataclasses

import numpy as np

from scratio_sc.flow._anchor import Anchor
from scratio_sc.flow._anchor_plan import AnchorPlan
from scratio_sc.flow._design import Design
from scratio_sc.flow._folds import copies_of
from scratio_sc.flow._weight_effects import EffectPrior

CENTRES = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0]])
DESIGN, GROUP = Design.of(np.repeat(["a", "b"], 300)[:, None], ["condition"], 1)


def plan_of(x: np.ndarray) -> AnchorPlan:
    return AnchorPlan.of(x, GROUP, DESIGN, copy=copies_of(x), rng=np.random.default_rng(0))


def types(*counts: list[int]) -> np.ndarray:
    """Cells of three types, so many in each group."""
    kind = np.concatenate([np.repeat(np.arange(3), count) for count in counts])
    return CENTRES[kind] + np.random.default_rng(0).standard_normal((len(kind), 3))


def test_priors_of_a_plan_have_no_say_where_cells_judge() -> None:
    """Its own cells, whose labels mean nothing, tell the judge to shrink their effects to nearly nothing."""
    of_cells = plan_of(types([180, 90, 30], [180, 90, 30]))
    part = of_cells.parts[0]
    prior = dataclasses.replace(part.prior, effects=[EffectPrior.broad(len(part.mixture.mean), 2)])
    broad = dataclasses.replace(of_cells, parts=[dataclasses.replace(part, prior=prior)])
    cells = types([168, 96, 36], [180, 90, 30])
    (anchor, judge), (_, same) = (Anchor.fit(cells, GROUP, DESIGN, plan=plan) for plan in (broad, of_cells))
    assert np.abs(anchor.weight_effect).max() > 3 * np.abs(judge.weight_effect).max()
    np.testing.assert_allclose(judge.weight_effect, same.weight_effect, atol=1e-4)


def test_gaussian_groups_have_no_priors_and_are_judged_as_they_are() -> None:
    x = np.random.default_rng(0).standard_normal((600, 3)) * [2.0, 1.0, 0.5] + 2.0 * GROUP[:, None]
    anchor, judge = Anchor.fit(x, GROUP, DESIGN, plan=plan_of(x))
    assert judge is anchor
