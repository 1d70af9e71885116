# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Treatment effects
#
# Which treatment moves the cells, which cell types respond, which donors, through which genes, and do two treatments
# together do what the sum of both says? All answers come from log ratios of fitted flows, in nats.
#
# **The outputs on this page are of simulated cells.** From the repository of the package, with files of the cells of
# Kang et al. (2018), blood with and without interferon beta, and of Norman et al. (2019), single and double gene
# activations, in `shared/data` beside it, the same code takes these. With cells of your own, skip the simulation.

# %%
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc

import scratio_sc as scratio

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
folder = next((p / "shared" / "data" for p in here.resolve().parents if (p / "shared" / "data").exists()), None)
FAST = {"max_steps": 0, "n_members": 4, "progress": False}  # the anchor alone; leave both out for the full model


# %%
def simulated_donors() -> ad.AnnData:
    """Simulate two cell types of four donors; in three of them, type_0 responds."""
    rng = np.random.default_rng(0)
    n = 1_600
    obs = pd.DataFrame(
        {
            "condition": rng.choice(["ctrl", "stim"], n),
            "donor": rng.choice(["d1", "d2", "d3", "d4"], n),
            "cell_type": rng.choice(["type_0", "type_1"], n),
        }
    ).rename(str)
    x = rng.standard_normal((n, 5))
    x[:, 0] += 6 * (obs["cell_type"] == "type_1")
    x[:, 1] += 2 * ((obs["condition"] == "stim") & (obs["cell_type"] == "type_0") & (obs["donor"] != "d4"))
    return ad.AnnData(x, obs=obs, obsm={"X_pca": x})


def simulated_combinations() -> ad.AnnData:
    """Simulate two pairs of treatments, one that adds up and one that does more."""
    means = {"control": (0, 0), "A": (1, 0), "B": (0, 1), "C": (1, 0), "A+B": (1, 1), "A+C": (1, 2)}
    condition = np.repeat(list(means), 200)
    x = np.random.default_rng(0).normal([means[c] for c in condition])
    return ad.AnnData(x, obs=pd.DataFrame({"perturbation": condition}).rename(str), obsm={"X_pca": x})


if folder is None:
    adata = simulated_donors()
else:
    adata = ad.read_h5ad(folder / "kang18_ifnb_counts.h5ad")
    adata = adata[adata.obs["donor"].isin(adata.obs["donor"].value_counts().index[:4])].copy()  # to be quick
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
print(adata)

# %% [markdown]
# ## One fit, the donor held fixed
#
# With the donor as covariate every cell is compared with the control cells of its own donor, so differences between
# donors are not mistaken for the treatment.

# %%
n_comps = min(10, adata.obsm["X_pca"].shape[1])
scratio.tl.fit(adata, "condition", covariates=["donor"], n_comps=n_comps, **FAST)

# %% [markdown]
# ## Which cell types respond?
#
# `js` is the Jensen-Shannon divergence: 0 where the treatment changes nothing, log 2 = 0.69 where no treated cell could
# be taken for an untreated one. Within a cell type it is the response of the type alone; the change of its share of the
# cells stands in `composition`. A warning names the types with too few cells. Read the column `flag`: effects so large
# that the two sides hardly overlap are `extrapolated`. Then `js` still holds as a lower bound, and the Kullback-Leibler
# divergences continue a trend.

# %%
scratio.tl.treatment_effect(adata, reference="ctrl", groupby="cell_type", progress=False)
adata.uns["treatment_effect"]["table"].drop(columns="sample").round(3)

# %%
scratio.pl.treatment_effect(adata)

# %% [markdown]
# ## Which donors respond?
#
# The donor is a covariate of the fit, so each has its own response. `responds` is true where the effect exceeds 1.645
# of its standard errors. These are over cells: a donor has one sample a condition, and what differs between the two
# samples for other reasons counts as response as well.

# %%
scratio.tl.treatment_effect(adata, reference="ctrl", sample_key="donor", key_added="by_donor", progress=False)
adata.uns["by_donor"]["table"][["sample", "js", "js_se", "responds", "n_target", "n_reference", "flag"]].round(3)

# %%
scratio.pl.treatment_effect(adata, "by_donor", rows="sample")

# %% [markdown]
# ## Which genes go with the response?
#
# The rank correlation of every gene with the log ratio, within each cell type. The result has the form of
# `sc.tl.rank_genes_groups`. Its p-values take cells as the unit: they sort genes, they do not test the treatment.

# %%
scratio.tl.log_ratio(adata, target="stim", reference="ctrl", progress=False)
scratio.tl.ratio_genes(adata, groupby="cell_type")
group = adata.uns["ratio_genes"]["names"].dtype.names[0]
print(group)
sc.get.rank_genes_groups_df(adata, group=group, key="ratio_genes").head(10)

# %% [markdown]
# ## Two treatments together
#
# The interaction is the log ratio of the combination less the sum of the log ratios of both treatments. It is positive
# where the combination makes a cell state more likely than the sum says. Treatments that move cells the same way have a
# negative interaction even where their effects add up; `non_additivity` is 0 whenever they add up, whatever their
# directions.

# %%
if folder is None:
    combined = simulated_combinations()
    pairs = [("A", "B"), ("A", "C")]
else:
    combined = ad.read_h5ad(folder / "norman19_combos.h5ad")
    pairs = [("KLF1", "MAP2K6"), ("KLF1", "TGFBR2"), ("MAP2K3", "MAP2K6"), ("MAP2K3", "SLC38A2"), ("MAPK1", "TGFBR2")]
    # a fit knows all treatments at once; these are the ones looked at here
    wanted = {"control", *(gene for pair in pairs for gene in pair), *("+".join(pair) for pair in pairs)}
    combined = combined[combined.obs["perturbation"].isin(wanted)].copy()
scratio.tl.fit(combined, "perturbation", n_comps=min(10, combined.obsm["X_pca"].shape[1]), **FAST)
keys = []
for a, b in pairs:
    keys.append(f"interaction_{len(keys)}")
    scratio.tl.interaction(combined, a=a, b=b, reference="control", progress=False, key_added=keys[-1])
pd.DataFrame({combined.uns[k]["params"]["combination"]: combined.uns[k]["summary"] for k in keys}).T.drop(
    columns="quantiles"
)

# %%
scratio.pl.interaction(combined, keys)

# %% [markdown]
# How the combination differs from each treatment alone:

# %%
combined.uns[keys[0]]["table"].round(3)
