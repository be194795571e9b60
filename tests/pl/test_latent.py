import matplotlib.pyplot as plt
import numpy as np
import pytest

import scmimic as sm


@pytest.fixture
def cells(adata):
    rng = np.random.default_rng(0)
    adata.obsm["X_umap"] = rng.normal(size=(300, 2))
    adata.obsm["X_betatcvae"] = np.c_[rng.normal(size=(300, 2)), 0.01 * rng.normal(size=300)]
    return adata


def points(ax):
    return ax.collections[0]


def test_one_panel_per_latent(cells):
    before = cells.obsm["X_betatcvae"].copy()
    axes = sm.pl.latent(cells, color=["cell_type", "library_size"], show=False)
    assert [ax.get_title() for ax in axes] == ["cell_type", "library_size", "Z1", "Z2", "Z3 (vanished)"]
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_allclose(points(axes[2]).get_offsets(), cells.obsm["X_umap"][order])
    np.testing.assert_allclose(points(axes[3]).get_array(), before[order, 1])
    low, high = points(axes[2]).get_clim()
    np.testing.assert_allclose([low, high], np.quantile(before[:, 0], [0.01, 0.99]))
    assert np.array_equal(before, cells.obsm["X_betatcvae"])
    plt.close("all")


def test_dims_basis_and_own_axes(cells):
    cells.obsm["X_other"] = cells.obsm["X_betatcvae"][:, ::-1]
    cells.obsm["tsne"] = cells.obsm["X_umap"] + 5
    figure, own = plt.subplots(1, 2)
    axes = sm.pl.latent(cells, use_rep="X_other", basis="tsne", dims=[2, 1], ax=own, show=False)
    assert axes == list(own)
    assert axes[0].get_title() == "Z3"
    assert points(axes[0]).get_offsets().mean() > 4
    assert sm.pl.latent(cells, show=False, return_fig=True) is not figure
    plt.close("all")


def test_bad_input(cells):
    with pytest.raises(KeyError, match="get_latent_representation"):
        sm.pl.latent(cells, use_rep="X_none")
    with pytest.raises(KeyError, match="sc.tl.tsne"):
        sm.pl.latent(cells, basis="tsne")
    with pytest.raises(KeyError, match="nothing"):
        sm.pl.latent(cells, color="nothing")
    with pytest.raises(ValueError, match="dims"):
        sm.pl.latent(cells, dims=[3])
