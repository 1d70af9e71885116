"""What all plots have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from scratio_sc import pl

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.mark.parametrize("name", pl.__all__)
def test_an_array_of_axes_is_no_axes(adata: AnnData, name: str) -> None:
    with pytest.raises(TypeError, match=r"`ax` is of type ndarray, expected one axes"):
        getattr(pl, name)(adata, ax=np.array([None, None]), show=False)


@pytest.mark.parametrize("name", pl.__all__)
def test_saving_is_left_to_the_figure(adata: AnnData, name: str) -> None:
    with pytest.raises(TypeError, match=rf"no argument `save`.*fig = scratio.pl.{name}\(.*return_fig=True.*savefig"):
        getattr(pl, name)(adata, save="_x.png")
