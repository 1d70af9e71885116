"""The main job on real cells: which cells are more likely among cycling cells than among cells in G1?

Run by `nox -s demo`. The cells come with scanpy, nothing is downloaded. Everything that is made lies in demo/.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import anndata as ad
import numpy as np

import scratio_sc as scratio

logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
started = time.perf_counter()
folder = Path("demo")
folder.mkdir(exist_ok=True)

# --- the job: four lines ------------------------------------------------------------------------------------------
adata = scratio.datasets.pbmc68k()
scratio.tl.fit(adata, "cycle")
scratio.tl.log_ratio(adata, target="cycling", reference="G1")
figure = scratio.pl.ratio_umap(adata, show=False, return_fig=True)

figure.savefig(folder / "ratio_umap.png", dpi=150, bbox_inches="tight")
adata.write_h5ad(folder / "pbmc68k.h5ad")
seconds = time.perf_counter() - started

# --- the file holds the flow: the ratios can be computed again, bit for bit -------------------------------------------
stored = ad.read_h5ad(folder / "pbmc68k.h5ad")
before = stored.obs["log_ratio"].to_numpy().copy()
del stored.obs["log_ratio"]
scratio.tl.log_ratio(stored, target="cycling", reference="G1")
after = stored.obs["log_ratio"].to_numpy()
np.testing.assert_array_equal(adata.obs["log_ratio"].to_numpy(), before, strict=True)
np.testing.assert_array_equal(after, before, strict=True)

# --- what came out ------------------------------------------------------------------------------------------------
params = adata.uns["log_ratio"]["params"]
known = adata.obs[~adata.obs["log_ratio_extrapolated"]]
by_type = known.groupby("bulk_labels", observed=True)["log_ratio"].agg(["mean", "size"]).sort_values("mean")

print(f"\n{adata.n_obs} cells, {(adata.obs['cycle'] == 'cycling').sum()} of them cycling, in {seconds:.1f} s")
print(
    f"held-out log-loss {params['held_out_log_loss']:.3f} nats a cell, "
    f"{params['held_out_log_loss_prior']:.3f} from the class frequencies alone"
)
print("mean log p(cycling)/p(G1) by cell type, in nats:")
for cell_type, row in by_type[::-1].iterrows():
    print(f"  {row['mean']:+6.2f}  {cell_type} ({row['size']:.0f} cells)")
print(f"ratios computed again from {folder / 'pbmc68k.h5ad'}: identical bit for bit")
print(f"picture: {folder / 'ratio_umap.png'}")
