"""Draws the gallery of the documentation: one picture of every function of `scmimic.pl`, from small trainings.

`python docs/gallery.py` writes to `docs/_static/gallery` in some minutes; `--only embedding roc` draws these alone.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import scanpy as sc
import scvi
from matplotlib.figure import Figure
from PIL import Image

import scmimic as sm

LABELS = "bulk_labels"
DPI = 90
LARGEST = 60 * 1024
"""Bytes of a picture."""
FOLDER = Path(__file__).parent / "_static" / "gallery"
QUIET: dict[str, Any] = {"enable_progress_bar": False}
PICTURES: dict[str, Callable[[], Figure]] = {}

logger = logging.getLogger("gallery")


def picture(draw: Callable[[], Figure]) -> Callable[[], Figure]:
    """Put a function into the gallery; it has the name of the function of `scmimic.pl` that it draws with."""
    PICTURES[draw.__name__] = draw
    return draw


@cache
def blood() -> tuple[ad.AnnData, ad.AnnData, sm.ACTIVA, ad.AnnData]:
    """Training cells, held-out cells, a model, and as many generated cells, all in one UMAP."""
    adata = sm.datasets.pbmc68k_reduced()
    sm.pp.balanced_split(adata, LABELS, test_size=0.4, seed=0)
    held_out = adata.obs["split"] == "test"
    train, test = adata[~held_out].copy(), adata[held_out].copy()
    scvi.settings.seed = 0
    sm.ACTIVA.setup_anndata(train, labels_key=LABELS)
    model = sm.ACTIVA(train)
    model.train(max_epochs=200, train_size=0.9, check_val_every_n_epoch=4, **QUIET)
    synthetic = model.generate(labels=test.obs[LABELS].value_counts().to_dict(), seed=0)
    sm.tl.joint_embedding(test, synthetic, reference=train, basis="umap")
    return train, test, model, synthetic


@cache
def evaluation() -> sm.Evaluation:
    train, test, _, synthetic = blood()
    return sm.evaluate(test, synthetic, labels_key=LABELS, train=train, n_trees=200, n_jobs=1)


def by_name(curves: Mapping[str, Any]) -> dict[str, Any]:
    """Curves of the evaluation by what their cells are."""
    return {{"synthetic": "ACTIVA", "replicate": "other real cells"}.get(name, name): x for name, x in curves.items()}


@cache
def paths() -> tuple[ad.AnnData, sm.BetaTCVAE]:
    """Simulated cells with known factors, and a beta-TCVAE of them."""
    adata = sm.datasets.splat(1500, 300, n_batches=2, n_paths=2, n_steps=10, seed=1)
    adata.layers["log1p"] = sc.pp.log1p(sc.pp.normalize_total(adata, target_sum=1e4, copy=True), copy=True).X
    scvi.settings.seed = 0
    sm.BetaTCVAE.setup_anndata(adata, layer="log1p")
    model = sm.BetaTCVAE(adata, n_latent=6, n_hidden=(128, 64))
    model.train(max_epochs=120, **QUIET)
    adata.obsm["X_betatcvae"], adata.obsm["var"] = model.get_latent_representation(return_dist=True)
    sc.pp.pca(adata, layer="log1p", n_comps=20)
    sc.pp.neighbors(adata)
    sc.tl.umap(adata)
    return adata, model


@cache
def codes() -> tuple[ad.AnnData, sm.MichiGAN, ad.AnnData]:
    """Cells of a MichiGAN on the codes of that beta-TCVAE."""
    adata, vae = paths()
    scvi.settings.seed = 0
    model = sm.MichiGAN.from_representation(vae, n_hidden_generator=(64, 128), n_hidden_critic=(128, 64))
    model.train(max_epochs=60, n_faithfulness_cells=0, **QUIET)
    return adata, model, model.generate(600, seed=0)


@cache
def groups() -> ad.AnnData:
    """Simulated cells of four types in two conditions."""
    adata = sm.datasets.splat(800, 100, n_batches=2, n_groups=4, seed=2)
    adata.obs["condition"] = adata.obs["batch"].astype(str)
    return adata


def fit(train: ad.AnnData, seed: int) -> sm.ACTIVA:
    """A small model that is told type and condition."""
    scvi.settings.seed = seed
    sm.ACTIVA.setup_anndata(train, labels_key="group", batch_key="condition")
    model = sm.ACTIVA(train, n_latent=10, n_hidden=(64,))
    model.train(max_epochs=60, **QUIET)
    return model


@picture
def training() -> Figure:
    return sm.pl.training(blood()[2], return_fig=True)


@picture
def embedding() -> Figure:
    _, test, _, synthetic = blood()
    return sm.pl.embedding(test, synthetic, color=[LABELS, "CD79A"], return_fig=True)


@picture
def markers() -> Figure:
    _, test, _, synthetic = blood()
    return sm.pl.markers(test, synthetic, labels_key=LABELS, return_fig=True)


@picture
def gene_statistics() -> Figure:
    _, test, _, synthetic = blood()
    return sm.pl.gene_statistics(test, synthetic, return_fig=True)


@picture
def roc() -> Figure:
    return sm.pl.roc(by_name(evaluation().curves["rf_auc_genes"]), return_fig=True)


@picture
def self_distance() -> Figure:
    return sm.pl.self_distance(by_name(evaluation().curves["self_distance_ratio"]), return_fig=True)


@picture
def report() -> Figure:
    return sm.pl.report(evaluation().table, return_fig=True)


@picture
def augmentation() -> Figure:
    adata = sm.datasets.pbmc68k_reduced()
    table = sm.tl.rare_augmentation(
        adata,
        labels_key=LABELS,
        label="CD56+ NK",
        fractions=[0.5, 0.1],
        seeds=range(2),
        methods=["none", "class weights", "oversampling", "independent NB", "ACTIVA"],
        n_synthetic=200,
        n_trees=50,
        train_kwargs={"max_epochs": 40, **QUIET},
    )
    return sm.pl.augmentation(table, title="CD56+ NK", return_fig=True)


@picture
def latent() -> Figure:
    return sm.pl.latent(paths()[0], color=["batch", "path", "step"], return_fig=True)


@picture
def disentanglement() -> Figure:
    adata = paths()[0]
    factors = ["batch", "path", "step", "library_size"]
    sm.tl.disentanglement(adata, use_rep="X_betatcvae", use_var="var", factors=factors)
    return sm.pl.disentanglement(adata, return_fig=True)


@picture
def latent_traversal() -> Figure:
    adata, model = paths()
    cells = sm.tl.latent_traversal(adata, model, start={"batch": "batch_0"}, n_steps=25, seed=0)
    real = adata.copy()
    sm.tl.joint_embedding(real, cells, layer="log1p", log1p=False)
    return sm.pl.latent_traversal(real, cells, return_fig=True)


@picture
def code_faithfulness() -> Figure:
    _, model, cells = codes()
    sm.tl.code_faithfulness(cells, model)
    return sm.pl.code_faithfulness(cells, return_fig=True)


@picture
def code_factor_correlation() -> Figure:
    adata, _, cells = codes()
    sm.tl.code_factor_correlation(
        adata, cells, factors=["batch", "path", "step", "library_size"], layer="log1p", log1p=False
    )
    return sm.pl.code_factor_correlation(cells, return_fig=True)


@picture
def latent_arithmetic() -> Figure:
    adata = groups()
    target = (str(adata.obs["group"].cat.categories[-1]), "batch_1")
    rest = adata[~((adata.obs["group"] == target[0]) & (adata.obs["condition"] == target[1])).to_numpy()].copy()
    names = {"group_key": "group", "condition_key": "condition"}
    predicted = sm.tl.latent_arithmetic(rest, fit(rest, 0), **names, target=target, seed=0)
    real = adata.copy()
    sm.tl.joint_embedding(real, predicted)
    return sm.pl.latent_arithmetic(real, predicted, return_fig=True)


@picture
def holdout_arithmetic() -> Figure:
    adata = groups().copy()
    names = {"group_key": "group", "condition_key": "condition", "control": "batch_0"}
    sm.tl.holdout_arithmetic(adata, **names, fit={"ACTIVA": fit}, n_trees=50)
    return sm.pl.holdout_arithmetic(adata, return_fig=True)


@picture
def evaluate_perturbation() -> Figure:
    adata = sm.datasets.synthetic_counts(n_obs=1200, n_vars=100, n_labels=6, seed=0)
    real, other = adata[::2].copy(), adata[1::2].copy()
    scvi.settings.seed = 0
    sm.ACTIVA.setup_anndata(real, labels_key="cell_type")
    model = sm.ACTIVA(real, n_latent=10, n_hidden=(64,))
    model.train(max_epochs=40, **QUIET)
    predicted = {"ACTIVA, trained on them": model.generate(600, seed=0), "other half of the cells": other}
    sm.tl.evaluate_perturbation(real, predicted, perturbation_key="cell_type", control="type_0")
    return sm.pl.evaluate_perturbation(real, return_fig=True)


def save(figure: Figure, path: Path) -> None:
    """Write a picture; a large one of 256 colours alone."""
    figure.savefig(path, dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    with Image.open(path) as image:
        whole = image.convert("RGB")
    whole.save(path, optimize=True)
    if path.stat().st_size > LARGEST:
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    parser.add_argument("--only", nargs="+", choices=list(PICTURES), default=list(PICTURES), help="pictures to draw")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    logger.setLevel(logging.INFO)
    plt.switch_backend("agg")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        start = time.perf_counter()
        path = arguments.out / f"{name}.png"
        save(PICTURES[name](), path)
        logger.info("%s: %.0f KB, %.0f s", path, path.stat().st_size / 1024, time.perf_counter() - start)


if __name__ == "__main__":
    main()
