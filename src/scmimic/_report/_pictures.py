"""The pictures of the report, as text that a page can hold."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scmimic import pl
from scmimic.cells._units import check_same_space
from scmimic.tl import joint_embedding

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.figure import Figure

    from scmimic.metrics import DiscriminatorResult
    from scmimic.tl._evaluate import Settings

logger = logging.getLogger(__name__)

_DPI = 130
_BASIS_NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}
_CURVES = {"synthetic": ("synthetic cells", "#d1442f"), "replicate": ("other real cells", "#2f6db3")}


@dataclass(frozen=True)
class Picture:
    """A picture and what it shows."""

    caption: str
    source: str


def encode(figure: Figure) -> str:
    """Return a figure as the address of an image that is its own content, and close it."""
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    plt.close(figure)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def draw_pictures(
    adata: AnnData,
    synthetic: AnnData,
    settings: Settings,
    curves: Mapping[str, Mapping[str, DiscriminatorResult]],
    basis: str | None,
) -> list[Picture]:
    """Draw embedding, ROC curves, markers and gene statistics, as far as there is something to draw."""
    pictures = []
    space = {"layer": settings.layer, "log1p": settings.log1p, "target_sum": settings.target_sum}
    comparable = True
    try:
        check_same_space(adata, synthetic, settings.layer, log1p=settings.log1p)
    except ValueError as error:
        # the page is worth having without: its guards say that the cells are on another scale
        logger.warning("The report has no pictures of cells and genes. %s", error)
        basis, comparable = None, False
    if basis is not None:
        fitted = settings.reference if settings.reference is not None else settings.train
        # every cell is drawn anyway, and the caller's objects stay as they are
        both = joint_embedding(
            adata,
            synthetic,
            reference=fitted,
            basis=basis,
            n_comps=settings.n_comps,
            seed=settings.seed,
            copy=True,
            **space,
        )
        where = "both sides" if basis == "tsne" else "the real cells" if fitted is None else "other real cells"
        figure = pl.embedding(*both, basis=basis, color=settings.labels_key, return_fig=True)
        caption = f"Real and synthetic cells in one {_BASIS_NAMES[basis]}, fitted on {where}."
        pictures.append(Picture(caption, encode(figure)))
    of_forest = next((curves[name] for name in ("rf_auc_genes", "rf_auc_pcs") if curves.get(name)), {})
    if of_forest:
        named = {_CURVES.get(name, (f"best trivial: {name}", "#8a8a8a")): curve for name, curve in of_forest.items()}
        figure = pl.roc(
            {name: curve for (name, _), curve in named.items()}, palette=dict(named.keys()), return_fig=True
        )
        caption = "How well a forest tells cells from the held-out real cells: on the diagonal it cannot."
        pictures.append(Picture(caption, encode(figure)))
    if not comparable:
        return pictures
    if settings.labels_key is not None:
        figure = pl.markers(adata, synthetic, labels_key=settings.labels_key, return_fig=True, **space)
        pictures.append(Picture("One marker gene per type, real beside synthetic; lines are means.", encode(figure)))
    figure = pl.gene_statistics(adata, synthetic, return_fig=True, **space)
    caption = "Genes: variance against mean, zeros, and correlations of the most variable genes."
    return [*pictures, Picture(caption, encode(figure))]
