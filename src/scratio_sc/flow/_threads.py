"""Threads of NumPy beside those of torch."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING, Any

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def _openblas() -> ThreadpoolController:
    """The OpenBLAS that NumPy and SciPy bring along, which torch does not use."""
    return ThreadpoolController().select(prefix="libscipy_openblas")


class _Limit:
    """The number of threads is one for the whole process, so that the last one out has to restore it."""

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._limiter: Any = None

    def enter(self) -> None:
        with self._lock:
            if not self._inside:
                self._limiter = _openblas().limit(limits=1)
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._limiter.restore_original_limits()


_LIMIT = _Limit()


@contextmanager
def one_numpy_thread() -> Iterator[None]:
    """Keep NumPy to one thread: after a product of matrices its threads spin for a while, and hold up torch's."""
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()
