"""Differential abundance: what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from scratio_sc import pl

KEY = "differential_abundance"


@pytest.fixture
def found() -> AnnData:
    adata = AnnData(np.zeros((40, 1), np.float32))
    adata.obs["cell_type"] = np.repeat(["B$1", "T"], 20)
    adata.obs["batch"] = np.tile(["x", "y"], 20)
    adata.obs[KEY] = np.concatenate([np.linspace(1, 2, 20), np.linspace(-1, 0, 20)])
    adata.obs[f"{KEY}_change"] = pd.Categorical(np.repeat(["up", "none"], 20), categories=["down", "none", "up"])
    adata.obs[f"{KEY}_side"] = pd.Categorical(np.tile(["target", "reference"], 20))
    adata.obs[f"{KEY}_extrapolated"] = False
    groups = pd.DataFrame(
        {"group": ["B$1", "T"], "log_fold_change": [1.5, -0.2], "pvalue": [0.03, 0.5], "fdr": [0.03, 0.8]},
        index=["0", "1"],
    )
    params = {"function": KEY, "target": "stim", "reference": "ctrl", "groupby": "cell_type", "alpha": 0.1}
    params["sample_key"] = "batch"
    adata.uns[KEY] = {"params": params, "groups": groups}
    return adata


def panel_of(found: AnnData, table: dict[str, Any]) -> Axes:
    """The panel with the groups of a table, of which the cells are."""
    found.obs["cell_type"] = np.resize(table["group"], 40)
    found.uns[KEY]["groups"] = pd.DataFrame({"pvalue": 0.5, **table})
    _, groups = pl.differential_abundance(found, show=False)
    groups.figure.draw_without_rendering()
    return groups


def drawn(axes: Axes, colour: str) -> np.ndarray:
    """Points of a colour."""
    parts = [c for c in axes.collections if len(c.get_facecolor()) and tuple(c.get_facecolor()[0]) == to_rgba(colour)]
    return np.concatenate([np.asarray(c.get_offsets()) for c in parts])


def test_changed_cells_are_coloured(found: AnnData) -> None:
    cells, _ = pl.differential_abundance(found, show=False)
    np.testing.assert_allclose(np.sort(drawn(cells, "#B2182B")[:, 0]), np.linspace(1, 2, 20))


def test_rows_are_ordered_by_median(found: AnnData) -> None:
    cells, _ = pl.differential_abundance(found, show=False)
    assert [label.get_text() for label in cells.get_yticklabels()] == ["T", "B$1"]


def test_groups_of_few_cells_are_at_the_bottom(found: AnnData) -> None:
    found.obs["cell_type"] = np.repeat(["T", "B", "few"], [20, 1, 19])[::-1]
    cells, *_ = np.atleast_1d(pl.differential_abundance(found, show=False))
    assert [label.get_text() for label in cells.get_yticklabels()] == ["few", "B", "T"]


def legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_colours_are_explained(found: AnnData) -> None:
    cells, _ = pl.differential_abundance(found, show=False)
    explained = ["its neighbourhood is down", "its neighbourhood is up", "no clear change, FDR 0.1"]
    assert legend(cells) == explained
    found.obs[f"{KEY}_change"] = "none"
    cells, _ = pl.differential_abundance(found, show=False)
    assert legend(cells) == explained


def test_cells_that_were_not_tested_are_not_explained(found: AnnData) -> None:
    found.obs[f"{KEY}_change"] = found.obs[f"{KEY}_change"].cat.rename_categories(str).where(np.zeros(40, bool))
    cells, _ = pl.differential_abundance(found, show=False)
    assert cells.get_legend() is None


def test_a_view_shows_its_groups_in_both_panels(found: AnnData) -> None:
    cells, groups = pl.differential_abundance(found[found.obs["cell_type"] == "T"], show=False)
    assert [label.get_text() for label in cells.get_yticklabels()] == ["T"]
    np.testing.assert_allclose(groups.collections[0].get_offsets(), [[-0.2, -np.log10(0.8)]])


def test_groups_are_named_as_in_the_table(found: AnnData) -> None:
    """Clusters by number, of which cells without one make fractions, in the file and not in the table."""
    found.obs["cell_type"] = np.repeat([np.nan, 1, 2], [4, 16, 20])
    found.uns[KEY]["groups"]["group"] = ["1", "2"]
    cells, _ = pl.differential_abundance(found, show=False)
    assert [label.get_text() for label in cells.get_yticklabels()] == ["1", "2"]


def test_cells_of_neither_side_are_not_drawn(found: AnnData) -> None:
    found.obs.loc[found.obs_names[:15], f"{KEY}_side"] = np.nan
    cells, _ = pl.differential_abundance(found, show=False)
    np.testing.assert_allclose(np.sort(drawn(cells, "#B2182B")[:, 0]), np.linspace(1, 2, 20)[15:])


def test_extrapolated_cells_are_rings(found: AnnData) -> None:
    found.obs.loc[found.obs_names[:5], f"{KEY}_extrapolated"] = True
    cells, _ = pl.differential_abundance(found, show=False)
    np.testing.assert_allclose(np.sort(drawn(cells, "white")[:, 0]), np.linspace(1, 2, 20)[:5])
    assert "extrapolated: size unknown" in [text.get_text() for text in cells.get_legend().get_texts()]


def test_cells_stay_in_their_row(found: AnnData) -> None:
    cells, _ = pl.differential_abundance(found, show=False)
    assert np.abs(drawn(cells, "#B2182B")[:, 1] - 1).max() < 0.5


def test_groups_lie_at_their_fdr(found: AnnData) -> None:
    _, groups = pl.differential_abundance(found, show=False)
    points = np.asarray(groups.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[1.5, -np.log10(0.03)], [-0.2, -np.log10(0.8)]])


def test_no_pvalue_is_above_1(found: AnnData) -> None:
    _, groups = pl.differential_abundance(found, show=False)
    assert groups.get_yticks().min() == 0


def test_names_of_groups_do_not_cover_each_other(found: AnnData) -> None:
    table = {
        "group": [f"type of cells {i}" for i in range(8)],
        "log_fold_change": [-0.24, 0.2, 0.12, 0.095, 0.04, -0.2, -0.07, -0.085],
        "fdr": [0.59, 0.5, 0.92, 0.92, 0.92, 0.59, 0.92, 0.85],
    }
    boxes = [
        Text.get_window_extent(text) for text in panel_of(found, table).texts if text.get_text().startswith("type")
    ]
    assert len(boxes) == 8
    assert not any(box.overlaps(other) for i, box in enumerate(boxes) for other in boxes[:i])


def test_a_name_of_spaces_has_no_width(found: AnnData) -> None:
    assert panel_of(found, {"group": ["  ", "T"], "log_fold_change": [1.5, -0.2], "fdr": [0.03, 0.8]}).collections


def test_long_names_stay_in_the_panel(found: AnnData) -> None:
    names = ["NK cells", "FCGR3A+ Monocytes", "CD8 T cells", "CD4 T cells", "Dendritic cells", "CD14+ Monocytes"]
    effect, fdr = [0.22, -0.244, -0.23, 0.04, 0.18, -0.08], [0.46, 0.6, 0.6, 0.79, 0.79, 0.79]
    groups = panel_of(found, {"group": names, "log_fold_change": effect, "fdr": fdr})
    drawn = {text.get_text(): Text.get_window_extent(text) for text in groups.texts if text.get_text() in names}
    assert set(drawn) == set(names)
    for box in drawn.values():
        assert groups.bbox.x0 <= box.x0
        assert box.x1 <= groups.bbox.x1


def test_names_are_near_their_points(found: AnnData) -> None:
    """Those that find no place there are left out, and not taken for high values."""
    effect = np.concatenate([np.linspace(-0.1, 0.1, 12), [-1, 1]])
    names = [f"type {i} of cells" for i in range(len(effect))]
    groups = panel_of(found, {"group": names, "log_fold_change": effect, "fdr": [1.0] * 12 + [0.3, 0.2]})
    offsets = {t.get_text(): np.hypot(*t.get_position()) for t in groups.texts if t.get_text().startswith("type")}
    assert {*names[-2:]} < offsets.keys() < {*names}
    assert max(offsets.values()) < 40


def test_lines_to_names_do_not_pass_other_points(found: AnnData) -> None:
    effect, fdr = np.array([-0.086, -0.012, 0.03, 0.05, 0.1, -0.03]), np.array([0.9, 0.9, 0.91, 0.9, 0.89, 0.9])
    names = [f"type {i} of these cells" for i in range(6)]
    groups = panel_of(found, {"group": names, "log_fold_change": effect, "fdr": fdr})
    at = groups.transData.transform(np.column_stack([effect, -np.log10(fdr)]))
    labels = {int(text.get_text().split()[1]): text for text in groups.texts if text.get_text().startswith("type")}
    lines = {i: text.arrow_patch for i, text in labels.items() if text.arrow_patch is not None}
    assert len(labels) > 3
    assert lines
    for i, line in lines.items():
        start, end = line.get_path().vertices[[0, -1]]
        along = np.linspace(start, end, 200)
        for other in np.delete(at, i, axis=0):
            nearest = np.linalg.norm(along - other, axis=1).min()
            assert nearest > min(5 * groups.figure.dpi / 72, 0.9 * np.linalg.norm(at[i] - other))


@pytest.fixture
def long_names(found: AnnData) -> AnnData:
    """Five types, three of them significant, as an ontology calls them."""
    found.obs["cell_type"] = [f"CD8-positive, alpha-beta memory T cell {i % 5}" for i in range(40)]
    groups = {
        "group": sorted({*found.obs["cell_type"]}),
        "log_fold_change": [-0.9, 0.3, 0.05, 0.8, -0.2],
        "pvalue": 0.5,
        "fdr": [0.008, 0.024, 0.62, 0.008, 0.31],
    }
    found.uns[KEY]["groups"] = pd.DataFrame(groups)
    return found


def test_significant_groups_are_named_however_long(long_names: AnnData) -> None:
    cells, groups = pl.differential_abundance(long_names, show=False)
    groups.figure.draw_without_rendering()
    names = [text for text in groups.texts if text.get_text().startswith("CD8")]
    assert {text.get_text()[-1] for text in names} >= {*"013"}
    for text in names:
        box = Text.get_window_extent(text)
        assert groups.bbox.x0 <= box.x0
        assert box.x1 <= groups.bbox.x1
        assert text.get_path_effects()  # which keep the lines of the panel off the letters
    labels = [label.get_text() for label in cells.get_yticklabels()]
    assert {label[-1] for label in labels} == {*"01234"}
    assert max(map(len, labels)) <= 30


@pytest.mark.parametrize("target", ["stim", "severe acute respiratory syndrome coronavirus 2 infection, critical"])
def test_labels_of_axes_are_in_the_figure_and_apart(long_names: AnnData, target: str) -> None:
    long_names.uns[KEY]["params"]["target"] = target
    axes = pl.differential_abundance(long_names, show=False)
    figure = axes[0].figure
    figure.draw_without_rendering()
    left, right = (ax.xaxis.label.get_window_extent() for ax in axes)
    assert figure.bbox.x0 <= left.x0
    assert left.x1 < right.x0
    assert right.x1 <= figure.bbox.x1


def test_too_many_groups_are_refused(found: AnnData) -> None:
    obs = pd.concat([found.obs, found.obs]).reset_index(drop=True)
    more = AnnData(np.zeros((80, 1), np.float32), obs=obs.set_index(obs.index.astype(str)), uns=dict(found.uns))
    more.obs["cell"] = more.obs_names.to_numpy()
    with pytest.raises(ValueError, match="'cell' has 80 levels in 80 cells"):
        pl.differential_abundance(more, groupby="cell", show=False)


def test_groups_need_pvalues(found: AnnData) -> None:
    found.uns[KEY]["groups"]["pvalue"] = np.nan
    assert isinstance(pl.differential_abundance(found, show=False), Axes)


def test_other_groups_have_no_pvalues(found: AnnData) -> None:
    axes = pl.differential_abundance(found, groupby="batch", show=False)
    assert isinstance(axes, Axes)
    assert len(axes.get_yticks()) == 2


def test_missing_analysis_names_the_call() -> None:
    with pytest.raises(KeyError, match=r"No differential abundance in .*'da'.*tl\.differential_abundance"):
        pl.differential_abundance(AnnData(np.zeros((3, 1), np.float32)), "da")


def test_lost_column_of_the_analysis_names_the_call(found: AnnData) -> None:
    del found.obs[f"{KEY}_change"]
    with pytest.raises(KeyError, match=rf"No '{KEY}_change'.*tl\.{KEY}\(adata, ..., key_added='{KEY}'\)` again"):
        pl.differential_abundance(found)


def test_missing_column_is_named(found: AnnData) -> None:
    with pytest.raises(KeyError, match="No column 'typ'"):
        pl.differential_abundance(found, groupby="typ")
