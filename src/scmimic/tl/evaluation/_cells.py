"""The cells of an evaluation in one space: real, synthetic, and those that the measures are calibrated with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmimic import _keys, baselines
from scmimic._arrays import Matrix, as_matrix, fit_pca, prepare_expression
from scmimic.baselines import ReferenceGenerator
from scmimic.cells._checks import check_same_genes
from scmimic.cells._columns import label_array
from scmimic.cells._layers import place, read_matrix
from scmimic.cells._shared import leave_out_shared, shared_cells, unseen_cells
from scmimic.cells._units import Units, check_same_units, expression_space, space_of_cells
from scmimic.metrics._label_agreement import fit_label_classifier

if TYPE_CHECKING:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline

logger = logging.getLogger(__name__)

TRIVIAL: dict[str, type[ReferenceGenerator]] = {
    kind.name: kind for kind in (baselines.IndependentNB, baselines.Multinomial, baselines.GaussianCopula)
}
"""Generators that know every gene's margin but no cell: 0 on the calibrated scale."""

# What of the real cells is spent on the PCA where no reference is given: of the training cells, or of the test cells.
_PCA_SHARE_TRAIN, _PCA_SHARE_TEST = 0.25, 0.2
_MAX_CELLS_PCA = 3000


@dataclass(frozen=True)
class Cells:
    """Some cells, in all the spaces that measures look at."""

    raw: Matrix
    """Values as they were given."""
    genes: Matrix
    """Log-normalised expression, or the values as given without `log1p`."""
    pcs: np.ndarray
    """Principal components of `genes`."""
    labels: np.ndarray
    """Label of each cell as text; all the same where there are none."""

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> Self:
        return type(self)(self.raw[rows], self.genes[rows], self.pcs[rows], self.labels[rows])

    @cached_property
    def classifier(self) -> Pipeline:
        """The classifier of labels that these cells train, fitted once for all that is compared with them."""
        return fit_label_classifier(self.genes, self.labels)

    def rows_of(self, label: str) -> np.ndarray:
        """Row numbers of the cells of a label."""
        return np.flatnonzero(self.labels == label)


@dataclass(frozen=True)
class EvaluationData:
    """All cells of an evaluation. Real cells are held out; those of the calibration play the synthetic cells' part."""

    real: Cells
    synthetic: Cells
    train: Cells | None
    replicate: Cells | None
    """Other real cells, in the proportions of `real`."""
    trivial: Mapping[str, Cells]
    """Cells of the trivial generators, by their name, in the proportions of `real`."""
    labels: tuple[str, ...]
    """Labels that real or synthetic cells have; empty without a key."""
    spaces: tuple[Units | None, Units | None]
    """Units of the real and the synthetic cells; None: they do not show."""
    notes: dict[str, str] = field(default_factory=dict)
    """What was fitted or drawn from which cells."""
    faults: tuple[str, ...] = ()
    """What of the cells was left out, and why."""
    copied: float = 0.0
    """Share of the synthetic cells that are among the real ones, those of the replicate included."""


