import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from matplotlib.text import Text
from sklearn.neighbors import kneighbors_graph

import scmimic.pl as pl
import scmimic.tl as tl
from scmimic.datasets import synthetic_counts
from scmimic.pl._figure import REAL_COLOR, SYNTHETIC_COLOR, plain


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


def legends(ax):
    return [child for child in ax.get_children() if isinstance(child, Legend)]


def legend_texts(ax):
    return [[t.get_text() for t in legend.get_texts()] for legend in legends(ax)]


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
    assert [ax.get_ylabel() for ax in axes] == ["UMAP2", "", ""]
    assert legend_texts(axes[2]) == [["Real", "Synthetic"]]


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
    assert legend_texts(axes[1]) == [["type_0", "type_1", "type_2"]]
    chosen = pl.embedding(real, synthetic, color="cell_type", palette=["red", "lime", "blue"], show=False)
    assert set(face_colors(chosen[0])) == {"#ff0000", "#00ff00", "#0000ff"}


def test_missing_and_foreign_categories(pair):
    real, synthetic = pair
    real.obs["cell_type"] = real.obs["cell_type"].where(np.arange(60) > 5)
    synthetic.obs["cell_type"] = "new"
    axes = pl.embedding(real, synthetic, color="cell_type", show=False)
    assert (face_colors(axes[0]) == to_hex("lightgray")).sum() == 6
    assert legend_texts(axes[1]) == [["type_0", "type_1", "type_2", "new"]]


def logged(adata, name, target_sum=1e4):
    """One gene as scanpy scales and logs it."""
    adata = adata.copy()
    sc.pp.normalize_total(adata, target_sum=target_sum)
    sc.pp.log1p(adata)
    return adata[:, name].X.toarray().ravel()


def drawn_numbers(ax, adata):
    """Number of each cell, in the order of the cells."""
    of = dict(zip(map(tuple, points(ax)), ax.collections[0].get_array(), strict=True))
    return np.array([of[tuple(xy)] for xy in adata.obsm["X_joint_umap"].astype(float)])


def bar(axes):
    (beside,) = axes[1].child_axes
    return beside.get_ylabel()


@pytest.mark.parametrize("target_sum", [1e4, 100.0])
def test_counts_of_a_gene_are_logged_on_one_scale(pair, target_sum):
    axes = pl.embedding(*pair, color="gene_3", target_sum=target_sum, show=False)
    expected = [logged(a, "gene_3", target_sum) for a in pair]
    both = np.concatenate(expected)
    for ax, a, values in zip(axes, pair, expected, strict=False):
        np.testing.assert_allclose(drawn_numbers(ax, a), values, rtol=1e-5)
        np.testing.assert_allclose(ax.collections[0].get_clim(), (both.min(), both.max()), rtol=1e-5)
    assert bar(axes) == "gene_3, log1p"


def test_gene_as_it_is(pair):
    """On request, and where the values are logged or standardised already."""
    axes = pl.embedding(*pair, color="gene_3", log1p=False, show=False)
    np.testing.assert_array_equal(drawn_numbers(axes[0], pair[0]), pair[0][:, "gene_3"].X.toarray().ravel())
    assert bar(axes) == "gene_3, counts"
    for a in pair:
        a.layers["counts"] = a.X.copy()
        sc.pp.normalize_total(a, target_sum=1e4)
        sc.pp.log1p(a)
    axes = pl.embedding(*pair, color="gene_3", show=False)
    np.testing.assert_allclose(drawn_numbers(axes[1], pair[1]), pair[1][:, "gene_3"].X.toarray().ravel())
    assert bar(axes) == "gene_3, log1p values"
    for a in pair:
        a.X = a.X.toarray() - 1
    assert bar(pl.embedding(*pair, color="gene_3", show=False)) == "gene_3, standardised values"
    axes = pl.embedding(*pair, color="gene_3", layer="counts", show=False)
    assert bar(axes) == "gene_3, log1p"
    with pytest.raises(ValueError, match="negative values"):
        pl.embedding(*pair, color="gene_3", log1p=True)


def test_units_that_differ_have_no_scale(pair):
    real, synthetic = pair
    real.layers["logged"] = sc.pp.log1p(real.copy(), copy=True).X
    with pytest.raises(ValueError, match="log1p values and `synthetic` counts"):
        pl.embedding(real, synthetic, color="gene_3", layer="logged")
    with pytest.raises(KeyError, match="nosuch"):
        pl.embedding(real, synthetic, color="gene_3", layer="nosuch")
    # a column has the unit that it has
    assert bar(pl.embedding(real, synthetic, color="library_size", layer="logged", show=False)) == "library_size"


def test_layer_of_a_gene(pair):
    """That of the real cells; generated ones come in its space as `.X`."""
    real, synthetic = pair
    expected = logged(real, "gene_3")
    real.layers["counts"] = real.X.copy()
    real.X = real.X * 0
    axes = pl.embedding(real, synthetic, color="gene_3", layer="counts", show=False)
    np.testing.assert_allclose(drawn_numbers(axes[0], real), expected, rtol=1e-5)
    np.testing.assert_allclose(drawn_numbers(axes[1], synthetic), logged(synthetic, "gene_3"), rtol=1e-5)


