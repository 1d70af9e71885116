"""How much the state of a cell says of its batch, in one or several representations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scratio_sc._embedding import check_varies, read_representation
from scratio_sc._keys import BatchScoreKeys
from scratio_sc._labels import MIN_CELLS, check_levels, read_labels
from scratio_sc._slots import check_slots, log_written
from scratio_sc._warn import BEATEN_BY, warn
from scratio_sc.flow._arguments import (
    check_bandwidth,
    check_device,
    check_integer,
    check_max_steps,
    check_share,
    generator_of,
    listed,
    named,
    recorded,
    refuse,
)
from scratio_sc.flow._outliers import outliers
from scratio_sc.stats._batch_information import BatchScores, largest_scores, summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from scratio_sc._labels import Labels

ALL_CELLS = "all cells"
"""Group of the table's rows about all cells that are scored."""


def batch_score(
    adata: AnnData,
    *,
    batch: str,
    groupby: str,
    use_rep: str | Sequence[str] = ("X_pca", "X_pca_harmony"),
    n_comps: int | None = None,
    n_members: int = 16,
    max_steps: int | Literal["auto"] = "auto",
    bandwidth: float | Literal["auto"] = "auto",
    threshold: float = 0.5,
    rng: int | np.random.Generator | None = 0,
    device: str = "auto",
    progress: bool = True,
    key_added: str = "batch_score",
    copy: bool = False,
) -> AnnData | None:
    """Score how far batches are apart within cell types, in several representations. Lower is better.

    The score of a cell is log p(x | type, own batch) - log p(x | type), in nats: how much more likely its state is in
    its own batch than among all cells of its type. Where a correction worked, a cell's state says nothing of its batch
    and the score is 0. Its mean is the mutual information between batch and state within the type: 0 where batches are
    mixed, at most the entropy of the batches (log 2 = 0.69 for two of equal size) where they are apart.

    It judges mixing alone. A correction that also removes differences between cell types scores well too: look at
    those separately, and take the types from annotations or from a corrected representation, not from clusters that
    follow the batches.

    Parameters
    ----------
    adata
        Cells. Reads `adata.obsm[use_rep]` and two columns of `adata.obs`.
    batch
        Column of `adata.obs` with the batch: donor, chemistry, sequencing run.
    groupby
        Column of `adata.obs` with the cell type, within which batches are compared.
    use_rep
        Embeddings in `adata.obsm` to compare, such as PCs before and after a correction. Their scales do not matter.
        All are judged by the same cells in the same folds.
    n_comps
        How many dimensions of each, from the first; all by default.
    n_members
        Members of each flow, 2 or more: every cell is scored by members that have not seen it.
    max_steps
        Training steps of a network at most; ``"auto"`` goes by the number of cells, 0 trains none and takes the
        Gaussian mixture that they would correct (the anchor): seconds.
    bandwidth
        How finely to look, the same for both densities. ``"auto"`` averages the bandwidths that tell the batches of
        held-out cells apart as well as the best, 0 is the finest, a number is the width of the Gaussian kernel in units
        of the embedding.
    threshold
        Share of a cell's largest possible score above which it counts as told apart by its batch, between 0 and 1.
        The largest is -log of the share of its batch among the cells of its type; so a half means the same whatever
        the number and sizes of the batches.
    rng
        Seed or generator of all randomness.
    device
        ``"auto"`` takes a GPU where there is one; or any torch device.
    progress
        Whether to show progress bars.
    key_added
        Name of the slots, without "/", which files do not keep. An earlier result of this function is replaced, and so
        are numbers in columns of these default names; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.obs[key_added + '_' + use_rep]` : :class:`pandas.Series` (dtype ``float32``)
        Score of every cell in nats, for each representation; lower is better, and above -log of the cells of the type,
        for so many cannot say more. NaN for cells without a label, in a batch with fewer than 20 cells of their type,
        of a type that has one batch only, or far from all other cells.
    `adata.uns[key_added]['table']` : :class:`pandas.DataFrame`
        One row for each representation and group (``"all cells"``, then the types): ``n_cells`` that are scored,
        ``n_batches`` compared, ``mean`` of the scores (nats) with its standard error ``mean_se``, ``information``,
        the mean corrected for what it lacks, with ``information_se``, ``above`` (share of cells above the threshold)
        with ``above_se``, and ``maximum``, the mean where batches are apart (their entropy within the type). NaN for
        types that have one batch only. Lower is better.
    `adata.uns[key_added]['params']` : :class:`dict`
        The arguments of the call, and for each representation the weights and bandwidths of the nodes.

    Warns
    -----
    UserWarning
        Names batches and types that are not compared, batches compared in one type only, cells far from all others, and
        representations whose mean score is negative beyond its error.

    Raises
    ------
    KeyError
        If a column or a representation is missing.
    ValueError
        If there is one batch only, a batch of fewer than 20 cells, no type with two batches (batch and type cannot be
        told apart), a representation is not finite or constant, or an argument is out of range.
    TypeError
        If an argument is of another type than documented.

    Notes
    -----
    After scRatio (Antipov et al. 2026, arXiv 2602.24201), which compares the same two densities. Both come from one
    flow with the batch as condition and the type as covariate, out of fold; p(x | type) is the mixture of the batches
    by their cells of the type, exactly.

    The mean is on average below the information (Barber & Agakov 2003), the more so the fewer cells and the more
    dimensions, and noise can make it slightly negative: it is not clipped. The mean of scores by members that were
    fitted to the cells is above the information by about as much, so that ``information`` is halfway (figures in
    :doc:`/method/batch_score`); its standard error includes how far that is. Standard errors cover the choice of cells
    and the fit, not differences between the samples of a batch.

    No flow is stored: the members for each representation are much larger than the scores. For single batches
    against each other, ``scratio.tl.fit(adata, batch, covariates=[groupby])`` and :func:`scratio_sc.tl.log_ratio`.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.batch_shift(600, n_dims=2, n_types=2, n_batches=2, shift=3.0)
    >>> scratio.tl.batch_score(
    ...     adata,
    ...     batch="batch",
    ...     groupby="cell_type",
    ...     use_rep=["X_pca", "X_corrected"],
    ...     n_members=2,
    ...     max_steps=0,
    ...     progress=False,
    ... )
    >>> before, after = adata.uns["batch_score"]["table"].query("group == 'all cells'")["mean"]
    >>> bool(before > 0.2 > 0.05 > abs(after))
    True
    """
    generator = generator_of(rng)
    check_integer(2, n_members=n_members)
    check_max_steps(max_steps)
    width = check_bandwidth(bandwidth, "denoising")
    check_share(threshold=threshold)
    check_device(device, "auto")
    columns, reps = _columns(batch, groupby), _representations(use_rep)
    keys = BatchScoreKeys(key_added)
    check_slots(adata, key_added, "batch_score", columns=[keys.score(rep) for rep in reps], reads=columns, copy=copy)
    labels = read_labels(adata, columns)
    cells = {rep: read_representation(adata, rep, n_comps) for rep in reps}
    check_levels(labels, 1, called="batches")
    used = _comparable(labels)
    for rep in reps:
        check_varies(cells[rep][used], rep)
    used[used] = ~_apart(adata.obs_names[used], {rep: x[used] for rep, x in cells.items()})
    text, seed = labels.text[used], int(generator.integers(2**31))
    # the same seed each time: the same folds, so that representations differ by nothing else
    options = {"n_members": n_members, "max_steps": max_steps, "rng": seed, "device": device}
    scores = {
        rep: BatchScores.of(x[used], text, columns=columns, bandwidth=width, progress=progress, **options)
        for rep, x in cells.items()
    }
    groups = np.unique(labels.text[labels.complete, 1])
    table = _table(scores, text, groups=groups, threshold=threshold)
    _warn_of_negative(table)
    adata = adata.copy() if copy else adata
    for rep, part in scores.items():
        column = np.full(adata.n_obs, np.nan, np.float32)
        column[used] = part.ratios.value
        adata.obs[keys.score(rep)] = column
    adata.uns[keys.uns] = {
        "table": table,
        "params": {
            "function": "batch_score",
            "batch": batch,
            "groupby": groupby,
            "use_rep": np.array(reps, object),
            "n_comps": int(n_comps or 0),
            "n_members": int(n_members),
            "max_steps": str(max_steps),
            "bandwidth": width,
            "threshold": float(threshold),
            "rng": recorded(rng),
            "device": str(device),
            "node_weights": np.stack([part.node_weights for part in scores.values()]),
            "node_bandwidths": np.stack([part.node_bandwidths for part in scores.values()]),
        },
    }
    log_written("batch_score", [*(f"obs[{keys.score(rep)!r}]" for rep in reps), f"uns[{keys.uns!r}]"])
    return adata if copy else None


