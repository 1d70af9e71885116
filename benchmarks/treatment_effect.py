"""Treatment effects on real and simulated cells: what docs/method/treatment_effect.md reports.

    python benchmarks/treatment_effect.py [kang bodenmiller norman mcfaline null gaussian shares]

Flows are fitted with the defaults of `tl.fit`, on 20 components.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
from scipy.stats import spearmanr

import scratio_sc as scratio

SHORT = ["target", "group", "sample", "js", "js_se", "kl_target", "kl_target_se", "responds", "composition", "flag"]


def show(title: str, table: pd.DataFrame) -> None:
    """Print a table."""
    sys.stdout.write(f"\n## {title}\n{table.round(3).to_string(index=False)}\n")


def fitted(adata: ad.AnnData, condition: str, **options: object) -> ad.AnnData:
    """Fit a flow on 20 components at most, and say how long it took."""
    start = time.perf_counter()
    n_comps = min(20, adata.obsm["X_pca"].shape[1])
    scratio.tl.fit(adata, condition, n_comps=n_comps, progress=False, **options)
    sys.stdout.write(f"\n{adata.n_obs} cells, {n_comps} components, fit in {time.perf_counter() - start:.0f} s\n")
    return adata


def effects(adata: ad.AnnData, reference: str, **options: object) -> pd.DataFrame:
    """Table of effects; warnings of rows without one are in its flags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scratio.tl.treatment_effect(adata, reference=reference, progress=False, **options)
    return adata.uns["treatment_effect"]["table"]


def kang(data: Path) -> None:
    """IFN-beta on blood cells of eight donors: which types, which donors, which genes."""
    adata = fitted(ad.read_h5ad(data / "kang18_ifnb_counts.h5ad"), "condition")
    show("kang: by cell type", effects(adata, "ctrl", groupby="cell_type")[SHORT])
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scratio.tl.log_ratio(adata, target="stim", reference="ctrl", progress=False)
        scratio.tl.ratio_genes(adata, groupby="cell_type")
    for group in ("CD14+ Monocytes", "CD4 T cells"):
        genes = sc.get.rank_genes_groups_df(adata, group=group, key="ratio_genes")
        show(f"kang: genes, {group}", genes.head(10))
    fitted(adata, "condition", covariates=["donor"])
    show("kang: by donor", effects(adata, "ctrl", sample_key="donor")[SHORT])


def bodenmiller(data: Path) -> None:
    """B-cell receptor cross-linking in eight donors, a third of the cells."""
    adata = ad.read_h5ad(data / "bodenmiller_bcrxl_cytof.h5ad")
    keep = np.random.default_rng(0).permutation(adata.n_obs)[:8_000]
    adata = fitted(adata[np.sort(keep)].copy(), "condition", covariates=["patient"])
    table = effects(adata, "Ref", groupby="cell_type_derived", sample_key="patient")
    show("bodenmiller: by cell type", table.loc[table["sample"] == "(all)", SHORT])
    show("bodenmiller: by donor", table.loc[table["group"] == "(all)", SHORT])


def norman(data: Path) -> None:
    """Single and double gene activations; interactions against the growth phenotype."""
    adata = fitted(ad.read_h5ad(data / "norman19_combos.h5ad"), "perturbation")
    show("norman: by activation", effects(adata, "control")[["target", *SHORT[3:8], "flag"]])
    fitness = pd.read_csv(data / "norman19_fitness_gi.csv").set_index("combination")["fitness_GI_score"]
    levels, rows = set(adata.obs["perturbation"]), []
    for pair in fitness.index:
        a, b = pair.split("+")
        if {a, b} <= levels:
            scratio.tl.interaction(adata, a=a, b=b, reference="control", progress=False)
            entry = adata.uns["interaction"]
            rows.append({"pair": pair, "fitness_gi": fitness[pair], **entry["summary"]})
    found = pd.DataFrame(rows)
    show("norman: interactions", found)
    for name in ("interaction", "non_additivity", "combination"):
        rho, p = spearmanr(found[name], found["fitness_gi"])
        other, q = spearmanr(found[name], found["fitness_gi"].abs())
        sys.stdout.write(
            f"{name}: rank correlation with fitness GI {rho:.2f} (p {p:.2f}), with its size {other:.2f} (p {q:.2f}), "
            f"{len(found)} pairs\n"
        )


