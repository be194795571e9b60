import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import scmimic as sm


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    real, moved = ad.AnnData(np.ones((50, 2))), ad.AnnData(np.ones((15, 2)))
    for a in (real, moved):
        a.obsm["X_joint_umap"] = rng.normal(size=(a.n_obs, 2))
    moved.obs["dimension"] = pd.Categorical(np.repeat(["Z1", "Z3", "Z11"], 5), categories=["Z1", "Z3", "Z11"])
    moved.obs["value"] = np.tile(np.linspace(-1, 1, 5), 3) * np.repeat([1, 2, 3], 5)
    return real, moved


def test_one_panel_per_dimension_with_its_values(cells):
    real, moved = cells
    axes = sm.pl.latent_traversal(real, moved, show=False)
    assert [ax.get_title() for ax in axes] == ["Z1", "Z3", "Z11"]
    for i, ax in enumerate(axes):
        background, points = ax.collections
        np.testing.assert_array_equal(background.get_offsets(), real.obsm["X_joint_umap"])
        np.testing.assert_array_equal(points.get_offsets(), moved.obsm["X_joint_umap"][5 * i : 5 * i + 5])
        np.testing.assert_array_equal(points.get_array(), moved.obs["value"][5 * i : 5 * i + 5])
        assert points.get_clim() == (-3, 3)


def test_each_row_has_its_axis_named(cells):
    axes = sm.pl.latent_traversal(*cells, n_cols=2, show=False)
    assert [ax.get_ylabel() for ax in axes] == ["UMAP2", "", "UMAP2"]


def test_some_dimensions_on_own_axes(cells):
    _, axes = plt.subplots(1, 2)
    drawn = sm.pl.latent_traversal(*cells, dims=["Z11", 0], ax=axes, show=False)
    assert [ax.get_title() for ax in drawn] == ["Z11", "Z1"]
    assert list(drawn) == list(axes)


def test_bad_input(cells):
    real, moved = cells
    with pytest.raises(ValueError, match=r"\['Z2'\] were not traversed"):
        sm.pl.latent_traversal(real, moved, dims=1)
    with pytest.raises(ValueError, match="`dims` is empty"):
        sm.pl.latent_traversal(real, moved, dims=[])
    with pytest.raises(KeyError, match="sm.tl.latent_traversal"):
        sm.pl.latent_traversal(real, real)
    with pytest.raises(KeyError, match=r"joint_embedding\(adata, traversal"):
        sm.pl.latent_traversal(real, moved, basis="pca")
