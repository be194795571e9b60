"""Names that matplotlib takes for something else, in every picture."""

import warnings

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text

import scmimic as sm
from scmimic.pl._figure import plain

NAMES = [
    r"$\frac{g0}$",
    "$1 of $2",
    r"\$x\$",
    "_hidden",
    "",
    "x" * 300,
    "T-Zelle naïve",
    "two\nlines\tand a tab",
    r"100 % {x}^2_y \alpha",
    "<b>&amp;</b>",
]
SHOWN = [
    r"$\frac{g0}$",
    "$1 of $2",
    r"\$x\$",
    "_hidden",
    "(empty)",
    "x" * 19 + "…" + "x" * 20,
    "T-Zelle naïve",
    "two lines and a tab",
    r"100 % {x}^2_y \alpha",
    "<b>&amp;</b>",
]


def texts(figure):
    """What can be read in a figure once it is drawn; a formula that cannot be parsed raises here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*excluded from the legend")
        warnings.filterwarnings("error", message=".*underscore")
        figure.savefig("/dev/null", format="png", dpi=30)
    found = []
    for text in figure.findobj(Text):
        shown, is_math = text._preprocess_math(text.get_text())
        if text.get_visible() and shown.strip():
            assert not is_math, shown
            found.append(shown.strip())
    return found


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def sides():
    """Real and synthetic cells whose genes, types and batches have such names."""
    adata = sm.datasets.synthetic_counts(n_obs=240, n_vars=30, n_labels=3, n_batches=2, seed=0)
    rng = np.random.default_rng(0)
    adata.obs[r"$\frac{type}$"] = pd.Categorical.from_codes(np.arange(240) % len(NAMES), NAMES)
    adata.obs["_batch"] = pd.Categorical.from_codes(np.arange(240) % 2, [r"$\frac{b}$", "_b"])
    adata.var_names = [*NAMES, *(f"gene_{i}" for i in range(len(NAMES), 30))]
    adata.obsm["X_umap"] = rng.normal(size=(240, 2))
    adata.obsm["X_betatcvae"] = rng.normal(size=(240, 2))
    adata.obsm[r"X_$\frac{a}$"] = rng.normal(size=(240, 2))
    return adata[:120].copy(), adata[120:].copy()


KEY = r"$\frac{type}$"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_read(name):
    figure, ax = plt.subplots()
    ax.set_title(plain(name))
    ax.plot([0, 1], label=plain(name))
    ax.legend()
    assert texts(figure).count(SHOWN[NAMES.index(name)]) == 2


def test_columns_of_categories(sides):
    found = texts(sm.pl.embedding(*sides, color=KEY, return_fig=True))
    assert {*SHOWN, KEY} <= set(found)


def test_names_on_points(sides):
    found = texts(sm.pl.embedding(*sides, color=KEY, legend_loc="on data", return_fig=True))
    assert set(SHOWN) <= set(found)


@pytest.mark.parametrize("gene", NAMES)
def test_genes(sides, gene):
    assert f"{SHOWN[NAMES.index(gene)]}, log1p" in texts(sm.pl.embedding(*sides, color=gene, return_fig=True))


def test_key_of_an_embedding(sides):
    assert r"$\frac{a}$1" in texts(sm.pl.embedding(*sides, basis=r"X_$\frac{a}$", return_fig=True))


def test_width_does_not_follow_long_names(sides):
    figure = sm.pl.embedding(*sides, color=KEY, return_fig=True)
    assert figure.get_figwidth() < 16


def test_markers(sides):
    found = texts(sm.pl.markers(*sides, labels_key=KEY, genes=NAMES, return_fig=True))
    # genes beside the panels, and types below
    assert all(found.count(name) == 2 for name in SHOWN)
    assert texts(sm.pl.markers(*sides, labels_key="_batch", return_fig=True)).count(r"$\frac{b}$") == 2
    found = texts(sm.pl.markers(*sides, labels_key=KEY, genes={NAMES[0]: [NAMES[1]]}, return_fig=True))
    assert found.count(SHOWN[0]) == 2


def test_latent(sides):
    found = texts(sm.pl.latent(sides[0], color=[KEY, "_batch"], return_fig=True))
    assert {KEY, "_batch", r"$\frac{b}$", "_b", r"$\frac{g0}$"} <= set(found)


def test_factors(sides):
    adata = sides[0].copy()
    sm.tl.disentanglement(adata, use_rep="X_betatcvae", factors=[KEY, "_batch"])
    assert {KEY, "_batch"} <= set(texts(sm.pl.disentanglement(adata, return_fig=True)))
    synthetic = sides[1].copy()
    sm.tl.code_factor_correlation(adata, synthetic, factors=[KEY, "_batch"], use_rep="X_betatcvae")
    assert {KEY, "_batch"} <= set(texts(sm.pl.code_factor_correlation(synthetic, return_fig=True)))


def test_methods():
    table = pd.DataFrame({"method": NAMES, "fraction": 0.1, "n_real": 5, "f1": 0.5})
    assert set(SHOWN) <= set(texts(sm.pl.augmentation(table, return_fig=True)))
    results = pd.DataFrame(
        {"group": "a", "condition": "b", "method": NAMES, "seed": 0, "rf_error": 30.0, "delta_entropy": 0.0}
    )
    adata = sm.datasets.synthetic_counts(n_obs=10)
    adata.uns["holdout_arithmetic"] = {"results": results}
    found = texts(sm.pl.holdout_arithmetic(adata, rival=NAMES[1], return_fig=True))
    assert set(SHOWN) <= set(found) and {
        "ΔH of $\\frac{g0}$\n(low: a prediction to trust)", "gain over $1 of $2\nrandom forest error (%)",
    } <= set(found)  # fmt: skip
    scores = pd.DataFrame({"context": "overall", "method": NAMES, "metric": "pds_cosine", "score": 0.5})
    assert set(SHOWN) <= set(texts(sm.pl.evaluate_perturbation(scores, return_fig=True)))


def test_results_and_losses():
    real, fake = np.random.default_rng(0).normal(size=(2, 20, 3))
    result = sm.metrics.discriminator_auc(real, fake, n_trees=3, return_folds=True)
    found = texts(sm.pl.roc({name: result for name in NAMES if name}, return_fig=True))
    assert all(any(text.startswith(f"{name}: AUC") for text in found) for name in SHOWN if name != "(empty)")
    history = {r"$\frac{a}$_train": pd.DataFrame({"a": [1.0, 2.0]})}
    assert any(r"$\frac{a}$" in text for text in texts(sm.pl.training(history, return_fig=True)))


def test_combinations(sides):
    adata, predicted = (side.copy() for side in sides)
    predicted.uns["latent_arithmetic"] = {
        "params": {"target": [NAMES[0], "_b"], "group_key": KEY, "condition_key": "_batch"},
        "controls": [r"$\frac{b}$"],
        "reference_groups": [NAMES[1]],
        "delta_entropy": 0.5,
        "delta_entropy_of": "target",
    }
    found = texts(sm.pl.latent_arithmetic(adata, predicted, return_fig=True))
    assert any(text.startswith(r"$\frac{g0}$,  _b") and "ΔH = 0.50" in text for text in found)


def test_report(sides, tmp_path):
    """The whole page, with such names of genes and types."""
    path = sm.report(
        *sides,
        tmp_path / "report.html",
        labels_key="_batch",
        metrics="rf_auc_genes",
        baselines=["multinomial"],
        n_trees=3,
        min_cells=10,
        basis="pca",
        n_jobs=1,
    )
    assert r"$\frac{b}$" in path.read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------------------------ several colours


def test_a_row_of_panels_for_each_colour(sides):
    colors = ["cell_type", "gene_12", "_batch"]
    axes = sm.pl.embedding(*sides, color=colors, show=False)
    assert len(axes) == 7
    for panels, color in zip((axes[:3], axes[3:5], axes[5:]), colors, strict=True):
        alone = sm.pl.embedding(*sides, color=color, show=False)
        for panel, other in zip(panels, alone, strict=False):
            mine, its = (ax.collections[0] for ax in (panel, other))
            np.testing.assert_array_equal(mine.get_offsets(), its.get_offsets())
            np.testing.assert_array_equal(mine.get_facecolors(), its.get_facecolors())
    assert axes[0].get_title() == "Real\ncell_type" and axes[3].get_title() == "Real\ngene_12"
    assert {"cell_type", "gene_12, log1p", "_batch", "type_0", "_b"} <= set(texts(axes[0].figure))


def test_one_colour_in_a_list_is_that_colour(sides):
    assert len(sm.pl.embedding(*sides, color=["cell_type"], show=False)) == 3
    assert len(sm.pl.embedding(*sides, color=("cell_type", "_batch"), show=False)) == 5


@pytest.mark.parametrize(
    ("color", "error", "message"),
    [
        ([], ValueError, "`color` is empty"),
        (["cell_type", "nothing"], KeyError, "`color='nothing'` is neither"),
        ({"cell_type"}, TypeError, "`color` is a set"),
        ([3], ValueError, "`color` must be"),
    ],
)
def test_colours_that_are_not_there(sides, color, error, message):
    with pytest.raises(error, match=message):
        sm.pl.embedding(*sides, color=color, show=False)


def test_axes_for_each_colour(sides):
    _, grid = plt.subplots(2, 3)
    own = list(grid.flat)[:5]
    assert sm.pl.embedding(*sides, color=["cell_type", "_batch"], ax=own, show=False) == own
    with pytest.raises(ValueError, match="has 5 panels, but `ax` holds 6"):
        sm.pl.embedding(*sides, color=["cell_type", "_batch"], ax=grid, show=False)


# --------------------------------------------------------------------------------------------------------------- saving

CALLS = {
    "augmentation": {"result": pd.DataFrame({"method": ["a"], "fraction": [0.1], "n_real": [5], "f1": [0.5]})},
    "training": {"model_or_history": {"a": pd.DataFrame({"a": [1.0, 2.0]})}},
    "report": {"results": pd.DataFrame({"metric": ["a"], "group": ["genes"], "label": ["overall"], "score": [0.5]})},
    "roc": {"result": None},
    "markers": {"labels_key": "cell_type"},
}


def given(name, sides):
    two = name in ("embedding", "gene_statistics", "markers", "latent_arithmetic", "latent_traversal")
    return sides if two else sides[:1] if name not in ("augmentation", "training", "report", "roc") else ()


@pytest.mark.parametrize("name", sm.pl.__all__)
@pytest.mark.parametrize(
    ("save", "error", "message"),
    [
        (True, TypeError, "`save` must be a path.*not True"),
        ("cells", ValueError, "`save` must end in .png or .pdf.*not 'cells'"),
        ("cells.h5ad", ValueError, "`save` must end in .png"),
        ("no/such/folder/cells.png", FileNotFoundError, "There is no folder no/such.*another `save`"),
    ],
)
def test_no_picture_can_be_written_there(sides, name, save, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        getattr(sm.pl, name)(*given(name, sides), **CALLS.get(name, {}), save=save)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["augmentation", "training", "report", "markers", "embedding", "gene_statistics", "latent"]
)
def test_saved_picture(sides, name, tmp_path):
    """As text and as a path, in the format of the ending, over an older file, with what is returned as ever."""
    path = tmp_path / "cells.png"
    path.write_text("older")
    ax = getattr(sm.pl, name)(*given(name, sides), **CALLS.get(name, {}), save=path)
    assert ax is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [file.name for file in tmp_path.iterdir()] == ["cells.png"]