def _columns(batch: Any, groupby: Any) -> tuple[str, str]:
    for name, value in (("batch", batch), ("groupby", groupby)):
        if not isinstance(value, str):
            refuse(name, value, "the name of a column of adata.obs", types=())
    if batch == groupby:
        msg = f"`batch` and `groupby` are both {batch!r}, so that each type would have one batch. Name two columns."
        raise ValueError(msg)
    return batch, groupby


def _representations(use_rep: Any) -> list[str]:
    reps = [use_rep] if isinstance(use_rep, str) or not isinstance(use_rep, Iterable) else list(use_rep)
    if not all(isinstance(rep, str) for rep in reps):
        refuse("use_rep", use_rep, "the name of a representation in adata.obsm, or a list of names", types=())
    if not reps or len(set(reps)) < len(reps):
        msg = f"use_rep={use_rep!r}, expected at least one representation, each named once."
        raise ValueError(msg)
    slashed = next((rep for rep in reps if "/" in rep), None)
    if slashed:
        msg = (
            f"use_rep={slashed!r} contains '/', which h5ad and zarr files do not keep in names. Rename it: "
            f"`adata.obsm[{slashed.replace('/', '_')!r}] = adata.obsm.pop({slashed!r})`."
        )
        raise ValueError(msg)
    return reps


