"""Ways to add cells of a rare type: the cheap rivals of a generative model, and the generators of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from sklearn.neighbors import NearestNeighbors

from scmimic._random import draw_members, seeded
from scmimic.baselines import GaussianCopula, IndependentNB

if TYPE_CHECKING:
    from anndata import AnnData

UNWEIGHTED, WEIGHTED, OVERSAMPLING, SMOTE = "none", "class weights", "oversampling", "SMOTE"
RIVALS = (UNWEIGHTED, WEIGHTED, OVERSAMPLING, SMOTE)
"""What the tables call the ways that need no generator."""

Generator = Callable[["AnnData", str, "str | None", int], Any]
"""Fits on (training cells, labels_key, layer, seed) and returns an object with `.generate(n, labels, seed=)`."""


def oversample(x: sp.csr_matrix, n: int, rng: np.random.Generator) -> sp.csr_matrix:
    """Repeat cells, each as often as any other up to one."""
    return x[draw_members(np.arange(x.shape[0]), n, rng)]


def smote(x: sp.csr_matrix, n: int, rng: np.random.Generator, *, n_neighbors: int = 5) -> sp.csr_matrix:
    """Interpolate between cells and their nearest neighbours (Chawla et al. 2002, JAIR 16, section 4.2).

    Each new cell is `a + u (b - a)`, with a cell `a` (each as often as any other up to one), `b` at random among its
    `n_neighbors` nearest others (fewer where there are fewer cells) and `u` uniform on [0, 1).

    Parameters
    ----------
    x
        Cells of one type x features, in the space of the classifier.
    n
        New cells.
    rng
        Source of all draws.
    n_neighbors
        Neighbours to choose from; 5 as in the paper.

    Raises
    ------
    ValueError
        If there are fewer than two cells.
    """
    if x.shape[0] < 2:
        raise ValueError(f"SMOTE interpolates between two cells of the type, but there is {x.shape[0]}.")
    k = min(n_neighbors, x.shape[0] - 1)
    # without a query, a cell is not its own neighbour, not even among identical cells
    neighbors = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
    start = draw_members(np.arange(x.shape[0]), n, rng)
    end = neighbors[start, rng.integers(k, size=n)]
    u = rng.random(n)
    return sp.csr_matrix(sp.diags(1 - u) @ x[start] + sp.diags(u) @ x[end])


def default_generators(
    model_kwargs: Mapping[str, Any] | None, train_kwargs: Mapping[str, Any] | None
) -> dict[str, Generator]:
    """Return the two reference generators and ACTIVA, whose constructor and `train` get the keywords."""

    def independent_nb(train: AnnData, labels_key: str, layer: str | None, seed: int) -> IndependentNB:
        return IndependentNB(train, labels_key=labels_key, layer=layer).fit(seed)

    def gaussian_copula(train: AnnData, labels_key: str, layer: str | None, seed: int) -> GaussianCopula:
        return GaussianCopula(train, labels_key=labels_key, layer=layer).fit(seed)

    def activa(train: AnnData, labels_key: str, layer: str | None, seed: int) -> Any:
        from scmimic.model import ACTIVA

        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        with seeded(seed):
            ACTIVA.setup_anndata(train, labels_key=labels_key, layer=layer)
            model = ACTIVA(train, **(model_kwargs or {}))
            model.train(**(quiet | dict(train_kwargs or {})))
        return model

    return {"independent NB": independent_nb, "Gaussian copula": gaussian_copula, "ACTIVA": activa}
