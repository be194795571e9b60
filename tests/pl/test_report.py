import warnings

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import scmimic.pl as pl


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
    alone = pl.report(pd.DataFrame(rows), per_label=False, show=False)
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


@pytest.mark.parametrize("n", [1, 2, 14])
def test_any_number_of_metrics_has_room(n):
    rows = [{"metric": f"m{i}", "group": "genes", "label": "overall", "score": -5.0} for i in range(n)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = pl.report(pd.DataFrame(rows), show=False)
        ax.figure.canvas.draw()
    # an arrow at the edge lies on no name
    names = max(label.get_window_extent().x1 for label in ax.get_yticklabels())
    assert names < ax.get_window_extent().x0 - 4
