"""Threads of NumPy and of torch, as far as they serve."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_DIMS_ALONE = 30
"""Dimensions up to which Python is most of what scoring by a mixture takes."""
MAX_AT_ONCE = 4
"""Pieces of work side by side: each has the densities or the networks of its cells in memory."""

T = TypeVar("T")
R = TypeVar("R")


@cache
def _openblas() -> ThreadpoolController:
    """The OpenBLAS that NumPy and SciPy bring along, which torch does not use."""
    return ThreadpoolController().select(prefix="libscipy_openblas")


class _Limit:
    """The number of threads is one for the whole process, so that the last one out has to restore it."""

    def __init__(self, to_one: Callable[[], Callable[[], None]]) -> None:
        self._to_one, self._lock, self._inside = to_one, Lock(), 0
        self._restore: Callable[[], None] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._restore = self._to_one()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside and self._restore is not None:
                    self._restore()


def _torch_to_one() -> Callable[[], None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    return partial(torch.set_num_threads, before)


_NUMPY = _Limit(lambda: _openblas().limit(limits=1).restore_original_limits)
_TORCH = _Limit(_torch_to_one)
_SPARE: ContextVar[int] = ContextVar("threads for shares", default=1)


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Keep NumPy to one thread: after a product of matrices its threads spin for a while, and hold up torch's."""
    with _NUMPY.held():
        yield


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread a product of matrices; the others are there for `in_shares`.

    Threads within a product wait for each other at its end. Where another process has a core, each product waits for
    it, and a fit takes many times as long.
    """
    before = _SPARE.set(at_once(torch.device("cpu")))
    try:
        with _TORCH.held():
            yield
    finally:
        _SPARE.reset(before)


def in_shares(work: Callable[[Sequence[T]], None], items: Sequence[T], *, large: bool) -> None:
    """Do work on all items; in `one_torch_thread`, where it is large, on a share of them in each of some threads."""
    n = min(_SPARE.get(), len(items)) if large else 1
    if n < 2:
        work(items)
        return
    for _ in side_by_side(work, [items[i::n] for i in range(n)], at_most=n):
        pass


def at_once(device: torch.device, *, small: bool = False) -> int:
    """How many pieces of work serve side by side: one on a device of its own, or if Python is most of their time."""
    return 1 if small or device.type != "cpu" else min(torch.get_num_threads(), MAX_AT_ONCE)


def side_by_side(work: Callable[[T], R], items: Sequence[T], *, at_most: int) -> Iterator[R]:
    """Results of independent pieces of work in their order, some at once, each by one thread of torch.

    As in `one_torch_thread`: beside a process that kept a core busy, a network was trained in twenty times as long.
    """
    n_workers = min(at_most, len(items))
    with _TORCH.held():
        if n_workers < 2:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(n_workers) as pool:
            yield from pool.map(work, items)
