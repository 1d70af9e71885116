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
# # Your own latent space, and cells that come later
#
# Any embedding in `adata.obsm` will do: scVI, Harmony, a foundation model. Its scale does not matter. What matters is
# that cells which come later are embedded by **the same** map. Here we fit on one half of the data, score the other
# half with the stored model, and compare with the exact answer, which is known because the cells are simulated.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np

import scratio_sc as scratio
from scratio_sc.flow import ConditionalFlow

# %% [markdown]
# ## A latent space as scVI would give it
#
# Simulated cells of six types; under "response" two of them move and the proportions change. The latent space is named
# as scvi-tools users name it. With real data this is
# `adata.obsm["X_scVI"] = model.get_latent_representation(adata)`.

# %%
cells = scratio.datasets.cell_mixture(4_000, n_dims=10, n_types=6)
cells.obsm["X_scVI"] = cells.obsm.pop("X_pca")
cells = cells[cells.obs["condition"] != "abundance"].copy()

first = np.random.default_rng(0).random(cells.n_obs) < 0.5
adata, new = cells[first].copy(), cells[~first].copy()
print(f"{adata.n_obs} cells to fit, {new.n_obs} that come later")

# %% [markdown]
# ## Fit on it
#
# `use_rep` names the embedding; everything else is as always. `max_steps=0` and four members keep this tutorial quick.

# %%
scratio.tl.fit(adata, "condition", use_rep="X_scVI", max_steps=0, n_members=4, progress=False)
scratio.tl.log_ratio(adata, target="response", reference="ctrl", progress=False)

# %% [markdown]
# ## Keep the model as a file
#
# The `.h5ad` holds the model already. To share it without the cells, save it alone: a safetensors file, which holds
# numbers and no code.

# %%
with TemporaryDirectory() as folder:
    path = Path(folder, "response.safetensors")
    scratio.get.flow(adata).save(path)
    print(f"{path.stat().st_size / 1e6:.1f} MB")
    flow = ConditionalFlow.load(path)
print(f"{len(flow.members)} members, {flow.n_dims} dimensions, columns {flow.design.columns}")

# %% [markdown]
# ## Score new cells
#
# All members have not seen the new cells, so all of them score. The new cells need no labels: both sides name a level.

# %%
del new.obs["condition"]
scratio.tl.log_ratio(new, target="response", reference="ctrl", flow=flow, use_rep="X_scVI", progress=False)

exact = new.obs["exact_response_vs_ctrl"]
error = new.obs["log_ratio"] - exact
inside = error.abs() < 1.645 * new.obs["log_ratio_sd"]
print(f"mean squared error {np.mean(error**2):.3f} nats², variance of the exact ratio {exact.var():.3f}")
print(f"within 1.645 standard errors: {inside.mean():.0%} of the cells")

# %%
figure, ax = plt.subplots(figsize=(4.2, 4), layout="constrained")
known = ~new.obs["log_ratio_extrapolated"]
ax.axline((0, 0), slope=1, color="0.6", lw=1)
ax.scatter(exact[known], new.obs["log_ratio"][known], s=4, label="new cells")
ax.scatter(exact[~known], new.obs["log_ratio"][~known], s=8, color="tab:orange", label="extrapolated")
ax.set(xlabel="exact log ratio [nats]", ylabel="estimated log ratio [nats]", title="Cells that were not fitted")
ax.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Another space is an error only if it shows
#
# A different number of dimensions is refused. The same number of dimensions of *another* space (a PCA of the new cells
# alone, another scVI model) is noticed only by its effects: a warning says so where more than an eighth of the cells
# are like none of the fit, or where the cells' own labels contradict the ratios. Another space that happens to look
# like that of the fit goes unnoticed.

# %%
try:
    scratio.tl.log_ratio(new, target="response", reference="ctrl", flow=flow, use_rep="X_elsewhere", progress=False)
except KeyError as error_message:
    print("KeyError:", error_message)

new.obsm["X_elsewhere"] = new.obsm["X_scVI"][:, :5]
try:
    scratio.tl.log_ratio(new, target="response", reference="ctrl", flow=flow, use_rep="X_elsewhere", progress=False)
except ValueError as error_message:
    print("ValueError:", error_message)

# %% [markdown]
# ## Without AnnData
#
# `ConditionalFlow` knows arrays alone, for pipelines that keep cells elsewhere.

# %%
ratio = flow.log_ratio(new.obsm["X_scVI"], "response", "ctrl")
print("the same numbers:", bool(np.allclose(ratio.value, new.obs["log_ratio"], atol=1e-4)))
density = flow.log_likelihood(new.obsm["X_scVI"], "ctrl")
print(f"log p(x | ctrl): {density.mean():.2f} nats on average, exactly {new.obs['exact_log_density_ctrl'].mean():.2f}")
