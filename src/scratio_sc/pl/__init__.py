"""Plots."""

from ._ratio_umap import ratio_umap
from ._training import training

__all__ = ["ratio_umap", "training"]
