"""Checks of arguments, and the wording of messages."""

from __future__ import annotations

import numpy as np
import pytest

from scratio_sc.flow import fit_flow
from scratio_sc.flow._arguments import check_bandwidth, check_max_steps, closest, named


def test_few_names_are_all_named():
    assert named(["a", 1]) == "'a', '1'"


def test_no_names():
    assert named([]) == "none"


def test_of_many_names_the_first_are_named():
    assert named(range(100)).endswith("'18', '19' and 80 more")


@pytest.mark.parametrize(
    ("name", "hint"), [("stmi", " Did you mean 'Stim'?"), ("STIM", " Did you mean 'Stim'?"), ("unlike", "")]
)
def test_closest(name, hint):
    assert closest(name, ["ctrl", "Stim"]) == hint


@pytest.mark.parametrize(
    ("bandwidth", "method", "used"),
    [
        ("auto", "denoising", "auto"),
        ("auto", "ode", 0.0),
        (0, "ode", 0.0),
        (2, "denoising", 2.0),
        (np.float32(0.5), "denoising", 0.5),
        (np.int64(1), "denoising", 1.0),
    ],
)
def test_bandwidth(bandwidth, method, used):
    assert check_bandwidth(bandwidth, method) == used


@pytest.mark.parametrize("value", ["auto", 0, 5, np.int64(5)])
def test_max_steps(value):
    check_max_steps(value)


@pytest.mark.parametrize(
    ("argument", "value", "error"),
    [
        ("n_members", 0, ValueError),
        ("n_members", 2.5, TypeError),
        ("batch_size", 0, ValueError),
        ("max_steps", -3, ValueError),
        ("max_steps", "many", ValueError),
        ("rng", "seed", TypeError),
    ],
)
def test_fit_refuses_what_it_cannot_do(argument: str, value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{argument}={value!r}, expected"):
        fit_flow(np.zeros((4, 2)), ["a", "a", "b", "b"], **{argument: value})