def prepare_data(
    adata: AnnData,
    synthetic: AnnData,
    *,
    labels_key: str | None,
    layer: str | None,
    train: AnnData | None,
    reference: AnnData | None,
    generators: tuple[str, ...] | Mapping[str, AnnData],
    log1p: bool,
    target_sum: float,
    n_comps: int,
    max_cells: int,
    seed: int,
) -> EvaluationData:
    """Check, split and project all cells; see :func:`scmimic.tl.evaluate` for the arguments.

    Returns
    -------
    :class:`EvaluationData`, still with all cells of each side: the measures cut them to equal numbers.
    """
    given = {"adata": adata, "synthetic": synthetic, "train": train, "reference": reference}
    given = {name: a for name, a in given.items() if a is not None}
    for name, a in given.items():
        check_same_genes(adata, a, name=name)
    spaces = {name: space_of_cells(a, layer, optional=name != "adata") for name, a in given.items()}
    for name in spaces.keys() - {"adata", "synthetic"}:
        # what is wrong with the synthetic cells is a finding, but other real cells are given as they should be
        check_same_units(spaces["adata"], spaces[name], place(layer), any_scale=log1p, name=name)
    raw = {name: _matrix(a, name, layer) for name, a in given.items()}
    labels = {
        name: np.full(a.n_obs, "") if labels_key is None else label_array(a, labels_key, name, like=adata)
        for name, a in given.items()
        if name != "reference"
    }
    faults = leave_out_shared(raw, labels, _APART)
    genes = {name: prepare_expression(x, name, log1p, target_sum) for name, x in raw.items()}
    size = {name: x.shape[0] for name, x in raw.items()}
    rng, notes = np.random.default_rng(seed), {}
    order = rng.permutation(size["adata"])

    if reference is not None:
        fitted, notes["pca"] = genes["reference"], f"reference ({size['reference']} cells)"
        train_left = rng.permutation(size["train"]) if train is not None else None
    elif train is not None:
        shuffled = rng.permutation(size["train"])
        n = min(_MAX_CELLS_PCA, max(2, round(_PCA_SHARE_TRAIN * size["train"])))
        fitted, train_left = genes["train"][shuffled[:n]], shuffled[n:]
        notes["pca"] = f"{n} of the {size['train']} training cells, which nothing else is compared with"
    else:
        n = min(_MAX_CELLS_PCA, max(2, round(_PCA_SHARE_TEST * size["adata"])))
        fitted, order, train_left = genes["adata"][np.sort(order[:n])], order[n:], None
        notes["pca"] = f"{n} of the {size['adata']} real cells, which nothing else is compared with"
    pca = fit_pca(fitted[: 2 * _MAX_CELLS_PCA], n_comps, seed=seed)

    def cells(name: str, rows: np.ndarray | None = None) -> Cells:
        rows = np.arange(genes[name].shape[0]) if rows is None else np.sort(rows)
        x = genes[name][rows]
        return Cells(raw[name][rows], x, project(pca, x), labels[name][rows])

    calibrate = len(generators) > 0
    replicate = None
    if calibrate and train_left is not None:
        real = cells("adata")
        pool = cells("train", train_left)
        replicate = pool[matched_rows(pool.labels, real.labels, rng)]
        notes["replicate"] = f"{len(replicate)} training cells in the proportions of the real ones"
    elif calibrate:
        first, second = _halves(labels["adata"][order], rng)
        real, replicate = cells("adata", order[first]), cells("adata", order[second])
        rows, told = unseen_cells(
            replicate.raw,
            real.raw,
            name="half of adata",
            other_name="the other half",
            why="Cells that are in `adata` twice make no second sample: drop the repeats, or give `train`.",
        )
        replicate, faults = replicate[rows], [*faults, told]
        notes["replicate"] = f"half of the real cells ({len(replicate)}), against the other half ({len(real)})"
    else:
        real = cells("adata", order)
    drawn: dict[str, Cells] = {}
    if isinstance(generators, Mapping):
        for name, a in generators.items():
            check_same_genes(adata, a, name=name)
            x = _matrix(a, name, layer)
            known = np.full(a.n_obs, "") if labels_key is None else label_array(a, labels_key, name, like=adata)
            y = prepare_expression(x, name, log1p, target_sum)
            drawn[name] = Cells(x, y, project(pca, y), known)
    elif calibrate:
        source = cells("train") if train is not None else replicate
        counts = _counts_of(source, train if train is not None else None)
        if counts is None or not log1p:
            reason = "the values are taken as they are (log1p=False)" if not log1p else "there are no raw counts"
            notes["trivial"] = f"none, since {reason}"
        else:
            wanted = _wanted(real.labels, source.labels, max_cells)
            for name in generators:
                x, known = _draw(name, counts, source.labels, wanted, adata.var_names, seed)
                y = prepare_expression(x, name, log1p, target_sum)
                drawn[name] = Cells(x, y, project(pca, y), known)
            notes["trivial"] = f"fitted on {len(source)} " + ("training cells" if train is not None else "real cells")
    both = sorted(set(real.labels) | set(labels["synthetic"])) if labels_key is not None else []
    return EvaluationData(
        real=real,
        synthetic=cells("synthetic"),
        train=cells("train") if train is not None else None,
        replicate=replicate,
        trivial=drawn,
        labels=tuple(both),
        spaces=(spaces["adata"].units, spaces["synthetic"].units),
        notes=notes,
        faults=tuple(text for text in faults if text),
        copied=float(shared_cells(raw["synthetic"], raw["adata"]).mean()),
    )