def _comparable(labels: Labels) -> np.ndarray:
    """Cells whose batch can be compared with another one of their type ``(n_cells,)``; warnings name the others."""
    batch, groupby = labels.columns
    sizes = pd.crosstab(labels.text[labels.complete, 1], labels.text[labels.complete, 0])
    if ALL_CELLS in sizes.index:
        msg = f"A type of {groupby!r} is called {ALL_CELLS!r}, as the rows about all cells are. Rename it."
        raise ValueError(msg)
    enough = sizes >= MIN_CELLS
    kept = enough & (enough.sum(axis=1) > 1).to_numpy()[:, None]
    few = [f"{t!r} / {b!r} ({n})" for t, row in sizes.iterrows() for b, n in row.items() if 0 < n < MIN_CELLS]
    single = [t for t in sizes.index if not kept.loc[t].any()]
    if len(single) == len(sizes):
        found = f" Left out for having fewer than {MIN_CELLS} cells: {listed(few)}." if few else ""
        msg = (
            f"No type of {groupby!r} has two batches of {batch!r} with at least {MIN_CELLS} cells each, so batch and "
            f"type cannot be told apart.{found} Merge types or batches, or name another column with `groupby`."
        )
        raise ValueError(msg)
    if few:
        warn(
            f"Batches with fewer than {MIN_CELLS} cells of a type are left out of it (NaN): {listed(few)} of "
            f"{groupby!r} / {batch!r}."
        )
    if single:
        warn(
            f"Types of {groupby!r} that have fewer than two batches of {MIN_CELLS} cells are not scored (NaN), for "
            f"there is nothing to compare, and do not count in the overall mean: {named(single)}."
        )
    alone = [f"{b!r} (of {kept.index[kept[b]][0]!r})" for b in kept.columns if kept[b].sum() == 1]
    if alone and len(single) < len(sizes) - 1:
        warn(
            f"Batches of {batch!r} that are compared in one type only: {listed(alone)}. Whether they differ by "
            "technique or by biology cannot be told from other types: read the scores of these types with care."
        )
    place = [sizes.index.get_indexer(labels.text[:, 1]), sizes.columns.get_indexer(labels.text[:, 0])]
    used: np.ndarray = labels.complete & kept.to_numpy()[place[0], place[1]]
    return used


def _apart(names: pd.Index, cells: Mapping[str, np.ndarray]) -> np.ndarray:
    """Cells that lie far from all others in one of the representations ``(n_cells,)``; a warning names them."""
    apart = {rep: outliers(x) for rep, x in cells.items()}
    everywhere: np.ndarray = np.any([*apart.values()], axis=0)
    if everywhere.any():
        where = named([rep for rep, some in apart.items() if some.any()])
        warn(
            f"Cells that lie far from all others in {where} are not scored (NaN), for one could outweigh all others: "
            f"{named(names[everywhere])}. Look whether they are doublets or artefacts."
        )
    return everywhere


def _table(
    scores: Mapping[str, BatchScores], text: np.ndarray, *, groups: np.ndarray, threshold: float
) -> pd.DataFrame:
    largest = largest_scores(text)
    rows: list[dict[str, Any]] = []
    for rep, part in scores.items():
        for group in [ALL_CELLS, *groups.tolist()]:
            cells = (text[:, 1] == group) | (group == ALL_CELLS)
            counts = {"n_cells": int(cells.sum()), "n_batches": len(np.unique(text[cells, 0]))}
            found = summary(part, cells, largest=largest, threshold=threshold) if cells.any() else {}
            rows.append({"representation": rep, "group": group, **counts, **found})
    return pd.DataFrame(rows)


def _warn_of_negative(table: pd.DataFrame) -> None:
    overall = table[(table["group"] == ALL_CELLS) & (table["mean"] < -np.maximum(2 * table["mean_se"], BEATEN_BY))]
    if len(overall):
        warn(
            f"The mean score is negative beyond its error in {named(overall['representation'])}: the flow tells the "
            "batches of held-out cells apart worse than their frequencies do. More cells or fewer dimensions "
            "(`n_comps`) may mend it."
        )
