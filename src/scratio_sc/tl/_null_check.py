"""How large a ratio comes out where there is nothing to find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm.auto import tqdm

from scratio_sc._check import fit_call
from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._permutable import Permutable, read_permutable
from scratio_sc._sides import as_spec, cells_of, check_differ, columns_not_named, describe, warn_of_unknown
from scratio_sc._slots import check_slots, log_written
from scratio_sc._warn import warn
from scratio_sc.flow import fit_flow
from scratio_sc.flow._arguments import check_bandwidth, check_integer, generator_of, named, recorded, usable_device
from scratio_sc.flow._contrast import named_levels
from scratio_sc.flow._member_scores import observed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import EllipsisType

    from anndata import AnnData

    from scratio_sc.flow import ConditionalFlow, LogRatio

MAX_OTHER = 0.2
"""Share of cells that are not those of the fit, above which real and permuted ratios are not comparable."""


def null_check(
    adata: AnnData,
    *,
    target: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    reference: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    key: str = "scratio",
    sample_key: str | None = None,
    bandwidth: float | Literal["auto"] = "auto",
    n_permutations: int = 3,
    rng: int | np.random.Generator | None = 0,
    progress: bool = True,
    key_added: str = "null_check",
    copy: bool = False,
) -> AnnData | None:
    """Refit with permuted conditions, and put the size of the ratios beside that of the real ones.

    Ratios of permuted labels are noise. A contrast whose ratios are not clearly larger than all of them has found
    nothing. Every permutation is a whole fit; a few of them say how large noise is, and give no p-value. The conditions
    of both sides are exchanged; cells of other conditions keep theirs. Where the condition is several columns or a
    number, cells of other levels tell of these two as well, so that all labels are permuted.

    Cells of a donor are alike, so that permuted cells are no measure of what differs between donors: pass `sample_key`
    where the conditions have different donors.

    Parameters
    ----------
    adata
        Cells with a fitted flow. Reads `adata.uns[key]`, the embedding, the columns of the fit and of `sample_key`.
    target, reference
        The contrast, as in :func:`scratio_sc.tl.log_ratio`.
    key
        Slot of `adata.uns` with the fitted flow.
    sample_key
        Column of `adata.obs` with the sample (donor, replicate) of a cell: the conditions of whole samples are
        permuted, so that what differs between samples counts as noise too; cells without one are left out. By default
        those of single cells. Either way within the covariates of the fit, but for those that differ between cells of a
        sample (cell type). A sample has one condition: where donors have both, make a column of donor and condition,
        and fit without the donor as a covariate.
    bandwidth
        As in :func:`scratio_sc.tl.log_ratio`, for the real and the permuted conditions alike.
    n_permutations
        How many refits. Each has another grouping of the cells (or samples) into target and reference, never the real
        one or its mirror image. Where there are fewer groupings, there are fewer refits: two samples against two have 2
        others. Of several columns or numbers, the labels of all conditions are grouped again.
    rng
        Seed or generator.
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

    `adata.uns[key_added]` : :class:`dict`
        ``observed``: root mean square of the log ratio, nats, of cells that do not lie far from both sides, and within
        whose covariates the fit has cells of both; ``null``: the same for each permutation, shape ``(n_permutations,)``
        or shorter; ``q95_observed``, ``q95_null``: the same for the 95 % quantile of absolute ratios; ``params``: the
        arguments of the call, and the embedding.

    Warns
    -----
    UserWarning
        If there are fewer other groupings than `n_permutations`, some leave a side without cells within the covariates,
        a covariate differs within some samples only and is not kept apart, cells have no sample, no condition or labels
        that the fit has not seen, the embedding is not that of the fit, nothing says which cells were fitted, or if
        more than a fifth of the cells are other ones than those of the fit: the fewer cells, the larger is noise, so
        that real and permuted ratios have to be of the same.

    Raises
    ------
    KeyError
        If the flow, its embedding, a column or a level is missing.
    ValueError
        If both sides are the same or differ in covariates, a level that they name has no cells, no cell is like those
        of the fit, a sample has cells of several conditions, no other grouping exists (one sample a condition,
        covariates that go with the condition, or a cell type that few samples have), exchanging samples only turns the
        sign of ratios (pairs within a covariate), the stored flow is damaged, or an argument is out of range.
    TypeError
        If an argument is of another type than documented, or a side names no column where the condition has several.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.null_check(adata, target="target", reference="reference", n_permutations=1, progress=False)
    >>> bool(adata.uns["null_check"]["observed"] > 5 * adata.uns["null_check"]["null"].max())
    True
    """
    check_integer(1, n_permutations=n_permutations)
    width = check_bandwidth(bandwidth, "denoising")
    generator = generator_of(rng)
    flow, cells = read_flow_and_cells(adata, key)
    check_slots(adata, key_added, "null_check", copy=copy)
    target, reference = asked = as_spec(target), as_spec(reference)
    check_differ(flow, target, reference)
    _check_permuted(flow, asked)
    fit_again = _options_of_fit(adata, flow, key)
    text, unit, used = read_permutable(adata, flow.design, sample_key)
    for name, side in (("target", target), ("reference", reference)):
        _check_cells(adata, flow, side, used=used, called=name)
    warn_of_unknown(adata, flow, target, reference)
    mine = cells.take(used)
    role = _roles(adata, flow, asked)
    labels = Permutable.of(text[used], unit[used], flow.design, role=None if role is None else role[used])
    n_refits = labels.count(n_permutations, sample_key=sample_key)
    ratio = flow.log_ratio(mine.x, target, reference, own=labels.text, fold=mine.fold, bandwidth=width)
    counted, sizes = _counted(flow, ratio, asked, own=labels.text), []
    _warn_of_other_cells(flow, len(mine.x), len(mine.x) if mine.fold is None else int((~mine.new).sum()))
    draws = labels.permuted(n_permutations, rng=generator)
    for shuffled in tqdm(draws, total=n_refits, desc="permuting", unit="refit", disable=not progress):
        refitted, fold = fit_flow(mine.x, shuffled, rng=generator, **fit_again)
        null_ratio = refitted.log_ratio(mine.x, target, reference, own=shuffled, fold=fold, bandwidth=width)
        told = counted & observed(refitted, len(mine.x), asked, own=shuffled)
        if told.any():
            sizes.append(_size(null_ratio.value[told]))
    _check_told(len(sizes), n_refits)
    null, real = np.array(sizes), _size(ratio.value[counted])
    adata = adata.copy() if copy else adata
    adata.uns[key_added] = {
        "observed": real[0],
        "null": null[:, 0],
        "q95_observed": real[1],
        "q95_null": null[:, 1],
        "params": {
            "function": "null_check",
            "target": describe(target),
            "reference": describe(reference),
            "key": key,
            "use_rep": cells.use_rep,
            "sample_key": sample_key or "",
            "bandwidth": width,
            "n_permutations": int(n_permutations),
            "rng": recorded(rng),
        },
    }
    log_written("null_check", [f"uns[{key_added!r}]"])
    return adata if copy else None


def _options_of_fit(adata: AnnData, flow: ConditionalFlow, key: str) -> dict[str, Any]:
    """Arguments that repeat the fit, on any device where that of the fit is not at hand."""
    params = adata.uns[key]["params"]
    try:
        options = {
            "n_members": int(params["n_members"]),
            "max_steps": "auto" if params["max_steps"] == "auto" else int(params["max_steps"]),
            "batch_size": int(params["batch_size"]),
            "device": usable_device(params["device"]),
            "precision": str(params["precision"]),
        }
        check_integer(1, n_members=options["n_members"], batch_size=options["batch_size"])
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"adata.uns[{key!r}]: The stored flow is damaged at 'params' ({error}): it does not say how it was fitted. "
            f"Fit again with {fit_call(adata, key)}."
        )
        raise ValueError(msg) from error
    design = flow.design
    return options | {
        "columns": design.columns,
        "n_condition_columns": design.n_condition_columns,
        "numeric": design.numeric,
    }


def _check_permuted(flow: ConditionalFlow, sides: tuple[Any, Any]) -> None:
    """Refuse sides that differ in what is not permuted: null ratios would hold the real difference."""
    target, reference = (named_levels(flow.design, side) for side in sides)
    differ = [c for c in flow.design.columns if target.get(c) != reference.get(c)]
    conditions = flow.design.columns[: flow.design.n_condition_columns]
    fixed = [column for column in differ if column not in conditions]
    if fixed:
        msg = (
            f"The labels of {named(conditions)} are permuted, those of covariates are not: where the sides differ in "
            f"{named(fixed)}, the null would hold that difference. Name sides that differ in {named(conditions)} "
            f"alone, or fit with {named(fixed)} as the condition."
        )
        raise ValueError(msg)


def _check_cells(adata: AnnData, flow: ConditionalFlow, side: Any, *, used: np.ndarray, called: str) -> None:
    """Refuse a side without cells, and a mixture one level of which has none: a refit would not know it."""
    for part in _single_levels(flow, side):
        if not (cells_of(adata, flow, part) & used).any():
            msg = (
                f"No cells of {describe(part)!r} (in the {called}) are among the {used.sum()} of {adata.n_obs} cells "
                "that have all labels, so there is nothing to refit. Pass the cells that the flow was fitted on, or "
                "name levels that these cells have."
            )
            raise ValueError(msg)


def _roles(adata: AnnData, flow: ConditionalFlow, sides: tuple[Any, Any]) -> np.ndarray | None:
    """Which cells are of the target (1), the reference (2), both (3) or neither (0), and keep their condition.

    None where others tell of these conditions, too, and all have to be permuted: of numbers, and of several columns.
    """
    column, *more = flow.design.columns[: flow.design.n_condition_columns]
    if more or column in flow.design.numeric:
        return None
    parts = [side.get(column, ...) if isinstance(side, Mapping) else side for side in sides]
    target, reference = (cells_of(adata, flow, {column: part}) for part in parts)
    return target + 2 * reference


def _single_levels(flow: ConditionalFlow, side: Any) -> Iterator[dict[str, Any]]:
    """The side with one level of a column at a time, for each that it names."""
    by_column = side if isinstance(side, Mapping) else {flow.design.columns[0]: side}
    for column, levels in by_column.items():
        for level in levels if isinstance(levels, list) else [levels]:
            yield {**by_column, column: level}


def _counted(flow: ConditionalFlow, ratio: LogRatio, sides: tuple[Any, Any], *, own: np.ndarray | None) -> np.ndarray:
    """Cells whose ratio counts, with fitted cells nearby and covariates of both sides, ``(n,)``; refused if none is."""
    n = len(ratio.value)
    if not np.isfinite(ratio.value).any():
        columns = named(columns_not_named(flow, sides))
        msg = (
            f"None of the {n} cells has a log ratio: their own labels in {columns} are not of the fit. Pass "
            "the cells that the flow was fitted on, or fit again."
        )
        raise ValueError(msg)
    counted = ~ratio.far.all(1) & observed(flow, n, sides, own=own)
    if not counted.any():
        msg = (
            f"None of the {n} cells is like those that the flow was fitted on, with covariates that it has seen "
            "under both sides, so there is nothing to compare. Pass the cells of the fit, in the embedding of the fit."
        )
        raise ValueError(msg)
    return counted


def _check_told(n_told: int, n_refits: int) -> None:
    """Warn of permutations in which a side had no cells within the covariates, and refuse if all are such."""
    if not n_told:
        msg = (
            f"In all {n_refits} permutations one of the sides had no cells within the covariates, which few samples "
            "have, so there is nothing to compare. Leave out `sample_key`, or name sides that more samples have."
        )
        raise ValueError(msg)
    if n_told < n_refits:
        warn(
            f"{n_refits - n_told} of {n_refits} permutations are left out: one of the sides had no cells within the "
            "covariates, which few samples have."
        )


def _warn_of_other_cells(flow: ConditionalFlow, n_cells: int, n_known: int) -> None:
    """Warn where cells of the fit are missing, or others are among those that are refitted."""
    n_fitted = int(flow.design.sizes.sum())
    if n_known < (1 - MAX_OTHER) * max(n_cells, n_fitted):
        msg = (
            f"The flow was fitted on {n_fitted} cells, and {n_known} of them are among the {n_cells} that are refitted "
            "with permuted conditions. Noise is the larger the fewer cells, so `observed` and `null` cannot be "
            "compared. Fit on these cells first, or pass those of the fit."
        )
        warn(msg)


def _size(ratio: np.ndarray) -> tuple[float, float]:
    known = np.abs(ratio[np.isfinite(ratio)])
    return float(np.sqrt((known**2).mean())), float(np.quantile(known, 0.95))
