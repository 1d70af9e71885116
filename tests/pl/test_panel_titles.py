"""Titles are as wide as their panels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scratio_sc import pl

if TYPE_CHECKING:
    from anndata import AnnData


def test_a_long_title_stays_over_its_panel(adata: AnnData) -> None:
    figure = pl.ratio_umap(adata, ["log_ratio", "wide"], title=["so many words " * 8, "short"], return_fig=True)
    figure.draw_without_rendering()
    panel, other = figure.axes[:2]
    box = panel.title.get_window_extent()
    assert panel.bbox.x0 - 1 <= box.x0
    assert box.x1 <= panel.bbox.x1 + 1
    assert other.get_title() == "short"


def test_mathematics_in_a_title_is_not_broken(adata: AnnData) -> None:
    title = "$a + b$ " * 20
    assert pl.ratio_umap(adata, title=title, show=False).get_title() == title
