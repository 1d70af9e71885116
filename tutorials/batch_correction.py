# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Did the batch correction work?
#
# A correction should leave nothing in a cell's state that tells its batch, given its cell type. The batch score puts a
# number on that, for every cell: log p(x | type, own batch) - log p(x | type), in nats. **Lower is better**: 0 where
# batches are mixed. Its mean is the information that a state carries on the batch, at most the entropy of the batches
# within the type (log 2 = 0.69 for two of equal size).

# %%
from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np

import scratio_sc as scratio

try:
    root = Path(__file__).resolve().parents[1]
except NameError:  # in a notebook
    root = Path.cwd().parent if Path.cwd().name == "tutorials" else Path.cwd()
source = root.parent / "shared" / "data" / "pbmc3500_harmony_pcs.h5ad"

# %% [markdown]
# ## Cells before and after a correction
#
# **The outputs on this page are of simulated cells**: three types that every batch moves, and under the name
# `X_pca_harmony` the same cells after a correction that leaves a quarter of each move. With the file of Zheng et al.
# (2017) at hand, the same code takes blood cells of three donors, before and after Harmony.
#
# The score needs cell types. They must not follow the batches: clusters of the *uncorrected* PCs may be one donor each,
# and within such a cluster there is nothing left to compare. Here the simulated types serve, of the blood cells
# clusters of the corrected PCs.

# %%
if source.exists():
    from sklearn.cluster import KMeans

    adata = ad.read_h5ad(source)
    adata.obs_names_make_unique()
    adata.obs["batch"] = adata.obs["donor"]
    clusters = KMeans(8, n_init=5, random_state=0).fit_predict(adata.obsm["X_pca_harmony"])
    adata.obs["cell_type"] = [f"cluster {k}" for k in clusters]
else:
    adata = scratio.datasets.batch_shift(3_000, n_dims=10, shift=2.0)
    adata.obsm["X_pca_harmony"] = 0.75 * adata.obsm["X_corrected"] + 0.25 * adata.obsm["X_pca"]
print(adata.obs.groupby(["cell_type", "batch"], observed=True).size().unstack())

# %% [markdown]
# ## Score both representations
#
# One flow is fitted on each, and every cell is scored by members that have not seen it. `max_steps=0` leaves out the
# networks and four members are a quarter of the default, to be quick; leave out both for the full model.

# %%
scratio.tl.batch_score(
    adata,
    batch="batch",
    groupby="cell_type",
    use_rep=["X_pca", "X_pca_harmony"],
    max_steps=0,
    n_members=4,
    progress=False,
)
table = adata.uns["batch_score"]["table"]
print(table.round(3).to_string())

# %% [markdown]
# Read a row as: the mean score, with its standard error; the information, which is that mean corrected for what it
# lacks on average, as scores are of cells that were not fitted; the share of cells that their state tells apart by
# batch (more than half of their largest possible score); and the maximum that the mean could have. A mean slightly
# below 0 is noise around 0 and is left as it is. Where the flag says "no difference", batches cannot be told apart at
# all: a small difference may still exist, but these cells are too few to show it.

# %%
overall = table[table["group"] == "all cells"].set_index("representation")
for name, row in overall.iterrows():
    print(f"{name}: {row['information']:z.3f} ± {row['information_se']:.3f} of at most {row['maximum']:.3f} nats")

# %%
scratio.pl.batch_score(adata)

# %% [markdown]
# ## Is the difference more than noise?
#
# Both representations are scored on the same cells, so their difference can be taken cell by cell. The error is that of
# the choice of cells.

# %%
gain = adata.obs["batch_score_X_pca"] - adata.obs["batch_score_X_pca_harmony"]
print(f"mean gain {gain.mean():.3f} ± {gain.std() / np.sqrt(gain.notna().sum()):.3f} nats a cell")

# %% [markdown]
# ## Which cells are left behind?
#
# The score is one of each cell. Types at the top of the plot, and cells with large scores after the correction, are
# those to look at: a type that is absent from a batch, or doublets, or a correction that was too weak.

# %%
left = adata.obs.groupby("cell_type", observed=True)["batch_score_X_pca_harmony"].agg(["mean", "max", "size"])
print(left.sort_values("mean", ascending=False).round(3))

# %% [markdown]
# A low score alone does not make a good correction: pulling all cells to one point mixes batches perfectly. Read it
# beside a check that cell types stay apart.
