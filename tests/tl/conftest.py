"""A linear model of cells whose right answers are known."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest


class LinearModel:
    """Genes are an orthogonal transformation of two codes; the posterior is exact and narrow."""

    is_trained = True

    def __init__(self, axes, variance=0.25):
        self.axes, self.variance, self.asked = axes, variance, []

    def get_latent_representation(self, adata=None, indices=None, give_mean=True, return_dist=False):
        mean = np.asarray(adata.X) @ self.axes.T
        return (mean, np.full(mean.shape, self.variance)) if return_dist else mean

    def decode(self, z, *, labels=None, library_size=None, seed=None):
        self.asked.append({"labels": labels, "library_size": library_size, "seed": seed})
        cells = ad.AnnData(np.asarray(z) @ self.axes)
        cells.var_names = [f"g{i}" for i in range(cells.n_vars)]
        return cells


GROUPS = {"A": [0.0, 0.0], "B": [4.0, 0.0], "C": [0.0, 4.0]}
CONDITIONS = {"control": [0.0, 0.0], "drug": [1.0, 2.0], "other": [-2.0, 1.0]}
SIZES = {"A": 160, "B": 400, "C": 100}


def make_linear(interaction=None):
    """Additive codes, with the given extra for some (group, condition); cells, model and the true codes."""
    rng = np.random.default_rng(0)
    rows, codes = [], []
    for group, at in GROUPS.items():
        for condition, by in CONDITIONS.items():
            extra = (interaction or {}).get((group, condition), [0, 0])
            center = np.add(at, by) + extra
            # means of exactly the center, so that shifts are exact
            noise = rng.normal(0, 0.5, (SIZES[group], 2))
            codes.append(center + noise - noise.mean(axis=0))
            rows += [(group, condition)] * SIZES[group]
    codes = np.vstack(codes)
    axes = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    obs = pd.DataFrame(rows, columns=["group", "condition"], index=[f"c{i}" for i in range(len(rows))])
    adata = ad.AnnData((codes @ axes).astype(np.float64), obs=obs)
    adata.var_names = [f"g{i}" for i in range(6)]
    return adata, LinearModel(axes), codes


@pytest.fixture
def linear():
    """An additive world of three groups and three conditions: cells, model, codes."""
    return make_linear()


@pytest.fixture
def linear_world():
    """Make such a world with interactions."""
    return make_linear
