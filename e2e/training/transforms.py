"""The models' own preprocessing steps. This module is pickled by value into each model, so a server needs no copy of
it.

Two of them have a defect that their offline evaluation cannot see. They are written as such code is written in earnest;
what is wrong with each is said at its class. It imports numpy and scikit-learn only, which every server of these models
has.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin  # type: ignore[import-untyped]
from sklearn.decomposition import KernelPCA  # type: ignore[import-untyped]

Matrix = NDArray[np.float64]


class ReferenceEmbedding(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Projects scans on the main kernel components of a fixed set of reference scans.

    The defect: the components are computed again in each `transform`, though the references never change. An offline
    evaluation pays that once, for a batch of hundreds; a server pays it for every request.
    """

    def __init__(self, components: int = 120, references: int = 1100, gamma: float = 0.0005) -> None:
        self.components = components
        self.references = references
        self.gamma = gamma

    def fit(self, X: Matrix, y: object = None) -> Self:
        chosen = np.random.default_rng(0).permutation(len(X))[: self.references]
        self.references_ = X[chosen]
        return self

    def transform(self, X: Matrix) -> Matrix:
        kernel_pca = KernelPCA(self.components, kernel="rbf", gamma=self.gamma)
        embedded: Matrix = kernel_pca.fit(self.references_).transform(X)
        return embedded


class HistogramEqualizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Spreads each scan's brightness over the whole range, which lifts night scans out of the dark.

    The defect: it counts pixels by their value as an integer, and the integer of a dead pixel (NaN) is a huge negative
    number, which `bincount` refuses. It stands before the imputer, and the evaluation data have no dead pixels.
    """

    def fit(self, X: Matrix, y: object = None) -> Self:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Matrix) -> Matrix:
        equalized = np.empty_like(X)
        for row, scan in enumerate(X):
            levels = scan.astype(np.int64)
            cumulative = np.bincount(levels, minlength=17).cumsum()
            equalized[row] = 16 * cumulative[levels] / cumulative[-1]
        return equalized
