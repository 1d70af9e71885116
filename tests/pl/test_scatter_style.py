"""What is passed on to scatter, and what scatter does not take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pytest

from scratio_sc import pl

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.mark.parametrize("argument", ["legend_loc", "components", "use_raw", "groups", "layer", "foo"])
def test_arguments_that_scatter_does_not_take(adata: AnnData, argument: str) -> None:
    message = (
        rf"`scratio.pl.ratio_umap` has no argument `{argument}`.*`sc.pl.embedding\(adata, 'umap', color='log_ratio'"
    )
    with pytest.raises(TypeError, match=message):
        pl.ratio_umap(adata, show=False, **{argument: "x"})
    assert not plt.get_fignums()


def test_typo_in_an_argument(adata: AnnData) -> None:
    with pytest.raises(TypeError, match=r"Did you mean 'frameon'\?"):
        pl.ratio_umap(adata, framon=False, show=False)
