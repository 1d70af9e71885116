"""What enriched real cells allow: a method that was told the cell types. Prints a Markdown table.

    python benchmarks/ceiling.py kang18_ctrl_base.h5ad

Types are read off the embedding by a classifier that was trained on the annotation of other cells, P(type | x). The
log ratio is that of sum_t P(t | x) p_t, with p_t the share of treated cells of a type: the exact one (all that the
embedding can tell), that of most likelihood given the labels, the same under a normal prior of its log odds, whose
spread is chosen knowing the answer, and that of most likelihood where it is known which types changed. These are marks
to read other figures by, not bounds: another classifier or another prior may do better.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import TYPE_CHECKING

import numpy as np
import problems as made
from accuracy import LEVELS
from metrics import average_precision
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

if TYPE_CHECKING:
    from anndata import AnnData

SPREADS = (0.4, 0.2, 0.1, 0.05)


def types_from_embedding(base: AnnData) -> tuple[np.ndarray, np.ndarray]:
    """Names of the types ``(k,)``, and probability of each for cells that the classifier had not seen ``(n, k)``."""
    types = base.obs["cell_type"].astype(str).to_numpy()
    classifier = make_pipeline(StandardScaler(), MLPClassifier((64,), alpha=0.01, max_iter=60, random_state=0))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        shares = cross_val_predict(classifier, base.obsm["X_pca"], types, cv=folds, method="predict_proba")
    return np.unique(types), shares


def fitted_shares(shares: np.ndarray, treated: np.ndarray, *, spread: float) -> np.ndarray:
    """Share of treated cells of each type, of most posterior probability ``(k,)``."""
    k = shares.shape[1]

    def loss(parameters: np.ndarray) -> float:
        p = shares @ expit(parameters[:k] + parameters[k])
        return float(-np.log(np.where(treated, p, 1 - p)).sum() + 0.5 * ((parameters[:k] / spread) ** 2).sum())

    best = minimize(loss, np.zeros(k + 1)).x
    return expit(best[:k] + best[k])


def judged(problem: made.Problem, p: np.ndarray) -> tuple[float, float]:
    """PR-AUC and mean squared error of the log ratio where cells are treated with probability ``p (n,)``."""
    ratio, exact = logit(p) - logit((problem.y == "treated").mean()), problem.exact[:, 0]
    return average_precision(np.abs(ratio), problem.changed), float(np.mean((ratio - exact) ** 2))


def row(problem: made.Problem, names: np.ndarray, shares: np.ndarray) -> str:
    """What is reached knowing the exact shares, without a prior, with the best one, and knowing what changed."""
    known = np.full(len(names), 0.5)
    known[names == made.UP], known[names == made.DOWN] = problem.level, 1 - problem.level
    treated, changed = problem.y == "treated", known != 0.5
    fitted = [fitted_shares(shares, treated, spread=spread) for spread in (np.inf, *SPREADS)]
    exact, free, *shrunken = (judged(problem, shares @ p) for p in (known, *fitted))
    best = max(found for found, _ in shrunken), min(error for _, error in shrunken)
    apart = np.column_stack([shares[:, changed], shares[:, ~changed].sum(1)])
    told = judged(problem, apart @ fitted_shares(apart, treated, spread=np.inf))
    return " | ".join(f"{found:.3f} / {error:.4f}" for found, error in (exact, free, best, told))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", help="h5ad of raw counts with obs['cell_type']")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    base = made.real_cells(arguments.cells)
    names, shares = types_from_embedding(base)
    columns = ["enriched to", "seed", "exact shares", "most likelihood", "best normal prior", "known what changed"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for seed in range(arguments.seeds):
        for problem in made.abundance(base, LEVELS, seed=seed):
            print(f"| {problem.level:g} | {seed} | {row(problem, names, shares)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