def test_column_of_one_that_is_a_gene_of_the_other(pair):
    real, synthetic = pair
    real.obs["gene_3"] = 1.0
    # both have the gene
    assert bar(pl.embedding(real, synthetic, color="gene_3", show=False)) == "gene_3, log1p"
    real.obs["gene_x"], synthetic.var_names = 1.0, ["gene_x", *synthetic.var_names[1:]]
    with pytest.raises(KeyError, match="a gene, but not of `adata`"):
        pl.embedding(real, synthetic, color="gene_x")


def test_rare_types_are_on_top(pair):
    real, synthetic = pair
    real.obs["type"] = ["rare"] * 2 + ["common"] * 40 + ["other"] * 18
    synthetic.obs["type"] = ["rare"] * 20 + ["common"] * 19 + ["other"]
    axes = pl.embedding(real, synthetic, color="type", show=False)
    for ax, a, on_top in ((axes[0], real, ["rare"] * 2), (axes[1], synthetic, ["other"])):
        of = dict(zip(map(tuple, a.obsm["X_joint_umap"].astype(float)), a.obs["type"], strict=True))
        assert [of[tuple(xy)] for xy in points(ax)][-len(on_top) :] == on_top


# --------------------------------------------------------------------------------------------------- fitted apart


def mapped_by_scanpy(adata, seed, n_neighbors=10):
    adata = adata.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    sc.pp.pca(adata, n_comps=3, random_state=seed)
    # as `sc.pp.neighbors` writes it, which compiles for many seconds
    adata.obsp["distances"] = kneighbors_graph(adata.obsm["X_pca"], n_neighbors - 1, mode="distance")
    adata.uns["neighbors"] = {"distances_key": "distances", "params": {"n_neighbors": n_neighbors}}
    adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2]
    return adata


def test_two_maps_of_scanpy_are_refused(pair):
    apart = [mapped_by_scanpy(a, i) for i, a in enumerate(pair)]
    for a in apart:
        del a.obsm["X_joint_umap"]
    for basis in ("umap", "X_umap", "pca"):
        with pytest.raises(ValueError, match=r"fitted apart: their principal comp.*joint_embedding\(adata, synth"):
            pl.embedding(*apart, basis=basis)
    # an embedding of the user's own says nothing of components
    assert len(pl.embedding(*apart, basis="other", show=False)) == 3
    for a in apart:
        del a.varm["PCs"]
    with pytest.raises(ValueError, match="fitted apart: each has a graph of neighbours of its own"):
        pl.embedding(*apart, basis="umap")


@pytest.mark.parametrize("with_components", [True, False])
def test_one_map_that_was_cut_is_drawn(with_components):
    whole = mapped_by_scanpy(synthetic_counts(n_obs=100, n_vars=10), 0)
    if not with_components:
        del whole.varm["PCs"]
    parts = whole[::2].copy(), whole[1::2].copy()
    assert len(pl.embedding(*parts, basis="umap", show=False)) == 3


def test_two_calls_of_joint_embedding(pair):
    """The same fit is the same map; t-SNE is fitted on both sides, and never is."""
    real, synthetic = pair
    other = synthetic[::2].copy()
    for basis in ("pca", "tsne"):
        tl.joint_embedding(real, synthetic, basis=basis, n_comps=3)
        first = real.copy()
        tl.joint_embedding(real, other, basis=basis, n_comps=3)
        if basis == "tsne":
            with pytest.raises(ValueError, match="fitted apart: they come from two calls.*basis='tsne'"):
                pl.embedding(real, synthetic, basis=basis)
        else:
            pl.embedding(real, synthetic, basis=basis, show=False)
        pl.embedding(first, synthetic, basis=basis, show=False)
        tl.joint_embedding(real, other, basis=basis, n_comps=4, seed=1)
        with pytest.raises(ValueError, match="fitted apart"):
            pl.embedding(real, synthetic, basis=basis)


def test_names_on_data_and_no_names(pair):
    on_data = pl.embedding(*pair, color="cell_type", legend_loc="on data", show=False)
    for ax, a in zip(on_data, pair, strict=False):
        assert [t.get_text() for t in ax.texts] == ["type_0", "type_1", "type_2"]
        for text in ax.texts:
            of_type = a.obsm["X_joint_umap"][(a.obs["cell_type"] == text.get_text()).to_numpy()]
            np.testing.assert_array_equal(text.xy, np.median(of_type, axis=0))
    assert not on_data[2].texts
    assert [legend_texts(ax) for ax in on_data] == [[], [], [["Real", "Synthetic"]]]
    none = pl.embedding(*pair, color="cell_type", legend_loc=None, show=False)
    assert [legend_texts(ax) for ax in none] == [[], [], [["Real", "Synthetic"]]]
    assert not any(ax.texts for ax in none)


