"""What the picture of a log ratio shows, and what it refuses."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, ListedColormap, to_rgba
from matplotlib.figure import Figure
from scipy.sparse import csr_matrix

from scratio_sc import pl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anndata import AnnData
    from matplotlib.collections import PathCollection

GREY = "lightgray"


def _coloured(ax: Axes) -> PathCollection:
    """Points that show ratios."""
    (points,) = [c for c in ax.collections if c.get_array() is not None]
    return points


def _grey(ax: Axes) -> np.ndarray:
    """Coordinates of the grey points."""
    found = [c for c in ax.collections if c.get_array() is None and tuple(c.get_facecolor()[0]) == to_rgba(GREY)]
    return np.asarray(found[0].get_offsets()) if found else np.empty((0, 2))


def _rings(ax: Axes, colour: str) -> np.ndarray:
    """Coordinates of the rings of a colour."""
    white = [c for c in ax.collections if c.get_array() is None and tuple(c.get_facecolor()[0]) == to_rgba("white")]
    found = [np.asarray(c.get_offsets())[np.resize(_are(c, colour), len(c.get_offsets()))] for c in white]
    return np.concatenate([np.empty((0, 2)), *found])


def _are(rings: PathCollection, colour: str) -> np.ndarray:
    """Which rings have a colour; one for all where they share it."""
    return np.asarray((rings.get_edgecolor() == to_rgba(colour)).all(axis=1))


def _bar(figure: Figure) -> Axes:
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    return bar


def test_colours_are_centred_with_robust_symmetric_limits(adata: AnnData) -> None:
    ax = pl.ratio_umap(adata, show=False)
    norm = _coloured(ax).norm
    assert isinstance(norm, CenteredNorm)
    assert norm.vcenter == 0
    assert norm(0) == 0.5
    assert norm.vmax == -norm.vmin == pytest.approx(np.percentile(np.abs(adata.obs["log_ratio"]), 99))


@pytest.mark.parametrize(("vmax", "limit"), [(2, 2), (0.5, 0.5), ("p50", None), ("p99.5", None)])
def test_vmax(adata: AnnData, vmax: float | str, limit: float | None) -> None:
    if limit is None:
        limit = np.percentile(np.abs(adata.obs["log_ratio"]), float(str(vmax)[1:]))
    assert _coloured(pl.ratio_umap(adata, vmax=vmax, show=False)).norm.vmax == pytest.approx(limit)


@pytest.mark.parametrize("vmax", [0, -1, np.nan, np.inf, "p101", "p0", "99", "max"])
def test_vmax_refused(adata: AnnData, vmax: float | str) -> None:
    with pytest.raises(ValueError, match="`vmax` must be a positive number of nats, or a percentile"):
        pl.ratio_umap(adata, vmax=vmax, show=False)


def test_large_absolute_ratios_are_on_top(adata: AnnData) -> None:
    points = _coloured(pl.ratio_umap(adata, show=False))
    assert (np.diff(np.abs(points.get_array())) >= 0).all()
    largest = adata.obs["log_ratio"].abs().argmax()
    np.testing.assert_allclose(points.get_offsets()[-1], adata.obsm["X_umap"][largest])


def test_panels_share_limits_and_one_colour_bar(adata: AnnData) -> None:
    axes = pl.ratio_umap(adata, ["log_ratio", "wide"], show=False)
    assert [ax.get_title() for ax in axes] == ["log_ratio", "wide"]
    limit = np.percentile(np.abs(adata.obs[["log_ratio", "wide"]]), 99)
    assert [_coloured(ax).norm.vmax for ax in axes] == pytest.approx([limit, limit])
    assert _bar(axes[0].figure).get_ylabel() == "log p(stim) / p(ctrl)  [nats]"


def test_panels_of_different_contrasts_are_named(adata: AnnData) -> None:
    axes = pl.ratio_umap(adata, ["log_ratio", "wide", "other"], show=False)
    assert [ax.get_title() for ax in axes] == ["stim vs ctrl\nlog_ratio", "stim vs ctrl\nwide", "drug vs ctrl"]
    assert _bar(axes[0].figure).get_ylabel() == "log p(target) / p(reference)  [nats]"


def test_columns_of_the_user_are_called_by_their_names(adata: AnnData) -> None:
    adata.obs["n$counts$"] = np.arange(60)
    ax = pl.ratio_umap(adata, "n$counts$", show=False)
    assert ax.get_title() == ""
    assert _bar(ax.figure).get_ylabel() == "n$counts$"
    axes = pl.ratio_umap(adata, ["log_ratio", "n$counts$"], show=False)
    assert _bar(axes[0].figure).get_ylabel() == "log_ratio, n$counts$"


def test_a_standard_error_is_left_to_scanpy(adata: AnnData) -> None:
    adata.obs["log_ratio_sd"], adata.uns["log_ratio"]["params"]["function"] = 0.1, "log_ratio"
    with pytest.raises(ValueError, match=r"the standard error of 'log_ratio'.*`sc.pl.embedding\(adata, 'umap'"):
        pl.ratio_umap(adata, "log_ratio_sd", show=False)


def test_a_log_density_is_left_to_scanpy(adata: AnnData) -> None:
    adata.uns["log_ratio"] = {"params": {"function": "log_density", "condition": "stim"}}
    with pytest.raises(ValueError, match=r"is a log density.*`sc.pl.embedding\(adata, 'umap', color='log_ratio'\)`"):
        pl.ratio_umap(adata, show=False)


def test_ratios_near_zero_are_pale(adata: AnnData) -> None:
    """Else a map of noise looks like one of strong effects."""
    adata.obs["log_ratio"] = np.linspace(-0.02, 0.02, adata.n_obs)
    assert _bar(pl.ratio_umap(adata, show=False).figure).get_ylim() == (-0.25, 0.25)
    assert _bar(pl.ratio_umap(adata, vmax="p100", show=False).figure).get_ylim() == pytest.approx((-0.02, 0.02))


def test_points_are_smaller_in_smaller_axes(adata: AnnData) -> None:
    figure = Figure((4.2, 3.8))
    whole, quarter = figure.add_axes((0, 0, 1, 1)), figure.add_axes((0, 0, 0.5, 0.5))
    sizes = [pl.ratio_umap(adata, ax=ax, show=False).collections[-1].get_sizes()[0] for ax in (whole, quarter)]
    assert sizes[1] == pytest.approx(sizes[0] / 4)


def test_interaction_is_named_by_its_four_sides(adata: AnnData) -> None:
    adata.uns["wide"] = {"params": {"combination": "A+B", "reference": "ctrl", "a": "A", "b": "B"}}
    ax = pl.ratio_umap(adata, "wide", show=False)
    assert _bar(ax.figure).get_ylabel() == "log p(A+B) p(ctrl) / p(A) p(B)  [nats]"


def test_interaction_beside_a_log_ratio(adata: AnnData) -> None:
    adata.uns["wide"] = {"params": {"combination": "A+B", "reference": "ctrl", "a": "A", "b": "B"}}
    axes = pl.ratio_umap(adata, ["log_ratio", "wide"], show=False)
    assert [ax.get_title() for ax in axes] == ["stim vs ctrl", "A+B vs A and B"]
    assert _bar(axes[0].figure).get_ylabel() == "log ratio  [nats]"


def test_names_are_not_read_as_mathematics_and_long_ones_wrapped(adata: AnnData) -> None:
    adata.uns["log_ratio"]["params"] = {"target": "$x^$ {0}", "reference": "many " * 50}
    figure = pl.ratio_umap(adata, ["log_ratio", "other"], return_fig=True)
    figure.draw_without_rendering()
    lines = figure.axes[0].get_title().split("\n")
    assert lines[0].startswith("$x^$ {0} vs many")
    assert len(lines) <= 3
    assert all(len(line) <= 40 for line in lines)


@pytest.mark.parametrize(
    ("low", "high", "extend"), [(-9, 9, "both"), (-1, 9, "max"), (-9, 1, "min"), (-1, 1, "neither")]
)
def test_colour_bar_points_where_values_are_clipped(adata: AnnData, low: float, high: float, extend: str) -> None:
    adata.obs["log_ratio"] = np.linspace(low, high, 60)
    ax = pl.ratio_umap(adata, vmax=2, show=False)
    assert _bar(ax.figure)._colorbar.extend == extend


def test_missing_cells_are_grey_and_beneath(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[:3], "log_ratio"] = [np.nan, np.inf, np.nan]
    adata.obs["log_ratio_extrapolated"] = [False, False, True] + [False] * 57
    ax = pl.ratio_umap(adata, show=False)
    np.testing.assert_allclose(np.sort(_grey(ax), axis=0), np.sort(adata.obsm["X_umap"][:3], axis=0))
    assert ax.collections.index(_coloured(ax)) == len(ax.collections) - 1
    assert len(_coloured(ax).get_offsets()) == 57
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["missing"]


def test_extrapolated_cells_are_rings_in_the_colour_of_their_sign(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[:3], "log_ratio"] = [99, -0.01, 0]
    adata.obs["log_ratio_extrapolated"] = np.arange(60) < 3
    ax = pl.ratio_umap(adata, cmap=ListedColormap(["blue", "white", "red"]), show=False)
    np.testing.assert_allclose(_rings(ax, "red"), adata.obsm["X_umap"][:1])
    np.testing.assert_allclose(_rings(ax, "blue"), adata.obsm["X_umap"][1:2])
    assert len(_coloured(ax).get_offsets()) == 58
    assert len(_grey(ax)) == 0
    assert _coloured(ax).norm.vmax < 99
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["extrapolated: size unknown"]


def test_neither_sign_covers_the_other(adata: AnnData) -> None:
    """Though cells lie in the order of their conditions, as concatenated ones do, and ratios of one are larger."""
    adata.obs["log_ratio"], adata.obs["log_ratio_extrapolated"] = np.repeat([-1.0, 9.0], 30), True
    ax = pl.ratio_umap(adata, cmap=ListedColormap(["blue", "white", "red"]), show=False)
    (rings,) = [c for c in ax.collections if len(c.get_offsets()) == 60]
    red = _are(rings, "red")
    assert red.sum() == 30
    assert 10 <= red[:30].sum() <= 20


def test_rings_of_other_conditions_are_grey(adata: AnnData) -> None:
    adata.obs["log_ratio"], adata.obs["log_ratio_extrapolated"] = 9.0, True
    adata.obs["arm"] = np.repeat(["stim", "ctrl", "drug"], 20)
    adata.uns["fit"] = {"params": {"condition": np.array(["arm"], object)}}
    levels = {"target": np.array([("arm", "stim")], object), "reference": np.array([("arm", "ctrl")], object)}
    adata.uns["log_ratio"]["params"] |= {"key": "fit", "levels": levels}
    ax = pl.ratio_umap(adata, cmap=ListedColormap(["blue", "white", "red"]), show=False)
    np.testing.assert_allclose(_rings(ax, "0.65"), adata.obsm["X_umap"][40:])
    assert len(_rings(ax, "red")) == 40
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["extrapolated: size unknown", "extrapolated, of other conditions"]


def test_colours_of_signs_alone_have_no_scale(adata: AnnData) -> None:
    adata.obs["log_ratio_extrapolated"] = True
    assert len(pl.ratio_umap(adata, show=False).figure.axes[-1].get_yticks()) == 0


@pytest.mark.parametrize("style", [{"edgecolors": "none"}, {"lw": 0}, {"marker": "x"}], ids=str)
def test_rings_stay_rings_whatever_the_style(adata: AnnData, style: dict[str, Any]) -> None:
    adata.obs.loc[adata.obs_names[0], "log_ratio"] = 99
    adata.obs["log_ratio_extrapolated"] = np.arange(60) < 1
    ax = pl.ratio_umap(adata, cmap=ListedColormap(["blue", "white", "red"]), show=False, **style)
    np.testing.assert_allclose(_rings(ax, "red"), adata.obsm["X_umap"][:1])


def test_no_legend_where_all_ratios_are_known(adata: AnnData) -> None:
    adata.obs["log_ratio_extrapolated"] = False
    ax = pl.ratio_umap(adata, show=False)
    assert ax.get_legend() is None
    assert len(_grey(ax)) == 0


def test_flags_with_gaps(adata: AnnData) -> None:
    adata.obs["log_ratio_extrapolated"] = np.array([True, np.nan] + [False] * 58, dtype=object)
    assert len(_coloured(pl.ratio_umap(adata, show=False)).get_offsets()) == 59


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_nothing_to_tell_apart(adata: AnnData, value: float) -> None:
    adata.obs["log_ratio"] = value
    assert _coloured(pl.ratio_umap(adata, show=False)).norm.vmax == 0.25
    assert _coloured(pl.ratio_umap(adata, vmax="p99", show=False)).norm.vmax == 1


def test_sparse_coordinates(adata: AnnData) -> None:
    expected = np.sort(_coloured(pl.ratio_umap(adata, show=False)).get_offsets(), axis=0)
    adata.obsm["X_umap"] = csr_matrix(adata.obsm["X_umap"])
    np.testing.assert_allclose(np.sort(_coloured(pl.ratio_umap(adata, show=False)).get_offsets(), axis=0), expected)


@pytest.mark.parametrize(("basis", "name"), [("umap", "UMAP"), ("X_umap", "UMAP"), ("pca", "PC"), ("mine", "mine")])
def test_bases(adata: AnnData, basis: str, name: str) -> None:
    adata.obsm["mine"] = adata.obsm["X_umap"]
    ax = pl.ratio_umap(adata, basis=basis, show=False)
    assert (ax.get_xlabel(), ax.get_ylabel()) == (f"{name}1", f"{name}2")
    assert not len(ax.get_xticks())
    assert not len(ax.get_yticks())


def test_looks(adata: AnnData) -> None:
    ax = pl.ratio_umap(adata, size=7, marker="s", frameon=False, title="$a$", show=False)
    assert _coloured(ax).get_sizes() == [7]
    assert not ax.axison
    assert ax.get_title() == "$a$"
    axes = pl.ratio_umap(adata, ["log_ratio", "wide", "other"], ncols=2, title=["a", "b", "c"], show=False)
    assert axes[0].get_subplotspec().get_geometry()[:2] == (2, 2)
    assert [ax.get_title() for ax in axes] == ["a", "b", "c"]


def test_many_cells_are_rasterised(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _coloured(pl.ratio_umap(adata, show=False)).get_rasterized()
    monkeypatch.setattr("scratio_sc.pl._ratio_umap.RASTERISE_ABOVE", 10)
    assert _coloured(pl.ratio_umap(adata, show=False)).get_rasterized()


def test_return_types(adata: AnnData) -> None:
    assert isinstance(pl.ratio_umap(adata, show=False), Axes)
    assert [type(ax) for ax in pl.ratio_umap(adata, ["log_ratio", "wide"], show=False)] == [Axes, Axes]
    assert isinstance(pl.ratio_umap(adata, return_fig=True), Figure)


@pytest.fixture
def _restored_autoshow() -> Iterator[None]:
    before = sc.settings.autoshow
    yield
    sc.settings.autoshow = before


@pytest.mark.usefixtures("_restored_autoshow")
def test_show(adata: AnnData, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(plt.gcf()))
    assert pl.ratio_umap(adata, show=True) is None
    sc.settings.autoshow = True
    assert pl.ratio_umap(adata) is None
    assert len(shown) == 2
    sc.settings.autoshow = False
    assert isinstance(pl.ratio_umap(adata), Axes)
    assert len(shown) == 2


def test_ax_of_the_user(adata: AnnData) -> None:
    figure, (left, _) = plt.subplots(1, 2)
    assert pl.ratio_umap(adata, ax=left, show=False) is left
    assert pl.ratio_umap(adata, ax=left, return_fig=True) is figure
    inner = figure.subfigures().subplots()
    assert pl.ratio_umap(adata, ax=inner, return_fig=True) is figure
    assert plt.get_fignums() == [figure.number]


def test_ax_is_refused_for_several_panels(adata: AnnData) -> None:
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match="`ax` takes a single panel, but there are 2"):
        pl.ratio_umap(adata, ["log_ratio", "wide"], ax=ax, show=False)
    assert not ax.collections


def test_missing_key(adata: AnnData) -> None:
    with pytest.raises(KeyError) as error:
        pl.ratio_umap(adata, ["log_ratio", "typo"], show=False)
    message = str(error.value)
    assert "'typo'" in message
    assert "'exact_log_ratio', 'log_ratio', 'wide', 'other'" in message
    assert "scratio.tl.log_ratio(adata, target=..., reference=...)" in message


@pytest.mark.parametrize("basis", ["umap", "X_umap"])
def test_missing_basis(adata: AnnData, basis: str) -> None:
    del adata.obsm["X_umap"]
    with pytest.raises(KeyError, match=r"No 'X_umap' in .* \['X_pca'\]. Run `sc.tl.umap\(adata\)` first"):
        pl.ratio_umap(adata, basis=basis, show=False)


def test_other_refusals(adata: AnnData) -> None:
    with pytest.raises(TypeError, match="dtype is category"):
        pl.ratio_umap(adata, "condition", show=False)
    with pytest.raises(ValueError, match="each of the 2 panels; found 1"):
        pl.ratio_umap(adata, ["log_ratio", "wide"], title="one", show=False)
    adata.obsm["X_line"] = adata.obsm["X_pca"][:, :1]
    with pytest.raises(ValueError, match="two dimensions are needed"):
        pl.ratio_umap(adata, basis="line", show=False)
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("argument", "instead"),
    [("save", r'return_fig=True\)` and `fig.savefig\("'), ("vmin", "`vmax`"), ("norm", "`vmax`"), ("color", "`keys`")],
)
def test_arguments_of_scanpy(adata: AnnData, argument: str, instead: str) -> None:
    with pytest.raises(TypeError, match=f"`scratio.pl.ratio_umap` has no argument `{argument}`. Instead, .*{instead}"):
        pl.ratio_umap(adata, show=False, vmax=1, **{argument: "x"})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ncols": 0}, ValueError, "ncols=0, expected an integer of 1 or more"),
        ({"basis": None}, TypeError, "basis=None, expected the name of an embedding"),
        ({"title": 3}, TypeError, "title=3, expected the title"),
        ({"size": "big"}, TypeError, "size='big', expected the area of a point"),
        ({"size": -3}, ValueError, "size=-3, expected the area of a point"),
    ],
)
def test_arguments_out_of_range(adata: AnnData, options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        pl.ratio_umap(adata, show=False, **options)


def test_figure_is_closed_when_drawing_fails(adata: AnnData) -> None:
    with pytest.raises(ValueError, match="marker"):
        pl.ratio_umap(adata, marker="no such marker", show=False)
    assert not plt.get_fignums()


def test_adata_and_views_are_not_changed(adata: AnnData) -> None:
    adata.obs.loc[adata.obs_names[0], "log_ratio"] = np.nan
    adata.obs["log_ratio_extrapolated"] = np.arange(60) < 4
    before = adata.copy()
    pl.ratio_umap(adata, show=False)
    view = adata[10:40]
    pl.ratio_umap(view, show=False)
    assert view.is_view
    assert adata.obs.equals(before.obs)
    assert adata.uns == before.uns
    np.testing.assert_array_equal(adata.obsm["X_umap"], before.obsm["X_umap"])


def test_signature() -> None:
    parameters = signature(pl.ratio_umap).parameters
    assert list(parameters)[:2] == ["adata", "keys"]
    assert "save" not in parameters
