"""What the anchors of all members share: components that cells bear out, and their copies do not."""

from __future__ import annotations

import numpy as np

from scratio_sc.flow._anchor_plan import AnchorPlan
from scratio_sc.flow._design import Design
from scratio_sc.flow._folds import copies_of


def test_copies_of_cells_are_no_components() -> None:
    """Cells that judge how many there are would find each of their copies well explained."""
    x = np.repeat(np.random.default_rng(0).normal(size=(100, 5)), 4, axis=0)
    labels = np.random.default_rng(1).choice(["a", "b"], (400, 1))
    design, group = Design.of(labels, ("condition",), 1)
    plan = AnchorPlan.of(x, group, design, copy=copies_of(x), rng=np.random.default_rng(0))
    assert len(plan.parts[0].mixture.mean) == 1
