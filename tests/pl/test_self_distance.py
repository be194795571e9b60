import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

import scmimic.pl as pl
from scmimic.metrics import SelfDistance


@pytest.fixture
def result():
    sizes, ratios = np.array([100, 1000]), np.array([1.0, 0.8])
    intervals = np.column_stack([ratios - 0.1, ratios + 0.1])
    return SelfDistance(0.8, (0.7, 0.9), 1000, sizes, ratios, intervals, ratios * 5, np.array([5.0, 5.0]))


def test_curve_band_and_end(result):
    ax = pl.self_distance(result, show=False)
    ideal, curve, end = ax.lines
    assert set(ideal.get_ydata()) == {1}
    np.testing.assert_array_equal(curve.get_xydata(), [[100, 1.0], [1000, 0.8]])
    np.testing.assert_array_equal(end.get_xydata(), [[1000, 0.8]])
    (band,) = ax.collections
    corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices}
    assert corners == {(100, 0.9), (100, 1.1), (1000, 0.7), (1000, 0.9)}
    assert ax.get_xscale() == "log"
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts == ["synthetic cells: 0.80 (0.70 to 0.90)", "as far apart as real cells"]


def test_several_results(result):
    ax = pl.self_distance({"a": result, "$b$": result}, palette={"a": "red", "$b$": "blue"}, title="Two", show=False)
    assert [line.get_color() for line in ax.lines[1:]] == ["#ff0000", "#ff0000", "#0000ff", "#0000ff"]
    assert ax.get_title() == "Two"
    assert ax.get_legend().get_texts()[1].get_text().startswith(r"\$b\$: 0.80")


def test_own_axes_and_figure(result):
    fig, ax = plt.subplots()
    assert pl.self_distance(result, ax=ax, show=False) is ax
    assert pl.self_distance(result, ax=ax, return_fig=True) is fig


def test_other_results_are_refused(result):
    with pytest.raises(TypeError, match="`self_distance_ratio`, got float for 'x'"):
        pl.self_distance({"x": 0.5})
    with pytest.raises(ValueError, match="empty"):
        pl.self_distance({})


@pytest.mark.parametrize(("last", "labels"), [(280, ["100", "200"]), (3000, ["100", "300", "1,000", "3,000"])])
def test_numbers_of_cells_are_to_be_read(result, last, labels):
    one = dataclasses.replace(result, sizes=np.array([100, last]))
    ax = pl.self_distance(one, show=False)
    ax.figure.canvas.draw()
    low, high = ax.get_xlim()
    assert [t.get_text() for t in ax.get_xticklabels() if low <= t.get_position()[0] <= high] == labels


def test_legend_lies_on_no_curve(result):
    ax = pl.self_distance({"a": result, "b": result}, show=False)
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    assert box.y1 < ax.xaxis.get_label().get_window_extent().y0
    assert box.y0 >= 0
