"""The cells of an evaluation in one space: real, synthetic, and those that the measures are calibrated with."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from pandas.api.types import is_bool_dtype

from scmimic import _keys, baselines
from scmimic._arrays import Matrix, as_matrix, fit_pca, prepare_expression, project
from scmimic._keys import OVERALL
from scmimic.baselines import ReferenceGenerator
from scmimic.cells import (
    ExpressionSpace,
    Units,
    check_same_genes,
    check_same_units,
    expression_space,
    is_stored,
    label_array,
    leave_out_shared,
    read_matrix,
    read_stored,
    shared_cells,
    space_of_cells,
    unseen_cells,
    where_is,
)

if TYPE_CHECKING:
    from sklearn.decomposition import PCA

logger = logging.getLogger(__name__)

Fitted = TypeVar("Fitted")

TRIVIAL: dict[str, type[ReferenceGenerator]] = {
    kind.name: kind for kind in (baselines.IndependentNB, baselines.Multinomial, baselines.GaussianCopula)
}
"""Generators that know every gene's margin but no cell: 0 on the calibrated scale."""

MAX_CELLS_LABEL = 300
"""Cells per side that are compared within one label."""

# What of the real cells is spent on the PCA where no reference is given: of the training cells, or of the test cells.
_PCA_SHARE_TRAIN, _PCA_SHARE_TEST = 0.25, 0.2
_MAX_CELLS_PCA = 3000
# Cells that are read of a file that holds more, or as many times those that are compared: halves, axes and types take
# their share.
_MAX_CELLS_READ, _MORE_READ = 20_000, 5


@dataclass(frozen=True)
class Cells:
    """Some cells, in all the spaces that measures look at."""

    raw: Matrix
    """Values as they were given."""
    genes: Matrix
    """Log-normalised expression, or the values as given without `log1p`."""
    pcs: np.ndarray
    """Principal components of `genes`; none before there are axes."""
    labels: np.ndarray
    """Label of each cell as text; all the same where there are none."""
    _fitted: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, x: Any, name: str, *, log1p: bool, target_sum: float) -> Self:
        """Cells without labels and axes from their values; `name` is what messages call them."""
        raw = as_matrix(x, name, dtype=np.float32)
        genes = prepare_expression(raw, name, log1p, target_sum)
        return cls(raw, genes, np.empty((raw.shape[0], 0)), np.full(raw.shape[0], ""))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray | slice) -> Self:
        return type(self)(self.raw[rows], self.genes[rows], self.pcs[rows], self.labels[rows])

    def on(self, pca: PCA) -> Self:
        """The same cells, with their principal components."""
        return replace(self, pcs=project(pca, self.genes))

    def rows_of(self, label: str) -> np.ndarray:
        """Row numbers of the cells of a label."""
        return np.flatnonzero(self.labels == label)

    def fitted(self, fit: Callable[..., Fitted], **settings: Any) -> Fitted:
        """What `fit` learns of labels from these cells' genes, once for all that is compared with them."""
        key = fit, tuple(settings.items())
        if key not in self._fitted:
            self._fitted[key] = fit(self.genes, self.labels, **settings)
        return self._fitted[key]


@dataclass(frozen=True)
class Sides:
    """Who is compared. Real cells are held out; those of the calibration play the synthetic cells' part."""

    real: Cells
    synthetic: Cells
    train: Cells | None
    replicate: Cells | None
    """Other real cells, in the proportions of `real`."""
    trivial: Mapping[str, Cells]
    """Cells of the trivial generators, by their name, in the proportions of `real`."""
    all_synthetic: np.ndarray | None = field(default=None, kw_only=True)
    """Principal components of all synthetic cells, where sides are cut to equal numbers."""

    @property
    def within(self) -> tuple[np.ndarray, np.ndarray]:
        """Principal components of real and synthetic cells for looks within each side, which need no equal numbers.

        The more of them, the more is seen: the real ones have the replicate with them.
        """
        real = self.real.pcs if self.replicate is None else np.vstack([self.real.pcs, self.replicate.pcs])
        return real, self.synthetic.pcs if self.all_synthetic is None else self.all_synthetic


