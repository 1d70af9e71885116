"""Numbers as people read them."""

from __future__ import annotations

import pytest

from scratio_sc._numbers import rounded


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0.3333333333333333", "0.3333"),
        ("dose=1.3862943611198906, drug=A", "dose=1.386, drug=A"),
        ("12345.678901", "1.235e+04"),
        ("1.23456e-07", "1.235e-07"),
        ("2.5", "2.5"),
        ("cluster 10", "cluster 10"),
        ("AL123456.12345", "AL123456.12345"),
        ("release_1.23456.7", "release_1.23456.7"),
    ],
)
def test_long_numbers_have_four_digits(name: str, expected: str) -> None:
    assert rounded(name) == expected
