import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scmimic.pl as pl


@pytest.fixture
def table():
    rows = [
        ("class weights", 0.01, 0, 3, 0.2),
        ("ACTIVA", 0.01, 0, 3, 0.9),
        ("mine", 0.01, 0, 3, np.nan),
        ("class weights", 0.1, 0, 27, 0.5),
        ("ACTIVA", 0.1, 0, 27, 0.7),
        ("mine", 0.1, 0, 27, 0.6),
        ("class weights", 0.01, 1, 2, 0.4),
        ("ACTIVA", 0.01, 1, 2, 0.8),
        ("mine", 0.01, 1, 2, np.nan),
        ("class weights", 0.1, 1, 27, 0.5),
        ("ACTIVA", 0.1, 1, 27, 0.8),
        ("mine", 0.1, 1, 27, np.nan),
    ]
    return pd.DataFrame(rows, columns=["method", "fraction", "seed", "n_real", "f1"])


def bars(ax):
    return {c.get_label(): [patch.get_height() for patch in c] for c in ax.containers if hasattr(c, "patches")}


def ranges(ax):
    segments = [c.lines[2][0].get_segments() for c in ax.containers if hasattr(c, "has_yerr")]
    return [[(low[1], high[1]) for low, high in of_method] for of_method in segments]


def test_fractions_of_a_number_of_cells_are_rounded(table):
    ax = pl.augmentation(table.replace({"fraction": {0.01: 1 / 87, 0.1: 10 / 106}}), show=False)
    assert [t.get_text().split("\n")[0] for t in ax.get_xticklabels()] == ["9.43 %", "1.15 %"]


def test_means_ranges_and_groups(table):
    ax = pl.augmentation(table, show=False)
    found = bars(ax)
    assert list(found) == ["class weights", "ACTIVA", "mine"]
    # the largest fraction first
    np.testing.assert_allclose(found["class weights"], [0.5, 0.3])
    np.testing.assert_allclose(found["ACTIVA"], [0.75, 0.85])
    np.testing.assert_allclose(found["mine"], [0.6])
    np.testing.assert_allclose(ranges(ax)[0], [(0.5, 0.5), (0.2, 0.4)])
    np.testing.assert_allclose(ranges(ax)[1], [(0.7, 0.8), (0.8, 0.9)])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["10 %\n27 cells", "1 %\n2 to 3 cells"]
    assert ax.get_ylabel() == "F1 score"
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert legend == ["class weights", "ACTIVA", "mine", "no cells", "each seed, and their range"]
    # one of two seeds failed
    assert [t.get_text() for t in ax.texts] == ["1/2"]


def test_low_bars_say_how_low(table):
    table = table.assign(f1=[0.0, 0.9, np.nan, 0.004, 0.7, 0.0, 0.0, 0.8, np.nan, 0.004, 0.8, np.nan])
    ax = pl.augmentation(table, show=False)
    # a bar that is not there, beside one whose seeds gave no cells: not the same thing
    assert sorted(t.get_text() for t in ax.texts) == ["0", "0\n1/2", "0.004"]
    zero = next(t for t in ax.texts if t.get_text() == "0")
    bar = ax.containers[0].patches[-1] if hasattr(ax.containers[0], "patches") else ax.patches[1]
    assert bar.get_height() == 0 and zero.xy == (bar.get_x() + bar.get_width() / 2, 0)


def test_methods_of_the_user_look_like_no_other():
    rows = [{"method": f"own {i}", "fraction": 0.1, "n_real": 5, "f1": 0.5} for i in range(12)]
    rows.append({"method": "class weights", "fraction": 0.1, "n_real": 5, "f1": 0.5})
    ax = pl.augmentation(pd.DataFrame(rows), show=False)
    colors = np.array([mpl.colors.to_rgb(patch.get_facecolor()) for patch in ax.patches])
    assert len(set(map(tuple, colors))) == 13
    assert np.linalg.norm(colors[:12] - colors[12], axis=1).min() > 0.2


@pytest.mark.parametrize("method", ["m", "scDesigner with all its copulas of genes"])
def test_one_bar_and_its_legend_have_room(method):
    table = pd.DataFrame({"method": [method], "fraction": [1.0], "n_real": [3000], "f1": [0.5]})
    fig = pl.augmentation(table, return_fig=True)
    fig.draw_without_rendering()
    assert fig.axes[0].get_window_extent().width / fig.dpi > 0.8
    box, size = fig.get_tightbbox(), fig.get_size_inches()
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= size[0] and box.y1 <= size[1]


def test_bars_do_not_overlap(table):
    ax = pl.augmentation(table, show=False)
    edges = sorted((p.get_x(), p.get_x() + p.get_width()) for p in ax.patches)
    assert all(right <= left + 1e-9 for (_, right), (left, _) in zip(edges, edges[1:], strict=False))


def test_object_key_and_methods(table):
    adata = AnnData(np.ones((2, 2)))
    adata.uns["rare_augmentation"] = {"results": table, "params": {"label": "B cells"}}
    adata.uns["mine"] = {"results": table.assign(recall=1.0), "params": {"label": "NK"}}
    ax = pl.augmentation(adata, methods=["ACTIVA", "class weights"], show=False)
    assert list(bars(ax)) == ["ACTIVA", "class weights"]
    assert ax.get_title() == "B cells"
    ax = pl.augmentation(adata, key="mine", score="recall", title="t", show=False)
    assert (ax.get_ylabel(), ax.get_title()) == ("recall", "t")
    assert bars(ax)["mine"] == [1, 1]


def test_axes_figure_and_palette(table):
    fig, ax = plt.subplots()
    assert pl.augmentation(table, ax=ax, show=False) is ax
    assert pl.augmentation(table, ax=ax, return_fig=True) is fig
    ax = pl.augmentation(table, palette={"class weights": "red", "ACTIVA": "lime", "mine": "blue"}, show=False)
    assert [mpl.colors.to_hex(c.patches[0].get_facecolor()) for c in ax.containers if hasattr(c, "patches")] == [
        "#ff0000",
        "#00ff00",
        "#0000ff",
    ]


def test_table_read_from_a_file(table, tmp_path):
    adata = AnnData(np.ones((2, 2)))
    adata.uns["rare_augmentation"] = {"results": table, "params": {"label": "B"}}
    adata.write_h5ad(tmp_path / "a.h5ad")
    import anndata as ad

    ax = pl.augmentation(ad.read_h5ad(tmp_path / "a.h5ad"), show=False)
    np.testing.assert_allclose(bars(ax)["ACTIVA"], [0.75, 0.85])


def test_bad_input(table):
    with pytest.raises(TypeError, match="not list"):
        pl.augmentation([1])
    with pytest.raises(KeyError, match="rare_augmentation"):
        pl.augmentation(AnnData(np.ones((2, 2))))
    with pytest.raises(KeyError, match="recall"):
        pl.augmentation(table, score="recall")
    with pytest.raises(ValueError, match="empty"):
        pl.augmentation(table[:0])
    with pytest.raises(ValueError, match=r"unknown \['x'\].*ACTIVA"):
        pl.augmentation(table, methods=["x"])
