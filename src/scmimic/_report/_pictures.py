"""The pictures of the report, as text that a page can hold."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass
from typing import Any

from scmimic import pl
from scmimic._keys import OVERALL, Basis
from scmimic.cells import check_same_space
from scmimic.tl import joint_embedding
from scmimic.tl.evaluation import Evaluation

logger = logging.getLogger(__name__)

_DPI = 130
# What an inch of a figure is on a screen, so that all pictures have text of one size.
_PIXELS_PER_INCH = 90
_BASIS_NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}
_CURVES = {"synthetic": ("synthetic cells", "#d1442f"), "replicate": ("other real cells", "#2f6db3")}


@dataclass(frozen=True)
class Picture:
    """A picture, what it shows, and its width in pixels of the page where there is room."""

    caption: str
    source: str
    width: int


def encode(figure: object, caption: str) -> Picture:
    """Return a figure as an image whose address is its own content, and close it."""
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure
    from PIL import Image

    assert isinstance(figure, Figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    plt.close(figure)
    with Image.open(buffer) as image:
        width = round(image.width / _DPI * _PIXELS_PER_INCH)
    return Picture(caption, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"), width)


def draw_scores(evaluation: Evaluation) -> Picture | None:
    """Draw the calibrated scores, if there are any."""
    table = evaluation.table
    if not table.loc[table["label"] == OVERALL, "score"].notna().any():
        return None
    return encode(
        evaluation.plot(return_fig=True),
        "Scores of all cells and of single types: 0 is the best trivial generator, 1 are real cells.",
    )


def draw_pictures(evaluation: Evaluation, basis: Basis | None) -> list[Picture]:
    """Draw embedding, ROC curves, self-distances, markers and genes, as far as there is something to draw."""
    adata, synthetic, settings = evaluation.adata, evaluation.synthetic, evaluation.settings
    space: dict[str, Any] = {name: settings[name] for name in ("layer", "log1p", "target_sum")}
    labels_key, curves = settings["labels_key"], evaluation.curves
    pictures = []
    comparable = True
    try:
        check_same_space(adata, synthetic, settings["layer"], log1p=settings["log1p"])
    except ValueError as error:
        # the page is worth having without: its diagnostics say that the cells are on another scale
        logger.warning("The report has no pictures of cells and genes. %s", error)
        basis, comparable = None, False
    if basis is not None:
        fitted = settings["reference"] if settings["reference"] is not None else settings["train"]
        # every cell is drawn anyway, and the caller's objects stay as they are
        both = joint_embedding(
            adata,
            synthetic,
            reference=fitted,
            basis=basis,
            n_comps=settings["n_comps"],
            seed=settings["seed"],
            copy=True,
            **space,
        )
        assert both is not None
        where = "both sides" if basis == "tsne" else "the real cells" if fitted is None else "other real cells"
        figure = pl.embedding(*both, basis=basis, color=labels_key, return_fig=True)
        caption = f"Real and synthetic cells in one {_BASIS_NAMES[basis]}, fitted on {where}."
        pictures.append(encode(figure, caption))
    of_forest = next((curves[name] for name in ("rf_auc_genes", "rf_auc_pcs") if curves.get(name)), {})
    if of_forest:
        named = {_CURVES.get(name, (f"best trivial: {name}", "#8a8a8a")): curve for name, curve in of_forest.items()}
        roc = pl.roc({name: curve for (name, _), curve in named.items()}, palette=dict(named.keys()), return_fig=True)
        caption = "How well a forest tells cells from the held-out real cells: on the diagonal it cannot."
        pictures.append(encode(roc, caption))
    if within := curves.get("self_distance_ratio"):
        named = {_CURVES[name]: curve for name, curve in within.items()}
        results, palette = {name: curve for (name, _), curve in named.items()}, dict(named.keys())
        caption = "How far cells lie apart, beside as many real ones: a falling curve is a generator that repeats."
        pictures.append(encode(pl.self_distance(results, palette=palette, return_fig=True), caption))
    if not comparable:
        return pictures
    if labels_key is not None:
        markers = pl.markers(adata, synthetic, labels_key=labels_key, return_fig=True, **space)
        caption = (
            "One marker gene per type, real beside synthetic; lines are means. The type that a gene marks is shaded."
        )
        pictures.append(encode(markers, caption))
    genes = pl.gene_statistics(adata, synthetic, return_fig=True, **space)
    caption = "Genes: variance against mean, zeros, and correlations of the most variable genes."
    return [*pictures, encode(genes, caption)]
