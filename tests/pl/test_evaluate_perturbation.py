import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.legend import Legend

import scmimic as sm
from scmimic.pl._scores import LARGE, SMALL

SCORES = {"pds_cosine": 0.6, "expr_mse_unbiased_capped_norm": np.nan, "de_wilcoxon_sig_jaccard": 2.5, "overall": 1.2}


def table(methods=("mine", "control cells"), contexts=("overall",)):
    return pd.DataFrame(
        {"context": context, "method": method, "metric": metric, "score": score - i - 0.1 * k}
        for k, context in enumerate(contexts)
        for i, method in enumerate(methods)
        for metric, score in SCORES.items()
    )


def points(ax, size):
    """Points of a size, in the order in which they were drawn."""
    return [
        (*np.asarray(group.get_offsets())[0], group.get_facecolor()[0])
        for group in ax.collections
        if len(group.get_offsets()) and group.get_sizes()[0] == size
    ]


def test_one_point_for_each_score(tmp_path):
    adata = ad.AnnData(np.ones((3, 2)))
    adata.uns["evaluate_perturbation"] = {"results": table()}
    adata.write_h5ad(tmp_path / "x.h5ad")
    for results in (table(), adata, ad.read_h5ad(tmp_path / "x.h5ad")):
        ax = sm.pl.evaluate_perturbation(results, palette=["red", "blue"], show=False)
        # what has no score has no line
        shown = [label.get_text() for label in ax.get_yticklabels()]
        assert shown == ["perturbations told apart", "sets of changed genes", "mean"]
        found = points(ax, LARGE)
        # beyond the limits at the edge
        np.testing.assert_allclose([x for x, *_ in found], [0.6, 1.6, 1.2, -0.4, 1.5, 0.2])
        np.testing.assert_allclose([round(y) for _, y, _ in found], [0, 1, 2, 0, 1, 2])
        assert [tuple(color) for *_, color in found] == [to_rgba("red")] * 3 + [to_rgba("blue")] * 3
        assert [text.get_text() for text in ax.get_legend().get_texts()] == [
            "prediction", "beyond the axis, with its score",
        ]  # fmt: skip
        beside = next(
            child for child in ax.get_children() if isinstance(child, Legend) and child is not ax.get_legend()
        )
        assert [text.get_text() for text in beside.get_texts()] == ["mine", "control cells"]
        # the score of an arrow stands outside
        (number,) = ax.texts
        assert (number.get_text(), number.xy, number.get_ha()) == ("2.5", (1.6, found[1][1]), "left")


def test_contexts_are_small_points():
    results = table(["mine"], ["overall", "a", "b"])
    ax = sm.pl.evaluate_perturbation(results, show=False)
    assert len(points(ax, LARGE)) == 3
    small = [np.asarray(group.get_offsets()) for group in ax.collections if group.get_sizes()[0] == SMALL]
    np.testing.assert_allclose(small[0][:, 0], [0.5, 0.4])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "all contexts", "one context", "beyond the axis, large ones with their score",
    ]  # fmt: skip
    ax = sm.pl.evaluate_perturbation(results, per_context=False, show=False)
    assert not points(ax, SMALL)
    # one context is drawn as it is
    assert len(points(sm.pl.evaluate_perturbation(table(["mine"], ["a"]), show=False), LARGE)) == 3


def test_choices():
    _, ax = plt.subplots()
    assert sm.pl.evaluate_perturbation(table(), ax=ax, title="x", limits=(0, 1), show=False) is ax
    assert (ax.get_title(), ax.get_xlim()) == ("x", (0, 1))
    assert isinstance(sm.pl.evaluate_perturbation(table(), return_fig=True), Figure)


def test_bad_input():
    with pytest.raises(KeyError, match=r"run `sm.tl.evaluate_perturbation"):
        sm.pl.evaluate_perturbation(ad.AnnData(np.ones((3, 2))))
    with pytest.raises(ValueError, match="No metric has a score"):
        sm.pl.evaluate_perturbation(table().assign(score=np.nan))
    with pytest.raises(ValueError, match="`limits` must be"):
        sm.pl.evaluate_perturbation(table(), limits=(1, 0))
