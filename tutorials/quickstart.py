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
# # Quickstart
#
# Which blood cells are more likely among cycling cells than among cells in G1? For every cell we want one number, the
# log likelihood ratio log p(x | cycling) / p(x | G1), and an idea of how far to trust it.
#
# The 700 cells come with scanpy, nothing is downloaded. The phase of the cell cycle stands for the condition here;
# think of treated and untreated cells.

# %%
import matplotlib.pyplot as plt

import scratio_sc as scratio

adata = scratio.datasets.pbmc68k()
print(adata.obs["cycle"].value_counts().to_string())
print("embedding:", adata.obsm["X_pca"].shape)

# %% [markdown]
# ## Fit
#
# One model learns the density of cells under every condition, on an embedding that is there already. By default it has
# sixteen members. One network is trained first; where it does not help on held-out cells, as here, the others are not.
# `max_steps=0` trains none and `n_members=4` takes four members: seconds. All tutorials do so to be quick; leave out
# both for the real thing.

# %%
scratio.tl.fit(adata, "cycle", use_rep="X_pca", max_steps=0, n_members=4, progress=False)

# %% [markdown]
# ## Ask

# %%
scratio.tl.log_ratio(adata, target="cycling", reference="G1", progress=False)
print(adata.obs[["log_ratio", "log_ratio_sd", "log_ratio_extrapolated"]].head().round(2).to_string())

# %% [markdown]
# `log_ratio` is **positive where a cell is more likely under the target**, here among the cycling cells. The unit is
# the nat: 0.7 is twice, 2.3 ten times as likely. That there are more cells in G1 does not shift the zero.

# %%
figure = scratio.pl.ratio_umap(adata, show=False, return_fig=True)

# %% [markdown]
# T and NK cells are red: the cycling cells are among them. Monocytes and dendritic cells are blue.

# %%
known = ~adata.obs["log_ratio_extrapolated"]
by_type = adata.obs[known].groupby("bulk_labels", observed=True)["log_ratio"].agg(["mean", "size"])
print(by_type.sort_values("mean", ascending=False).round(2).to_string())

# %% [markdown]
# ## How sure?
#
# `log_ratio_sd` is the standard error of each ratio. Cells in `log_ratio_extrapolated` have hardly any cells of one
# side nearby: the sign of their ratio is evidence, its size is not, so means leave them out. In the figure they are
# rings.

# %%
clear = adata.obs["log_ratio"].abs() > 2 * adata.obs["log_ratio_sd"]
print(f"{(clear & known).sum()} of {adata.n_obs} cells lean clearly to one side, {(~known).sum()} are extrapolated")

# %% [markdown]
# ## Does it mean what it says?
#
# Every cell was scored by members that had not seen it, so its label can be used to judge. Were as many cells cycling
# as the ratios said? Points on the diagonal say yes. A slope above 1 means that the ratios are cautious, below 1 that
# they are too large. (The interval in the figure is one of 95 %; below stands the standard error.)

# %%
axes = scratio.pl.calibration(adata, show=False)

# %%
calibration = adata.uns["log_ratio"]["calibration"]
print(f"slope {calibration['slope']:.2f} ± {calibration['slope_se']:.2f}")
print(f"log-loss {calibration['log_loss']:.3f}, of the class frequencies alone {calibration['log_loss_prior']:.3f}")

# %% [markdown]
# ## What if there were nothing to find?
#
# The conditions are permuted and the model is fitted again. The ratios of such labels are noise; those of a real
# difference are much larger.

# %%
scratio.tl.null_check(adata, target="cycling", reference="G1", n_permutations=2, progress=False)
check = adata.uns["null_check"]
print(f"root mean square of the ratios: {check['observed']:.3f} nats; of permuted labels: {check['null'].round(4)}")

# %% [markdown]
# ## Keep
#
# The model lies in `adata.uns["scratio"]` and the ratios in `adata.obs`, so one file keeps both. After reading it,
# other contrasts can be asked for without a fit.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata as ad

with TemporaryDirectory() as folder:
    adata.write_h5ad(Path(folder, "cells.h5ad"))
    stored = ad.read_h5ad(Path(folder, "cells.h5ad"))
scratio.tl.log_ratio(stored, target="G1", reference="cycling", key_added="reverse", progress=False)
print("same numbers, other sign:", bool((stored.obs["reverse"] + stored.obs["log_ratio"]).abs().max() < 1e-5))
plt.close("all")

# %% [markdown]
# These cells are of one donor. A ratio describes the samples at hand; whether other donors would show the same is a
# question for donors, see the tutorial on differential abundance.
