"""What the dot plot of treatment effects shows, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from scratio_sc import pl

if TYPE_CHECKING:
    from matplotlib.collections import PathCollection

ALL = "(all)"


@pytest.fixture
def effects() -> AnnData:
    """Two drugs, two cell types; one effect is extrapolated and one missing."""
    rows = [
        ("drug$1", ALL, ALL, 0.4, 0.1, ""),
        ("drug$1", "B", ALL, 0.2, 0.2, ""),
        ("drug$1", "T", ALL, 0.6, 0.1, "extrapolated"),
        ("other", ALL, ALL, 0.1, 0.04, ""),
        ("other", "B", ALL, np.nan, np.nan, "few cells"),
        ("other", "T", ALL, 0.1, 0.04, ""),
        ("other", ALL, "d1", 0.3, 0.1, ""),
    ]
    table = pd.DataFrame(rows, columns=["target", "group", "sample", "js", "js_se", "flag"]).rename(str)
    for name in ("kl_target", "kl_reference"):
        table[name], table[f"{name}_se"] = 2 * table["js"], table["js_se"]
    adata = AnnData(np.zeros((1, 1)))
    adata.uns["treatment_effect"] = {"table": table, "params": {"function": "treatment_effect", "reference": "ctrl"}}
    return adata


def dots(ax: Axes) -> PathCollection:
    """Points that show effects."""
    return next(c for c in ax.collections if c.get_array() is not None and len(c.get_offsets()))


def labels(ax: Axes) -> tuple[list[str], list[str]]:
    return [t.get_text() for t in ax.get_yticklabels()], [t.get_text() for t in ax.get_xticklabels()]


def test_rows_and_columns_are_sorted_by_effect(effects: AnnData) -> None:
    assert labels(pl.treatment_effect(effects, show=False)) == (["T", "B"], ["drug$1", "other"])


def test_doses_are_in_their_own_order_and_short(effects: AnnData) -> None:
    doses = {"drug$1": "10.986122886681098", "other": "2.3978952727983707"}
    effects.uns["treatment_effect"]["table"]["target"] = effects.uns["treatment_effect"]["table"]["target"].map(doses)
    assert labels(pl.treatment_effect(effects, show=False))[1] == ["2.398", "10.99"]


def test_doses_that_differ_in_late_digits_keep_them(effects: AnnData) -> None:
    doses = {"drug$1": "2.39789", "other": "2.39788"}
    effects.uns["treatment_effect"]["table"]["target"] = effects.uns["treatment_effect"]["table"]["target"].map(doses)
    assert labels(pl.treatment_effect(effects, show=False))[1] == ["2.39788", "2.39789"]


def test_samples_are_the_rows_where_there_are_no_groups(effects: AnnData) -> None:
    entry = effects.uns["treatment_effect"]
    entry["table"] = entry["table"][entry["table"]["group"] == ALL]
    assert labels(pl.treatment_effect(effects, show=False))[0] == ["d1"]


def test_a_dot_for_each_effect(effects: AnnData) -> None:
    points = dots(pl.treatment_effect(effects, show=False))
    found = {tuple(xy): value for xy, value in zip(points.get_offsets().tolist(), points.get_array(), strict=True)}
    assert found == {(0, 1): 0.2, (0, 0): 0.6, (1, 0): 0.1}
    assert points.norm.vmin == 0


def test_certain_effects_are_large_and_extrapolated_ones_ringed(effects: AnnData) -> None:
    points = dots(pl.treatment_effect(effects, show=False))
    uncertain, certain, between = points.get_sizes()
    assert uncertain < between < certain
    assert [edge[3] for edge in points.get_edgecolors()] == [0, 1, 0]


def test_missing_effects_are_crosses(effects: AnnData) -> None:
    ax = pl.treatment_effect(effects, show=False)
    (cross,) = [c for c in ax.collections if c.get_array() is None and len(c.get_offsets())]
    assert cross.get_offsets().tolist() == [[1, 1]]


def test_extrapolated_sizes_do_not_fade_the_others(effects: AnnData) -> None:
    """T under drug$1 is extrapolated: its KL divergence is no size, its JS divergence is one."""
    effects.uns["treatment_effect"]["table"].loc["2", "kl_target"] = 14.0
    tops = {name: dots(pl.treatment_effect(effects, effect=name, show=False)).norm.vmax for name in ("js", "kl_target")}
    assert tops == {"js": 0.6, "kl_target": 0.4}


def test_effects_none_of_which_could_be_measured_are_all_crosses(effects: AnnData) -> None:
    effects.uns["treatment_effect"]["table"][["js", "js_se"]] = np.nan
    ax = pl.treatment_effect(effects, show=False)
    assert sum(len(points.get_offsets()) for points in ax.collections) == 4


def test_a_combination_without_cells_is_a_cross_too(effects: AnnData) -> None:
    """It has no row where no cell is of the type, under the target or the reference."""
    table = effects.uns["treatment_effect"]["table"]
    effects.uns["treatment_effect"]["table"] = table.drop(index="4")
    figure = pl.treatment_effect(effects, return_fig=True)
    (cross,) = [c for c in figure.axes[0].collections if c.get_array() is None and len(c.get_offsets())]
    assert cross.get_offsets().tolist() == [[1, 1]]
    assert figure.axes[1].get_legend().get_texts()[-1].get_text() == "too few cells"


def test_names_without_an_effect_are_sorted_by_their_numbers(effects: AnnData) -> None:
    table = effects.uns["treatment_effect"]["table"]
    more = [{**table.iloc[4], "group": f"T{i}"} for i in (11, 2, 1, 12)]
    effects.uns["treatment_effect"]["table"] = pd.concat([table, pd.DataFrame(more)])
    assert labels(pl.treatment_effect(effects, show=False))[0] == ["T", "B", "T1", "T2", "T11", "T12"]


def test_long_names_are_shortened(effects: AnnData) -> None:
    table = effects.uns["treatment_effect"]["table"]
    effects.uns["treatment_effect"]["table"] = table.replace({"group": {"T": "a type of cells " * 5}})
    (name, _), _ = labels(pl.treatment_effect(effects, show=False))
    assert name.startswith("a type of cells")
    assert len(name) == 40


def test_colours_reach_to_what_could_be_noise(effects: AnnData) -> None:
    effects.uns["treatment_effect"]["table"][["js", "js_se"]] = [0.06, 0.2]
    assert dots(pl.treatment_effect(effects, show=False)).norm.vmax == 0.4


def test_a_cross_says_why(effects: AnnData) -> None:
    effects.uns["treatment_effect"]["table"].loc["5", ["js", "flag"]] = [np.nan, "confounded"]
    figure = pl.treatment_effect(effects, return_fig=True)
    entries = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert entries[-1] == "too few cells or\nconfounded"


@pytest.mark.parametrize("effect", ["js", "kl_target", "kl_reference"])
def test_long_name_of_the_reference_stays_beside_the_bar(effects: AnnData, effect: str) -> None:
    effects.uns["treatment_effect"]["params"]["reference"] = "non-targeting control (pooled guides) + HK2 + MAP2K6"
    figure = pl.treatment_effect(effects, effect=effect, return_fig=True)
    figure.canvas.draw()
    bar = figure.axes[1]
    label, legend = bar.yaxis.label.get_window_extent(), bar.get_legend().get_window_extent()
    assert "[nats]" in bar.get_ylabel()
    assert label.y1 <= figure.bbox.y1
    assert label.y0 >= legend.y1


def test_samples(effects: AnnData) -> None:
    assert labels(pl.treatment_effect(effects, rows="sample", show=False)) == (["d1"], ["other"])


def test_treatments_are_rows_where_nothing_stands_beside_them(effects: AnnData) -> None:
    """A screen would be one row of many columns."""
    entry = effects.uns["treatment_effect"]
    entry["table"] = entry["table"].drop_duplicates("target")
    rows, columns = labels(pl.treatment_effect(effects, show=False))
    assert (sorted(rows), columns) == (["drug$1", "other"], ["all cells"])


@pytest.mark.parametrize(("columns", "rows"), [("group", "target"), ("target", "group"), ("sample", "target")])
def test_rows_follow_the_columns(effects: AnnData, columns: str, rows: str) -> None:
    expected = labels(pl.treatment_effect(effects, rows=rows, columns=columns, show=False))
    assert labels(pl.treatment_effect(effects, columns=columns, show=False)) == expected


@pytest.mark.parametrize(("rows", "columns"), [("group", "target"), ("target", "group"), ("sample", "target")])
def test_columns_follow_the_rows(effects: AnnData, rows: str, columns: str) -> None:
    expected = labels(pl.treatment_effect(effects, rows=rows, columns=columns, show=False))
    assert labels(pl.treatment_effect(effects, rows=rows, show=False)) == expected


def test_groups_and_samples_of_one_treatment(effects: AnnData) -> None:
    table = effects.uns["treatment_effect"]["table"]
    table.loc[len(table)] = {**table.iloc[-1], "group": "T"}
    effects.uns["treatment_effect"]["table"] = table[table["target"] == "other"]
    ax = pl.treatment_effect(effects, rows="sample", columns="group", show=False)
    assert labels(ax) == (["d1"], ["T"])


def test_other_effect_is_named_with_the_reference(effects: AnnData) -> None:
    figure = pl.treatment_effect(effects, effect="kl_reference", return_fig=True)
    (bar,) = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert bar.get_ylabel() == "KL(ctrl || target)  [nats]"


def test_return_types(effects: AnnData) -> None:
    assert isinstance(pl.treatment_effect(effects, show=False), Axes)
    assert isinstance(pl.treatment_effect(effects, return_fig=True), Figure)
    _, ax = plt.subplots()
    assert pl.treatment_effect(effects, ax=ax, show=False) is ax


def test_refusals(effects: AnnData) -> None:
    with pytest.raises(KeyError, match=r"No treatment effects in .*'typo'.*tl\.treatment_effect"):
        pl.treatment_effect(effects, "typo", show=False)
    with pytest.raises(ValueError, match="two different ones of 'target', 'group', 'sample'"):
        pl.treatment_effect(effects, rows="group", columns="group", show=False)
    with pytest.raises(ValueError, match=r"2 treatments \('drug\$1', 'other' \.\.\.\).*rows='target'"):
        pl.treatment_effect(effects, rows="group", columns="sample", show=False)
    with pytest.raises(ValueError, match="effect='jsd' is unknown"):
        pl.treatment_effect(effects, effect="jsd", show=False)
    assert not plt.get_fignums()
