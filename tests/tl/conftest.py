"""Cells with labels, flows fitted once for all tests of the tools, and a check that nothing was changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scratio_sc import tl
from scratio_sc.flow import _fit, _training

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

SHIFT = 1.5
MEANS = {"ctrl": (0.0, 0.0), "stim": (SHIFT, 0.0), "drug/high": (0.0, -SHIFT)}
DONOR_SHIFTS = {"d1": 0.0, "d2": 1.0}
FAST = {"max_steps": 2, "batch_size": 64, "n_members": 2, "progress": False}


def simulate(n_per_condition: int, conditions: Sequence[str]) -> AnnData:
    """Unit Gaussians; donors are shifted along the second dimension, so log p(stim) / p(ctrl) knows the first alone."""
    rng = np.random.default_rng(0)
    n = n_per_condition * len(conditions)
    condition = np.tile(conditions, n_per_condition)
    donor = np.repeat(list(DONOR_SHIFTS), -(-n // len(DONOR_SHIFTS)))[:n]
    x = rng.standard_normal((n, 2)) + np.array([MEANS[c] for c in condition])
    x[:, 1] += np.array([DONOR_SHIFTS[d] for d in donor])
    obs = pd.DataFrame(
        {"condition": pd.Categorical(condition), "donor": donor, "exact": SHIFT * x[:, 0] - SHIFT**2 / 2},
        index=[f"cell_{i}" for i in range(n)],
    )
    return AnnData(x.astype(np.float32), obs=obs, obsm={"X_pca": x.astype(np.float32)})


@pytest.fixture
def fresh() -> AnnData:
    """Cells before any fit, 30 of each of two conditions."""
    return simulate(30, ["ctrl", "stim"])


@pytest.fixture(scope="session")
def _fresh_fit() -> AnnData:
    adata = simulate(30, ["ctrl", "stim"])
    tl.fit(adata, "condition", **FAST)
    return adata


@pytest.fixture
def fresh_fit(_fresh_fit: AnnData) -> AnnData:
    """The cells of `fresh` after the fit of a few steps that many tests repeat on something that means the same."""
    return _fresh_fit.copy()


@pytest.fixture(scope="session")
def _fitted() -> AnnData:
    """240 cells with three flows: of the condition, with donors as covariate, and of condition and donor together."""
    adata = simulate(80, list(MEANS))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_training, "clearly_better", lambda *_: True)  # so that there are weights to store and to read
        patch.setattr(_fit, "tells_conditions_better", lambda *_, **__: True)
        tl.fit(adata, "condition", max_steps=30, batch_size=128, n_members=4, progress=False)
        tl.fit(adata, "condition", covariates=["donor"], key_added="by_donor", **FAST | {"n_members": 4})
        tl.fit(adata, ["condition", "donor"], key_added="joint", **FAST)
    return adata


@pytest.fixture
def fitted(_fitted: AnnData) -> AnnData:
    return _fitted.copy()


@pytest.fixture
def cells(_fitted: AnnData) -> AnnData:
    """Thirty-five of the fitted cells, of all conditions and donors: enough to score, and fast."""
    return _fitted[::7].copy()


@pytest.fixture
def unchanged() -> Callable[[AnnData], AbstractContextManager[None]]:
    """Context in which an AnnData must not change."""

    @contextmanager
    def context(adata: AnnData) -> Iterator[None]:
        before = snapshot(adata)
        yield
        assert_same(snapshot(adata), before)

    return context


def snapshot(adata: AnnData) -> dict[str, Any]:
    rooms = {name: dict(getattr(adata, name)) for name in ("obsm", "varm", "obsp", "layers")}
    return _deep_copy({"obs": adata.obs, "var": adata.var, "uns": dict(adata.uns), "X": adata.X[:], **rooms})


def _deep_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _deep_copy(part) for name, part in value.items()}
    return value.copy() if hasattr(value, "copy") else value


def assert_same(found: Any, expected: Any, path: str = "adata") -> None:
    assert type(found) is type(expected), path
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for name, value in expected.items():
            assert_same(found[name], value, f"{path}.{name}")
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif sparse.issparse(expected):
        np.testing.assert_array_equal(found.toarray(), expected.toarray(), err_msg=path)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, path
        np.testing.assert_array_equal(found, expected, err_msg=path)
    else:
        np.testing.assert_equal(found, expected, err_msg=path)
