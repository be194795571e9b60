import warnings

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import scmimic.pl as pl
from scmimic.pl._scores import SMALL


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_scores_stand_where_they_belong():
    rows = [
        {"metric": "rf_auc_genes", "group": "discriminator", "label": "overall", "score": 0.7},
        {"metric": "mmd", "group": "distribution", "label": "overall", "score": -3.0},
        {"metric": "recall", "group": "distribution", "label": "overall", "score": float("nan")},
        {"metric": "mmd", "group": "distribution", "label": "B", "score": 0.4},
    ]
    ax = pl.report(pd.DataFrame(rows), limits=(-1, 2), show=False)
    drawn = {tuple(map(float, xy)) for c in ax.collections for xy in c.get_offsets()}
    assert {(0.7, 0.0), (-1.0, 1.0), (0.4, 1.0)} <= drawn
    assert [t.get_text() for t in ax.get_yticklabels()] == ["Forest AUC, genes", "MMD²"]
    # the mark that lies beyond the axis has its number outside
    (number,) = ax.texts
    assert (number.get_text(), number.xy, number.get_ha()) == ("−3.0", (-1, 1), "right")
    assert legend_texts(ax) == [
        "all cells",
        "cells of one type",
        "beyond the axis, large ones with their score",
        "told apart by a forest",
        "clouds of cells",
    ]
    alone = pl.report(pd.DataFrame(rows), per_label=False, show=False)
    assert "cells of one type" not in legend_texts(alone)
    assert (0.4, 1.0) not in {tuple(map(float, xy)) for c in alone.collections for xy in c.get_offsets()}


def test_table_in_anndata(adata):
    rows = [{"metric": "mmd", "group": "distribution", "label": "overall", "score": 0.5}]
    adata.uns["mine"] = {"table": pd.DataFrame(rows)}
    fig, ax = plt.subplots()
    assert pl.report(adata, key="mine", ax=ax, return_fig=True) is fig
    with pytest.raises(KeyError, match="tl.evaluate"):
        pl.report(adata)
    with pytest.raises(ValueError, match="score"):
        pl.report(pd.DataFrame([rows[0] | {"score": float("nan")}]))


def test_every_mark_is_explained_where_no_data_are():
    """Also of types that lie beyond the axis."""
    row = {"metric": "mmd", "group": "distribution", "label": "overall", "score": 0.5}
    plain = pl.report(pd.DataFrame([row]), show=False)
    assert legend_texts(plain) == ["all cells", "clouds of cells"]
    rows = [row, row | {"label": "B", "score": 7.0}, row | {"label": "T", "score": 0.2}]
    ax = pl.report(pd.DataFrame(rows), show=False)
    assert legend_texts(ax)[:3] == ["all cells", "cells of one type", "beyond the axis, large ones with their score"]
    dots, arrow = (c for c in ax.collections if c.get_sizes()[0] == SMALL)
    assert dots.get_offsets().tolist() == [[0.2, 0]] and arrow.get_offsets().tolist() == [[1.3, 0]]
    # the tip of the arrow is at the edge, and all of it within
    assert arrow.get_paths()[0].get_extents().x1 == 0
    assert min(dots.get_alpha(), arrow.get_alpha()) >= 0.5
    assert not ax.texts
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert 0 <= box.y0 and box.y1 < ax.xaxis.get_label().get_window_extent().y0


@pytest.mark.parametrize("n", [1, 2, 14])
def test_any_number_of_metrics_has_room(n):
    rows = [{"metric": f"m{i}", "group": "genes", "label": "overall", "score": -12345.0} for i in range(n)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = pl.report(pd.DataFrame(rows), show=False)
        ax.figure.canvas.draw()
    # an arrow at the edge lies on no name, and neither does its number
    names = max(label.get_window_extent().x1 for label in ax.get_yticklabels())
    assert len(ax.texts) == n and names < min(number.get_window_extent().x0 for number in ax.texts)
