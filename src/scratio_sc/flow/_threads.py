"""Threads of NumPy and of torch, as far as they serve."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import torch
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_DIMS_ALONE = 30
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


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Keep NumPy to one thread: after a product of matrices its threads spin for a while, and hold up torch's."""
    with _NUMPY.held():
        yield


@contextmanager
def torch_threads_for(n_dims: int) -> Iterator[None]:
    """Keep torch to one thread for mixtures in few dimensions.

    Their products of matrices are so small that a second thread saves a tenth of the time; and where another process
    has its core, each product waits for it, and the fit takes several times as long.
    """
    with _TORCH.held() if n_dims <= MAX_DIMS_ALONE else nullcontext():
        yield


def at_once(device: torch.device, *, small: bool = False) -> int:
    """How many pieces of work serve side by side: one on a device of its own, or if Python is most of their time."""
    return 1 if small or device.type != "cpu" else min(torch.get_num_threads(), MAX_AT_ONCE)


def side_by_side(work: Callable[[T], R], items: Sequence[T], *, at_most: int) -> Iterator[R]:
    """Results of independent pieces of work in their order, some at once, each by one thread of torch.

    Threads within a product of matrices wait for each other at its end, so that another process that keeps a core busy
    holds up every product, and a network is trained in twenty times as long.
    """
    n_workers = min(at_most, len(items))
    with _TORCH.held():
        if n_workers < 2:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(n_workers) as pool:
            yield from pool.map(work, items)
