"""Threads of NumPy beside those of torch."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest
import torch
from threadpoolctl import threadpool_limits

from scratio_sc.flow._threads import _openblas, at_once, in_shares, one_numpy_thread, one_torch_thread, side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


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


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Three threads of torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("torch_threads")
def test_results_come_in_order_from_workers_of_one_torch_thread_each() -> None:
    meet = threading.Barrier(3)

    def work(item: int) -> tuple[int, int]:
        meet.wait(timeout=30)  # of three at a time
        time.sleep(0.01 * (3 - item % 3))  # the first is the last to end
        return item, torch.get_num_threads()

    assert list(side_by_side(work, range(6), at_most=3)) == [(item, 1) for item in range(6)]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("torch_threads")
def test_error_of_a_worker_is_raised_and_torch_has_its_threads_again() -> None:
    def work(item: int) -> int:
        return 1 // item

    with pytest.raises(ZeroDivisionError):
        list(side_by_side(work, [1, 0, 1], at_most=2))
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("torch_threads")
def test_torch_has_one_thread_and_then_those_it_had() -> None:
    with one_torch_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize(
    ("n_items", "large", "n_shares"), [(7, True, 3), (2, True, 2), (1, True, 1), (0, True, 1), (7, False, 1)]
)
def test_large_work_is_shared_out_among_threads(n_items: int, *, large: bool, n_shares: int) -> None:
    shares: list[list[int]] = []
    with one_torch_thread():
        in_shares(lambda share: shares.append([*share]), range(n_items), large=large)
    assert len(shares) == n_shares
    assert sorted(itertools.chain(*shares)) == [*range(n_items)]


@pytest.mark.usefixtures("torch_threads")
def test_work_is_not_shared_out_where_torch_has_its_threads_or_others_work_beside() -> None:
    shares: list[Sequence[int]] = []
    in_shares(shares.append, range(3), large=True)
    with one_torch_thread():
        list(side_by_side(lambda _: in_shares(shares.append, range(3), large=True), range(2), at_most=2))
    assert [len(share) for share in shares] == [3, 3, 3]


@pytest.mark.usefixtures("torch_threads")
def test_error_in_a_share_is_raised() -> None:
    with one_torch_thread(), pytest.raises(ZeroDivisionError):
        in_shares(lambda share: [1 // item for item in share], range(3), large=True)


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize(("at_most", "n_items"), [(1, 3), (3, 1)])
def test_one_at_a_time_is_done_where_it_was_asked_for_by_one_torch_thread(at_most: int, n_items: int) -> None:
    workers = side_by_side(lambda _: (threading.get_ident(), torch.get_num_threads()), range(n_items), at_most=at_most)
    assert list(workers) == [(threading.get_ident(), 1)] * n_items


@pytest.mark.usefixtures("torch_threads")
@pytest.mark.parametrize(("device", "small", "expected"), [("cpu", False, 3), ("cpu", True, 1), ("meta", False, 1)])
def test_as_much_is_done_at_once_as_serves(device: str, *, small: bool, expected: int) -> None:
    assert at_once(torch.device(device), small=small) == expected
