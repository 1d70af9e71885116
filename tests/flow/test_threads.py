"""Threads of NumPy beside those of torch."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.flows import small
from threadpoolctl import threadpool_limits

from scratio_sc.flow._storage import from_dict, to_dict
from scratio_sc.flow._threads import _openblas, one_numpy_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scratio_sc.flow import ConditionalFlow

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]


def numpy_threads() -> list[int]:
    return [library["num_threads"] for library in _openblas().info()]


@pytest.fixture
def two_threads() -> Iterator[None]:
    if not _openblas().info():
        pytest.skip("NumPy has no OpenBLAS of its own here")
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_threads")
def test_numpy_has_one_thread_inside_and_its_own_number_after_an_error() -> None:
    inside: list[int] = []
    with suppress(KeyError), one_numpy_thread():
        inside = numpy_threads()
        raise KeyError
    assert (set(inside), set(numpy_threads())) == ({1}, {2})


@pytest.mark.usefixtures("two_threads")
def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    with one_numpy_thread():
        assert torch.get_num_threads() == before


def test_settings_of_torch_that_users_changed_do_not_matter(fit: Fit) -> None:
    """A notebook may compute in double precision, or without gradients; both are as before afterwards."""
    x, labels = small(60)
    expected = fit(x, labels, max_steps=4)[0].log_ratio(x, "b", "a").value
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            flow, _ = fit(x, labels, max_steps=4)
            assert torch.is_inference_mode_enabled()
        np.testing.assert_allclose(flow.log_ratio(x, "b", "a").value, expected, rtol=1e-5)
        ode = flow.log_ratio(x[:3], "b", "a", method="ode").value
        assert np.isfinite(ode).all()
        assert np.isfinite(flow.sample(5, "a")).all()
        assert np.isfinite(from_dict(to_dict(flow)).sample(5, "a")).all()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
