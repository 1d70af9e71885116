"""Threads of NumPy beside those of torch."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
import torch
from threadpoolctl import threadpool_limits

from scratio_sc.flow._threads import _openblas, one_numpy_thread, torch_threads_for

if TYPE_CHECKING:
    from collections.abc import Iterator


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
def test_numpy_has_its_own_number_after_all_who_asked_have_left() -> None:
    first, second = ExitStack(), ExitStack()
    for one in (first, second):
        one.enter_context(one_numpy_thread())
    first.close()
    assert set(numpy_threads()) == {1}
    second.close()
    assert set(numpy_threads()) == {2}


@pytest.mark.usefixtures("two_threads")
def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    with one_numpy_thread():
        assert torch.get_num_threads() == before


@pytest.mark.parametrize(("n_dims", "inside"), [(30, 1), (31, 2)])
def test_torch_has_one_thread_in_few_dimensions(n_dims: int, inside: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with torch_threads_for(n_dims):
            found = torch.get_num_threads()
        assert (found, torch.get_num_threads()) == (inside, 2)
    finally:
        torch.set_num_threads(before)