def boxes_of(texts):
    """Without the lines to the cells."""
    return np.array([Text.get_window_extent(text).extents for text in texts])


@pytest.mark.parametrize(("n", "has_room"), [(2, True), (9, True), (40, False)])
def test_names_on_data_are_apart(pair, n, has_room):
    """All medians are one point; of more names than the panel has room for, each lies within it."""
    for a in pair:
        a.obs["type"] = pd.Categorical([f"type {i % n}" for i in range(a.n_obs)])
        a.obsm["X_joint_umap"][:] = np.outer(np.arange(a.n_obs) // n - (a.n_obs // n) / 2, [1, 0.1])
    axes = pl.embedding(*pair, color="type", legend_loc="on data", show=False)
    axes[0].figure.draw_without_rendering()
    for ax in axes[:2]:
        boxes, room = boxes_of(ax.texts), ax.get_window_extent()
        assert len(boxes) == n
        for i in range(n if has_room else 0):
            for j in range(i):
                assert not ((boxes[i, :2] < boxes[j, 2:]) & (boxes[j, :2] < boxes[i, 2:])).all()
        assert (boxes[:, :2] >= room.min - 0.5).all() and (boxes[:, 2:] <= room.max + 0.5).all()


def test_names_that_cannot_stand_on_data_are_numbers(pair):
    names = [f"CD{i}+ monocytes (classical, inflammatory)" for i in range(20)]
    for a in pair:
        a.obs["type"] = pd.Categorical.from_codes(np.arange(a.n_obs) % 20, names)
    fig = pl.embedding(*pair, color="type", legend_loc="on data", return_fig=True)
    fig.draw_without_rendering()
    shown = [str(i) for i in range(1, 21)]
    assert all([t.get_text() for t in ax.texts] == shown for ax in fig.axes[:2])
    (legend,) = legend_texts(fig.axes[1])
    assert [text.split("  ", 1) for text in legend] == [[i, plain(name)] for i, name in zip(shown, names, strict=True)]
    box, (width, height) = fig.get_tightbbox(), fig.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
    # one column, beside the cells and no higher than these
    (beside,) = legends(fig.axes[1])
    assert beside.get_window_extent().height <= 1.1 * fig.axes[1].get_window_extent().height
    assert beside.get_window_extent().x1 <= fig.axes[2].get_window_extent().x0


def test_groups_alone_have_colours(pair):
    whole = pl.embedding(*pair, color="cell_type", show=False)
    axes = pl.embedding(*pair, color=["gene_1", "cell_type"], groups="type_1", show=False)
    colors = [{to_hex(mark.get_color()) for mark in legend.get_lines()} for legend in legends(axes[4])]
    assert legend_texts(axes[4]) == [["type_1"]] and len(colors[0]) == 1
    for ax, before, a in zip(axes[3:], whole, pair, strict=False):
        of = dict(zip(map(tuple, a.obsm["X_joint_umap"].astype(float)), a.obs["cell_type"], strict=True))
        kinds = np.array([of[tuple(xy)] for xy in points(ax)])
        assert set(face_colors(ax)[kinds == "type_1"]) == colors[0]
        assert set(face_colors(ax)[kinds != "type_1"]) == {to_hex("lightgray")}
        # below the others
        assert (kinds[-(kinds == "type_1").sum() :] == "type_1").all()
        assert colors[0] <= set(face_colors(before))
    with pytest.raises(ValueError, match=r"`groups`: \['x'\] are no categories of `color`"):
        pl.embedding(*pair, color="cell_type", groups=["type_1", "x"])


@pytest.mark.parametrize("color", ["cell_type", ["cell_type", "gene_1", "library_size"]])
def test_nothing_is_cut_off(pair, color):
    fig = pl.embedding(*pair, color=color, return_fig=True)
    fig.canvas.draw()
    width, height = fig.get_size_inches()
    box = fig.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def test_each_colour_has_a_row_and_both_sides_stand_once_beside_the_first(pair):
    axes = pl.embedding(*pair, color=["cell_type", "gene_1", "library_size"], show=False)
    fig = axes[0].figure
    fig.draw_without_rendering()
    assert fig.axes == axes and len(axes) == 7
    assert [ax.get_title() for ax in axes] == [
        "Real\ncell_type", "Synthetic\ncell_type", "",
        "Real\ngene_1", "Synthetic\ngene_1",
        "Real\nlibrary_size", "Synthetic\nlibrary_size",
    ]  # fmt: skip
    boxes = np.array([ax.get_window_extent().extents for ax in axes]).round()
    rows = [boxes[:3], boxes[3:5], boxes[5:]]
    for row in rows:
        assert len(set(row[:, 1])) == 1 and (np.diff(row[:, 0]) > 0).all()
        np.testing.assert_allclose(row[:2, 0], boxes[:2, 0], atol=1)
    assert rows[0][0, 1] > rows[1][0, 3] > rows[2][0, 3]
    assert set(face_colors(axes[2])) == {REAL_COLOR, SYNTHETIC_COLOR}


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
