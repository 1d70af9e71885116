"""From one mixture per condition to an AnnData with the exact log ratios."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scratio_sc.flow._arguments import check_integer, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scratio_sc.datasets._mixture import GaussianMixture


def simulate(
    conditions: Mapping[str, GaussianMixture],
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    *,
    contrasts: Mapping[str, tuple[str, str]],
    cell_types: Sequence[str] = (),
) -> AnnData:
    """Draw ``sizes[condition]`` cells of every condition, in random order.

    ``contrasts`` maps the name of an obs column to its target and reference; ``cell_types`` names the components.
    """
    drawn = [conditions[label].sample(n, rng) for label, n in sizes.items()]
    n_cells = sum(sizes.values())
    order = rng.permutation(n_cells)
    codes = np.repeat(np.arange(len(sizes)), list(sizes.values()))[order]
    component = np.concatenate([of_condition for _, of_condition in drawn])[order]
    x = np.concatenate([points for points, _ in drawn])[order].astype(np.float32)

    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(n_cells)])
    obs["condition"] = categorical(codes, list(sizes))
    if cell_types:
        obs["cell_type"] = categorical(component, cell_types)
    # at the stored float32 coordinates, so that the columns are exact for what the user sees
    log_density = {label: mixture.log_density(x.astype(np.float64)) for label, mixture in conditions.items()}
    for name, (target, reference) in contrasts.items():
        obs[name] = log_density[target] - log_density[reference]
    for label, values in log_density.items():
        obs[f"exact_log_density_{label}"] = values

    # X repeats the embedding because scanpy falls back on X for data of at most 50 variables
    var = pd.DataFrame(index=[f"dim_{i}" for i in range(x.shape[1])])
    adata = AnnData(x.copy(), obs=obs, var=var, obsm={"X_pca": x})
    for name, (target, reference) in contrasts.items():
        adata.uns[name] = {"params": {"target": target, "reference": reference}}
    return adata


def cells_per_condition(labels: Sequence[str], n_cells: int, sizes: Mapping[str, int] | None) -> dict[str, int]:
    """Give every condition its number of cells: the one in ``sizes``, else an equal share of ``n_cells``."""
    if sizes is None:
        check_integer(1, n_cells=n_cells)
        share, rest = divmod(n_cells, len(labels))
        return {label: share + (i < rest) for i, label in enumerate(labels)}
    if not isinstance(sizes, Mapping):
        refuse("sizes", sizes, f"the number of cells of each of the conditions {list(labels)}", types=())
    if set(sizes) != set(labels):
        msg = f"`sizes` has to name the conditions {list(labels)}, each once; found {list(sizes)}."
        raise ValueError(msg)
    check_integer(0, **{f"sizes[{label!r}]": n for label, n in sizes.items()})
    if not any(sizes.values()):
        msg = f"sizes={dict(sizes)} draws no cell: give at least one condition a positive number."
        raise ValueError(msg)
    return {label: sizes[label] for label in labels}


def categorical(codes: np.ndarray, labels: Sequence[str]) -> pd.Categorical:
    """Labels of the cells ``(n,)`` by their codes, without those that no cell has."""
    return pd.Categorical.from_codes(codes, categories=list(labels)).remove_unused_categories()
