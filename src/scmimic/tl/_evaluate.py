"""One table of how real synthetic cells are: every measure, beside a real replicate and trivial generators.

The calibrated score rescales a measure between two ends that are measured on the same data, since a raw distance means
little: s = (m - best trivial) / (replicate - best trivial).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pandas as pd

from scmimic import _keys
from scmimic._arguments import (
    COLUMN,
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    KEY,
    LAYER,
    POSITIVE,
    SEED,
    THREADS,
    Listed,
    Ordered,
    Range,
    Text,
    check_arguments,
)
from scmimic.cells._checks import ANNDATA
from scmimic.cells._columns import label_array
from scmimic.cells._generated import package_version, storable
from scmimic.tl.evaluation._cells import TRIVIAL, prepare_data
from scmimic.tl.evaluation._measure_functions import Options
from scmimic.tl.evaluation._measures import PROTOCOLS
from scmimic.tl.evaluation._run import OVERALL, Evaluation, asked_metrics, choose_measures, run_measures

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

_N_TREES, _MAX_CELLS = 100, 2000
_PAPER_TREES = 1000
# what the papers draw per side; ACTIVA and GRouNdGAN take all test cells
_PAPER_CELLS = {"michigan": 3000}


@dataclass(frozen=True)
class Settings:
    """Arguments of :func:`evaluate`, with its defaults."""

    labels_key: str | None = None
    layer: str | None = None
    train: AnnData | None = None
    reference: AnnData | None = None
    metrics: str | Sequence[str] = "all"
    baselines: Sequence[str] | Mapping[str, AnnData] = tuple(TRIVIAL)
    log1p: bool = True
    target_sum: float = 1e4
    n_comps: int = 50
    min_cells: int = 30
    max_cells: int | None = None
    n_trees: int | None = None
    seed: int = 0
    n_jobs: int = -1

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Settings:
        """Settings from the arguments of a function that has them all, and others beside them."""
        return cls(**{setting.name: arguments[setting.name] for setting in fields(cls)})


def evaluate(
    adata: AnnData,
    synthetic: AnnData,
    *,
    labels_key: str | None = None,
    layer: str | None = None,
    train: AnnData | None = None,
    reference: AnnData | None = None,
    metrics: str | Sequence[str] = "all",
    baselines: Sequence[str] | Mapping[str, AnnData] = tuple(TRIVIAL),
    log1p: bool = True,
    target_sum: float = 1e4,
    n_comps: int = 50,
    min_cells: int = 30,
    max_cells: int | None = None,
    n_trees: int | None = None,
    seed: int = 0,
    n_jobs: int = -1,
    key_added: str = _keys.REALISM,
) -> pd.DataFrame:
    r"""Measure how real synthetic cells are, overall and per cell type.

    Each measure is taken on the synthetic cells, on other real cells in their place (the replicate), and on the cells
    of trivial generators, always against the same real cells and with the same number of cells on both sides. The
    calibrated score is

    .. math:: s = \frac{m - \text{best trivial}}{\text{replicate} - \text{best trivial}}

    so that 0 is the best trivial generator and 1 a second sample of real cells; it is negative for cells that are less
    real than the trivial generator's. Where the ideal may be overshot (slopes, ratios) the distance to the ideal takes
    the place of the value. Elsewhere values beyond the ideal count as the ideal, for the replicate and the synthetic
    cells alike: no sample is closer to real cells than a second sample of them, unless by luck. So an AUC of 0.41 of
    a lucky replicate does not push the score of good cells down. An AUC so far below 0.5, or an error of a forest so
    far above 50 %, that luck does not explain it (six standard deviations by chance: an AUC of 0.33 with 210 cells per
    side, 0.44 with 2,000) means copies of `adata`: it counts against the cells, and the row says so. The memoriser of
    the training cells is no trivial generator: it copies, and only the privacy rows, which have no score, can tell.

    Real cells that are also in `train` would judge a generator that has seen them: shared cells are found by their
    values, left out of `adata` (or of `reference`, which must share none with either) and told of in a warning.

    Parameters
    ----------
    adata
        Real cells that the generator has not been trained on.
    synthetic
        Synthetic cells with the same genes in the same order.
    labels_key
        Column of `.obs` of all objects with the cell types; `None` compares all cells as one.
    layer
        Layer of `adata`, `.X` by default; the other objects give it too where they have it, else their `.X`.
    train
        Cells that the generator was trained on. They are needed for the privacy rows; the replicate is drawn from them
        (in the proportions of `adata`), and the trivial generators are fitted on them. Without, both come from half of
        `adata`, and the synthetic cells are compared with the other half.
    reference
        Further real cells, on which the PCA is fitted: a PCA fitted on either side favours it. Without, a quarter of
        `train` is set aside for it, or else a fifth of `adata`.
    metrics
        `"all"`, a protocol, or names of metrics, one or several; `"all"` leaves out what needs `train` or `labels_key`
        where these are not given, while a metric that is named has its row in any case. `"activa"`: AUC of a forest of
        1,000 trees on genes; `"michigan"`: error of a forest of 1,000 trees on principal components, 3,000 + 3,000
        cells, and inception score; `"groundgan"`: AUC of a forest of 1,000 trees on one split, on 20,000 counts per
        cell without logarithm.
    baselines
        Trivial generators: any of `"independent_nb"`, `"multinomial"` and `"copula"`, fitted on the raw counts of
        `train` (or its layer `"counts"`); or their cells, by name, from any generator. Empty: no calibration, and all
        of `adata` is compared.
    log1p
        Scale every cell to `target_sum` and take log(1 + x): right for counts and for linear values of any scale.
        `False` takes the values as they are: right for values already logged, for which there are no trivial generators
        unless their cells are given.
    target_sum
        Total per cell before the logarithm.
    n_comps
        Principal components, 50 as in the papers; fewer where the reference allows fewer.
    min_cells
        Types with fewer cells on either side get rows without a value.
    max_cells
        Cells per side, drawn at random where there are more. By default 2,000, or what the protocol takes. Within a
        type at most 300 are compared.
    n_trees
        Trees of each forest. By default 100, with which an AUC between 0.5 and 1 comes out lower than with more trees,
        or 1,000 where only protocols are asked for.
    seed
        Seed of everything random.
    n_jobs
        Threads of forests and neighbour searches; `-1` for all cores.
    key_added
        `.uns` key of the result.

    Returns
    -------
    A table with one row per metric and type and these columns:

    `metric`, `group`, `label`
        Name, kind (discriminator, distribution, genes, types, privacy, diagnostic) and type, or `"overall"`.
    `value`, `low`, `high`
        What the synthetic cells score, with a 95 % interval for other cells of the same sources: of DeLong for an AUC,
        of Wilson for shares, otherwise from five disjoint groups of the cells. It does not hold what another training
        of the generator would change.
    `ideal`, `replicate`
        What is ideal in theory, and what real cells score in the place of the synthetic ones.
    `trivial`, `trivial_value`
        The best trivial generator and its score. For forests it is chosen on 500 cells.
    `score`
        The calibrated score; NaN where the metric cannot tell the trivial generator from real cells.
    `n_real`, `n_synthetic`
        Cells compared.
    `warning`
        Why a value is missing or should not be believed. A measure that fails has rows without a value, with its error
        here.

    Writes to `adata`:

    `.uns['realism' | key_added]` : dict
        `'table'`: the table; `'params'`: the arguments, and from which cells PCA, replicate and trivial generators
        come and which cells were left out; `'seconds'`: time of each measure.

    Raises
    ------
    ValueError
        If genes differ, a label or a value is missing, values are negative with `log1p`, a metric or generator is
        unknown, a number is out of range, more than half of `adata` are in `train` (or of `reference` in either), or
        there are too few cells.
    TypeError
        If a name is no text, or `log1p` no truth value.
    KeyError
        If `labels_key` or `layer` is not there.

    Warns
    -----
    UserWarning
        If the numbers are not to be believed: real and synthetic cells in different spaces, smooth output, other
        proportions of the types, copies of training cells or of the cells compared, forests beyond chance. If cells
        were left out because two sets share them. If a measure failed for another reason than too few cells.

    Examples
    --------
    >>> import scmimic as sm
    >>> cells = sm.datasets.synthetic_counts(n_obs=600, n_vars=50)
    >>> train, test = cells[:300].copy(), cells[300:].copy()
    >>> generator = sm.baselines.Multinomial(train, labels_key="cell_type").fit()
    >>> synthetic = generator.generate(labels=test.obs["cell_type"].value_counts(), seed=0)
    >>> table = sm.tl.evaluate(test, synthetic, labels_key="cell_type", train=train, metrics=["mmd", "dcr_ratio"])
    >>> table.loc[table["label"] == "overall", "metric"].tolist()
    ['same_space', 'zero_fraction_ratio', 'real_copies', 'label_composition', 'variance_ratio', 'mmd', 'dcr_ratio']
    """
    KEY.check(key_added=key_added)
    settings = Settings.among(locals())
    result, params = run_evaluation(adata, synthetic, settings)
    adata.uns[key_added] = {
        "table": result.table.copy(),
        "params": storable(params),
        "seconds": {name: float(seconds) for name, seconds in result.seconds.items()},
    }
    for text in [*fault_texts(result), *result.alarms]:
        warnings.warn(text, UserWarning, stacklevel=2)
    return result.table


def fault_texts(result: Evaluation) -> list[str]:
    """What to warn the user of that the evaluation did not do: cells left out, and all failed measures in one text."""
    texts = list(result.data.faults)
    if result.failed:
        texts.append("Some metrics have no value, or no yardstick (column `warning`). " + " ".join(result.failed))
    return texts


def run_evaluation(adata: AnnData, synthetic: AnnData, settings: Settings) -> tuple[Evaluation, dict[str, Any]]:
    """Run :func:`evaluate` without writing anything; also for the report, which draws from the result.

    Returns
    -------
    What was found, and the parameters to record.
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    check_arguments(vars(settings), _KINDS)
    measures = choose_measures(settings.metrics)
    names = [settings.metrics] if isinstance(settings.metrics, str) else list(settings.metrics)
    n_trees, max_cells = _sizes(names, settings, adata.n_obs)
    baselines = _check_baselines(settings.baselines)
    if settings.labels_key is not None and OVERALL in set(label_array(adata, settings.labels_key)):
        raise ValueError(f"A cell type is called {OVERALL!r}, as the rows over all cells are: rename it.")
    data = prepare_data(
        adata,
        synthetic,
        labels_key=settings.labels_key,
        layer=settings.layer,
        train=settings.train,
        reference=settings.reference,
        generators=baselines,
        log1p=settings.log1p,
        target_sum=settings.target_sum,
        n_comps=settings.n_comps,
        max_cells=max_cells,
        seed=settings.seed,
    )
    if min(len(data.real), len(data.synthetic)) < settings.min_cells:
        raise ValueError(
            f"There are {len(data.real)} real cells to compare with and {len(data.synthetic)} synthetic ones: at least "
            f"{settings.min_cells} of each are needed. Without `train`, half of `adata` is the replicate."
        )
    options = Options(n_trees=n_trees, min_cells=settings.min_cells, seed=settings.seed, n_jobs=settings.n_jobs)
    result = run_measures(
        data,
        measures,
        options,
        asked=asked_metrics(names),
        everything="all" in names,
        max_cells=max_cells,
        log1p=settings.log1p,
    )
    params: dict[str, Any] = {
        "metrics": names,
        "baselines": list(baselines),
        "labels_key": settings.labels_key,
        "layer": settings.layer,
        "log1p": settings.log1p,
        "target_sum": settings.target_sum,
        "n_comps": int(data.real.pcs.shape[1]),
        "min_cells": settings.min_cells,
        "max_cells": max_cells,
        "n_trees": n_trees,
        "seed": settings.seed,
        "n_real": adata.n_obs,
        "n_synthetic": synthetic.n_obs,
        "n_train": None if settings.train is None else settings.train.n_obs,
        "n_genes": adata.n_vars,
        "version": package_version(),
        **data.notes,
        "left_out": list(data.faults),
    }
    return result, params


