"""How large a ratio comes out where there is nothing to find."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from scratio_sc._arguments import check_integer, generator_of, recorded
from scratio_sc._check import as_spec, check_differ, check_slots, describe, log_written, read_labels
from scratio_sc._embedding import read_flow_and_cells
from scratio_sc.flow import fit_flow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType
    from typing import Any

    from anndata import AnnData


def null_check(
    adata: AnnData,
    *,
    target: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    reference: str | float | Sequence[Any] | Mapping[str, Any] | EllipsisType,
    key: str = "scratio",
    sample_key: str | None = None,
    n_permutations: int = 3,
    rng: int | np.random.Generator | None = 0,
    progress: bool = True,
    key_added: str = "null_check",
    copy: bool = False,
) -> AnnData | None:
    """Refit with permuted conditions, and put the size of the ratios beside that of the real ones.

    Ratios of permuted labels are noise. A contrast whose ratios are not clearly larger has found nothing.

    Parameters
    ----------
    adata
        Cells with a fitted flow. Reads `adata.uns[key]`, the embedding and the columns of the fit.
    target, reference
        The contrast, as in :func:`scratio_sc.tl.log_ratio`.
    key
        Slot of `adata.uns` with the fitted flow.
    sample_key
        Column of `adata.obs` with the sample (donor, replicate) of a cell: the conditions of whole samples are
        permuted, so that what differs between samples counts as noise too. By default those of single cells.
        Either way within the covariates of the fit.
    n_permutations
        How many refits.
    rng
        Seed or generator.
    progress
        Whether to show a progress bar.
    key_added
        Name of the slot, without "/", which files do not keep. An earlier result of this function is replaced; what
        else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.uns[key_added]` : :class:`dict`
        ``observed``: root mean square of the log ratio, nats; ``null``: the same for each permutation, shape
        ``(n_permutations,)``; ``q95_observed``, ``q95_null``: the same for the 95 % quantile of absolute ratios;
        ``params``.

    Raises
    ------
    KeyError
        If the flow, its embedding, a column or a level is missing.
    ValueError
        If both sides are the same, or a sample has cells of several conditions.
    TypeError
        If an argument is of another type than documented.

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
    generator = generator_of(rng)
    flow, cells = read_flow_and_cells(adata, key)
    check_slots(adata, key_added, "null_check", copy=copy)
    target, reference = as_spec(target), as_spec(reference)
    check_differ(flow, target, reference)
    params, design = adata.uns[key]["params"], flow.design
    labels = read_labels(adata, design.columns, numeric=design.numeric)
    used = labels.complete
    x, fold = cells.x[used], None if cells.fold is None else cells.fold[used]
    text = labels.text[used]
    bins = design.encode(text)[:, design.n_condition_columns :]
    unit = np.arange(len(x)) if sample_key is None else _samples(adata, sample_key, used)
    n_condition = design.n_condition_columns
    observed = flow.log_ratio(x, target, reference, own=text, fold=fold).value
    sizes = []
    for _ in tqdm(range(n_permutations), desc="permuting", disable=not progress):
        shuffled = permuted(text, unit, n_condition, strata=bins, rng=generator)
        refitted, own_fold = fit_flow(
            x,
            shuffled,
            columns=design.columns,
            n_condition_columns=n_condition,
            numeric=design.numeric,
            n_members=int(params["n_members"]),
            max_steps="auto" if params["max_steps"] == "auto" else int(params["max_steps"]),
            batch_size=int(params["batch_size"]),
            rng=generator,
            device=params["device"],
            precision=params["precision"],
        )
        sizes.append(_size(refitted.log_ratio(x, target, reference, own=shuffled, fold=own_fold).value))
    null, real = np.array(sizes), _size(observed)
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
            "sample_key": sample_key or "",
            "n_permutations": int(n_permutations),
            "rng": recorded(rng),
        },
    }
    log_written("null_check", [f"uns[{key_added!r}]"])
    return adata if copy else None


def _samples(adata: AnnData, sample_key: str, used: np.ndarray) -> np.ndarray:
    samples = read_labels(adata, (sample_key,))
    return samples.text[used, 0]


def permuted(
    text: np.ndarray,
    unit: np.ndarray,
    n_condition_columns: int,
    *,
    rng: np.random.Generator,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    """Labels ``(n, n_columns)`` whose conditions are permuted over units ``(n,)`` of the same covariates.

    ``strata (n, n_covariates)`` say what counts as the same; the covariates' own text by default.
    """
    units, first, member = np.unique(unit, return_index=True, return_inverse=True)
    if (text[first][member] != text).any():
        bad = units[member[(text[first][member] != text).any(1)][0]]
        msg = (
            f"Sample {str(bad)!r} has cells of several conditions or covariates, so its condition cannot be "
            "permuted as a whole. Leave `sample_key` out, or name a column whose samples have one condition each."
        )
        raise ValueError(msg)
    own = text[first].copy()
    same = (text[:, n_condition_columns:] if strata is None else strata)[first]
    _, stratum = np.unique(same, axis=0, return_inverse=True)
    stratum = stratum.reshape(-1)
    for s in np.unique(stratum):
        rows = np.flatnonzero(stratum == s)
        own[rows, :n_condition_columns] = own[rng.permutation(rows), :n_condition_columns]
    return own[member]


def _size(ratio: np.ndarray) -> tuple[float, float]:
    known = np.abs(ratio[np.isfinite(ratio)])
    return float(np.sqrt((known**2).mean())), float(np.quantile(known, 0.95))
