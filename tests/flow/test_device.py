"""Where to compute, and how precisely."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.flows import small

from scratio_sc.flow._device import choose_autocast, choose_device
from scratio_sc.flow._neighbourhoods import find_neighbourhoods
from scratio_sc.flow._outliers import outliers
from scratio_sc.flow._storage import from_dict, to_dict

if TYPE_CHECKING:
    from collections.abc import Callable

    from scratio_sc.flow import ConditionalFlow

    Fit = Callable[..., tuple[ConditionalFlow, np.ndarray]]

CPU = torch.device("cpu")


def test_device_is_taken_at_its_word() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_best_device_is_taken(monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == expected


def test_unknown_device_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'gpu' is not a device. Use one of 'auto', 'cpu', 'cuda', 'mps'"):
        choose_device("gpu")


def test_unknown_precision_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'double' is unknown. Use one of 'auto', 'float32', 'bfloat16'"):
        choose_autocast("double", CPU)
    with pytest.raises(TypeError, match=r"precision=3"):
        choose_autocast(3, CPU)


@pytest.mark.parametrize(("precision", "expected"), [("float32", False), ("bfloat16", True)])
def test_precision_is_taken_at_its_word(precision: str, expected: bool) -> None:
    assert choose_autocast(precision, CPU) is expected


@pytest.mark.parametrize("has", [True, False])
def test_best_precision_is_that_of_the_hardware(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, probe, lambda: has, raising=False)
    assert choose_autocast("auto", CPU) is has


def test_default_device_of_a_notebook_does_not_matter(fit: Fit) -> None:
    x, labels = small(60)
    expected = fit(x, labels, max_steps=4)[0].log_ratio(x, "b", "a").value
    torch.set_default_device("meta")
    try:
        flow, _ = fit(x, labels, max_steps=4)
        found = from_dict(to_dict(flow), device="cpu").log_ratio(x, "b", "a").value
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)
    np.testing.assert_array_equal(found, expected)


def test_outliers_and_neighbourhoods_are_found_whatever_the_default_device() -> None:
    x = np.random.default_rng(0).standard_normal((100, 2))
    torch.set_default_device("meta")
    try:
        assert not outliers(x).any()
        assert find_neighbourhoods(x, rng=np.random.default_rng(0)).any(1).all()
    finally:
        torch.set_default_device(None)


def test_lower_precision_around_a_call_does_not_matter(fit: Fit, flow: ConditionalFlow) -> None:
    x, labels = small(60)
    asked = np.random.default_rng(0).standard_normal((5, flow.n_dims))

    def ask() -> list[np.ndarray]:
        fitted = fit(x, labels, max_steps=0)[0].log_ratio(x, "b", "a").value
        ratios = [flow.log_ratio(asked, "stim", "ctrl", method=method).value for method in ("denoising", "ode")]
        return [fitted, *ratios, flow.sample(5, "stim")]

    expected = ask()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ask()
    for part, usual in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part, usual)


def test_settings_of_torch_that_users_changed_do_not_matter(fit: Fit) -> None:
    """A notebook may compute in double precision, or without gradients; both are as before afterwards."""
    x, labels = small(60)
    expected = fit(x, labels, max_steps=4)[0].log_ratio(x, "b", "a").value
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            flow, _ = fit(x, labels, max_steps=4)
            assert torch.is_inference_mode_enabled()
        np.testing.assert_allclose(flow.log_ratio(x, "b", "a").value, expected, rtol=1e-5)
        ode = flow.log_ratio(x[:3], "b", "a", method="ode").value
        assert np.isfinite(ode).all()
        assert np.isfinite(flow.sample(5, "a")).all()
        assert np.isfinite(from_dict(to_dict(flow)).sample(5, "a")).all()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
