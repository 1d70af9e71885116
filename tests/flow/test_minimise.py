"""Where a function is least, and what happens where the search goes astray."""

from __future__ import annotations

import torch

from scratio_sc.flow._minimise import minimised

START = torch.zeros(2, dtype=torch.float64)
TARGET = torch.tensor([1.0, -3.0], dtype=torch.float64)


def test_least_of_a_parabola_is_its_vertex() -> None:
    found = minimised(lambda place: (place - TARGET).square().sum(), START, max_iterations=50, tolerance=1e-9)
    torch.testing.assert_close(found, TARGET)


def test_best_place_is_kept_where_the_search_ends_in_nan() -> None:
    """The root is no number beyond 1, and the first step goes there."""
    found = minimised(lambda place: 1e3 * (1 - place[0]).sqrt(), START + 0.5, max_iterations=5, tolerance=1e-9)
    assert found.isfinite().all()


def test_start_is_not_moved() -> None:
    start = START.clone()
    found = minimised(lambda place: (place - TARGET).square().sum(), start, max_iterations=50, tolerance=1e-9)
    torch.testing.assert_close(start, START)
    assert not found.requires_grad