def mcfaline(data: Path) -> None:
    """Kinase knock-downs in three cell lines, the line as covariate."""
    adata = ad.read_h5ad(data / "mcfaline23_kinase_kd.h5ad")
    fitted(adata, "perturbation", covariates=["cell_line"])
    table = effects(adata, "control", sample_key="cell_line")
    show(
        "mcfaline: by knock-down and line", table[["target", "sample", *SHORT[3:8], "n_target", "n_reference", "flag"]]
    )


def null(data: Path) -> None:
    """Control cells of kang with random labels: how many rows respond where there is nothing."""
    adata = ad.read_h5ad(data / "kang18_ifnb_counts.h5ad")
    adata = adata[adata.obs["condition"] == "ctrl"].copy()
    tables = []
    for seed in range(40):
        adata.obs["label"] = np.random.default_rng(seed).choice(["a", "b"], adata.n_obs)
        fitted(adata, "label")
        tables.append(effects(adata, "b", groupby="cell_type", sample_key="donor"))
    table = pd.concat(tables)
    table = table[table["js"].notna()]
    sys.stdout.write(
        f"\n## null: {table['responds'].sum()} of {len(table)} rows respond ({table['responds'].mean():.1%}), "
        f"largest js {table['js'].max():.4f}, mean js {table['js'].mean():.5f}\n"
    )


def gaussian(_data: Path) -> None:
    """Two Gaussians of known divergences: how often 1.645 standard errors hold them."""
    rows, (nodes, weights) = [], np.polynomial.hermite_e.hermegauss(80)
    for distance in (0.0, 0.3, 1.0):
        js = np.log(2) - (weights * np.logaddexp(0, -distance * nodes - distance**2 / 2)).sum() / weights.sum()
        exact = {"js": js, "kl_target": distance**2 / 2, "kl_reference": distance**2 / 2}
        for seed in range(25):
            adata = scratio.datasets.gaussian_shift(1000, n_dims=2, shift=distance / np.sqrt(2), rng=seed)
            row = effects(fitted(adata, "condition"), "reference").iloc[0]
            held = {name: abs(row[name] - value) <= 1.645 * row[f"{name}_se"] for name, value in exact.items()}
            rows.append({"distance": distance, "responds": row["responds"], **held})
    show(
        "Gaussians: share of 25 intervals that hold the exact divergence",
        pd.DataFrame(rows).groupby("distance").mean().reset_index(),
    )


def shares(_data: Path) -> None:
    """Types that change in number and do not respond: divergences within them, fitted and by counted shares."""
    adata = scratio.datasets.cell_mixture(6000, n_dims=5, n_types=6)
    types, condition = adata.obs["cell_type"], adata.obs["condition"]
    table = effects(fitted(adata, "condition"), "ctrl", groupby="cell_type")
    table = table[(table["target"] == "abundance") & (table["group"] != "(all)")].set_index("group")
    exact = adata.obs["exact_abundance_vs_ctrl"]
    for name in table.index:
        target, reference = (exact[(types == name) & (condition == side)].mean() for side in ("abundance", "ctrl"))
        table.loc[name, ["counted kl_target", "counted kl_reference"]] = target, -reference
    table["counted kl_target"] -= table["composition"]
    table["counted kl_reference"] += table["composition"]
    columns = ["js", "kl_target", "kl_reference", "composition", "counted kl_target", "counted kl_reference"]
    show("shares: types that do not respond", table[columns].reset_index())


PARTS = {part.__name__: part for part in (kang, bodenmiller, norman, mcfaline, null, gaussian, shares)}


def main() -> None:
    """Run the parts that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    for name in options.parts or PARTS:
        PARTS[name](options.data)


if __name__ == "__main__":
    main()
