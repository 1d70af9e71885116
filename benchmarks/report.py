"""Tables and figures of the documentation from the CSV of benchmarks/comparison.py.

    python benchmarks/report.py docs/method/comparison.csv docs/method

Writes comparison_tables.md, comparison_cost.png and comparison_abundance.png into the folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, ANCHOR = "scratio_sc", "its anchor alone"
HIGHER_IS_BETTER = {"pr_auc", "sign", "ks", "spearman", "pearson"}
NAMES = {
    "mse": "mean squared error, nats²",
    "pr_auc": "PR-AUC of the absolute ratio for “cell of a changed type”",
    "sign": "share of cells of changed types with the right sign",
    "ks": "Kolmogorov-Smirnov distance of absolute ratios, changed against unchanged types",
    "pearson": "Pearson correlation with the true log odds, offset taken off",
    "spearman": "Spearman correlation with the true log odds",
}
TIE = 5e-3
"""Relative difference that does not decide who is first."""


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Methods by columns (problem, contrast), mean over seeds."""
    order = dict.fromkeys(rows["method"])
    columns = pd.MultiIndex.from_frame(rows[["problem", "contrast"]].drop_duplicates())
    table = rows.pivot_table(index="method", columns=["problem", "contrast"], values="value", sort=False)
    return table.reindex(index=list(order), columns=columns)