@dataclass(frozen=True)
class EvaluationData(Sides):
    """All cells of an evaluation, any number on each side, and what is compared of them."""

    labels: tuple[str, ...]
    """Labels that real or synthetic cells have; empty without a key."""
    spaces: tuple[Units | None, Units | None]
    """Units of the real and the synthetic cells; None: they do not show."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What was fitted or drawn from which cells."""
    left_out: tuple[str, ...] = ()
    """What of the cells was left out, and why."""
    unseen: float = 0.0
    """Share of the synthetic cells whose combination of attributes their generator has not seen, by its own word."""
    copied: float = 0.0
    """Share of the synthetic cells that are among the real ones, those of the replicate included."""
    compared: Mapping[str, Sides] = field(default_factory=dict)
    """Sides of equal numbers: of all cells first, under the name ``"overall"``, then of each label that has enough."""


def read_files(given: Mapping[str, AnnData], settings: Mapping[str, Any]) -> tuple[dict[str, AnnData], list[str]]:
    """Cells in memory, and what to tell the user: of a file that holds many, some are read, drawn at random.

    Training cells are read whole, since any of them may have been copied.

    Parameters
    ----------
    given
        Cells by the name of their argument.
    settings
        All of :class:`~scmimic.tl.evaluation._settings.Settings`, resolved.
    """
    most, found, told = max(_MAX_CELLS_READ, _MORE_READ * settings["max_cells"]), dict(given), []
    for name, cells in given.items():
        if not is_stored(cells):
            continue
        rows = np.arange(cells.n_obs)
        if name != "train" and cells.n_obs > most:
            rows = np.sort(np.random.default_rng(settings["seed"]).choice(cells.n_obs, most, replace=False))
            told.append(f"`{name}` lies in a file: {most:,} of its {cells.n_obs:,} cells, drawn at random, were read.")
        # from counts the trivial generators are fitted
        further = (_keys.LAYER_COUNTS,) if name == "train" else ()
        found[name] = read_stored(cells, settings["layer"], rows, further=further)
    return found, told


def prepare_data(adata: AnnData, synthetic: AnnData, settings: Mapping[str, Any]) -> EvaluationData:
    """Check, split and project all cells, and cut the sides to equal numbers.

    Parameters
    ----------
    adata, synthetic
        Real and synthetic cells.
    settings
        All of :class:`~scmimic.tl.evaluation._settings.Settings`, resolved.
    """
    sets, spaces = _read_sets(adata, synthetic, settings)
    sets, left_out = without_shared(sets, _APART)
    rng, notes = np.random.default_rng(settings["seed"]), {}

    # some cells are spent on the axes, which favour whoever they are fitted on
    test = rng.permutation(len(sets["adata"]))
    spare = rng.permutation(len(sets["train"])) if "train" in sets else None
    if "reference" in sets:
        fitted = sets["reference"].genes
        notes["pca"] = f"reference ({fitted.shape[0]} cells)"
    elif spare is not None:
        n = min(_MAX_CELLS_PCA, max(2, round(_PCA_SHARE_TRAIN * len(spare))))
        notes["pca"] = f"{n} of the {len(spare)} training cells, which nothing else is compared with"
        fitted, spare = sets["train"].genes[spare[:n]], spare[n:]
    else:
        n = min(_MAX_CELLS_PCA, max(2, round(_PCA_SHARE_TEST * len(test))))
        notes["pca"] = f"{n} of the {len(test)} real cells, which nothing else is compared with"
        fitted, test = sets["adata"].genes[np.sort(test[:n])], test[n:]
    pca = fit_pca(fitted[: 2 * _MAX_CELLS_PCA], settings["n_comps"], seed=settings["seed"])

    # the replicate comes from the training cells where these are known, else from half of the real ones
    is_calibrated, replicate = len(settings["baselines"]) > 0, None
    if len(test) < (4 if is_calibrated and spare is None else 2):
        raise ValueError(
            f"`adata` has {len(sets['adata'])} real cells, and {len(test)} to compare: too few to say anything. Give "
            "more of them, or the training cells too (`train=`), which spares real cells for the comparison."
        )
    if is_calibrated and spare is None:
        first, second = _halves(sets["adata"].labels[test], rng)
        real, replicate = (sets["adata"][np.sort(test[half])].on(pca) for half in (first, second))
        replicate, told = _second_sample(replicate, real)
        left_out += told
        notes["replicate"] = f"half of the real cells ({len(replicate)}), against the other half ({len(real)})"
    else:
        real = sets["adata"][np.sort(test)].on(pca)
    if is_calibrated and spare is not None:
        pool = sets["train"][np.sort(spare)].on(pca)
        replicate = pool[matched_rows(pool.labels, real.labels, rng)]
        notes["replicate"] = f"{len(replicate)} training cells in the proportions of the real ones"

    trivial: dict[str, Cells] = {}
    if isinstance(settings["baselines"], Mapping):
        for name, cells in settings["baselines"].items():
            check_same_genes(adata, cells, name=name)
            trivial[name] = _read(cells, name, settings, like=adata).on(pca)
    elif replicate is not None:
        drawn, notes["trivial"] = _draw_trivial(sets.get("train", replicate), real, adata.var_names, settings)
        trivial = {name: cells.on(pca) for name, cells in drawn.items()}
    labels = sorted({*real.labels, *sets["synthetic"].labels}) if settings["labels_key"] is not None else []
    data = EvaluationData(
        real=real,
        synthetic=sets["synthetic"].on(pca),
        train=sets["train"].on(pca) if "train" in sets else None,
        replicate=replicate,
        trivial=trivial,
        labels=tuple(labels),
        spaces=(spaces["adata"].units, spaces["synthetic"].units),
        notes=notes,
        left_out=tuple(left_out),
        unseen=_unseen_share(synthetic),
        copied=float(shared_cells(sets["synthetic"].raw, sets["adata"].raw).mean()),
    )
    return replace(data, compared=_equal_sides(data, settings))


