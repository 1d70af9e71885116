"""Two treatments together against each of them alone."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scratio_sc._effects import counted_cells
from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._keys import RatioKeys
from scratio_sc._labels import MIN_CELLS
from scratio_sc._ratio import write_ratio
from scratio_sc._sides import (
    as_spec,
    cells_by_side,
    describe,
    levels_of,
    read_own_labels,
    warn_of_unknown,
    was_fitted,
)
from scratio_sc._slots import check_slots, log_written
from scratio_sc._warn import MAX_CONFOUNDED, MAX_EXTRAPOLATED, warn
from scratio_sc.flow import LogRatio
from scratio_sc.flow._arguments import check_bandwidth, listed, named
from scratio_sc.flow._calibration import mean_of
from scratio_sc.flow._contrast import named_levels
from scratio_sc.flow._member_scores import MemberScores, member_scores
from scratio_sc.flow._standard_error import standard_error
from scratio_sc.stats._divergence import NAMES, Ratios, by_name, divergence_of
from scratio_sc.stats._interaction import SIGNS, weighted_means

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow

JOINED_BY = "+"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CONTRASTS = (
    ("a", "reference"),
    ("b", "reference"),
    ("combination", "reference"),
    ("combination", "a"),
    ("combination", "b"),
)


def interaction(
    adata: AnnData,
    *,
    a: str | float | Sequence[Any] | Mapping[str, Any],
    b: str | float | Sequence[Any] | Mapping[str, Any],
    reference: str | float | Sequence[Any] | Mapping[str, Any],
    combination: str | float | Sequence[Any] | Mapping[str, Any] | None = None,
    key: str = "scratio",
    bandwidth: float | Literal["auto"] = "auto",
    progress: bool = True,
    key_added: str = "interaction",
    copy: bool = False,
) -> AnnData | None:
    """Interaction of two treatments in every cell, in nats, and the combination against each treatment alone.

    log p(x | a and b) + log p(x | reference) - log p(x | a) - log p(x | b): by how much the log ratio of the
    combination exceeds the sum of the log ratios of both treatments. Positive where the combination makes a cell state
    more likely than the sum says.

    Parameters
    ----------
    adata
        Cells. Reads `adata.uns[key]`, the embedding and the columns of the fit.
    a, b
        Each treatment alone: a level of the condition, a list of levels (their mixture), or {column: level}.
    reference
        Cells with neither of them.
    combination
        Cells with both. By default the level called "a+b" or "b+a", or both where there are both; where `a`, `b` and
        `reference` name columns, the levels of `a` and `b` together: ``a={"drug_1": "yes"}, b={"drug_2": "yes"},
        reference={"drug_1": "no", "drug_2": "no"}``. Columns that `a`, `b` or the combination do not name are as in the
        reference.
    key
        Slot of `adata.uns` with the fitted flow.
    bandwidth
        As in :func:`scratio_sc.tl.log_ratio`, the same for all four.
    progress
        Whether to show a progress bar.
    key_added
        Name of the slots; without "/", which h5ad and zarr files cannot store. An earlier result of this function is
        replaced, and so are numbers in columns of these default names; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.obs[key_added]` : :class:`pandas.Series` (dtype ``float32``)
        The interaction in nats; NaN for cells whose own level is needed, and missing or not in the fit.
    `adata.obs[key_added + '_sd']` : :class:`pandas.Series` (dtype ``float32``)
        Its standard error, as that of a log ratio.
    `adata.obs[key_added + '_extrapolated']` : :class:`pandas.Series` (dtype ``bool``)
        Whether one of the four has hardly any fitted cells nearby.
    `adata.uns[key_added]['summary']` : :class:`dict`
        Each with ``_se``, over cells and of the fit: ``interaction``, its mean over cells of the combination;
        ``combination``, the mean log ratio of the combination there, and ``sum_of_singles``, the sum of those of both
        treatments, of which ``interaction`` is the difference; ``non_additivity``, the mean interaction in cells of the
        combination and of the reference less that in cells of `a` and of `b`. Also ``quantiles`` (5, 25, 50, 75 and
        95 %) of the interaction in cells of the combination; ``extrapolated``, the share of the cells of all four that
        are; and ``flag``: empty, ``"few cells"`` (fewer than 20 in one of the four) or ``"confounded"`` (the fit had
        the cells' covariates under some of the four only), and then the numbers are NaN, or ``"extrapolated"``: more
        than half of the cells are, and the numbers continue what was seen elsewhere.
    `adata.uns[key_added]['table']` : :class:`pandas.DataFrame`
        Both treatments and the combination against the reference, and the combination against each treatment:
        ``target`` and ``reference``, ``js``, ``kl_target`` and ``kl_reference`` with ``_se``, in nats, ``n_target`` and
        ``n_reference``, as in :func:`scratio_sc.tl.treatment_effect`. 0 with an error of 0 where two cannot be told
        apart, which does not rule out a small difference.
    `adata.uns[key_added]['params']` : :class:`dict`
        The four sides, also as columns and levels (``levels``), the other arguments, the embedding, and the weights and
        bandwidths of the nodes.

    Warns
    -----
    UserWarning
        If there are too few cells for a summary, most of them are extrapolated, more than a quarter of all cells have
        covariates that the fit has not seen under all four sides, the embedding is not that of the fit, or nothing says
        which cells were fitted; counts cells without a label that is needed, and those of labels that the fit has not
        seen.

    Raises
    ------
    KeyError
        If there is no flow or embedding, or a level or column is unknown.
    ValueError
        If the combination cannot be found, two of the four are the same or have cells in common, one is empty or names
        a number that no cells have, no cell has a label of the fit, the embedding has other dimensions than in the fit
        or is not finite, or an argument is out of range.
    TypeError
        If an argument is of another type than documented, or a side names no column where the condition has several.

    Notes
    -----
    For Gaussians with one covariance S and means 0, u, v and w, the interaction at x is x' S^-1 (w - u - v) plus a
    constant. Where means add up (w = u + v) it is the same everywhere, -u' S^-1 v: zero if the effects are orthogonal,
    negative if they go the same way. ``non_additivity`` is (w - u - v)' S^-1 (w - u - v): zero exactly where the means
    add up, whatever the angle. See :doc:`/method/treatment_effect`.

    Examples
    --------
    >>> import numpy as np, pandas as pd, scratio_sc as scratio
    >>> from anndata import AnnData
    >>> means = {"none": (0, 0), "A": (1, 0), "B": (0, 1), "A+B": (2, 1)}
    >>> condition = np.repeat(list(means), 200)
    >>> x = np.random.default_rng(0).normal([means[c] for c in condition])
    >>> adata = AnnData(obs=pd.DataFrame({"condition": condition}).rename(str), obsm={"X_pca": x})
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.interaction(adata, a="A", b="B", reference="none", progress=False)
    >>> bool(adata.uns["interaction"]["summary"]["interaction"] > 0)
    True
    """
    width = check_bandwidth(bandwidth, "denoising")
    flow, given = read_flow_and_cells(adata, key)
    keys = RatioKeys(key_added)
    check_slots(adata, key_added, "interaction", columns=keys.columns, reads=flow.design.columns, copy=copy)
    sides = _four_sides(flow, as_spec(a), as_spec(b), reference=as_spec(reference), combination=combination)
    asked = list(sides.values())
    members = cells_by_side(adata, flow, sides)
    own = read_own_labels(adata, flow, asked)
    warn_of_unknown(adata, flow, *asked)
    weights = flow.weights(*asked, bandwidth=width)
    scores = member_scores(flow, given.x, asked, own=own, fold=given.fold, weights=weights, progress=progress)
    scored, comparable = counted_cells(flow, given, scores, sides=asked, own=own)
    cells = {name: np.flatnonzero(own_cells & comparable) for name, own_cells in members.items()}
    n_scored = {name: int((own_cells & scored).sum()) for name, own_cells in members.items()}
    by_cell = _combined(scores, SIGNS)
    summary, table = _summarised(scores, by_cell, cells, left_out=flow.left_out)
    names = {name: describe(side) for name, side in sides.items()}
    unfitted = [names[name] for name, side in sides.items() if not was_fitted(flow, side)]
    confounded = mean_of(~comparable[scored])
    summary["flag"] = _flag_of(
        cells, n_scored, names, extrapolated=summary["extrapolated"], confounded=confounded, unfitted=unfitted
    )
    table.insert(0, "target", [names[target] for target, _ in CONTRASTS])
    table.insert(1, "reference", [names[other] for _, other in CONTRASTS])
    signs = np.array([*SIGNS.values()])
    withheld = scores.withheld @ signs @ signs
    sd = standard_error(by_cell.by_member, scores.by_opinion @ signs, flow.left_out, withheld=withheld)
    entry = {
        "summary": summary,
        "table": table,
        "params": {
            "function": "interaction",
            **names,
            "levels": levels_of(flow, sides),
            "key": key,
            "use_rep": given.use_rep,
            "bandwidth": width,
            "node_weights": weights,
            "node_bandwidths": flow.node_bandwidths,
        },
    }
    adata = adata.copy() if copy else adata
    write_ratio(adata, keys, LogRatio(by_cell.value, sd, scores.far, weights), entry=entry)
    log_written("interaction", [*(f"obs[{name!r}]" for name in keys.columns), f"uns[{keys.obs!r}]"])
    return adata if copy else None


def _four_sides(flow: ConditionalFlow, a: Any, b: Any, *, reference: Any, combination: Any) -> dict[str, Any]:
    """The sides in the order of `SIGNS`; a KeyError or ValueError names what is unknown or the same."""
    _check_distinct(flow, {"reference": reference, "a": a, "b": b})
    both = _both(flow, a, b) if combination is None else as_spec(combination)
    alike = isinstance(reference, Mapping)
    sides = {
        name: {**reference, **side} if alike and isinstance(side, Mapping) else side
        for name, side in (("combination", both), ("reference", reference), ("a", a), ("b", b))
    }
    _check_distinct(flow, sides)
    return sides


def _check_distinct(flow: ConditionalFlow, sides: Mapping[str, Any]) -> None:
    levels = {name: named_levels(flow.design, side) for name, side in sides.items()}
    for one, other in combinations(levels, 2):
        if levels[one] == levels[other]:
            msg = (
                f"{one} and {other} are the same side ({describe(sides[one])!r}). An interaction needs four: each "
                "treatment alone, both together and neither."
            )
            raise ValueError(msg)


def _both(flow: ConditionalFlow, a: Any, b: Any) -> Any:
    if isinstance(a, Mapping) and isinstance(b, Mapping) and not set(a) & set(b):
        return {**a, **b}
    known = flow.design.levels[0]
    if isinstance(a, str) and isinstance(b, str):
        together = [name for name in (f"{a}{JOINED_BY}{b}", f"{b}{JOINED_BY}{a}") if name in known]
        if together:
            return together if len(together) > 1 else together[0]
    msg = (
        f"No level is called after both {describe(a)!r} and {describe(b)!r}. Name the side of both together with "
        f"`combination` (levels of {flow.design.columns[0]!r}: {named(known)})."
    )
    raise ValueError(msg)


def _combined(scores: MemberScores, signs: Mapping[str, float]) -> Ratios:
    """Sum of log densities ``(n,)`` with the signs of some of the four sides."""
    return Ratios.of(scores, np.array([signs.get(name, 0.0) for name in SIGNS]))


def _summarised(
    scores: MemberScores, by_cell: Ratios, cells: Mapping[str, np.ndarray], *, left_out: np.ndarray
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Means and quantiles of the interaction of cells, `by_cell`, and the divergences of `CONTRASTS`."""
    summary: dict[str, Any] = {}
    enough = min(map(len, cells.values())) >= MIN_CELLS
    there = {"combination": 1.0}
    for name, ratio, where in (
        ("interaction", by_cell, there),
        ("combination", _combined(scores, {"combination": 1.0, "reference": -1.0}), there),
        ("sum_of_singles", _combined(scores, {"a": 1.0, "b": 1.0, "reference": -2.0}), there),
        ("non_additivity", by_cell, SIGNS),
    ):
        summary[name] = summary[f"{name}_se"] = np.nan
        if enough:
            summary[name], summary[f"{name}_se"] = weighted_means(ratio, cells, where, left_out=left_out)
    levels = np.full(len(QUANTILES), np.nan)
    if enough:
        levels = np.quantile(by_cell.value[cells["combination"]], QUANTILES)
    summary["quantiles"] = levels
    summary["extrapolated"] = mean_of(scores.far[np.concatenate(list(cells.values()))].any(1))
    rows = []
    for target, other in CONTRASTS:
        value, se = np.full(len(NAMES), np.nan), np.full(len(NAMES), np.nan)
        if enough:
            ratio = _combined(scores, {target: 1.0, other: -1.0})
            value, se = divergence_of(ratio.take(cells[target]), ratio.take(cells[other]), left_out=left_out)
        rows.append({**by_name(value, se), "n_target": len(cells[target]), "n_reference": len(cells[other])})
    return summary, pd.DataFrame(rows, index=[f"{target} / {other}" for target, other in CONTRASTS])


def _flag_of(
    cells: Mapping[str, np.ndarray],
    n_scored: Mapping[str, int],
    names: Mapping[str, str],
    *,
    extrapolated: float,
    confounded: float,
    unfitted: Sequence[str],
) -> str:
    """Why the summary is missing or no evidence, with a warning; empty where it can be taken at face value."""
    small, flag = [name for name, own in cells.items() if len(own) < MIN_CELLS], ""
    if small:
        flag = "confounded" if all(n_scored[name] >= MIN_CELLS for name in small) else "few cells"
        each = listed([f"{name} {names[name]!r} ({len(cells[name])} of {n_scored[name]})" for name in small])
        why = "whose covariates the fit has seen under all four sides" if flag == "confounded" else "that have a ratio"
        need = f"at least {MIN_CELLS} cells a side are needed {why}"
        msg = f"No summary of the interaction (NaN): {need}; too few in {each}."
        if unfitted:
            none = f"No cell was fitted with the combination {listed(unfitted)}"
            msg += f" {none}, so nothing is known of it: fit cells of all four sides."
        elif not all(n_scored[name] for name in small):
            msg += " Were labels renamed since the fit, or these cells left out?"
        warn(msg)
    elif extrapolated > MAX_EXTRAPOLATED:
        flag = "extrapolated"
        msg = (
            f"{extrapolated:.0%} of the cells of the four sides have hardly any cells of one of them nearby. The size "
            "of the interaction there continues what was seen elsewhere and is no evidence; the summary is flagged as "
            "extrapolated."
        )
        warn(msg)
    if not small and confounded > MAX_CONFOUNDED:
        msg = (
            f"{confounded:.0%} of the cells have covariates that the fit has not seen under all four sides. They are "
            "flagged as extrapolated, and the summary does without them. Leave out covariates that go with the "
            "condition."
        )
        warn(msg)
    return flag
