"""Fit a flow on the cells of an AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from scratio_sc._check import check_anndata
from scratio_sc._embedding import check_varies, read_representation, warn_of_copies, warn_of_outliers, warn_of_scales
from scratio_sc._keys import FlowKeys
from scratio_sc._labels import check_levels, columns_of, read_labels, warn_of_nested
from scratio_sc._numbers import numeric_of
from scratio_sc._slots import check_slots, log_written, warn_of_former
from scratio_sc._warn import warn
from scratio_sc.flow import fit_flow
from scratio_sc.flow._arguments import check_device, check_integer, check_max_steps, generator_of, recorded
from scratio_sc.flow._storage import to_dict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


ONE_MEMBER = (
    "A flow of one member has no standard errors, and most cells of the fit are scored by a member that has seen them: "
    "their ratios are too large. Take two members or more, `n_members=16` by default."
)


def fit(
    adata: AnnData,
    condition: str | Sequence[str],
    *,
    covariates: Sequence[str] | None = (),
    numeric: Sequence[str] | None = (),
    use_rep: str = "X_pca",
    n_comps: int | None = None,
    n_members: int = 16,
    max_steps: int | Literal["auto"] = "auto",
    batch_size: int = 1024,
    rng: int | np.random.Generator | None = 0,
    device: str = "auto",
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    progress: bool = True,
    key_added: str = "scratio",
    copy: bool = False,
) -> AnnData | None:
    """Fit the density of cells under every condition.

    One flow-matching model learns p(x | condition) of an embedding for all conditions at once. After it, any two of
    them are compared by :func:`scratio_sc.tl.log_ratio` without a refit.

    Parameters
    ----------
    adata
        Cells. Reads `adata.obsm[use_rep]` and the named columns of `adata.obs`.
    condition
        Column of `adata.obs`, or several whose combination is the condition. Category, text, number or bool.
    covariates
        Columns of `adata.obs` held fixed in comparisons: donor, batch, age, or the cell type, which leaves changes of
        state within types and no changes in their number. Empty or `None`: no covariates.
    numeric
        Which of these columns are numbers: dose, time, age. Ratios may then be asked for at any value, and values in
        between are interpolated. A column that is not named here holds labels, even if the labels are numbers. Where a
        column has more than 10 values, cells are fitted in 10 bins of about as many cells. Doses over several
        orders of magnitude are better given as logarithms.
    use_rep
        Embedding in `adata.obsm`, shape ``(n_obs, d)``: PCs, an scVI or Harmony space, 10 to 50 dimensions. Its scale
        does not matter.
    n_comps
        How many of its dimensions, from the first; all by default.
    n_members
        Members of the ensemble. Each leaves out a fold of the cells, so that with two or more every cell is scored by
        members that have not seen it.
    max_steps
        Training steps of a network at most; ``"auto"`` goes by the number of cells, 0 trains none and takes the
        Gaussian mixture that they would correct (the anchor): seconds, with many combinations of levels minutes.
    batch_size
        Cells a step.
    rng
        Seed or generator of all randomness. The same seed gives the same numbers on one machine.
    device
        ``"auto"`` takes a GPU where there is one; or any torch device. Ratios are computed there, too, on machines that
        have it.
    precision
        Of training; ``"auto"`` is bfloat16 where the hardware has it. When cells are scored, networks run in float32
        and the mixture in float64.
    progress
        Whether to show progress bars: of the training, and of the held-out cells judged.
    key_added
        Name of the slots; without "/", which h5ad and zarr files cannot store. An earlier result of this function is
        replaced, and so are numbers in columns of these default names; what else would be overwritten is an error.
    copy
        Whether to return a copy instead of writing to `adata`.

    Returns
    -------
    Returns `None` if `copy=False`, else returns an `AnnData` object. Sets the following fields:

    `adata.uns[key_added]` : :class:`dict`
        The trained flow as arrays, scalars and text; h5ad and zarr keep it. Read it with :func:`scratio_sc.get.flow`.
        `adata.uns[key_added]['params']` has the arguments of the call.
    `adata.obs[key_added + '_fold']` : :class:`pandas.Series` (dtype ``int8``)
        Fold of every cell; -1 for cells without a label or finite number, and for cells far from all others (named by
        a warning), which are left out.

    Warns
    -----
    UserWarning
        If cells are left out, labels look like missing ones, covariates go with the condition, many cells are copies of
        others, dimensions are of very different scales, the embedding is made to be looked at (UMAP, t-SNE), there is
        one member only, or there are results of a former flow of other columns or another embedding.

    Raises
    ------
    KeyError
        If a column or the embedding is missing.
    ValueError
        If the embedding is not finite or constant, the condition has one level or a level of fewer than 20 cells, a
        covariate has too many levels for 20 cells each, a column is named twice or has labels that are one as text (1
        and "1"), a column of `numeric` holds no numbers or is constant, or an argument is out of range.
    TypeError
        If an argument is of another type than documented.

    Notes
    -----
    The method starts from scRatio (Antipov et al. 2026, arXiv 2602.24201). Interrupted, it leaves `adata` as it was.
    What other functions have written from an earlier fit of that name stays, too: call them again.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.gaussian_shift(400, n_dims=2)
    >>> scratio.tl.fit(adata, "condition", max_steps=20, n_members=2, progress=False)
    >>> sorted(adata.uns["scratio"]["history"])
    ['held_out_loss', 'loss', 'step']

    A dose as a number:

    >>> adata.obs["dose"] = adata.obs["condition"].map({"reference": 0.0, "target": 10.0}).astype(float)
    >>> scratio.tl.fit(adata, "dose", numeric=["dose"], max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.log_ratio(adata, target=5.0, reference=0.0, progress=False)
    """
    generator = generator_of(rng)
    check_integer(1, n_members=n_members, batch_size=batch_size)
    check_max_steps(max_steps)
    check_device(device, precision)
    check_anndata(adata)
    conditions, covariates = columns_of(condition, covariates, adata)
    keys = FlowKeys(key_added)
    check_slots(adata, key_added, "fit", columns=[keys.fold], reads=[*conditions, *covariates], copy=copy)
    numeric = numeric_of(numeric, (*conditions, *covariates))
    labels = read_labels(adata, (*conditions, *covariates), numeric=numeric)
    x = read_representation(adata, use_rep, n_comps)
    check_levels(labels, len(conditions))
    check_varies(x[labels.complete], use_rep)
    warn_of_nested(labels, len(conditions))
    warn_of_former(adata, keys.uns, condition=conditions, covariates=covariates, use_rep=use_rep)
    if n_members == 1:
        warn(ONE_MEMBER)
    flow, fitted_fold = fit_flow(
        x[labels.complete],
        labels.text[labels.complete],
        columns=labels.columns,
        n_condition_columns=len(conditions),
        numeric=numeric,
        n_members=n_members,
        max_steps=max_steps,
        batch_size=batch_size,
        rng=generator,
        device=device,
        precision=precision,
        progress=progress,
    )
    flow.embedding = use_rep
    fold = np.full(adata.n_obs, -1, np.int8)
    fold[labels.complete] = fitted_fold
    warn_of_outliers(adata.obs_names[labels.complete & (fold < 0)], use_rep)
    warn_of_copies(x[fold >= 0], use_rep)
    warn_of_scales(x[fold >= 0], use_rep)
    adata = adata.copy() if copy else adata
    params = {
        "condition": np.array(conditions, object),
        "covariates": np.array(covariates, object),
        "numeric": np.array(numeric, object),
        "use_rep": use_rep,
        "n_comps": int(n_comps or 0),
        "n_members": int(n_members),
        "max_steps": str(max_steps),
        "batch_size": int(batch_size),
        "rng": recorded(rng),
        "device": str(device),
        "precision": precision,
    }
    adata.uns[keys.uns] = {**to_dict(flow), "params": params}
    adata.obs[keys.fold] = fold
    log_written("fit", [f"uns[{keys.uns!r}]", f"obs[{keys.fold!r}]"])
    return adata if copy else None
