"""How strongly every treatment moves the cells, by cell type and by donor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from scratio_sc._effects import ALL, Contrast, counted_cells, rows_of
from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._labels import MIN_CELLS, check_groups, check_names, read_labels, warn_of_missing
from scratio_sc._numbers import rounded
from scratio_sc._sides import (
    as_spec,
    cells_of,
    check_any,
    check_has_cells,
    columns_not_named,
    describe,
    read_own_labels,
    treatments_of,
    warn_of_unknown,
)
from scratio_sc._slots import check_slots, log_written
from scratio_sc._warn import warn
from scratio_sc.flow._arguments import check_bandwidth, listed
from scratio_sc.flow._flow import CONTRAST
from scratio_sc.flow._member_scores import member_scores
from scratio_sc.stats._divergence import Ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anndata import AnnData

    from scratio_sc._embedding import Cells
    from scratio_sc._labels import Labels
    from scratio_sc.flow import ConditionalFlow

FAR_BELOW = 0.05
"""Nats below 0 from which cells look like those of the other side; no effect at all scatters around 0."""
MAX_NAMED = 6
"""Rows of the table that a warning names."""


def treatment_effect(
    adata: AnnData,
    *,
    reference: str | float | Sequence[Any] | Mapping[str, Any],
    groupby: str | None = None,
    sample_key: str | None = None,
    key: str = "scratio",
    bandwidth: float | Literal["auto"] = "auto",
    progress: bool = True,
    key_added: str = "treatment_effect",
    copy: bool = False,
) -> AnnData | None:
    """Rank treatments by how far they move the cells, in nats, by cell type and by donor.

    Every other level of the condition is compared with the reference: the expected log ratio under both sides
    (Kullback-Leibler divergences) and the Jensen-Shannon divergence, from log ratios by members that have not seen the
    cell. Within a cell type they measure the response of the type alone; how its share of the cells changes stands
    beside it as ``composition``.

    Parameters
    ----------
    adata
        Cells. Reads `adata.uns[key]`, the embedding and the columns of the fit, and those named here.
    reference
        A level of the condition, a list of levels (their mixture), or {column: level}. Every other level of the
        columns it names is a treatment. Where the condition has several columns, those that it does not name, and all
        covariates, keep each cell's own level: with ``{"drug": "none"}``, drugs are compared within each cell line.
    groupby
        Column of `adata.obs` with cell types.
    sample_key
        Column of `adata.obs` with donors or other samples. Where it is a covariate of the fit, every donor has its own
        log ratio, and the rows of a donor are its own response; else all donors share one log ratio, and the rows say
        how far the donor's cells show the common response.
    key
        Slot of `adata.uns` with the fitted flow.
    bandwidth
        As in :func:`scratio_sc.tl.log_ratio`; ``"auto"`` goes by each treatment.
    progress
        Whether to show a progress bar.
    key_added
        Name of the slot; without "/", which h5ad and zarr files cannot store. An earlier result of this function is
        replaced; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.uns[key_added]['table']` : :class:`pandas.DataFrame`
        A row for each ``target`` (the treatment), ``group`` (cell type) and ``sample`` (donor), each also for ``(all)``
        of them, largest effect first:

        ``js``, ``kl_target``, ``kl_reference``, each with ``_se``
            Jensen-Shannon divergence (0 to log 2, a lower bound on average), KL(target || reference) and
            KL(reference || target), nats. Standard errors are over cells and of the fit; they do not cover
            differences between donors. In extrapolated rows, KL divergences continue a trend, which may be another
            one with another seed; nor is that covered. Estimates of an effect that is not there scatter around 0
            or just below.
        ``responds``
            Whether ``js`` exceeds 1.645 of its standard errors, a one-sided test at 5 % of each row over cells, not
            corrected for the number of rows; missing where it could not be measured.
        ``composition``, ``composition_se``
            Log ratio of the group's shares of the cells, target over reference, with the error of counting; of all
            cells that were compared, whatever their covariates. NaN where the group is "(all)".
        ``n_target``, ``n_reference``
            Cells that were compared.
        ``extrapolated``
            Share of them for which a side has hardly any fitted cells nearby, as :func:`scratio_sc.tl.log_ratio` flags.
        ``flag``
            Empty, or why the row cannot be taken at face value. ``"few cells"``: fewer than 20 on a side, effects are
            NaN. ``"one side only"``: no cells at all on a side, NaN. ``"confounded"``: the fit had the cells'
            covariates (donors) on one side only, NaN. ``"extrapolated"``: more than half of the cells are; ``js``
            still holds as a lower bound, the others continue a trend. ``"no difference"``: the sides cannot be told
            apart, so that effects and errors are 0, which does not rule out one too small for so many cells to show.
    `adata.uns[key_added]['params']` : :class:`dict`
        The arguments of the call, the embedding, and ``treatments`` with the weights of the nodes for each,
        ``node_weights``, shape ``(n_treatments, n_nodes)``, and the bandwidths of the nodes.

    Warns
    -----
    UserWarning
        Names the effects that could not be measured, and those that are negative beyond their error and .05 nats;
        counts cells without a group, sample or condition, and those of conditions that the fit has not seen; says so
        where the embedding is not that of the fit, or nothing says which cells were fitted.

    Raises
    ------
    KeyError
        If there is no flow or embedding, or a level or column is unknown.
    ValueError
        If the reference leaves nothing to compare, has no cells or names a number that no cells have, no cell has a
        label of the fit, `groupby` has too many levels for 20 cells each, it or `sample_key` is what treatments differ
        in, has an empty label, one called "(all)" or none with cells of both sides, both are the same, the embedding
        has other dimensions than in the fit or is not finite, or an argument is out of range.
    TypeError
        If an argument is of another type than documented, or the reference names no column where the condition has
        several.

    Notes
    -----
    Cells whose covariates the fit has seen on one side only are left out: their ratio would only add up effects seen in
    other cells. Within a cell type the ratio is normalised by Bennett's acceptance ratio (1976), see
    :doc:`/method/treatment_effect`.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.cell_mixture(1_500, n_dims=5, n_types=3)
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.treatment_effect(adata, reference="ctrl", groupby="cell_type", progress=False)
    >>> table = adata.uns["treatment_effect"]["table"]
    >>> table.loc[table["group"] == "type_0", "target"].iloc[0]
    'response'
    """
    width = check_bandwidth(bandwidth, "denoising")
    flow, given = read_flow_and_cells(adata, key)
    check_slots(adata, key_added, "treatment_effect", copy=copy)
    if groupby is not None and groupby == sample_key:
        msg = f"groupby and sample_key both name {groupby!r}. Name a column of cell types, and one of donors."
        raise ValueError(msg)
    reference = as_spec(reference)
    treatments = treatments_of(flow, reference)
    own = read_own_labels(adata, flow, (reference, *treatments.values()))
    check_has_cells(adata, flow, reference)
    in_reference = cells_of(adata, flow, reference)
    check_any(in_reference, "reference", reference)
    in_treatment = {name: cells_of(adata, flow, side) for name, side in treatments.items()}
    sides = in_reference, np.any([*in_treatment.values()], axis=0)
    parts = {
        "group": _read_parts(adata, groupby, sides, argument="groupby", treatments=treatments, check=check_groups),
        "sample": _read_parts(
            adata, sample_key, sides, argument="sample_key", treatments=treatments, check=check_names
        ),
    }
    labels = pd.DataFrame(parts)
    warn_of_unknown(adata, flow, reference)
    stratum = _strata(flow, reference, own, n=adata.n_obs)
    rows: list[dict[str, Any]] = []
    weights = []
    for name, side in tqdm(treatments.items(), desc="comparing", unit="treatment", disable=not progress):
        cells = np.flatnonzero(in_treatment[name] | in_reference)
        weights.append(flow.weights(side, reference, bandwidth=width))
        contrast = _contrast(
            flow,
            given.take(cells),
            (side, reference),
            is_target=in_treatment[name][cells],
            own=None if own is None else own[cells],
            stratum=stratum[cells],
            weights=weights[-1],
        )
        rows += [{"target": name, **row} for row in rows_of(contrast, labels.iloc[cells], left_out=flow.left_out)]
    table = pd.DataFrame(rows).sort_values("js", ascending=False, kind="stable", ignore_index=True)
    table.index = table.index.astype(str)
    table["responds"] = table["responds"].astype("boolean")
    _warn_of_rows_without_effect(table)
    _warn_of_negative(table)
    adata = adata.copy() if copy else adata
    adata.uns[key_added] = {
        "table": table,
        "params": {
            "function": "treatment_effect",
            "reference": describe(reference),
            "groupby": groupby or "",
            "sample_key": sample_key or "",
            "key": key,
            "use_rep": given.use_rep,
            "bandwidth": width,
            "treatments": np.array([*treatments], object),
            "node_weights": np.stack(weights),
            "node_bandwidths": flow.node_bandwidths,
        },
    }
    log_written("treatment_effect", [f"uns[{key_added!r}]"])
    return adata if copy else None


def _contrast(
    flow: ConditionalFlow,
    cells: Cells,
    sides: tuple[Any, Any],
    *,
    is_target: np.ndarray,
    own: np.ndarray | None,
    stratum: np.ndarray,
    weights: np.ndarray,
) -> Contrast:
    """Cells of both sides, the target first, and their ratios."""
    scores = member_scores(flow, cells.x, sides, own=own, fold=cells.fold, weights=weights)
    scored, comparable = counted_cells(flow, cells, scores, sides=sides, own=own)
    return Contrast(
        is_target=is_target,
        scored=scored,
        comparable=comparable,
        far=np.any(scores.far, axis=1),
        stratum=stratum,
        ratios=Ratios.of(scores, CONTRAST),
    )


def _strata(flow: ConditionalFlow, reference: Any, own: np.ndarray | None, *, n: int) -> np.ndarray:
    """Which of n cells have the same labels ``own (n, n_columns)`` in the columns that sides do not name, ``(n,)``."""
    if own is None:
        return np.zeros(n, np.int64)
    held = [flow.design.columns.index(column) for column in columns_not_named(flow, [reference])]
    stratum: np.ndarray = np.unique(flow.design.encode(own)[:, held], axis=0, return_inverse=True)[1].reshape(-1)
    return stratum


def _read_parts(
    adata: AnnData,
    column: str | None,
    sides: tuple[np.ndarray, np.ndarray],
    *,
    argument: str,
    treatments: Mapping[str, Mapping[str, str]],
    check: Callable[[Labels], None],
) -> np.ndarray:
    """Labels ``(n_cells,)`` of the column that an argument names, empty where a cell has none.

    Refused where the `check` of them fails, or no label has cells of both sides, ``(n_cells,)`` each.
    """
    if column is None:
        return np.full(adata.n_obs, "", object)
    labels = read_labels(adata, (column,))
    check(labels)
    if any(column in side for side in treatments.values()):
        msg = (
            f"{argument}={column!r} is what the treatments differ in, so no part of it has cells of both sides. Name "
            "a column with cell types, or donors."
        )
        raise ValueError(msg)
    text = np.where(labels.known, labels.text, "")[:, 0].astype(object)
    if ALL in text:
        msg = f"{argument}={column!r} has the label {ALL!r}, which stands for all of them together. Rename it."
        raise ValueError(msg)
    _check_across(text, sides, argument=f"{argument}={column!r}")
    warn_of_missing(labels, sides[0] | sides[1], "its rows")
    return text


def _check_across(part: np.ndarray, sides: tuple[np.ndarray, np.ndarray], *, argument: str) -> None:
    """Refuse parts ``(n_cells,)`` none of which has cells of both sides, ``(n_cells,)`` each."""
    of_reference, of_treatment = (set(part[side]) - {""} for side in sides)
    if not of_reference & of_treatment:
        msg = (
            f"{argument}: no level of it has cells of both the reference and a treatment, so none has an effect of its "
            "own. Name a column whose levels go across, or leave it out."
        )
        raise ValueError(msg)


def _name_of(row: Any) -> str:
    return " / ".join(part for part in (rounded(row.target), row.group, row.sample) if part != ALL)


def _why_none(row: Any) -> str:
    """Flag of a row without effect; cells that were there and could not be compared are not counted."""
    return f"{row.flag}: {row.n_target} and {row.n_reference}" if row.flag == "few cells" else str(row.flag)


def _warn_of_negative(table: pd.DataFrame) -> None:
    """Say where divergences are far below 0, as they are where labels are not those of the fit."""
    wrong = table[table["js"] < -np.fmax(3 * table["js_se"], FAR_BELOW)]
    if len(wrong):
        each = [_name_of(row) for row in wrong.itertuples()]
        msg = (
            f"The Jensen-Shannon divergence is negative beyond its error in {listed(each)}: these cells look like "
            "those of the other side. Were labels exchanged since the fit? Else more cells, or fewer dimensions "
            "(`n_comps`), may mend it."
        )
        warn(msg)


def _warn_of_rows_without_effect(table: pd.DataFrame) -> None:
    empty = table[table["js"].isna()]
    if not len(empty):
        return
    each = [f"{_name_of(row)} ({_why_none(row)})" for row in empty.itertuples()]
    msg = (
        f"{len(empty)} of {len(table)} effects could not be measured (NaN): {listed(each, most=MAX_NAMED)}. Needed are "
        f"{MIN_CELLS} cells under the target and under the reference that can be compared; see the column 'flag'."
    )
    warn(msg)
