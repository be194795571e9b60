import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

import scmimic as sm


@pytest.fixture
def cells():
    table = pd.DataFrame(
        {
            "pearson": [0.9, 0.7, -0.1],
            "spearman": [0.0, 0.0, 0.0],
            "ceiling": [0.95, 0.8, 0.2],
            "informative": [True, True, False],
        },
        index=["Z1", "Z2", "Z3"],
    )
    factors = pd.DataFrame({"batch": [0.5, -0.8, 0.0], "step": [0.1, 0.2, -0.3]}, index=table.index)
    cells = ad.AnnData(np.ones((3, 2)))
    cells.uns["code_faithfulness"] = {"table": table, "median": 0.8}
    cells.uns["code_factor_correlation"] = {"table": factors}
    return cells


def test_faithfulness(cells, tmp_path):
    cells.write_h5ad(tmp_path / "x.h5ad")
    for stored in (cells, ad.read_h5ad(tmp_path / "x.h5ad")):
        ax = sm.pl.code_faithfulness(stored, show=False)
        np.testing.assert_allclose([bar.get_height() for bar in ax.patches], [0.9, 0.7, -0.1])
        grey = [np.allclose(bar.get_facecolor()[:3], to_rgb("lightgray")) for bar in ax.patches]
        assert grey == [False, False, True]
        (lines,) = ax.collections
        np.testing.assert_allclose([segment[0, 1] for segment in lines.get_segments()], [0.95, 0.8, 0.2])
        assert ax.get_title(loc="left") == "code faithfulness, median 0.80"
        assert [text.get_text() for text in ax.get_xticklabels()] == ["Z1", "Z2", "Z3"]
        assert ax.get_ylim()[0] < -0.1
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ceiling", "informative", "mostly prior"]


def test_factors(cells):
    ax = sm.pl.code_factor_correlation(cells, palette=["red", "blue"], show=False)
    heights = np.array([[bar.get_height() for bar in container] for container in ax.containers]).T
    np.testing.assert_allclose(heights, [[0.5, 0.1], [0.8, 0.2], [0, 0.3]])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["batch", "step"]
    assert ax.patches[0].get_facecolor()[:3] == (1, 0, 0)


@pytest.mark.parametrize("draw", [sm.pl.code_faithfulness, sm.pl.code_factor_correlation])
def test_axes_figures_and_missing_results(cells, draw):
    own = plt.figure().subplots()
    assert draw(cells, ax=own, show=False) is own
    assert isinstance(draw(cells, return_fig=True), Figure)
    with pytest.raises(KeyError, match=f"run `sm.tl.{draw.__name__}"):
        draw(cells, key="x")
