import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend

import scmimic.pl as pl
from scmimic.datasets import synthetic_counts
from scmimic.pl._figure import REAL_COLOR, SYNTHETIC_COLOR


@pytest.fixture
def pair():
    adata = synthetic_counts(n_obs=100, n_vars=10)
    rng = np.random.default_rng(0)
    adata.obsm["X_joint_umap"] = rng.normal(size=(100, 2)).astype(np.float32)
    adata.obsm["X_other"] = rng.normal(size=(100, 5))
    return adata[:60].copy(), adata[60:].copy()


def points(ax):
    (collection,) = ax.collections
    return np.asarray(collection.get_offsets())


def face_colors(ax):
    return np.array([to_hex(c) for c in ax.collections[0].get_facecolors()])


def by_position(xy):
    return xy[np.lexsort(np.asarray(xy).T)]


def legend_texts(ax):
    return [[t.get_text() for t in legend.get_texts()] for legend in ax.get_children() if isinstance(legend, Legend)]


@pytest.mark.parametrize("color", [None, "cell_type", "library_size", "gene_3"])
def test_every_cell_is_drawn_on_equal_axes(pair, color):
    axes = pl.embedding(*pair, color=color, show=False)
    real, synthetic = (a.obsm["X_joint_umap"] for a in pair)
    assert len(axes) == 3
    for ax, expected in zip(axes, (real, synthetic, np.vstack([real, synthetic])), strict=True):
        np.testing.assert_allclose(by_position(points(ax)), by_position(expected), rtol=1e-6)
        assert ax.get_xlim() == axes[0].get_xlim()
        assert ax.get_ylim() == axes[0].get_ylim()
        low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
        assert (low < expected.min(axis=0)).all()
        assert (high > expected.max(axis=0)).all()
        assert ax.collections[0].get_rasterized()
    assert [ax.get_title() for ax in axes] == ["Real", "Synthetic", ""]
    assert legend_texts(axes[2])[-1] == ["Real", "Synthetic"]


def test_overlay_is_mixed_and_coloured_by_side(pair):
    overlay = pl.embedding(*pair, color="cell_type", show=False)[2]
    colors = face_colors(overlay)
    assert (colors == REAL_COLOR).sum() == 60
    assert (colors == SYNTHETIC_COLOR).sum() == 40
    assert set(colors[:20]) == {REAL_COLOR, SYNTHETIC_COLOR}
    real = {tuple(row) for row in pair[0].obsm["X_joint_umap"].astype(float)}
    drawn_real = {tuple(row) for row in points(overlay)[colors == REAL_COLOR]}
    assert drawn_real == real


def test_categories_have_one_colour_in_both_panels(pair):
    real, synthetic = pair
    synthetic = synthetic[synthetic.obs["cell_type"] != "type_0"].copy()
    synthetic.obs["cell_type"] = pd.Categorical(synthetic.obs["cell_type"].astype(str), categories=["type_2", "type_1"])
    real.uns["cell_type_colors"] = ["#111111", "#222222", "#333333"]
    axes = pl.embedding(real, synthetic, color="cell_type", show=False)
    expected = {"type_0": "#111111", "type_1": "#222222", "type_2": "#333333"}
    for ax, a in zip(axes, (real, synthetic), strict=False):
        of = dict(zip(map(tuple, a.obsm["X_joint_umap"].astype(float)), a.obs["cell_type"], strict=True))
        assert [expected[of[tuple(row)]] for row in points(ax)] == face_colors(ax).tolist()
    assert legend_texts(axes[2])[0] == ["type_0", "type_1", "type_2"]
    chosen = pl.embedding(real, synthetic, color="cell_type", palette=["red", "lime", "blue"], show=False)
    assert set(face_colors(chosen[0])) == {"#ff0000", "#00ff00", "#0000ff"}


def test_missing_and_foreign_categories(pair):
    real, synthetic = pair
    real.obs["cell_type"] = real.obs["cell_type"].where(np.arange(60) > 5)
    synthetic.obs["cell_type"] = "new"
    axes = pl.embedding(real, synthetic, color="cell_type", show=False)
    assert (face_colors(axes[0]) == to_hex("lightgray")).sum() == 6
    assert legend_texts(axes[2])[0] == ["type_0", "type_1", "type_2", "new"]


def of_gene(adata, name):
    return adata[:, name].X.toarray().ravel()


def test_numbers_share_the_colour_map(pair):
    real, synthetic = pair
    axes = pl.embedding(real, synthetic, color="gene_3", show=False)
    both = np.concatenate([of_gene(a, "gene_3") for a in pair])
    for ax in axes[:2]:
        assert ax.collections[0].get_clim() == (both.min(), both.max())
    drawn = dict(zip(map(tuple, points(axes[1])), axes[1].collections[0].get_array(), strict=True))
    for xy, value in zip(synthetic.obsm["X_joint_umap"].astype(float), of_gene(synthetic, "gene_3"), strict=True):
        assert drawn[tuple(xy)] == value
    (beside,) = axes[2].child_axes
    assert beside.get_ylabel() == "gene_3"


def test_layer_of_a_gene(pair):
    for a in pair:
        a.layers["ten"] = a.X * 10
    axes = pl.embedding(*pair, color="gene_3", layer="ten", show=False)
    expected = 10 * max(of_gene(a, "gene_3").max() for a in pair)
    assert axes[0].collections[0].get_clim()[1] == expected


def test_names_on_data_and_no_names(pair):
    on_data = pl.embedding(*pair, color="cell_type", legend_loc="on data", show=False)
    assert {t.get_text() for t in on_data[0].texts} == {"type_0", "type_1", "type_2"}
    assert len(legend_texts(on_data[2])) == 1
    none = pl.embedding(*pair, color="cell_type", legend_loc=None, show=False)
    assert len(legend_texts(none[2])) == 1


def test_nothing_is_cut_off(pair):
    fig = pl.embedding(*pair, color="cell_type", return_fig=True)
    fig.canvas.draw()
    width, height = fig.get_size_inches()
    box = fig.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_own_axes_other_basis_and_data_unchanged(pair):
    before = [a.copy() for a in pair]
    fig, grid = plt.subplots(1, 3)
    axes = pl.embedding(*pair, basis="other", color="cell_type", ax=grid, show=False, size=7)
    assert axes == list(grid)
    assert axes[0].get_xlabel() == "other1"
    assert axes[0].collections[0].get_sizes().tolist() == [7]
    np.testing.assert_allclose(by_position(points(axes[0])), by_position(pair[0].obsm["X_other"][:, :2]))
    for a, b in zip(pair, before, strict=True):
        assert dict(a.uns) == dict(b.uns)
        pd.testing.assert_frame_equal(a.obs, b.obs)
        np.testing.assert_array_equal(a.obsm["X_other"], b.obsm["X_other"])
        assert (a.X != b.X).nnz == 0


def test_bad_input(pair):
    real, synthetic = pair
    with pytest.raises(KeyError, match="joint_embedding"):
        pl.embedding(real, synthetic, basis="tsne")
    with pytest.raises(KeyError, match="neither a column of `adata.obs` nor a gene"):
        pl.embedding(real, synthetic, color="nothing")
    with pytest.raises(ValueError, match="legend_loc"):
        pl.embedding(real, synthetic, legend_loc="left")
    with pytest.raises(ValueError, match="3 panels"):
        pl.embedding(real, synthetic, ax=plt.subplots(1, 2)[1])
    del synthetic.obs["cell_type"]
    with pytest.raises(KeyError, match=r"`synthetic\.obs`"):
        pl.embedding(real, synthetic, color="cell_type")