def _sizes(names: Sequence[str], settings: Settings, n_obs: int) -> tuple[int, int]:
    """Number of trees and largest number of cells per side: as given, of the protocols, or the defaults."""
    only_protocols = all(name in PROTOCOLS for name in names)
    n_trees, max_cells = settings.n_trees, settings.max_cells
    if n_trees is None:
        n_trees = _PAPER_TREES if only_protocols else _N_TREES
    if max_cells is None:
        max_cells = min(_PAPER_CELLS.get(name, n_obs) for name in names) if only_protocols else _MAX_CELLS
        max_cells = max(max_cells, settings.min_cells)
    if max_cells < settings.min_cells:
        raise ValueError(f"`max_cells` must be at least `min_cells`: {max_cells} and {settings.min_cells}.")
    return n_trees, max_cells


_KINDS = {
    "train": ANNDATA.or_none,
    "reference": ANNDATA.or_none,
    "baselines": Ordered(),
    "labels_key": COLUMN.or_none,
    "layer": LAYER,
    "metrics": Listed(Text("the name of a metric or a protocol"), least=0, alone=True),
    "log1p": FLAG,
    "target_sum": POSITIVE,
    "n_comps": COUNT,
    # forests are cross-validated in five folds, and a type needs some cells in each
    "min_cells": Range(10, whole=True),
    "max_cells": COUNT_OR_NONE,
    "n_trees": COUNT_OR_NONE,
    "seed": SEED,
    "n_jobs": THREADS,
}
"""What the settings may be: a measure would stumble over others after hours."""


def _check_baselines(baselines: Sequence[str] | Mapping[str, AnnData]) -> tuple[str, ...] | Mapping[str, AnnData]:
    if isinstance(baselines, Mapping):
        return baselines
    names = (baselines,) if isinstance(baselines, str) else tuple(baselines)
    if unknown := [name for name in names if name not in TRIVIAL]:
        raise ValueError(f"`baselines` has no {unknown}: choose of {list(TRIVIAL)}, or give their cells by name.")
    return names
