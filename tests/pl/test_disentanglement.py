import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import scmimic as sm


@pytest.fixture(scope="module")
def adata():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"batch": rng.choice(["a", "b"], 300), "step": rng.integers(5, size=300)}).set_index(
        np.arange(300).astype(str)
    )
    adata = ad.AnnData(np.ones((300, 2), dtype=np.float32), obs=obs)
    adata.obsm["X_z"] = np.column_stack([-obs["step"], obs["batch"] == "b", rng.normal(size=300)]).astype(float)
    adata.obsm["var"] = np.full((300, 3), 0.1)
    sm.tl.disentanglement(adata, use_rep="X_z", use_var="var", factors=["batch", "step"])
    return adata


def heights(ax):
    return np.array([[bar.get_height() for bar in container] for container in ax.containers]).T


def test_bars_are_what_is_stored(adata):
    before = adata.copy()
    spearman, information = sm.pl.disentanglement(adata, show=False)
    stored = adata.uns["disentanglement"]
    np.testing.assert_allclose(heights(spearman), np.abs(stored["spearman"]))
    np.testing.assert_allclose(heights(information), np.maximum(stored["mutual_information_posterior"], 0))
    table = stored["results"].set_index(["metric", "factor"])["value"]
    assert spearman.get_title(loc="left") == f"Spearman gap {table['spearman_gap', 'overall']:.2f}"
    assert information.get_title(loc="left") == f"MIG (posterior) {table['mig_posterior', 'overall']:.2f}"
    assert [text.get_text() for text in spearman.get_legend().get_texts()] == ["batch", "step"]
    assert [text.get_text() for text in information.get_xticklabels()] == ["Z1", "Z2", "Z3"]
    np.testing.assert_array_equal(adata.uns["disentanglement"]["spearman"], before.uns["disentanglement"]["spearman"])


def test_histogram_on_request(adata):
    _, information = sm.pl.disentanglement(adata, estimator="histogram", show=False)
    np.testing.assert_allclose(heights(information), adata.uns["disentanglement"]["mutual_information"])


def test_own_axes_colours_and_figure(adata):
    _, axes = plt.subplots(2)
    assert list(sm.pl.disentanglement(adata, ax=axes, palette=["red", "blue"], show=False)) == list(axes)
    assert axes[0].containers[0][0].get_facecolor()[:3] == (1, 0, 0)
    assert isinstance(sm.pl.disentanglement(adata, return_fig=True), Figure)


def test_after_a_file_and_without_a_posterior(adata, tmp_path):
    other = adata.copy()
    sm.tl.disentanglement(other, use_rep="X_z", factors=["step"], key_added="mine")
    other.write_h5ad(tmp_path / "x.h5ad")
    other = ad.read_h5ad(tmp_path / "x.h5ad")
    _, information = sm.pl.disentanglement(other, key="mine", show=False)
    assert information.get_title(loc="left").startswith("MIG (histogram)")
    with pytest.raises(KeyError, match="with `use_var`"):
        sm.pl.disentanglement(other, key="mine", estimator="posterior")


def test_bad_input(adata):
    with pytest.raises(KeyError, match="run `sm.tl.disentanglement"):
        sm.pl.disentanglement(adata, key="x")
    with pytest.raises(ValueError, match="`estimator` must be"):
        sm.pl.disentanglement(adata, estimator="knn")
    with pytest.raises(ValueError, match="2 panels"):
        sm.pl.disentanglement(adata, ax=plt.figure().subplots())
