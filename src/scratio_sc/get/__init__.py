"""Access to what the tools store."""

from __future__ import annotations

from scratio_sc.get._flow import flow

__all__ = ["flow"]
