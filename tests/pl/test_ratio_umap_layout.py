"""The picture of a log ratio beside others: what may not cover what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pytest

from scratio_sc import pl

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize(("basis", "lower"), [("umap", False), ("umap_harmony_of_all_the_cells", True)])
def test_legend_does_not_cover_the_name_of_an_axis(adata: AnnData, basis: str, *, lower: bool, given: bool) -> None:
    """Given axes may become narrower, as those of a grid do when others are drawn on."""
    adata.obs["log_ratio_extrapolated"] = np.arange(60) < 5
    adata.obsm[f"X_{basis}"] = adata.obsm["X_pca"]
    ax = plt.subplots(figsize=(12, 4))[1] if given else None
    ax = pl.ratio_umap(adata, basis=basis, ax=ax, show=False)
    if given:
        ax.figure.set_figwidth(3)
    ax.figure.draw_without_rendering()
    legend, name = ax.get_legend().get_window_extent(), ax.xaxis.label.get_window_extent()
    assert not legend.overlaps(name)
    assert (legend.y1 < name.y0 + 1) == (lower or given)


def test_tight_layout_makes_room_for_the_colour_bar(adata: AnnData) -> None:
    figure, (ax, beside) = plt.subplots(1, 2)
    pl.ratio_umap(adata, ax=ax, show=False)
    figure.tight_layout()
    figure.draw_without_rendering()
    (bar,) = (part.get_tightbbox() for part in figure.axes if part.get_label() == "<colorbar>")
    assert not bar.overlaps(beside.get_tightbbox())
    assert not bar.overlaps(ax.get_window_extent())
