"""The stored flow as an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

import scratio_sc as scratio
from scratio_sc.flow import _fit, _storage, _training
from scratio_sc.flow._device import choose_device

if TYPE_CHECKING:
    from anndata import AnnData


CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def _fitted() -> AnnData:
    adata = scratio.datasets.gaussian_shift(60, n_dims=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_training, "clearly_better", lambda *_: True)  # so that there are weights
        patch.setattr(_fit, "tells_conditions_better", lambda *_, **__: True)
        scratio.tl.fit(adata, "condition", max_steps=2, n_members=2, batch_size=64, progress=False)
    return adata


@pytest.fixture
def adata(_fitted: AnnData) -> AnnData:
    return _fitted.copy()


def test_is_the_flow_that_was_fitted(adata: AnnData) -> None:
    flow = scratio.get.flow(adata)
    for m, member in enumerate(flow.members):
        stored = adata.uns["scratio"]["members"][str(m)]["weights"]
        for name, weight in member.network.state_dict().items():
            np.testing.assert_array_equal(weight.cpu(), stored[name])


def test_key(adata: AnnData) -> None:
    adata.uns["other"] = adata.uns.pop("scratio")
    assert scratio.get.flow(adata, key="other").n_dims == 2


def test_is_shown_in_one_line(adata: AnnData) -> None:
    shown = repr(scratio.get.flow(adata, "scratio"))
    assert "\n" not in shown
    assert "condition of 'reference', 'target'" in shown


def test_does_not_share_memory_with_the_slot(adata: AnnData) -> None:
    """Whoever changes the flow does not change the stored one."""
    flow = scratio.get.flow(adata)
    for stored in adata.uns["scratio"]["members"]["0"]["weights"].values():
        stored[...] = 0
    assert any(weight.abs().max() > 0 for weight in flow.members[0].network.state_dict().values())


def test_scores_cells_without_anndata(adata: AnnData) -> None:
    ratio = scratio.get.flow(adata).log_ratio(adata.obsm["X_pca"], "target", "reference")
    assert np.corrcoef(ratio.value, adata.obs["exact_log_ratio"])[0, 1] > 0.8


def test_missing_flow_names_the_call_that_makes_it(adata: AnnData) -> None:
    del adata.uns["scratio"]
    with pytest.raises(KeyError, match=r"No flow 'scratio' .*there: none\).*`scratio\.tl\.fit\(adata, 'condition'\)`"):
        scratio.get.flow(adata)


def test_missing_flow_names_those_that_there_are(adata: AnnData) -> None:
    with pytest.raises(KeyError, match=r"No flow 'scration' .*there: 'scratio'.*Did you mean 'scratio'.*`key`"):
        scratio.get.flow(adata, key="scration")


def test_damaged_flow(adata: AnnData) -> None:
    del adata.uns["scratio"]["members"]["1"]
    adata.uns["scratio"]["left_out"] = "text"
    with pytest.raises(ValueError, match=r"adata.uns\['scratio'\].*damaged at 'left_out'.*Fit again"):
        scratio.get.flow(adata)


@pytest.mark.parametrize(("of_fit", "expected"), [("cpu", "cpu"), ("auto", "cuda"), ("tpu", "cuda"), (None, "cuda")])
def test_is_where_it_was_fitted(
    adata: AnnData, monkeypatch: pytest.MonkeyPatch, of_fit: str | None, expected: str
) -> None:
    """Without asking for it, nothing is moved to a GPU that the fit was told to leave alone."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(_storage, "choose_device", lambda device: asked.append(choose_device(device)) or CPU)
    adata.uns["scratio"]["params"]["device"] = of_fit
    scratio.get.flow(adata)
    assert [device.type for device in asked] == [expected]
