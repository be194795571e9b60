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


def by_row(points):
    return points[np.lexsort(points.T)]


@pytest.mark.parametrize("log1p", [True, False])
def test_points_are_the_genes(pair, log1p):
    spread, zeros, correlation = pl.gene_statistics(*pair, log1p=log1p, max_genes=6, show=False)
    real, fake = (dense(a) if log1p else a.X.toarray().astype(float) for a in pair)
    drawn = np.asarray(spread.collections[0].get_offsets())
    colors = np.array([to_hex(c) for c in spread.collections[0].get_facecolors()])
    for x, color in ((real, REAL_COLOR), (fake, SYNTHETIC_COLOR)):
        expected = np.c_[x.mean(axis=0), x.var(axis=0, ddof=1)]
        np.testing.assert_allclose(by_row(drawn[colors == color]), by_row(expected), rtol=1e-4)
    assert spread.get_xscale() == ("linear" if log1p else "log")
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
    drawn = np.asarray(spread.collections[0].get_offsets())
    again = pl.gene_statistics(real, fake, max_cells=60, seed=1, show=False)[0]
    np.testing.assert_array_equal(drawn, np.asarray(again.collections[0].get_offsets()))
    whole = np.c_[dense(fake).mean(axis=0), dense(fake).var(axis=0, ddof=1)]
    colors = np.array([to_hex(c) for c in spread.collections[0].get_facecolors()])
    np.testing.assert_allclose(by_row(drawn[colors == SYNTHETIC_COLOR]), by_row(whole), rtol=1e-4)


def test_constant_and_unexpressed_genes_do_not_break_it(pair):
    real, fake = pair
    fake.X = fake.X * 0
    axes = pl.gene_statistics(real, fake, show=False)
    assert axes[2].get_title() == "Correlations of 0 genes"


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
