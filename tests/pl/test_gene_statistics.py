import matplotlib.pyplot as plt
import numpy as np
import pytest
import scanpy as sc
from matplotlib.colors import to_hex

import scmimic.pl as pl
from scmimic.datasets import synthetic_counts
from scmimic.pl._figure import REAL_COLOR, SYNTHETIC_COLOR


@pytest.fixture
def pair():
    adata = synthetic_counts(n_obs=160, n_vars=15)
    return adata[:100].copy(), adata[100:].copy()


def dense(adata):
    x = adata.copy()
    sc.pp.normalize_total(x, target_sum=1e4)
    sc.pp.log1p(x)
    return x.X.toarray().astype(float)


def of_side(ax, color):
    """Points of one side."""
    colors = np.array([to_hex(c) for c in ax.collections[0].get_facecolors()])
    return np.asarray(ax.collections[0].get_offsets())[colors == color]


def by_row(points):
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize("log1p", [True, False])
def test_points_are_the_genes(pair, log1p):
    spread, zeros, correlation = pl.gene_statistics(*pair, log1p=log1p, max_genes=6, show=False)
    real, fake = (dense(a) if log1p else a.X.toarray().astype(float) for a in pair)
    for x, side in ((real, REAL_COLOR), (fake, SYNTHETIC_COLOR)):
        expected = np.c_[x.mean(axis=0), x.var(axis=0, ddof=1)]
        np.testing.assert_allclose(by_row(of_side(spread, side)), by_row(expected), rtol=1e-4)
    assert (spread.get_xscale(), spread.get_yscale()) == ("log", "log")
    unit = "log1p" if log1p else "counts"
    assert (spread.get_xlabel(), spread.get_ylabel()) == (f"mean of a gene, {unit}", f"variance of a gene, {unit}")
    assert [t.get_text() for t in spread.get_legend().get_texts()] == ["Real", "Synthetic"]
    assert (zeros.get_xlabel(), zeros.get_ylabel()) == ("share of zeros, real", "share of zeros, synthetic")
    assert (correlation.get_xlabel(), correlation.get_ylabel()) == ("correlation, real", "correlation, synthetic")
    assert correlation.child_axes[0].get_ylabel() == "pairs of genes"
    np.testing.assert_allclose(
        np.asarray(zeros.collections[0].get_offsets()), np.c_[(real == 0).mean(axis=0), (fake == 0).mean(axis=0)]
    )
    assert correlation.collections[0].get_array().sum() > 0
    assert correlation.get_title() == "Correlations of 6 genes"


def test_correlations_are_of_the_most_variable_genes(pair):
    from scmimic.pl._gene_statistics import _correlations

    x = dense(pair[0])
    genes = np.array([1, 4, 7])
    expected = [np.corrcoef(x[:, a], x[:, b])[0, 1] for a, b in ((1, 4), (1, 7), (4, 7))]
    np.testing.assert_allclose(_correlations(x, genes), expected)
    panel = pl.gene_statistics(*pair, max_genes=3, show=False)[2]
    best = np.sort(np.argsort(-x.var(axis=0))[:3])
    shown = np.asarray(panel.collections[0].get_offsets())[np.asarray(panel.collections[0].get_array()) > 0]
    expected = np.c_[_correlations(x, best), _correlations(dense(pair[1]), best)]
    cell = 1.1 * np.ptp(panel.get_xlim()) / 45
    assert all(np.abs(shown - point).max(axis=1).min() <= cell for point in expected)


def test_large_sides_are_cut(pair):
    real, fake = pair
    spread = pl.gene_statistics(real, fake, max_cells=60, seed=1, show=False)[0]
    again = pl.gene_statistics(real, fake, max_cells=60, seed=1, show=False)[0]
    np.testing.assert_array_equal(of_side(spread, REAL_COLOR), of_side(again, REAL_COLOR))
    whole = np.c_[dense(fake).mean(axis=0), dense(fake).var(axis=0, ddof=1)]
    np.testing.assert_allclose(by_row(of_side(spread, SYNTHETIC_COLOR)), by_row(whole), rtol=1e-4)
    cut = of_side(spread, REAL_COLOR)
    assert not np.allclose(by_row(cut), by_row(np.c_[dense(real).mean(axis=0), dense(real).var(axis=0, ddof=1)]))


