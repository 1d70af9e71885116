"""What holds for every test and every doctest; it lies here, and not in tests/, because doctests lie in src/."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

mpl.use("Agg")

# Two threads at most in all: more only get in each other's way, and the timing of tests stays comparable.
torch.set_num_threads(max(1, min(2, os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


def _random_state() -> tuple[bytes, ...]:
    name, keys, *position = np.random.get_state()  # noqa: NPY002  the global state is what we look at
    return (
        repr(random.getstate()).encode(),
        keys.tobytes() + repr((name, position)).encode(),
        torch.random.get_rng_state().numpy().tobytes(),
    )


@pytest.fixture(autouse=True)
def _global_random_state_untouched() -> Iterator[None]:
    """Neither the package nor a test draws from a global generator, so that results depend on the seed given alone."""
    before = _random_state()
    yield
    after = _random_state()
    changed = [name for name, a, b in zip(("random", "numpy", "torch"), before, after, strict=True) if a != b]
    assert not changed, f"the global random state of {changed} was changed"


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Each test starts and ends without open figures."""
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(autouse=True)
def _doctest_in_scratch_directory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Examples in docstrings may write files."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
