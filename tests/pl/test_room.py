"""Pictures of few and of many things with long names: all is within the figure, and the data have room."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scmimic as sm

LONG = [f"CD{i}+ monocytes (classical, inflammatory, exhausted)" for i in range(1, 21)]
METHODS = ["ACTIVA trained on all cells of the atlas", "class weights", "scDesigner with all its copulas of genes"]
TREATED = "stimulated for six hours with IFN-beta"
MANY, FEW = "many", "few"


def cells(names):
    adata = sm.datasets.synthetic_counts(n_obs=240, n_vars=60, n_labels=len(names), seed=0)
    rng = np.random.default_rng(0)
    adata.obs["type"] = pd.Categorical.from_codes(adata.obs["cell_type"].cat.codes, names)
    adata.obs["condition"] = pd.Categorical(np.where(np.arange(240) % 3, "control", TREATED))
    adata.obsm["X_umap"] = rng.normal(size=(240, 2))
    adata.obsm["X_betatcvae"] = rng.normal(size=(240, 3)) * [1, 1e-6, 1e6]
    return adata[::2].copy(), adata[1::2].copy()


def names(size):
    return LONG if size == MANY else ["B", "T"]


def embedding(size, **kwargs):
    return sm.pl.embedding(*cells(names(size)), color=["type", "gene_1"], return_fig=True, **kwargs)


def embedding_on_data(size):
    return embedding(size, legend_loc="on data")


def markers(size):
    return sm.pl.markers(*cells(names(size)), labels_key="type", return_fig=True)


def markers_of_huge_values(size):
    real, fake = cells(names(size))
    for side in (real, fake):
        side.X = side.X * np.float32(1e6)
    return sm.pl.markers(real, fake, labels_key="type", log1p=False, return_fig=True)


def markers_as_asked(size):
    genes = [f"gene_{i}" for i in range(60 if size == MANY else 1)]
    return sm.pl.markers(*cells(["B", "T"]), labels_key="type", genes=genes, return_fig=True)


def gene_statistics(size):
    real, fake = cells(["B", "T"])
    for side in (real, fake):
        side.X = side.X * np.float32(1e6 if size == MANY else 1e-6)
    titles = ("Real cells of the atlas", "Cells of ACTIVA") if size == MANY else ("Real", "Synthetic")
    return sm.pl.gene_statistics(real, fake, log1p=False, titles=titles, return_fig=True)


def latent(size):
    return sm.pl.latent(cells(names(size))[0], color="type", return_fig=True)


def latent_on_data(size):
    return sm.pl.latent(cells(names(size))[0], color="type", dims=[], legend_loc="on data", return_fig=True)


def latent_arithmetic(size):
    real, new = cells(names(size))
    condition = TREATED if size == MANY else "control"
    new.uns["latent_arithmetic"] = {
        "params": {"target": [names(size)[0], condition], "group_key": "type", "condition_key": "condition"},
        "controls": ["control"],
        "reference_groups": [names(size)[1]],
        "delta_entropy": 0.5,
        "delta_entropy_of": "references",
    }
    return sm.pl.latent_arithmetic(real, new, return_fig=True)


def latent_traversal(size):
    real, new = cells(["B", "T"])
    n = 8 if size == MANY else 1
    new.obs["dimension"] = pd.Categorical([f"Z{i % n + 1}" for i in range(new.n_obs)])
    new.obs["value"] = np.linspace(-1e4, 1e4, new.n_obs)
    return sm.pl.latent_traversal(real, new, return_fig=True)


def report(size):
    types = names(size)
    rows = [
        {"metric": f"metric {i}", "group": group, "label": label, "score": 4.0 * (i - 5) + j}
        for i, group in enumerate(["discriminator", "distribution", "genes", "types"] if size == MANY else ["genes"])
        for j, label in enumerate(["overall", *types])
    ]
    return sm.pl.report(pd.DataFrame(rows), return_fig=True)


def evaluate_perturbation(size):
    rows = [
        {"context": context, "method": method, "metric": metric, "score": 4.0 * (j - 1)}
        for context in (["overall", *LONG] if size == MANY else ["overall"])
        for j, method in enumerate(METHODS if size == MANY else ["mine"])
        for metric in ("pds_cosine", "overall")
    ]
    return sm.pl.evaluate_perturbation(pd.DataFrame(rows), return_fig=True)


def augmentation(size):
    methods, fractions = (METHODS, (1, 0.1, 0.01, 0.001)) if size == MANY else (METHODS[:1], (1,))
    table = pd.DataFrame(
        {"method": method, "fraction": fraction, "n_real": int(3000 * fraction), "f1": 0.5, "seed": seed}
        for method in methods
        for fraction in fractions
        for seed in range(2)
    )
    return sm.pl.augmentation(table, title="B" if size == FEW else LONG[0][:40], return_fig=True)


def holdout_arithmetic(size):
    adata = ad.AnnData(np.ones((3, 2)))
    rng = np.random.default_rng(0)
    adata.uns["holdout_arithmetic"] = {
        "results": pd.DataFrame(
            {
                "group": group,
                "condition": "stimulated",
                "method": method,
                "seed": 0,
                "rf_error": rng.uniform(0, 50),
                "delta_entropy": rng.normal(),
            }
            for group in names(size)
            for method in ("ACTIVA", "control cells")
        )
    }
    return sm.pl.holdout_arithmetic(adata, return_fig=True)


def code_factors(size):
    columns = ["cell type (manually annotated)", "batch", "donor"][: 3 if size == MANY else 1]
    adata = ad.AnnData(np.ones((3, 2)))
    n = 20 if size == MANY else 1
    table = pd.DataFrame(0.5, index=[f"Z{i + 1}" for i in range(n)], columns=columns)
    adata.uns["code_factor_correlation"] = {"table": table}
    return sm.pl.code_factor_correlation(adata, return_fig=True)


def roc(size):
    real, fake = np.random.default_rng(0).normal(size=(2, 20, 3))
    result = sm.metrics.discriminator_auc(real, fake, n_trees=3, return_folds=True)
    return sm.pl.roc(dict.fromkeys(METHODS if size == MANY else ["a"], result), return_fig=True)


def self_distance(size):
    rng = np.random.default_rng(0)
    result = sm.metrics.self_distance_ratio(rng.normal(size=(100, 3)), rng.normal(size=(200, 3)))
    return sm.pl.self_distance(dict.fromkeys(METHODS if size == MANY else ["a"], result), return_fig=True)


def training(size):
    n = 9 if size == MANY else 1
    history = {f"a_very_long_name_of_loss_{i}_train": pd.DataFrame({"a": [1e6 * i, 2e6, 1e-6]}) for i in range(n)}
    return sm.pl.training(history, return_fig=True)


DRAW = (
    embedding, embedding_on_data, markers, markers_of_huge_values, markers_as_asked, gene_statistics, latent,
    latent_on_data, latent_arithmetic, latent_traversal, report, evaluate_perturbation, augmentation,
    holdout_arithmetic, code_factors, roc, self_distance, training,
)  # fmt: skip


@pytest.mark.parametrize("size", [MANY, FEW])
@pytest.mark.parametrize("draw", DRAW, ids=lambda draw: draw.__name__)
def test_all_is_within_the_figure_and_data_have_room(draw, size):
    with warnings.catch_warnings():
        # what the layout says when it gives up
        warnings.filterwarnings("error", message=".*layout not applied.*")
        figure = draw(size)
        figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    # less than a hair
    outside = max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)
    assert outside < 0.03
    for ax in figure.axes:
        if ax.get_label() != "<colorbar>":
            panel = ax.get_window_extent()
            assert min(panel.width, 2 * panel.height) / figure.dpi > 0.7


def test_every_picture_is_tried():
    drawn = {draw.__name__ for draw in DRAW} | {"code_factor_correlation"}
    # their bars are those of the correlation
    assert set(sm.pl.__all__) - drawn == {"code_faithfulness", "disentanglement"}
