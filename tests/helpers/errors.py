"""Errors by the parts of their text."""

from __future__ import annotations

from typing import Any

import pytest


def raises(error: type[Exception], *parts: str) -> Any:
    """Context that expects an error whose text has all the parts."""
    pattern = "(?s)" + "".join(f"(?=.*{part})" for part in parts)
    return pytest.raises(error, match=pattern)
