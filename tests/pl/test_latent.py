import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend

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
    # one figure, one map: all panels show the same part of it, and say which
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    assert {ax.get_xlabel() for ax in axes} == {"UMAP1"}
    assert axes[0].get_ylabel() == "UMAP2"
    plt.close("all")


def legends(ax):
    return [[t.get_text() for t in legend.get_texts()] for legend in ax.get_children() if isinstance(legend, Legend)]


@pytest.mark.parametrize("n_types", [2, 7, 30])
def test_every_category_is_named_beside_the_cells(cells, n_types):
    names = [f"type {i}" for i in range(n_types)]
    cells.obs["type"] = pd.Categorical.from_codes(np.arange(300) % n_types, [*names, "nobody"])
    fig = sm.pl.latent(cells, color="type", dims=[0], return_fig=True)
    fig.canvas.draw()
    ax = fig.axes[0]
    assert legends(ax) == [names]
    (legend,) = (artist for artist in ax.get_children() if isinstance(artist, Legend))
    box, panel, beside = legend.get_window_extent(), ax.get_window_extent(), fig.axes[1].get_window_extent()
    assert panel.x1 < box.x0 and box.x1 < beside.x0
    # many names do not take the room of the cells
    assert panel.width / fig.dpi > 1.5
    assert fig.bbox.y0 <= box.y0 and box.y1 <= fig.bbox.y1
    shown = {
        text.get_text(): to_hex(mark.get_color())
        for text, mark in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    of_cell = dict(zip(map(tuple, cells.obsm["X_umap"]), cells.obs["type"], strict=True))
    offsets, drawn = points(ax).get_offsets(), points(ax).get_facecolors()
    assert all(shown[of_cell[tuple(xy)]] == to_hex(rgb) for xy, rgb in zip(np.asarray(offsets), drawn, strict=True))


def test_names_on_data_or_nowhere_and_colours(cells):
    ax = sm.pl.latent(cells, color="cell_type", legend_loc="on data", show=False)[0]
    kinds = list(cells.obs["cell_type"].cat.categories)
    assert [text.get_text() for text in ax.texts] == kinds and not legends(ax)
    x, y = np.median(cells.obsm["X_umap"][cells.obs["cell_type"] == kinds[1]], axis=0)
    assert ax.texts[1].xy == (x, y)
    ax = sm.pl.latent(cells, color="cell_type", legend_loc=None, palette=["red", "lime", "blue"], show=False)[0]
    assert not ax.texts and not legends(ax)
    assert {to_hex(color) for color in points(ax).get_facecolors()} == {"#ff0000", "#00ff00", "#0000ff"}


def test_rare_types_are_on_top(cells):
    kinds = np.repeat(["common", "other", "rare", "rarest"], [200, 90, 8, 2])
    cells.obs["type"] = pd.Series(np.random.default_rng(1).permutation(kinds), index=cells.obs_names).astype("category")
    cells.obs.loc[cells.obs_names[:3], "type"] = np.nan
    ax = sm.pl.latent(cells, color="type", legend_loc=None, show=False)[0]
    of_cell = dict(zip(map(tuple, cells.obsm["X_umap"]), cells.obs["type"], strict=True))
    drawn = [of_cell[tuple(xy)] for xy in np.asarray(points(ax).get_offsets())]
    assert all(pd.isna(drawn[:3]))
    n = cells.obs["type"].value_counts()
    top = drawn[-n["rare"] - n["rarest"] :]
    assert top == ["rare"] * n["rare"] + ["rarest"] * n["rarest"]
    # the others are mixed
    assert {"common", "other"} <= set(drawn[3:20])


def test_dims_basis_and_own_axes(cells):
    cells.obsm["X_other"] = cells.obsm["X_betatcvae"][:, ::-1]
    cells.obsm["tsne"] = cells.obsm["X_umap"] + 5
    figure, own = plt.subplots(1, 2)
    axes = sm.pl.latent(cells, use_rep="X_other", basis="tsne", dims=["Z3", 1], ax=own, show=False)
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
    with pytest.raises(ValueError, match="`legend_loc`"):
        sm.pl.latent(cells, legend_loc="best")
    with pytest.raises(ValueError, match="2 colours for 3 values of 'cell_type'"):
        sm.pl.latent(cells, color="cell_type", palette=["red", "blue"])
    with pytest.raises(ValueError, match="dims"):
        sm.pl.latent(cells, dims=[3])
