"""Which cells and cell types differ in abundance, with the sample as the unit of every p-value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scratio_sc._embedding import read_flow_and_cells
from scratio_sc._keys import AbundanceKeys, RatioKeys
from scratio_sc._labels import check_groups, read_labels, warn_of_missing
from scratio_sc._ratio import score_cells, write_ratio
from scratio_sc._samples import read_samples, read_sides, warn_of_resolution
from scratio_sc._sides import as_spec, check_any, check_differ, columns_not_named, warn_of_unknown
from scratio_sc._slots import check_slots, log_written
from scratio_sc.flow._arguments import check_bandwidth, check_bool, check_integer, check_share, generator_of, recorded
from scratio_sc.flow._neighbourhoods import find_neighbourhoods
from scratio_sc.stats._permutation import PermutationTest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from scratio_sc._labels import Labels
    from scratio_sc.flow import LogRatio
    from scratio_sc.stats._abundance import Abundance

LEAST_SHARE = 0.1
"""Share of the change of a neighbourhood that the ratio of a cell has to exceed for the cell to be called changed."""


def differential_abundance(
    adata: AnnData,
    *,
    target: str | float | Sequence[Any] | Mapping[str, Any],
    reference: str | float | Sequence[Any] | Mapping[str, Any],
    key: str = "scratio",
    sample_key: str | None = None,
    groupby: str | None = None,
    paired: bool = False,
    bandwidth: float | Literal["auto"] = "auto",
    alpha: float = 0.1,
    n_permutations: int = 2000,
    rng: int | np.random.Generator | None = 0,
    progress: bool = True,
    key_added: str = "differential_abundance",
    copy: bool = False,
) -> AnnData | None:
    """Find cells and cell types that are more, or less, abundant under the target than under the reference.

    How large the difference is says the log ratio of :func:`scratio_sc.tl.log_ratio`. Whether it could be chance says a
    permutation test whose unit is the sample (donor, replicate): thousands of cells of two donors are two samples.

    Parameters
    ----------
    adata
        Cells with a fitted flow. Reads `adata.uns[key]`, the embedding and columns of the fit, and those named here.
    target, reference
        The contrast, as in :func:`scratio_sc.tl.log_ratio`.
    key
        Slot of `adata.uns` with the fitted flow.
    sample_key
        Column of `adata.obs` with the sample of a cell. Without it there are ratios, but no p-values. Samples are
        compared and exchanged within the covariates of the fit (labels, such as a batch) that are the same in all cells
        of each.
    groupby
        Column of `adata.obs` with groups of cells, such as cell types, for a table.
    paired
        Whether each sample has cells of both sides, to be compared within it; `sample_key` is the donor then.
    bandwidth
        Of the log ratio, as in :func:`scratio_sc.tl.log_ratio`; p-values do not depend on it.
    alpha
        False discovery rate at which cells are called changed.
    n_permutations
        The conditions of samples are permuted in all ways where there are no more than this, else so often at random.
    rng
        Seed or generator of the neighbourhoods and relabellings. With few samples p-values come in coarse steps (1/35
        for four against four), and other neighbourhoods may carry a type whose p-value lies a step from `alpha` across
        it: rely on what a second seed finds, too.
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

    `adata.obs[key_added]`, `adata.obs[key_added + '_sd']`, `adata.obs[key_added + '_extrapolated']`
        The log ratio in nats, its standard error and its flag, as :func:`scratio_sc.tl.log_ratio` writes them.
    `adata.obs[key_added + '_pvalue']` : :class:`pandas.Series` (dtype ``float64``)
        p-value of the most changed neighbourhood of a cell, not corrected for the other cells. NaN without a test.
    `adata.obs[key_added + '_fdr']` : :class:`pandas.Series` (dtype ``float64``)
        The same adjusted for all neighbourhoods: where samples could be exchanged, one labelling in ten at most has any
        cell below 0.1. It is of neighbourhoods, which may hold cells of other types, too.
    `adata.obs[key_added + '_change']` : :class:`pandas.Series` (dtype ``category``)
        "up" or "down" where the adjusted p-value is at most `alpha` and the cell's log ratio agrees with its
        neighbourhood, in sign and by a tenth of the change there, else "none". Missing without a test.
    `adata.obs[key_added + '_side']` : :class:`pandas.Series` (dtype ``category``)
        "target" or "reference", missing for cells of neither side.
    `adata.uns[key_added]` : :class:`dict`
        What :func:`scratio_sc.tl.log_ratio` writes, with the arguments and the number of relabellings in ``params``.
    `adata.uns[key_added]['groups']` : :class:`pandas.DataFrame`
        With `groupby`, a row for each group, of the cells of both sides: ``group``, ``n_cells``, ``median_log_ratio``
        (nats), ``share_extrapolated``, ``share_up`` and ``share_down`` (of its cells), ``log_fold_change``, ``pvalue``
        and ``fdr``. ``log_fold_change`` is the change of the group's share among the cells of a sample, nats, mean over
        samples; it is drawn towards 0 as if a sample of typical size (the harmonic mean) had two cells more at the mean
        share, so that of rare types much of it is lost. NaN where there is no test. The median says on which side there
        are more cells where cells keep their states; where they move (``share_extrapolated`` is large, and the plot has
        two clouds), it says nothing of numbers, and ``log_fold_change`` does. Adjusted in the order of the statistic,
        ``fdr`` may be larger where ``pvalue`` is smaller, and larger than Bonferroni's where other groups vary more. A
        type whose cells move without a change in number has cells up and cells down, and no change of its share. Cells
        are judged by their neighbourhoods and groups by their shares, so that a group may be significant without a cell
        that is up or down.

    Warns
    -----
    UserWarning
        As :func:`scratio_sc.tl.log_ratio`; names samples of fewer than 20 cells, which are left out of the test, and
        tells where there are too few samples for a test, or for a p-value of `alpha`, samples with none of the other
        side within the covariates, and covariates that differ within samples; counts cells without a condition, sample
        or group, and those of conditions that the fit has not seen.

    Raises
    ------
    KeyError
        If the flow, its embedding, a column or a level is missing.
    ValueError
        If both sides are the same or have cells in common, a side names a number that no cells have, no cell has a
        label of the fit, a sample has cells of both sides and `paired` is False, `paired` is True without `sample_key`,
        no cell of either side has a group, `groupby` has an empty label or too many for 20 cells each, the embedding
        has other dimensions than in the fit or is not finite, or an argument is out of range.
    TypeError
        If an argument is of another type than documented, or a side names no column where the condition has several.

    Notes
    -----
    Neighbourhoods are found in the embedding without labels: the components of several Gaussian mixtures, and the
    branches in which they merge. A sample's enrichment is the log of its cells in a neighbourhood over those expected;
    the statistic is the difference of the means of both sides (within covariates, of which those with more samples of
    both count more), studentised with a moderated variance; of a cell, the largest of its neighbourhoods. It is
    compared with that under permuted conditions of the samples (within covariates; paired: of each pair), for the
    adjusted p-value with the largest of all cells that are not more significant (step-down maximum, Westfall & Young
    1993). That holds its level however much cells depend on each other, as long as samples could be exchanged if the
    condition had no effect. It bounds the chance of any false discovery, and so their expected share.

    Few samples set a limit: 3 against 3 can be relabelled in 20 ways, so no p-value is below 0.1; n pairs in 2^n.

    Abundance is relative. Where a large cell type gains, all others lose their share, and say so.

    See :doc:`/method/differential_abundance` for the measured false discoveries and power.

    Examples
    --------
    >>> import scratio_sc as scratio
    >>> adata = scratio.datasets.cell_mixture(900, n_dims=3, n_types=3)
    >>> adata.obs["donor"] = [f"{condition} {i % 4}" for i, condition in enumerate(adata.obs["condition"])]
    >>> scratio.tl.fit(adata, "condition", max_steps=0, n_members=2, progress=False)
    >>> scratio.tl.differential_abundance(
    ...     adata, target="abundance", reference="ctrl", sample_key="donor", groupby="cell_type", progress=False
    ... )
    >>> adata.uns["differential_abundance"]["groups"]["group"].tolist()
    ['type_0', 'type_1', 'type_2']
    """
    check_integer(1, n_permutations=n_permutations)
    check_share(alpha=alpha)
    check_bool(paired=paired)
    width = check_bandwidth(bandwidth, "denoising")
    generator = generator_of(rng)
    flow, cells = read_flow_and_cells(adata, key)
    keys = AbundanceKeys(key_added)
    reads = [*flow.design.columns, sample_key, groupby]
    check_slots(adata, key_added, "differential_abundance", columns=keys.columns, reads=reads, copy=copy)
    target, reference = as_spec(target), as_spec(reference)
    check_differ(flow, target, reference)
    side = read_sides(adata, flow, (target, reference))
    check_any(side == 0, "target", target)
    check_any(side == 1, "reference", reference)
    warn_of_unknown(adata, flow, target, reference)
    groups = None if groupby is None else _read_groups(adata, groupby, side)
    abundance = None
    if sample_key is not None:
        held = [name for name in columns_not_named(flow, (target, reference)) if name not in flow.design.numeric]
        abundance = read_samples(
            adata, side, sample_key, paired=paired, held=held, n_permutations=n_permutations, rng=generator
        )
    elif paired:
        msg = "paired=True compares both sides within each sample: name the column with the samples as `sample_key`."
        raise ValueError(msg)
    tested = _untested(adata.n_obs)
    if abundance is not None:
        warn_of_resolution(abundance, alpha)
        tested = _test_cells(abundance, find_neighbourhoods(cells.x, rng=generator))
    ratio, entry = score_cells(
        adata, (target, reference), cells, flow=flow, key=key, bandwidth=width, progress=progress
    )
    change = _changes(tested, ratio.value, alpha)
    entry["params"] |= {
        "function": "differential_abundance",
        "sample_key": sample_key or "",
        "groupby": groupby or "",
        "paired": bool(paired),
        "alpha": float(alpha),
        "n_permutations": int(n_permutations),
        "rng": recorded(rng),
        "n_relabellings": 0 if abundance is None else len(abundance.relabelling.contrasts),
        "exact": abundance is not None and abundance.relabelling.exact,
    }
    if groups is not None:
        entry["groups"] = _table(groups, ratio, np.asarray(change), side=side, abundance=abundance)
    adata = adata.copy() if copy else adata
    write_ratio(adata, RatioKeys(key_added), ratio, entry=entry)
    adata.obs[keys.pvalue], adata.obs[keys.fdr], adata.obs[keys.change] = tested.pvalue, tested.adjusted, change
    adata.obs[keys.side] = pd.Categorical.from_codes(side, categories=["target", "reference"])
    log_written("differential_abundance", [*(f"obs[{name!r}]" for name in keys.columns), f"uns[{key_added!r}]"])
    return adata if copy else None


def _read_groups(adata: AnnData, groupby: str, side: np.ndarray) -> Labels:
    """Groups of the cells; a ValueError where no cell of either side has one."""
    groups = read_labels(adata, (groupby,))
    if not (groups.complete & (side >= 0)).any():
        msg = (
            f"groupby={groupby!r}: no cell of the target or the reference has a label there, so that there are no "
            "groups to compare. Name a column with the groups of these cells, or leave `groupby` out."
        )
        raise ValueError(msg)
    check_groups(groups)
    warn_of_missing(groups, side >= 0, "the table of groups")
    return groups


def _changes(tested: PermutationTest, ratio: np.ndarray, alpha: float) -> pd.Categorical:
    """Direction of each cell whose neighbourhood changed, where its own ratio ``(n_cells,)`` says the same.

    A branch that holds a type which gains is up as a whole, other types in it included, whose ratios are against it or
    next to nothing.
    """
    agreed = (tested.adjusted <= alpha) & (np.sign(tested.effect) * ratio > LEAST_SHARE * np.abs(tested.effect))
    direction = np.where(agreed, np.sign(tested.effect), 0).astype(int)
    code = np.where(np.isnan(tested.adjusted), -1, 1 + direction)  # missing without a test
    return pd.Categorical.from_codes(code, categories=["down", "none", "up"])


def _untested(n_cells: int) -> PermutationTest:
    unknown = np.full(n_cells, np.nan)
    return PermutationTest(unknown, unknown, unknown)


def _test_cells(abundance: Abundance, inside: np.ndarray) -> PermutationTest:
    """Tests of cells in neighbourhoods ``inside (n_cells, k)``."""
    families, family = np.unique(inside, axis=0, return_inverse=True)
    test, family = abundance.test(inside, families=families), family.reshape(-1)
    return PermutationTest(test.effect[family], test.pvalue[family], test.adjusted[family])


def _table(
    groups: Labels, ratio: LogRatio, change: np.ndarray, *, side: np.ndarray, abundance: Abundance | None
) -> pd.DataFrame:
    """A row for each group of the cells on both sides."""
    counted = groups.complete & (side >= 0)
    names, code = np.unique(groups.text[counted, 0], return_inverse=True)
    columns = {"ratio": ratio.value, "extrapolated": ratio.extrapolated, "up": change == "up", "down": change == "down"}
    cells = pd.DataFrame({"code": code, **{name: column[counted] for name, column in columns.items()}})
    by_group = cells.groupby("code")
    table = pd.DataFrame(
        {
            "group": names.astype(object),
            "n_cells": by_group.size().to_numpy(),
            "median_log_ratio": by_group["ratio"].median().to_numpy(),
            "share_extrapolated": by_group["extrapolated"].mean().to_numpy(),
            "share_up": by_group["up"].mean().to_numpy() if abundance else np.nan,
            "share_down": by_group["down"].mean().to_numpy() if abundance else np.nan,
            "log_fold_change": np.nan,
            "pvalue": np.nan,
            "fdr": np.nan,
        },
        index=[str(i) for i in range(len(names))],
    )
    if abundance is not None:
        inside = np.zeros((len(side), len(names)), bool)
        inside[np.flatnonzero(counted), code] = True
        test = abundance.test(inside)
        table["log_fold_change"], table["pvalue"], table["fdr"] = test.effect, test.pvalue, test.adjusted
    return table
