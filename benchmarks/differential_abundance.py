"""False discoveries and power of the sample-level test, on real cells.

    python benchmarks/differential_abundance.py [--quick] [--milo PYTHON] [--csv FILE]

Level: labels per donor that mean nothing, all there are. Neighbourhoods do not depend on labels, so they are found once
for each base. Power: in the donors that are not treated, cells of one type are thinned; the donors' own differences
stay, so a labelling may well have real ones beside it. ``--milo`` names a Python
that has pertpy and pydeseq2; Milo then gets the same cells. Reads ../shared/data (relative to the repository).
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from scratio_sc.flow._neighbourhoods import find_neighbourhoods
from scratio_sc.stats._abundance import Abundance

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ALPHA, N_DIMS, MAX_CELLS = 0.1, 20, 6000
BASES = {
    "kang18_ctrl_base": ("donor", "cell_type", None),
    "bodenmiller_bcrxl_cytof": ("patient", "cell_type_derived", ("condition", "Ref")),
    "covid_combat_pbmc": ("donor", "cell_type_derived", None),
}


def load(name: str, rng: np.random.Generator) -> pd.DataFrame:
    """Embedding, sample and cell type of at most `MAX_CELLS` cells."""
    donor, cell_type, only = BASES[name]
    adata = ad.read_h5ad(DATA / f"{name}.h5ad")
    if only:
        adata = adata[adata.obs[only[0]] == only[1]]
    adata = adata[np.sort(rng.permutation(adata.n_obs)[:MAX_CELLS])]
    cells = pd.DataFrame(np.asarray(adata.obsm["X_pca"][:, :N_DIMS], float))
    cells["sample"] = adata.obs[donor].astype(str).to_numpy()
    cells["type"] = adata.obs[cell_type].astype(str).to_numpy()
    return cells


def embedding(cells: pd.DataFrame) -> np.ndarray:
    """The cells ``(n, d)``."""
    return cells.drop(columns=["sample", "type"]).to_numpy()


def test_cells(cells: pd.DataFrame, inside: np.ndarray, treated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Adjusted p-value and effect of each cell."""
    names, sample = np.unique(cells["sample"], return_inverse=True)
    rng = np.random.default_rng(0)
    abundance = Abundance.of(sample, np.isin(names, treated), paired=False, n_draws=2000, rng=rng)
    families, family = np.unique(inside, axis=0, return_inverse=True)
    test = abundance.test(inside, families=families)
    return test.adjusted[family.reshape(-1)], test.effect[family.reshape(-1)]


def milo(cells: pd.DataFrame, treated: np.ndarray, python: str) -> tuple[np.ndarray, np.ndarray]:
    """The same by Milo, which runs by itself."""
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
        sample = cells["sample"].to_numpy(str)
        np.savez(given, x=embedding(cells).astype(np.float32), sample=sample, treated=np.isin(sample, treated))
        runner = Path(__file__).parent / "peers" / "milo.py"
        subprocess.run([python, "-P", str(runner), str(given), str(found)], check=True, capture_output=True)
        result = np.load(found)
        return np.nan_to_num(result["fdr"], nan=1.0), np.nan_to_num(result["log_fc"])


def level(name: str, base: tuple[pd.DataFrame, np.ndarray], *, n_labellings: int) -> dict[str, object]:
    """Share of labellings with any discovery, which under this null hypothesis is the false discovery rate.

    All ways to call half of the donors treated, or so many of them at random.
    """
    cells, inside = base
    samples = np.unique(cells["sample"])
    every = list(itertools.combinations(samples, len(samples) // 2))
    chosen = np.random.default_rng(0).permutation(len(every))[:n_labellings]
    called = np.array([(test_cells(cells, inside, np.array(every[i]))[0] <= ALPHA).mean() for i in chosen])
    return {
        "base": name,
        "donors": len(samples),
        "neighbourhoods": inside.shape[1],
        "labellings": len(chosen),
        "false discovery rate": (called > 0).mean(),
        "share of cells called": called.mean(),
    }


@dataclass(frozen=True)
class Case:
    """A cell type that is thinned in the donors that are not treated, to 1 / `odds` of its cells."""

    base: str
    what: str
    odds: float = 4

    def thin(self, cells: pd.DataFrame, treated: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
        """Whether each cell stays ``(n,)``."""
        thinned = (cells["type"] == self.what) & ~cells["sample"].isin(treated)
        return np.asarray(~thinned | (rng.random(len(cells)) < 1 / self.odds))


CASES = [
    Case("kang18_ctrl_base", "B cells"),
    Case("kang18_ctrl_base", "NK cells"),
    Case("kang18_ctrl_base", "CD14+ Monocytes"),
    Case("bodenmiller_bcrxl_cytof", "Monocyte"),
    Case("bodenmiller_bcrxl_cytof", "B (IgM+)"),
]


def power(case: Case, base: tuple[pd.DataFrame, np.ndarray], given: argparse.Namespace) -> list[dict[str, object]]:
    """Recall of the cells of the enriched type, and the share of others among those called, by labelling."""
    (cells, inside), rows = base, []
    for seed in range(given.labellings):
        rng = np.random.default_rng(seed)
        samples = np.unique(cells["sample"])
        treated = np.sort(rng.permutation(samples)[: len(samples) // 2])
        stays = case.thin(cells, treated, rng=rng)
        kept = cells[stays].reset_index(drop=True)
        results = {"scratio": test_cells(kept, inside[stays], treated)}
        if given.milo and seed < given.milo_labellings:
            results["milo"] = milo(kept, treated, given.milo)
        hit = (kept["type"] == case.what).to_numpy()
        for method, (fdr, effect) in results.items():
            called = fdr <= ALPHA
            right = called & (effect > 0) & hit
            row = {"base": case.base, "type": case.what, "odds": case.odds, "labelling": seed, "method": method}
            row |= {"recall": right.sum() / hit.sum(), "false": (called & ~right).sum() / max(called.sum(), 1)}
            rows.append(row)
            print(*row.values(), flush=True)
    return rows


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one base, one case, few labellings")
    parser.add_argument("--labellings", type=int, default=20, help="random labellings for each case of the power table")
    parser.add_argument("--milo", help="Python of an environment with pertpy and pydeseq2")
    parser.add_argument("--milo-labellings", type=int, default=2, help="how many of them Milo gets")
    parser.add_argument("--csv", help="where to write the power table")
    given = parser.parse_args()
    given.labellings = min(given.labellings, 2) if given.quick else given.labellings
    bases = {}
    for name in list(BASES)[: 1 if given.quick else None]:
        cells = load(name, np.random.default_rng(0))
        bases[name] = cells, find_neighbourhoods(embedding(cells), rng=np.random.default_rng(0))
    levels = [level(name, base, n_labellings=10 if given.quick else 100) for name, base in bases.items()]
    print(pd.DataFrame(levels).round(4).to_string(index=False), flush=True)
    rows: list[dict[str, object]] = []
    for case in CASES[: 1 if given.quick else None]:
        rows += power(case, bases[case.base], given)
    table = pd.DataFrame(rows)
    print(table.groupby(["base", "type", "method"])[["recall", "false"]].mean().round(3).to_string())
    if given.milo:
        same = table[table["labelling"] < given.milo_labellings]
        print("labellings that Milo got")
        print(same.groupby(["base", "type", "method"])[["recall", "false"]].mean().round(3).to_string())
        print(same.groupby("method")[["recall", "false"]].mean().round(3).to_string())
    if given.csv:
        table.to_csv(given.csv, index=False)


if __name__ == "__main__":
    main()
