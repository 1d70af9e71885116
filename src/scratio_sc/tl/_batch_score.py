"""How much the state of a cell says of its batch, in one or several representations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scratio_sc._embedding import check_varies, read_representation
from scratio_sc._keys import ALL_CELLS, BatchScoreKeys
from scratio_sc._labels import MIN_CELLS, check_groups, check_levels, read_labels
from scratio_sc._slots import check_slots, log_written
from scratio_sc._warn import BEATEN_BY, all_zero, warn
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
        Name of the slots; without "/", which h5ad and zarr files cannot store. An earlier result of this function is
        replaced, and so are numbers in columns of these default names; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.obs[key_added + '_' + use_rep]` : :class:`pandas.Series` (dtype ``float32``)
        Score of every cell in nats, for each representation; lower is better. Never below -log(n) of a type of n cells,
        which cannot show more. NaN for cells without a label or far from all others, and without these, in a batch with
        fewer than 20 cells of their type or of a type that has one batch only.
    `adata.uns[key_added]['table']` : :class:`pandas.DataFrame`
        A row for each ``representation`` and ``group`` (``"all cells"``, then the types): ``n_cells`` that are scored,
        ``n_batches`` compared, ``mean`` of the scores (nats) with its standard error ``mean_se``, ``information``,
        the mean corrected for what it lacks, with ``information_se``, ``above`` (share of cells above the threshold)
        with ``above_se``, ``maximum``, the mean where batches are apart (their entropy within the type), and ``flag``:
        ``"one batch only"``, with no numbers (NaN), ``"no difference"`` where batches cannot be told apart and all
        scores are 0, which does not rule out a difference too small for so many cells to show, or empty. Lower is
        better.
    `adata.uns[key_added]['params']` : :class:`dict`
        The arguments of the call, and for each representation the weights and bandwidths of the nodes.

    Warns
    -----
    UserWarning
        Names batches and types that are not compared, batches compared in one type only, cells far from all others,
        representations whose mean score is negative beyond its error, and those made to be looked at (UMAP, t-SNE);
        counts cells without a label, and those whose label may stand for none.

    Raises
    ------
    KeyError
        If a column or a representation is missing.
    ValueError
        If there is one batch only, a batch of fewer than 20 cells, no type with two batches (batch and type cannot be
        told apart), too many types for 20 cells each, one called "all cells", a representation is not finite or
        constant, or an argument is out of range.
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
    check_groups(read_labels(adata, (groupby,)))
    check_levels(labels, 1, called="batches")
    _check_types(labels)
    used = _scored_cells(labels, cells, adata.obs_names)
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


def _check_types(labels: Labels) -> None:
    """Refuse a type whose name the table has for all cells."""
    if ALL_CELLS in labels.text[labels.complete, 1]:
        msg = f"A type of {labels.columns[1]!r} is called {ALL_CELLS!r}, as the rows about all cells are. Rename it."
        raise ValueError(msg)


def _scored_cells(labels: Labels, cells: Mapping[str, np.ndarray], names: pd.Index) -> np.ndarray:
    """Cells that are scored ``(n_cells,)``: comparable with another batch, not far from all others; warns of the rest.

    What is comparable, and what is far, is asked again without cells far away, of which a batch may have had one too
    many, and others have been the neighbours: a fit would leave these out.
    """
    sizes, far = _sizes(labels, labels.complete), np.zeros(len(labels.complete), bool)
    _check_comparable(labels, sizes)
    used = _comparable(labels, sizes)
    for rep, x in cells.items():
        check_varies(x[used], rep)
    where: set[str] = set()
    while True:
        apart = {rep: outliers(x[used]) for rep, x in cells.items()}
        where |= {rep for rep, some in apart.items() if some.any()}
        found = np.any([*apart.values()], axis=0)
        if not found.any():
            break
        far[used] = found
        sizes = _sizes(labels, labels.complete & ~far)
        _check_comparable(labels, sizes, far=names[far])
        used = _comparable(labels, sizes) & ~far
    _warn_of_far(names[far], [rep for rep in cells if rep in where])
    _warn_of_incomparable(labels, sizes)
    return used


def _sizes(labels: Labels, cells: np.ndarray) -> pd.DataFrame:
    """How many of some cells ``(n_cells,)`` there are of every type (rows) in every batch (columns)."""
    batch, cell_type = labels.text[labels.complete].T
    return pd.crosstab(cell_type, batch, values=cells[labels.complete].astype(int), aggfunc="sum").fillna(0).astype(int)


def _compared(sizes: pd.DataFrame) -> pd.DataFrame:
    """Which batches of a type have enough cells, and another one beside them."""
    enough = sizes >= MIN_CELLS
    return enough & (enough.sum(axis=1) > 1).to_numpy()[:, None]


def _comparable(labels: Labels, sizes: pd.DataFrame) -> np.ndarray:
    """Cells whose batch is compared with another one of their type ``(n_cells,)``."""
    place = [sizes.index.get_indexer(labels.text[:, 1]), sizes.columns.get_indexer(labels.text[:, 0])]
    comparable: np.ndarray = labels.complete & _compared(sizes).to_numpy()[place[0], place[1]]
    return comparable


def _too_few(sizes: pd.DataFrame) -> list[str]:
    """Batches of a type that have some cells, and fewer than enough."""
    return [f"{t!r} / {b!r} ({n})" for t, row in sizes.iterrows() for b, n in row.items() if 0 < n < MIN_CELLS]


def _check_comparable(labels: Labels, sizes: pd.DataFrame, far: Sequence[str] = ()) -> None:
    """Refuse types none of which can be compared, without the cells `far` from all others."""
    batch, groupby = labels.columns
    if not _compared(sizes).any(axis=None):
        few = _too_few(sizes)
        found = f" Left out for having fewer than {MIN_CELLS} cells: {listed(few)}." if few else ""
        found += f" Cells that lie far from all others do not count: {named(far)}." if len(far) else ""
        msg = (
            f"No type of {groupby!r} has two batches of {batch!r} with at least {MIN_CELLS} cells each, so batch and "
            f"type cannot be told apart.{found} Merge types or batches, or name another column with `groupby`."
        )
        raise ValueError(msg)


def _warn_of_far(names: pd.Index, reps: Sequence[str]) -> None:
    """Name the cells that lie far from all others, and where, if there are any."""
    if len(names):
        warn(
            f"Cells that lie far from all others in {named(reps)} are not scored (NaN), for one could outweigh all "
            f"others: {named(names)}. Look whether they are doublets or artefacts."
        )


def _warn_of_incomparable(labels: Labels, sizes: pd.DataFrame) -> None:
    """Name batches and types that are not compared, and batches that are in one type only."""
    (batch, groupby), few, compared = labels.columns, _too_few(sizes), _compared(sizes)
    if few:
        warn(
            f"Batches with fewer than {MIN_CELLS} cells of a type are left out of it (NaN): {listed(few)} of "
            f"{groupby!r} / {batch!r}."
        )
    single = sizes.index[~compared.any(axis=1)]
    if len(single):
        warn(
            f"Types of {groupby!r} that have fewer than two batches of {MIN_CELLS} cells are not scored (NaN), for "
            f"there is nothing to compare, and do not count in the overall mean: {named(single)}."
        )
    alone = [f"{b!r} (of {compared.index[compared[b]][0]!r})" for b in compared.columns if compared[b].sum() == 1]
    if alone and len(single) < len(sizes) - 1:
        warn(
            f"Batches of {batch!r} that are compared in one type only: {listed(alone)}. Whether they differ by "
            "technique or by biology cannot be told from other types: read the scores of these types with care."
        )


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
            flag = _flag_of(part.ratios.value[cells])
            rows.append({"representation": rep, "group": group, **counts, **found, "flag": flag})
    return pd.DataFrame(rows)


def _flag_of(score: np.ndarray) -> str:
    """Why there are no scores ``(n,)``, or why they are no evidence; empty where they can be taken at face value."""
    if not len(score):
        return "one batch only"
    return "no difference" if all_zero(score) else ""


def _warn_of_negative(table: pd.DataFrame) -> None:
    overall = table[(table["group"] == ALL_CELLS) & (table["mean"] < -np.maximum(2 * table["mean_se"], BEATEN_BY))]
    if len(overall):
        warn(
            f"The mean score is negative beyond its error in {named(overall['representation'])}: the flow tells the "
            "batches of held-out cells apart worse than their frequencies do. More cells or fewer dimensions "
            "(`n_comps`) may mend it."
        )