def _unseen_share(synthetic: AnnData) -> float:
    """Share of generated cells that say that the training cells have not the like of them."""
    seen = synthetic.obs.get(_keys.OBS_SEEN)
    return 0.0 if seen is None or not is_bool_dtype(seen) else float(1 - seen.mean())


def _equal_sides(data: EvaluationData, settings: Mapping[str, Any]) -> dict[str, Sides]:
    """The sides of all cells, and of each label with enough of them, cut to equal numbers."""
    min_cells, rng = settings["min_cells"], np.random.default_rng(settings["seed"])
    n = len(data.real), len(data.synthetic)
    if min(n) < min_cells:
        spent = ""
        if settings["train"] is None and n[0] < min_cells:
            spent = " Without `train`, most of `adata` is spent on axes and replicate: with it, all are compared."
        raise ValueError(
            f"There are {n[0]} real cells to compare with and {n[1]} synthetic ones: at least {min_cells} of each are "
            f"needed.{spent}"
        )
    sides = {OVERALL: _cut(data, None, max_cells=settings["max_cells"], min_cells=2, rng=rng)}
    for label in data.labels:
        if min(len(side.rows_of(label)) for side in (data.real, data.synthetic)) >= min_cells:
            sides[label] = _cut(data, label, max_cells=MAX_CELLS_LABEL, min_cells=min_cells, rng=rng)
    return sides


def _cut(data: Sides, label: str | None, *, max_cells: int, min_cells: int, rng: np.random.Generator) -> Sides:
    """All sides, of one label or of all cells, with equal numbers in random order.

    A replicate or a trivial generator with fewer than `min_cells` cells is no side.
    """

    def shuffled(cells: Cells) -> np.ndarray:
        return rng.permutation(len(cells) if label is None else cells.rows_of(label))

    real, synthetic = shuffled(data.real), shuffled(data.synthetic)
    n = min(len(real), len(synthetic), max_cells)
    replicate = None
    if data.replicate is not None:
        rows = shuffled(data.replicate)
        if len(rows) >= min_cells:
            n = min(n, len(rows))
            replicate = data.replicate[rows[:n]]
    chosen = data.real[real[:n]]
    trivial = {}
    for name, cells in data.trivial.items():
        if label is None:
            # as many of each label as the real cells have: some labels were drawn in excess for their own rows
            rows = rng.permutation(matched_rows(cells.labels, chosen.labels, rng))
        else:
            rows = shuffled(cells)
        if len(rows) >= min_cells:
            trivial[name] = cells[rows[:n]]
    all_synthetic = data.synthetic.pcs[synthetic]
    return Sides(chosen, data.synthetic[synthetic[:n]], data.train, replicate, trivial, all_synthetic=all_synthetic)


def _read_sets(
    adata: AnnData, synthetic: AnnData, settings: Mapping[str, Any]
) -> tuple[dict[str, Cells], dict[str, ExpressionSpace]]:
    """All sets of cells by the name of their argument, and what their values are."""
    objects = {"adata": adata, "synthetic": synthetic, "train": settings["train"], "reference": settings["reference"]}
    objects = {name: cells for name, cells in objects.items() if cells is not None}
    for name, cells in objects.items():
        check_same_genes(adata, cells, name=name)
    layer = settings["layer"]
    spaces = {name: space_of_cells(cells, layer, optional=name != "adata") for name, cells in objects.items()}
    for name in ("train", "reference"):
        if name in spaces:
            # what is wrong with the synthetic cells is a finding, but other real cells are given as they should be
            check_same_units(spaces["adata"], spaces[name], where_is(layer), any_scale=settings["log1p"], name=name)
    return {name: _read(cells, name, settings, like=adata) for name, cells in objects.items()}, spaces


