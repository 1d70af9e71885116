"""The stored flow as an object."""

from __future__ import annotations

import numpy as np
import pytest

import scratio_sc as scratio


def test_is_the_flow_that_was_fitted() -> None:
    adata = scratio.datasets.gaussian_shift(100, n_dims=2)
    scratio.tl.fit(adata, "condition", max_steps=2, n_members=2, batch_size=64, progress=False)
    flow = scratio.get.flow(adata)
    weights = flow.members[1].network.state_dict()["fine.inlet.weight"]
    np.testing.assert_array_equal(weights, adata.uns["scratio"]["members"]["1"]["weights"]["fine.inlet.weight"])


def test_missing_flow_names_the_call_that_makes_it() -> None:
    adata = scratio.datasets.gaussian_shift(100, n_dims=2)
    with pytest.raises(KeyError, match=r"scratio_sc\.tl\.fit"):
        scratio.get.flow(adata)
