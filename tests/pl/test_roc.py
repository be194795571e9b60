import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

import scmimic.pl as pl
from scmimic.metrics import DiscriminatorResult, RocFold


@pytest.fixture
def result():
    """Two folds: a perfect one and chance."""
    perfect = RocFold(fpr=np.array([0.0, 0.0, 1.0]), tpr=np.array([0.0, 1.0, 1.0]), auc=1.0)
    chance = RocFold(fpr=np.array([0.0, 1.0]), tpr=np.array([0.0, 1.0]), auc=0.5)
    return DiscriminatorResult(auc=0.75, folds=(perfect, chance))


def test_folds_mean_and_chance(result):
    ax = pl.roc(result, show=False)
    chance, *folds, mean = ax.lines
    assert chance.get_xydata().tolist() == [[0, 0], [1, 1]]
    for line, fold in zip(folds, result.folds, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), np.c_[fold.fpr, fold.tpr])
        assert line.get_linewidth() < mean.get_linewidth()
        assert line.get_color() == mean.get_color()
    x, y = mean.get_data()
    assert (x[0], y[0]) == (0, 0)
    np.testing.assert_allclose(y[1:], (1 + x[1:]) / 2)
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["all folds: AUC 0.75", "chance: AUC 0.50"]
    ax = pl.roc(dataclasses.replace(result, auc=0.7, interval=(0.61, 0.78)), show=False)
    assert ax.get_legend().get_texts()[0].get_text() == "all folds: AUC 0.70 (0.61 to 0.78)"


def test_several_results(result):
    ax = pl.roc({"a": result, "b": result}, palette={"a": "red", "b": "blue"}, title="Both", show=False)
    assert len(ax.lines) == 1 + 2 * 3
    assert {line.get_color() for line in ax.lines[1:]} == {"#ff0000", "#0000ff"}
    assert [t.get_text().split(":")[0] for t in ax.get_legend().get_texts()] == ["a", "b", "chance"]
    assert ax.get_title() == "Both"


@pytest.mark.parametrize("n", [1, 6])
def test_legend_lies_on_no_curve(result, n):
    ax = pl.roc({f"curve {i}": result for i in range(n)}, show=False)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.y1 < ax.xaxis.get_label().get_window_extent().y0
    assert box.y0 >= 0


def test_own_axes_and_figure(result):
    fig, ax = plt.subplots()
    assert pl.roc(result, ax=ax, show=False) is ax
    assert pl.roc(result, ax=ax, return_fig=True) is fig


def test_bare_numbers_are_refused(result):
    with pytest.raises(TypeError, match="return_folds=True.*got float for 'x'"):
        pl.roc({"x": 0.5})
    with pytest.raises(ValueError, match="empty"):
        pl.roc({})
