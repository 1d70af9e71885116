"""Conditional flows on arrays: pure torch and numpy, no AnnData."""

from __future__ import annotations

from scratio_sc.flow._fit import fit_flow
from scratio_sc.flow._flow import ConditionalFlow
from scratio_sc.flow._log_ratio import LogRatio

__all__ = ["ConditionalFlow", "LogRatio", "fit_flow"]
