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
# # Differential abundance: which cells become more common?
#
# A log ratio says *how much* more likely a cell state is under one condition. It does not say whether the next four
# donors would show the same: a thousand cells of one donor are one donor. `tl.differential_abundance` adds p-values
# whose unit is the **sample** (the donor, the replicate), for every cell and for every cell type.
#
# We take blood cells of eight donors, none of whom was treated (Kang et al. 2018), call four of them "treated", and
# put an effect in by hand, so that we know what has to come out: in the other four, nine of ten B cells are removed.
# Where the cells are not at hand, eight donors are simulated instead. **The outputs on this page are of such simulated
# donors**, from whom nine of ten cells of type_1 are removed.

# %%
from pathlib import Path

import anndata as ad
import numpy as np

import scratio_sc as scratio

rng = np.random.default_rng(0)
try:
    here = Path(__file__).resolve().parent
except NameError:  # in a notebook
    here = Path.cwd()
path = here.parent.parent / "shared" / "data" / "kang18_ctrl_base.h5ad"

if path.exists():
    adata = ad.read_h5ad(path)
    adata = adata[np.sort(rng.permutation(adata.n_obs)[:4000])].copy()
    adata.obsm["X_pca"] = adata.obsm["X_pca"][:, :20]
    enriched = "B cells"
else:
    adata = scratio.datasets.cell_mixture(4000, n_dims=10, sizes={"ctrl": 4000, "abundance": 0, "response": 0})
    adata.obs["donor"] = rng.permutation(np.arange(adata.n_obs) % 8).astype(str)
    enriched = "type_1"

# %%
donors = np.sort(adata.obs["donor"].unique())
treated = donors[::2]
adata.obs["condition"] = np.where(adata.obs["donor"].isin(treated), "treated", "control")
thinned = (adata.obs["condition"] == "control") & (adata.obs["cell_type"] == enriched)
adata = adata[~(thinned & (rng.random(adata.n_obs) < 0.9))].copy()
print(adata.obs.groupby("condition", observed=True)["donor"].agg(["nunique", "size"]))

# %% [markdown]
# ## One fit, one call
#
# The flow is fitted on the condition, as always; `sample_key` names the donors. Four donors against four can be
# relabelled in 70 ways; all of them are tried.

# %%
scratio.tl.fit(adata, "condition", n_members=4, max_steps=0, progress=False)
scratio.tl.differential_abundance(
    adata, target="treated", reference="control", sample_key="donor", groupby="cell_type", progress=False
)
print(adata.uns["differential_abundance"]["groups"].round(3).to_string(index=False))

# %% [markdown]
# `share_up` and `share_down` are the shares of cells whose adjusted p-value is at most `alpha` (10 % by default) and
# whose own log ratio agrees with the change of their neighbourhood, in sign and by at least a tenth of it.
# `log_fold_change` is the change of the group's share of a sample's cells; its p-value and FDR compare donors, too.

# %%
figure = scratio.pl.differential_abundance(adata, show=False, return_fig=True)

# %% [markdown]
# ## The same donors, labels that mean nothing
#
# Without an effect, nothing should be found in nine of ten labellings. Ratios need not be zero, for real
# donors differ; the donors simulated on this page do not.

# %%
adata.obs["coin"] = np.where(adata.obs["donor"].isin(donors[[0, 3, 5, 6]]), "heads", "tails")
scratio.tl.fit(adata, "coin", n_members=4, max_steps=0, key_added="coin_flow", progress=False)
scratio.tl.differential_abundance(
    adata, target="heads", reference="tails", key="coin_flow", sample_key="donor", key_added="coin_da", progress=False
)
print(adata.obs["coin_da_change"].value_counts().to_string())
print(f"smallest adjusted p-value {adata.obs['coin_da_fdr'].min():.2f}")

# %% [markdown]
# ## How many samples?
#
# The smallest p-value is 1 / (number of relabellings), twice that with equally many samples a side: 3 against 3 reach
# 0.1 at best, 4 against 4 0.03, and 2 against 2 nothing; a warning says so. Where each donor was measured under both
# conditions, name the donor and pass `paired=True`; the donors' own composition then cancels. Five pairs reach 0.06.
