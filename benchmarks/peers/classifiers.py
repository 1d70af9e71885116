"""Classifiers of scikit-learn as estimators of the ratio: log odds of two conditions minus their log prior odds.

    python -P classifiers.py in.npz out.npz METHOD

METHOD is logistic, lda, qda, boosting or mlp. Cells that are also fitted are judged out of four folds, which is kinder
to a classifier than its own cells. Input and output as in scratio.py.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def classifier(method: str, seed: int):
    """The method with the settings a user would leave alone, scaled inputs, and early stopping where it has that."""
    model = {
        "logistic": LogisticRegression(max_iter=1000),
        "lda": LinearDiscriminantAnalysis(),
        "qda": QuadraticDiscriminantAnalysis(),
        "boosting": HistGradientBoostingClassifier(early_stopping=True, random_state=seed),
        "mlp": MLPClassifier((256, 256, 256), early_stopping=True, random_state=seed),
    }[method]
    return make_pipeline(StandardScaler(), model)


def log_likelihoods(model, x: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """Log p(x | condition) up to what all conditions share ``(n, k)``."""
    if hasattr(model, "decision_function"):  # log odds as they are, where probabilities would round to 0 and 1
        odds = model.decision_function(x)
        return (np.stack([np.zeros(len(x)), odds], axis=1) if odds.ndim == 1 else odds) - log_prior
    return np.log(np.maximum(model.predict_proba(x), np.finfo(float).tiny)) - log_prior


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    given, method = np.load(sys.argv[1]), sys.argv[3]
    x, (labels, y) = given["x"].astype(float), np.unique(given["y"], return_inverse=True)
    seed, log_prior = int(given["seed"]), np.log(np.bincount(y) / len(y))
    started, fit_s = time.perf_counter(), 0.0
    if given["same_cells"]:
        parts = np.empty((len(x), len(labels)))
        for fold, held_out in StratifiedKFold(4, shuffle=True, random_state=seed).split(x, y):
            begun = time.perf_counter()
            model = classifier(method, seed).fit(x[fold], y[fold])
            fit_s += time.perf_counter() - begun
            parts[held_out] = log_likelihoods(model, x[held_out], log_prior)
    else:
        model = classifier(method, seed).fit(x, y)
        fit_s = time.perf_counter() - started
        parts = log_likelihoods(model, given["x_test"].astype(float), log_prior)
    target, reference = np.searchsorted(labels, given["contrasts"]).T
    score_s = time.perf_counter() - started - fit_s
    np.savez(sys.argv[2], log_ratio=parts[:, target] - parts[:, reference], fit_s=fit_s, score_s=score_s)
