"""What messages say about the flow that functions are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from anndata import AnnData

from scratio_sc._check import fit_call


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        ({}, "'condition'"),
        ({"condition": np.array(["arm"], object), "covariates": np.array([], object)}, "'arm'"),
        ({"condition": ["drug", "dose"], "numeric": ["dose"]}, "['drug', 'dose'], numeric=['dose']"),
        ({"condition": "arm", "covariates": ["donor"]}, "'arm', covariates=['donor']"),
    ],
)
def test_fit_is_named_with_the_columns_of_the_flow(params: dict[str, Any], arguments: str) -> None:
    adata = AnnData(uns={"scratio": {"format_version": 1, "params": params}})
    assert fit_call(adata, "scratio") == f"`scratio.tl.fit(adata, {arguments})`"


def test_fit_is_named_under_the_key_that_was_asked_for() -> None:
    adata = AnnData(uns={"log_ratio": {"params": {"condition": "no flow"}}})
    assert fit_call(adata, "mine", use_rep="X") == "`scratio.tl.fit(adata, 'condition', use_rep='X', key_added='mine')`"
    assert fit_call(adata, "log_ratio") == "`scratio.tl.fit(adata, 'condition')`"