def firsts(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Whether a method is first in a column, ties included."""
    best = table.max() if metric in HIGHER_IS_BETTER else table.min()
    return (table - best).abs() <= TIE * best.abs()


def markdown(table: pd.DataFrame, metric: str) -> str:
    """The table with the firsts in bold."""
    many_contrasts = table.columns.get_level_values("problem").duplicated().any()
    heads = [f"{problem}, {contrast}" if many_contrasts else problem for problem, contrast in table.columns]
    first = firsts(table, metric)
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method in table.index:
        cells = [cell(table.loc[method, c], bold=first.loc[method, c]) for c in table.columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value: float, *, bold: bool) -> str:
    """A figure."""
    if np.isnan(value):
        return ""
    text = f"{value:.3g}" if abs(value) < 1 else f"{value:.3f}" if value < 10 else f"{value:.0f}"
    return f"**{text}**" if bold else text


def lost(rows: pd.DataFrame) -> list[str]:
    """Every column of every table in which the package is not first."""
    out = []
    for metric in NAMES:
        mine = rows[rows["metric"] == metric]
        if mine.empty:
            continue
        table = wide(mine)
        first = firsts(table, metric)
        for problem, contrast in table.columns:
            column = table[problem, contrast]
            if np.isnan(column.get(OURS, np.nan)) or first.loc[OURS, (problem, contrast)]:
                continue
            best = column.idxmax() if metric in HIGHER_IS_BETTER else column.idxmin()
            what = "error" if metric == "mse" else metric.replace("pr_auc", "PR-AUC")
            where = problem if contrast in ("treated/control", "target/reference") else f"{problem}, {contrast}"
            out.append(f"- {where}, {what}: {best} {column[best]:.4g}, {OURS} {column[OURS]:.4g}")
    return out


def with_level(rows: pd.DataFrame) -> pd.DataFrame:
    """Spearman correlation of the mean ratio of the enriched type with the level, by method."""
    mine = rows[rows["metric"] == "mean_enriched"].dropna(subset=["level"])
    means = mine.pivot_table(index="method", columns="level", values="value", sort=False)
    ranks = [(name, row.rank().corr(pd.Series(row.index, row.index).rank())) for name, row in means.iterrows()]
    return pd.DataFrame(ranks, columns=["method", "Spearman with the level"])


def costs(rows: pd.DataFrame, problem: str) -> str:
    """Seconds, cells a second and memory of the methods on a problem."""
    mine = rows[rows["problem"] == problem].drop_duplicates(["method", "seed"])
    figures = mine.groupby("method", sort=False)[["fit_s", "cells_per_s", "wall_s", "peak_mb"]].mean()
    lines = ["| | fit, s | cells scored a second | whole process, s | peak memory, MB |", "|---|---|---|---|---|"]
    for method, row in figures.iterrows():
        speed = "" if np.isnan(row["cells_per_s"]) else f"{row['cells_per_s']:,.0f}"
        lines.append(f"| {method} | {row['fit_s']:.1f} | {speed} | {row['wall_s']:.0f} | {row['peak_mb']:,.0f} |")
    return "\n".join(lines)


def tables(rows: pd.DataFrame) -> str:
    """All tables."""
    known, out = rows.dropna(subset=["metric"]), []
    real = known["level"].notna() | (known["problem"] == "random labels")
    groups = {
        "Gaussian problems": ~real & known["problem"].str.contains("Gaussian"),
        "Cell mixtures": ~real & known["problem"].str.startswith("cell mixture"),
        "Warped mixtures": ~real & known["problem"].str.startswith("warped"),
        "Real cells": real,
    }
    for title, chosen in groups.items():
        out.append(f"### {title}\n")
        for metric in NAMES if title == "Real cells" else ("mse",):
            mine = known[chosen & (known["metric"] == metric)]
            if len(mine):
                out.append(f"{NAMES[metric][0].upper()}{NAMES[metric][1:]}:\n\n{markdown(wide(mine), metric)}\n")
    if len(set(known["level"].dropna())) > 1:
        told = ", ".join(f"{name} {value:.3g}" for name, value in with_level(known).itertuples(index=False))
        out.append(f"Spearman correlation of the mean ratio of the enriched type with the level: {told}.\n")
    out.append("### Cost\n")
    costly = [p for p in ("cell mixture d=20", "abundance 0.70") if (known["problem"] == p).any()]
    out += [f"On *{problem}*:\n\n{costs(known, problem)}\n" for problem in costly]
    out.append("### Where a peer is first\n")
    out.append("\n".join(lost(known)) + "\n")
    failed = rows[rows["failure"].notna() & (rows["failure"] != "")]
    out += [f"{row.method} failed on {row.problem}: {row.failure}\n" for row in failed.itertuples()]
    return "\n".join(out)


def draw_costs(rows: pd.DataFrame, problems: list[tuple[str, str]]) -> plt.Figure:
    """Error against cost, a panel a problem."""
    figure, axes = plt.subplots(1, len(problems), figsize=(5 * len(problems), 4), layout="constrained", squeeze=False)
    points = {}
    for ax, (problem, contrast) in zip(axes[0], problems, strict=True):
        mine = rows[(rows["problem"] == problem) & (rows["contrast"] == contrast) & (rows["metric"] == "mse")]
        # to fit, and to score 10,000 cells
        cost = mine["fit_s"] + 10_000 / mine["cells_per_s"]
        for x, y, method in zip(cost, mine["value"], mine["method"], strict=True):
            points[method] = ax.scatter(x, y, s=90 if method == OURS else 25, color=colour(method), label=method)
        ax.set(xscale="log", yscale="log", xlabel="seconds to fit and to score 10,000 cells")
        ax.set_title(f"{problem}\n{contrast}", fontsize=10)
        ax.margins(0.1)
    figure.legend(handles=[*points.values()], loc="outside right center", frameon=False, fontsize=8)
    axes[0][0].set_ylabel("mean squared error (nats²)")
    return figure


def draw_levels(rows: pd.DataFrame) -> plt.Figure:
    """PR-AUC against the level, a line a method."""
    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    mine = rows[(rows["metric"] == "pr_auc") & rows["level"].notna()]
    for method in dict.fromkeys(mine["method"]):
        line = mine[mine["method"] == method].groupby("level")["value"].mean()
        width = 3 if method == OURS else 1.2
        ax.plot(line.index, line.to_numpy(), marker="o", markersize=3, lw=width, color=colour(method), label=method)
    ax.set(xlabel="probability of treatment in the enriched cell type", ylabel="PR-AUC of the absolute log ratio")
    legend(ax)
    return figure


def legend(ax: Axes) -> None:
    """Names beside the panel, in the order of the last values."""
    lines = sorted(ax.get_lines(), key=lambda line: -line.get_ydata()[-1])
    ax.legend(handles=lines, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)


def colour(method: str) -> object:
    """Red for the package, a colour a method for the others."""
    peers = [
        "logistic regression", "LDA", "QDA", "gradient boosting", "MLP classifier", "two CNF solves", "ratio ODE",
        "CTSM-v", "MELD", "kompot", "Milo", "MrVI",
    ]  # fmt: skip
    own = {OURS: "crimson", ANCHOR: "lightcoral"}
    shades = [i for i in (*range(0, 20, 2), *range(1, 20, 2)) if i not in (6, 7)]  # without the reds
    return own.get(method) or plt.get_cmap("tab20")(shades[peers.index(method)])


def main() -> None:
    """Read, write."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    rows = pd.read_csv(source)
    (folder / "comparison_tables.md").write_text(tables(rows))
    known = set(rows["problem"])
    candidates = [
        ("cell mixture d=20", "response/ctrl"),
        ("cell mixture d=50", "response/ctrl"),
        ("warped mixture d=10", "response/ctrl"),
    ]
    panels = [panel for panel in candidates if panel[0] in known]
    plt.rcParams["savefig.dpi"] = 120
    draw_costs(rows, panels).savefig(folder / "comparison_cost.png")
    if rows["level"].notna().any():
        draw_levels(rows).savefig(folder / "comparison_abundance.png")


if __name__ == "__main__":
    main()
