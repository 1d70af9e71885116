"""What all plots have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest

from scratio_sc import pl
from scratio_sc.pl._figure import shortened

if TYPE_CHECKING:
    from anndata import AnnData


@pytest.mark.parametrize("name", pl.__all__)
def test_an_array_of_axes_is_no_axes(adata: AnnData, name: str) -> None:
    with pytest.raises(TypeError, match=r"`ax` is of type ndarray, expected one axes"):
        getattr(pl, name)(adata, ax=np.array([None, None]), show=False)


@pytest.mark.parametrize("name", pl.__all__)
def test_cells_are_an_anndata(adata: AnnData, name: str) -> None:
    with pytest.raises(TypeError, match=r"`adata` is of type DataFrame, expected an AnnData as the first argument"):
        getattr(pl, name)(adata.obs, show=False)


@pytest.mark.parametrize("name", pl.__all__)
def test_call_without_cells_is_refused_by_name(name: str) -> None:
    with pytest.raises(TypeError, match=rf"^{name}\(\) missing 1 required positional argument: 'adata'"):
        getattr(pl, name)(show=False)


@pytest.mark.parametrize("name", pl.__all__)
def test_saving_is_left_to_the_figure(adata: AnnData, name: str) -> None:
    with pytest.raises(TypeError, match=rf"no argument `save`.*fig = scratio.pl.{name}\(.*return_fig=True.*savefig"):
        getattr(pl, name)(adata, save="_x.png")


@pytest.mark.parametrize("name", [name for name in pl.__all__ if name not in {"ratio_umap", "interaction"}])
def test_key_is_one_name(adata: AnnData, name: str) -> None:
    with pytest.raises(TypeError, match=r"key=\['a'\], expected the name of one result"):
        getattr(pl, name)(adata, key=["a"], show=False)


@pytest.mark.parametrize("name", ["ratio_umap", "interaction"])
@pytest.mark.parametrize("keys", [5, None, [5], [["a"]]], ids=str)
def test_keys_are_names(adata: AnnData, name: str, *, keys: Any) -> None:
    with pytest.raises(TypeError, match=r"keys=.*, expected the name of one (log ratio|interaction) in `adata\."):
        getattr(pl, name)(adata, keys, show=False)


@pytest.mark.parametrize("name", ["ratio_umap", "interaction"])
def test_keys_name_at_least_one(adata: AnnData, name: str) -> None:
    with pytest.raises(ValueError, match=r"at least one (log ratio|interaction)"):
        getattr(pl, name)(adata, [], show=False)


def test_figure_is_as_much_larger_as_its_letters(adata: AnnData) -> None:
    usual = pl.ratio_umap(adata, return_fig=True).get_size_inches()
    with mpl.rc_context({"font.size": 14}):
        larger = pl.ratio_umap(adata, return_fig=True).get_size_inches()
    np.testing.assert_allclose(larger, 1.4 * usual)


def test_shortened_names_still_differ() -> None:
    cells = "memory {}-positive, alpha-beta T cell{}"
    names = [cells.format(*ends) for ends in (("CD4", ""), ("CD8", ""), ("CD4", ", activated"), ("CD8", ", activated"))]
    short = shortened([*names, "B cell", names[0]], 20)
    assert len({*short}) == 5
    assert short[-2:] == ["B cell", short[0]]
    assert [len(name) for name in short] == [20] * 4 + [6, 20]


def test_a_name_stays_long_where_no_part_can_go() -> None:
    names = [f"{a}{'-' * 30}{b}" for a in "xy" for b in "xy"]
    assert shortened(names, 1) == names
    assert len({*shortened(names, 5)}) == 4
