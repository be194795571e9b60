import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from matplotlib.colors import to_hex

import scmimic.pl as pl
from scmimic.datasets import synthetic_counts
from scmimic.pl._figure import REAL_COLOR, SYNTHETIC_COLOR


@pytest.fixture
def pair():
    adata = synthetic_counts(n_obs=300, n_vars=20)
    return adata[:180].copy(), adata[180:].copy()


def halves(ax):
    """(colour, position, lowest, highest x) of each half violin."""
    bodies = [c for c in ax.collections if hasattr(c, "get_paths") and len(c.get_facecolor())]
    return [(to_hex(b.get_facecolor()[0][:3]), b.get_paths()[0].vertices[:, 0]) for b in bodies]


def means(ax):
    """Height of each mean line, in the order of drawing."""
    lines = [c for c in ax.collections if not len(c.get_facecolor())]
    return [float(line.get_segments()[0][0, 1]) for line in lines]


def test_real_lies_left_and_synthetic_right(pair):
    (ax,) = pl.markers(*pair, labels_key="cell_type", genes=["gene_3"], show=False)
    drawn = halves(ax)
    assert [color for color, _ in drawn] == [REAL_COLOR] * 3 + [SYNTHETIC_COLOR] * 3
    for i, (color, x) in enumerate(drawn):
        if color == REAL_COLOR:
            assert x.max() <= i % 3
            assert x.min() < i % 3
        else:
            assert x.min() >= i % 3
            assert x.max() > i % 3
    assert [t.get_text() for t in ax.get_xticklabels()] == ["type_0", "type_1", "type_2"]
    assert ax.get_ylabel() == "gene_3"


def test_lines_are_the_means(pair):
    (ax,) = pl.markers(*pair, labels_key="cell_type", genes=["gene_3"], show=False)
    expected = []
    for a in pair:
        a = a.copy()
        sc.pp.normalize_total(a, target_sum=1e4)
        sc.pp.log1p(a)
        values = a[:, "gene_3"].X.toarray().ravel()
        expected += [values[a.obs["cell_type"] == f"type_{i}"].mean() for i in range(3)]
    np.testing.assert_allclose(means(ax), expected, rtol=1e-5)


def test_default_genes_mark_their_type(pair):
    real, _ = pair
    axes = pl.markers(*pair, labels_key="cell_type", n_genes=2, show=False)
    genes = [ax.get_ylabel() for ax in axes]
    assert len(set(genes)) == 6
    sc.pp.normalize_total(real)
    mean = pd.DataFrame(real.X.toarray(), columns=real.var_names).groupby(real.obs["cell_type"].to_numpy()).mean()
    assert mean[genes].idxmax().tolist() == ["type_0"] * 2 + ["type_1"] * 2 + ["type_2"] * 2


def shaded(ax):
    """Middle of the types that are shaded."""
    return [patch.get_x() + patch.get_width() / 2 for patch in ax.patches]


def test_legend_says_what_each_mark_is(pair):
    def legend(axes):
        return [text.get_text() for text in axes[0].get_legend().get_texts()]

    assert legend(pl.markers(*pair, labels_key="cell_type", show=False)) == [
        "Real", "Synthetic", "mean", "marked type",
    ]  # fmt: skip
    # of genes that mark none
    asked = pl.markers(*pair, labels_key="cell_type", genes=["gene_3"], titles=("a", "b"), show=False)
    assert legend(asked) == ["a", "b", "mean"]
    asked[0].figure.draw_without_rendering()
    # two things above the first panel
    left = asked[0]._left_title.get_window_extent()
    assert left.x1 < asked[0].get_legend().get_window_extent().x0


def test_which_gene_marks_which_type(pair):
    axes = pl.markers(*pair, labels_key="cell_type", n_genes=2, show=False)
    assert [shaded(ax) for ax in axes] == [[0], [0], [1], [1], [2], [2]]
    assert [[t.get_text() for t in ax.texts] for ax in axes] == [[f"type_{i}"] for i in (0, 0, 1, 1, 2, 2)]
    assert axes[0].get_title(loc="left") == "expression, log1p"
    # of genes that are merely listed nothing is said
    (ax,) = pl.markers(*pair, labels_key="cell_type", genes=["gene_3"], log1p=False, show=False)
    assert not shaded(ax) and not ax.texts
    assert ax.get_title(loc="left") == "expression, counts"


def test_markers_by_type(pair):
    genes = {"type_2": ["gene_3", "gene_1"], "type_0": "gene_3"}
    axes = pl.markers(*pair, labels_key="cell_type", genes=genes, show=False)
    assert [ax.get_ylabel() for ax in axes] == ["gene_3", "gene_1"]
    assert [shaded(ax) for ax in axes] == [[2, 0], [2]]
    assert [t.get_text() for t in axes[0].texts] == ["type_2\ntype_0"]


def test_absent_types_and_zeros_have_no_violin(pair):
    real, fake = pair
    fake = fake[fake.obs["cell_type"] != "type_1"].copy()
    fake.X = fake.X.toarray()
    fake.X[(fake.obs["cell_type"] == "type_2").to_numpy(), 3] = 0
    (ax,) = pl.markers(real, fake, labels_key="cell_type", genes=["gene_3"], show=False)
    assert sum(color == SYNTHETIC_COLOR for color, _ in halves(ax)) == 1
    assert len(ax.get_xticklabels()) == 3


def test_one_type_needs_no_test(pair):
    real, fake = (a[a.obs["cell_type"] == "type_0"].copy() for a in pair)
    axes = pl.markers(real, fake, labels_key="cell_type", n_genes=2, show=False)
    assert len(axes) == 2


def test_own_axes_and_data_unchanged(pair):
    real, fake = pair
    fig, axes = plt.subplots(2)
    assert pl.markers(real, fake, labels_key="cell_type", genes=["gene_0", "gene_1"], ax=axes, return_fig=True) is fig
    assert not real.uns
    assert "_index" not in real.obs


def test_bad_input(pair):
    real, fake = pair
    with pytest.raises(KeyError, match="nosuch"):
        pl.markers(real, fake, labels_key="nosuch")
    with pytest.raises(KeyError, match="GENE"):
        pl.markers(real, fake, labels_key="cell_type", genes=["GENE"])
    with pytest.raises(KeyError, match=r"types of `genes` are not in 'cell_type': \['no'\]. It has \['type_0'"):
        pl.markers(real, fake, labels_key="cell_type", genes={"no": ["gene_1"]})
    with pytest.raises(KeyError, match="GENE"):
        pl.markers(real, fake, labels_key="cell_type", genes={"type_0": ["GENE"]})
    with pytest.raises(ValueError, match=r"`genes\['type_0'\]` must be"):
        pl.markers(real, fake, labels_key="cell_type", genes={"type_0": [3]})
    for nothing in ({}, {"type_0": []}):
        with pytest.raises(ValueError, match="no gene to draw"):
            pl.markers(real, fake, labels_key="cell_type", genes=nothing)
    with pytest.raises(ValueError, match="`genes` is empty"):
        pl.markers(real, fake, labels_key="cell_type", genes=[])