# Shared cells are left out of the first: the training set must hold whatever may have been copied.
_APART = (
    (
        "adata",
        "train",
        "Cells that the generator was trained on cannot judge it: give held-out cells as `adata`, and as `train` the "
        "training cells alone.",
    ),
    (
        "reference",
        "adata",
        "Axes that are fitted on the cells compared favour them: give other real cells as `reference`, or leave it "
        "out.",
    ),
    (
        "reference",
        "train",
        "Axes that are fitted on the training cells set these apart: give other real cells as `reference`, or leave "
        "it out, which sets a part of `train` aside.",
    ),
)


def _matrix(adata: AnnData, name: str, layer: str | None) -> Matrix:
    return as_matrix(read_matrix(adata, layer, optional=name != "adata"), name, dtype=np.float32)


def project(pca: PCA, x: Matrix, chunk_size: int = 4096) -> np.ndarray:
    """Principal components of `x`, in chunks of cells: scikit-learn makes sparse input dense where it is centred."""
    return np.vstack([pca.transform(x[i : i + chunk_size]) for i in range(0, x.shape[0], chunk_size)])


def _halves(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves with the same number of cells of each label, up to one."""
    order = rng.permutation(len(labels))
    # ties of a stable sort keep the random order; every second cell of each label goes to the second half
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def matched_rows(pool: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of `pool` with as many cells of each label as `target` has, or all where there are fewer."""
    rows = [rng.permutation(np.flatnonzero(pool == name))[:n] for name, n in _label_counts(target).items()]
    return np.sort(np.concatenate(rows))


def _label_counts(labels: np.ndarray) -> dict[str, int]:
    names, counts = np.unique(labels, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _wanted(real: np.ndarray, known: np.ndarray, max_cells: int) -> dict[str, int]:
    """Cells to draw of each label that was trained on: the real cells' numbers, no more than can be compared."""
    counts = {name: n for name, n in _label_counts(real).items() if name in set(known)}
    share = min(1.0, max_cells / max(sum(counts.values()), 1))
    return {name: min(n, max(int(np.ceil(share * n)), min(n, MAX_CELLS_LABEL))) for name, n in counts.items()}


MAX_CELLS_LABEL = 300
"""Cells per side that are compared within one label."""


def _counts_of(source: Cells, train: AnnData | None) -> Matrix | None:
    """Raw counts to fit the trivial generators on: the values compared, or the layer that preprocessing keeps."""
    if expression_space(source.raw, None).units == "counts":
        return source.raw
    if train is not None and _keys.LAYER_COUNTS in train.layers:
        counts = train.layers[_keys.LAYER_COUNTS]
        return counts if expression_space(counts, None).units == "counts" else None
    return None


def _draw(
    name: str, counts: Matrix, labels: np.ndarray, wanted: dict[str, int], var_names: pd.Index, seed: int
) -> tuple[Matrix, np.ndarray]:
    key = _keys.OBS_CELL_TYPE
    obs = pd.DataFrame({key: labels}, index=pd.RangeIndex(len(labels)).astype(str))
    cells = AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=var_names))
    logger.info("Fitting %s on %d cells.", name, len(labels))
    made = TRIVIAL[name](cells, labels_key=key).fit(seed=seed).generate(labels=wanted, seed=seed)
    return made.X, made.obs[key].astype(str).to_numpy(dtype=str)