def test_constant_and_unexpressed_genes_do_not_break_it(pair):
    real, fake = pair
    fake.X = fake.X * 0
    axes = pl.gene_statistics(real, fake, show=False)
    assert axes[2].get_title() == "Correlations of 0 genes"
    assert [t.get_text() for t in axes[0].get_legend().get_texts()] == [
        "Real",
        "Synthetic (without 15 genes equal in all cells)",
    ]
    axes[0].figure.canvas.draw()


def test_legend_lies_below_and_numbers_apart(pair):
    real, fake = pair
    real.X = real.X.multiply(np.arange(15) != 3).tocsr()
    axes = pl.gene_statistics(real, fake, titles=("Real cells", "Cells of ACTIVA"), show=False)
    axes[0].figure.canvas.draw()
    legend = axes[0].get_legend()
    assert [t.get_text() for t in legend.get_texts()] == [
        "Real cells (without 1 gene equal in all cells)",
        "Cells of ACTIVA",
    ]
    box = legend.get_window_extent()
    assert 0 <= box.y0 and box.y1 < axes[0].xaxis.get_label().get_window_extent().y0
    assert axes[0].title.get_window_extent().y1 <= axes[0].figure.bbox.y1
    # a name that was given keeps its capitals
    assert axes[1].get_ylabel() == "share of zeros, Cells of ACTIVA"
    low, high = axes[0].get_xlim()
    shown = [t for t in axes[0].get_xticklabels() if low <= t.get_position()[0] <= high]
    extents = [t.get_window_extent() for t in shown]
    assert len(shown) >= 2 and all(a.x1 < b.x0 for a, b in zip(extents, extents[1:], strict=False))
    assert not any(t.get_text() for t in axes[0].get_xticklabels(minor=True))


def test_values_of_unknown_units(pair):
    """They have no name on the axes."""
    for a in pair:
        a.X = np.sqrt(a.X.toarray())
    spread = pl.gene_statistics(*pair, log1p=False, show=False)[0]
    assert spread.get_xlabel() == "mean of a gene"


def test_own_axes_and_data_unchanged(pair):
    real, fake = pair
    before = real.X.copy()
    fig, axes = plt.subplots(1, 3)
    assert pl.gene_statistics(real, fake, ax=axes, return_fig=True) is fig
    assert (real.X != before).nnz == 0
    assert not real.uns
    with pytest.raises(ValueError, match="same genes"):
        pl.gene_statistics(real, fake[:, :5])
    with pytest.raises(ValueError, match="log1p=False"):
        real.X = real.X * -1
        pl.gene_statistics(real, fake)


def test_lines_at_the_medians():
    adata = synthetic_counts(n_obs=160, n_vars=90)
    real, fake = adata[:100].copy(), adata[100:].copy()
    spread = pl.gene_statistics(real, fake, show=False)[0]
    for line, a in zip(spread.lines, (real, fake), strict=True):
        x = dense(a)
        mean, variance = x.mean(axis=0), x.var(axis=0, ddof=1)
        groups = np.argsort(mean, kind="stable").reshape(9, 10)
        np.testing.assert_allclose(line.get_xdata(), np.median(mean[groups], axis=1), rtol=1e-4)
        np.testing.assert_allclose(line.get_ydata(), np.median(variance[groups], axis=1), rtol=1e-4)
    assert spread.get_legend().get_texts()[-1].get_text() == "lines: medians of genes of similar mean"
    # of a few genes, points say all
    assert not [
        x for line in pl.gene_statistics(real[:, :39], fake[:, :39], show=False)[0].lines for x in line.get_xdata()
    ]