def _read(adata: AnnData, name: str, settings: Mapping[str, Any], *, like: AnnData) -> Cells:
    x = read_matrix(adata, settings["layer"], optional=name != "adata")
    cells = Cells.of(x, name, log1p=settings["log1p"], target_sum=settings["target_sum"])
    if settings["labels_key"] is None or name == "reference":
        return cells
    labels = label_array(adata, settings["labels_key"], name, like=like)
    if name == "adata" and OVERALL in labels:
        raise ValueError(f"A cell type is called {OVERALL!r}, as the rows over all cells are: rename it.")
    return replace(cells, labels=labels)


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


def without_shared(
    sets: Mapping[str, Cells], apart: Sequence[tuple[str, str, str]]
) -> tuple[dict[str, Cells], list[str]]:
    """Sets without the cells that they must not share, as `apart` says, and what to tell the user."""
    rows = {name: np.arange(len(cells)) for name, cells in sets.items()}
    told = leave_out_shared({name: cells.raw for name, cells in sets.items()}, rows, apart)
    return {name: cells if len(rows[name]) == len(cells) else cells[rows[name]] for name, cells in sets.items()}, told


def _second_sample(replicate: Cells, real: Cells) -> tuple[Cells, list[str]]:
    """The replicate without cells that are also among the real ones, and what to tell the user."""
    rows, told = unseen_cells(
        replicate.raw,
        real.raw,
        name="half of adata",
        other_name="the other half",
        why="Cells that are in `adata` twice make no second sample: drop the repeats, or give `train`.",
    )
    return replicate[rows], [told] if told else []


def _halves(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves with the same number of cells of each label, up to one."""
    order = rng.permutation(len(labels))
    # ties of a stable sort keep the random order; every second cell of each label goes to the second half
    order = order[np.argsort(labels[order], kind="stable")]
    return np.sort(order[::2]), np.sort(order[1::2])


def matched_rows(pool: np.ndarray, target: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows of `pool` with as many cells of each label as `target` has, or all where there are fewer."""
    rows = [rng.permutation(np.flatnonzero(pool == name))[:n] for name, n in Counter(np.sort(target).tolist()).items()]
    return np.sort(np.concatenate(rows))


def _draw_trivial(
    source: Cells, real: Cells, var_names: pd.Index, settings: Mapping[str, Any]
) -> tuple[dict[str, Cells], str]:
    """Cells of the trivial generators, in the proportions of the real ones, and what they were fitted on."""
    train, log1p, key = settings["train"], settings["log1p"], _keys.OBS_CELL_TYPE
    counts = source.raw
    if expression_space(counts, None).units != "counts":
        # preprocessing keeps them there
        counts = None if train is None else train.layers.get(_keys.LAYER_COUNTS)
        if counts is not None and expression_space(counts, None).units != "counts":
            counts = None
    if counts is None or not log1p:
        reason = "there are no raw counts" if log1p else "the values are taken as they are (log1p=False)"
        return {}, f"none, since {reason}"
    obs = pd.DataFrame({key: source.labels}, index=pd.RangeIndex(len(source)).astype(str))
    cells = AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=var_names))
    wanted = _wanted(real.labels, source.labels, settings["max_cells"])
    drawn = {}
    for name in settings["baselines"]:
        logger.info("Fitting %s on %d cells.", name, len(source))
        generator = TRIVIAL[name](cells, labels_key=key).fit(seed=settings["seed"])
        made = generator.generate(labels=wanted, seed=settings["seed"])
        cells_of_name = Cells.of(made.X, name, log1p=log1p, target_sum=settings["target_sum"])
        drawn[name] = replace(cells_of_name, labels=made.obs[key].astype(str).to_numpy(dtype=str))
    return drawn, f"fitted on {len(source)} {'real' if train is None else 'training'} cells"


def _wanted(real: np.ndarray, known: np.ndarray, max_cells: int) -> dict[str, int]:
    """Cells to draw of each label that was trained on: the real cells' numbers, no more than can be compared."""
    counts = {name: n for name, n in Counter(np.sort(real).tolist()).items() if name in set(known)}
    share = min(1.0, max_cells / max(sum(counts.values()), 1))
    return {name: min(n, max(int(np.ceil(share * n)), min(n, MAX_CELLS_LABEL))) for name, n in counts.items()}
