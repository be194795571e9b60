"""Runs the measures on synthetic cells, a real replicate and trivial generators, and makes one table of it.

The calibrated score rescales a measure between two ends that are measured on the same data, since a raw distance means
little: s = (m - best trivial) / (replicate - best trivial).
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData
from joblib import effective_n_jobs
from scipy.stats import t as student

from scmimic._arrays import ScaleWarning
from scmimic._keys import OVERALL
from scmimic._noise import without_warnings
from scmimic._progress import progress
from scmimic._version import package_version
from scmimic.cells import ANNDATA, roles_warning
from scmimic.metrics import TooFewCellsError
from scmimic.tl.evaluation._cells import EvaluationData, Sides, prepare_data, read_files
from scmimic.tl.evaluation._diagnostics import copy_warning, diagnose, label_warning
from scmimic.tl.evaluation._measures import (
    MEASURES,
    Measure,
    Metric,
    Options,
    Outcome,
    Pair,
    Row,
    Value,
)
from scmimic.tl.evaluation._result import Evaluation
from scmimic.tl.evaluation._settings import Settings, recorded, resolved, takes

logger = logging.getLogger(__name__)

# What may go wrong in a measure of well-formed cells, and should not cost all other measures.
_FAULTS = (ArithmeticError, ImportError, LookupError, RuntimeError, ValueError)

# The small forest that finds the best trivial generator, where the full one is dear.
_SCREEN_CELLS, _SCREEN_TREES = 500, 20

# Five groups give an interval for a fifth of the cost of the measure where that grows with the square of the cells.
_N_GROUPS, _MIN_GROUP = 5, 50


@takes(Settings)
def evaluate(adata: AnnData, synthetic: AnnData, **settings: Unpack[Settings]) -> Evaluation:
    """Measure how real synthetic cells are, overall and per cell type, and write nothing.

    Each measure is taken on the synthetic cells, on other real cells in their place (the replicate), and on the cells
    of trivial generators; the calibrated score is 0 for the best trivial generator and 1 for real cells. What the
    columns of the table mean stands with :func:`scmimic.tl.evaluate`, which also writes the table to `adata`.

    Parameters
    ----------
    adata
        Real cells that the generator has not been trained on.
    synthetic
        Synthetic cells with the same genes in the same order.
    **settings
        See :class:`~scmimic.tl.evaluation._settings.Settings`.

    Returns
    -------
    :class:`scmimic.Evaluation`, with `table`, `verdict`, `plot()`, `to_html(path)` and `to_json(path)`.

    Raises
    ------
    ValueError
        If genes differ, a label or a value is missing, values are negative with `log1p`, a metric or generator is
        unknown, a number is out of range, more than half of `adata` are in `train` (or of `reference` in either), or
        there are too few cells.
    TypeError
        If there is no such setting, a name is no text, or `log1p` no truth value.
    KeyError
        If `labels_key` or `layer` is not there.

    Warns
    -----
    UserWarning
        As :func:`scmimic.tl.evaluate`.

    See Also
    --------
    scmimic.report : Writes a page.
    scmimic.tl.evaluate : The table alone.
    scmimic.tl.privacy : What cells tell of their training cells.
    scmimic.pl.embedding : A look at the cells.

    Examples
    --------
    >>> import scmimic as sm
    >>> cells = sm.datasets.synthetic_counts(n_obs=600, n_vars=50)
    >>> train, test = cells[:300].copy(), cells[300:].copy()
    >>> generator = sm.baselines.Multinomial(train, labels_key="cell_type").fit()
    >>> synthetic = generator.generate(labels=test.obs["cell_type"].value_counts(), seed=0)
    >>> evaluation = sm.evaluate(test, synthetic, labels_key="cell_type", train=train, metrics=["mmd", "dcr_ratio"])
    >>> [answer.question for answer in evaluation.verdict.answers]
    ['Valid?', 'Close?', 'New?']
    """
    evaluation = run(adata, synthetic, settings)
    for text in evaluation.alarms:
        warnings.warn(text, UserWarning, stacklevel=2)
    return evaluation


def run(adata: AnnData, synthetic: AnnData, settings: Mapping[str, Any]) -> Evaluation:
    """Do the work of :func:`evaluate`, and warn its caller's caller of what was not done.

    Alarms are left to those who do not show the verdict, which has them.

    Parameters
    ----------
    adata, synthetic
        The cells.
    settings
        Any of :class:`~scmimic.tl.evaluation._settings.Settings`.
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    if swapped := roles_warning(adata, synthetic):
        warnings.warn(swapped, UserWarning, stacklevel=3)
    settings = resolved(settings, adata.n_obs)
    params = recorded(settings)
    given = {"adata": adata, "synthetic": synthetic, "train": settings["train"], "reference": settings["reference"]}
    read, told = read_files({name: cells for name, cells in given.items() if cells is not None}, settings)
    settings |= {name: cells for name, cells in read.items() if name in settings}
    data = prepare_data(read["adata"], read["synthetic"], settings)
    rows = diagnose(data, log1p=settings["log1p"], min_cells=settings["min_cells"])
    options = Options(**{name: settings[name] for name in ("n_trees", "seed", "n_jobs", "min_cells")})
    curves, seconds, failed = {}, {}, []
    wanted = {name: _wanted(measure, settings["metrics"], data) for name, measure in MEASURES.items()}
    with progress(sum(map(bool, wanted.values())), "Evaluating") as advance:
        for key, metrics in wanted.items():
            if not metrics:
                continue
            measure, start, name = MEASURES[key], time.perf_counter(), MEASURES[key].metrics[0].name
            advance(0, name)
            if lacking := _lacking(measure, data):
                results = _Results(missing={(OVERALL, "synthetic"): _Missing(lacking, is_fault=True)})
            else:
                # the diagnostics look at the units of the cells, and have a row for what they find
                with without_warnings(ScaleWarning):
                    results = _take(measure, data.compared, options)
            curves[name] = results.curves
            seconds[name] = time.perf_counter() - start
            logger.info("%s: %.1f s", name, seconds[name])
            failed += results.faults(name)
            for metric in metrics:
                rows += _rows(metric, measure, results, data, settings["min_cells"])
            advance(1)
    params |= {
        "n_comps": data.real.pcs.shape[1],
        "n_real": adata.n_obs,
        "n_synthetic": synthetic.n_obs,
        "n_train": None if settings["train"] is None else settings["train"].n_obs,
        "n_genes": adata.n_vars,
        "version": package_version(),
        **data.notes,
        "left_out": [*told, *data.left_out],
    }
    table = pd.DataFrame(map(vars, rows), columns=[column.name for column in fields(Row)])
    files = {name: cells.filename for name, cells in given.items() if cells is not None and cells.isbacked}
    cells = read["adata"], read["synthetic"]
    evaluation = Evaluation(table, params, seconds, curves, tuple(failed), *cells, settings, files)
    for text in evaluation.faults:
        warnings.warn(text, UserWarning, stacklevel=3)
    return evaluation


def _wanted(measure: Measure, names: Sequence[str], data: EvaluationData) -> Sequence[Metric]:
    """The metrics of a measure to take; what was not asked for by name is left out where its cells are not given."""
    asked = measure.asked(names)
    if _lacking(measure, data) and not asked:
        return ()
    return measure.metrics if "all" in names else asked


def _lacking(measure: Measure, data: EvaluationData) -> str:
    """What a measure needs and the user has not given."""
    if measure.needs_labels and not data.labels:
        return "Not measured: it needs the cell types, `labels_key`."
    if measure.needs_train and data.train is None:
        return "Not measured: it needs the cells that the generator was trained on, `train`."
    return ""


@dataclass(frozen=True)
class _Missing:
    """Why a measure gave nothing."""

    why: str
    is_fault: bool
    """Whether it is more than that there are too few cells."""


@dataclass
class _Results:
    """What a measure gave on all sides."""

    values: dict[str, dict[str, Mapping[str, Value]]] = field(default_factory=dict)
    """By label, source (synthetic, replicate or a trivial generator) and metric."""
    missing: dict[tuple[str, str], _Missing] = field(default_factory=dict)
    """By label and source."""
    curves: dict[str, Any] = field(default_factory=dict)

    def faults(self, name: str) -> list[str]:
        """What the user should know of the sides without a value: each reason once, with where it was met."""
        where: dict[str, list[str]] = {}
        for (label, source), missing in self.missing.items():
            if missing.is_fault:
                where.setdefault(missing.why, []).append(f"{source}, {label}")
        texts = []
        for why, places in where.items():
            more = f" and {len(places) - 3} more" if len(places) > 3 else ""
            texts.append(f"{name} ({'; '.join(places[:3])}{more}): {why}")
        return texts


def _take(measure: Measure, compared: Mapping[str, Sides], options: Options) -> _Results:
    """Take a measure on all sides."""
    results = _Results()
    trivial = list(compared[OVERALL].trivial) if measure.calibrated else []
    if measure.screen and len(trivial) > 1:
        trivial = [_best_on_few_cells(measure, compared[OVERALL], options)]
    tasks = [
        (label, source, pair)
        for label, sides in compared.items()
        if label == OVERALL or measure.per_label == "repeated"
        for source, pair in _pairs(measure, sides, trivial)
    ]
    for (label, source, _), outcome in zip(tasks, _taken(measure, tasks, options), strict=True):
        if isinstance(outcome, _Missing):
            results.missing[label, source] = outcome
            continue
        results.values.setdefault(label, {})[source] = outcome.overall
        if label == OVERALL:
            if outcome.curve is not None:
                results.curves[source] = outcome.curve
            for of_label, returned in outcome.per_label.items():
                results.values.setdefault(of_label, {})[source] = returned
    return results


def _taken(measure: Measure, tasks: Sequence[tuple[str, str, Pair]], options: Options) -> Iterable[Outcome | _Missing]:
    """What a measure gives on each side, of several sides at once: one of few cells keeps no two threads busy."""

    def take(task: tuple[str, str, Pair], options: Options) -> Outcome | _Missing:
        label, source, pair = task
        outcome = _try(measure, pair, options, f"{source}, {label}")
        if source == "synthetic" and not measure.has_interval and not isinstance(outcome, _Missing):
            return replace(outcome, overall=with_intervals(measure, pair, options, outcome.overall))
        return outcome

    n_threads = min(effective_n_jobs(options.n_jobs), len(tasks))
    if n_threads == 1:
        return [take(task, options) for task in tasks]
    with ThreadPoolExecutor(n_threads) as pool:
        done = [pool.submit(take, task, replace(options, n_jobs=1)) for task in tasks]
        try:
            return [outcome.result() for outcome in done]
        except BaseException:
            # Ctrl-C does not wait for those that have not begun
            pool.shutdown(cancel_futures=True)
            raise


def _pairs(measure: Measure, sides: Sides, trivial: Sequence[str]) -> Iterator[tuple[str, Pair]]:
    yield "synthetic", Pair(sides.real, sides.synthetic, sides.train, sides.within if measure.whole else None)
    if not measure.calibrated and not (measure.whole and sides.replicate is not None):
        # training cells would be copies: the second half of the unseen real cells stands for new cells here
        half = np.arange(len(sides.real)) % 2 == 0
        yield "replicate", Pair(sides.real[half], sides.real[~half], sides.train)
        return
    if sides.replicate is not None:
        yield "replicate", Pair(sides.real, sides.replicate, sides.train)
    yield from ((name, Pair(sides.real, sides.trivial[name], sides.train)) for name in trivial if name in sides.trivial)


def _try(measure: Measure, pair: Pair, options: Options, what: str) -> Outcome | _Missing:
    """Take a measure; one that cannot be taken of some cells does not cost the rest of the evaluation."""
    try:
        return measure.function(pair, options)
    except TooFewCellsError as error:
        return _Missing(f"Too few cells. {error}", is_fault=False)
    except _FAULTS as error:
        logger.info("%s (%s) failed.", measure.metrics[0].name, what, exc_info=True)
        return _Missing(f"Not measured, {type(error).__name__}: {error}", is_fault=True)


def _best_on_few_cells(measure: Measure, sides: Sides, options: Options) -> str:
    """The trivial generator that is best with a small forest."""
    metric, losses = measure.metrics[0], {}
    few = replace(options, n_trees=min(options.n_trees, _SCREEN_TREES))
    for name, cells in sides.trivial.items():
        pair = Pair(sides.real[:_SCREEN_CELLS], cells[:_SCREEN_CELLS], sides.train)
        outcome = _try(measure, pair, few, f"{name}, few cells")
        # a fault is told of where all cells are compared
        losses[name] = np.inf
        if not isinstance(outcome, _Missing):
            losses[name] = metric.loss(outcome.overall[metric.name].value, metric.ideal, len(pair.real))
    return min(losses, key=losses.__getitem__)


def with_intervals(measure: Measure, pair: Pair, options: Options, values: Mapping[str, Value]) -> Mapping[str, Value]:
    """Add 95 % intervals: the spread of the measure over disjoint groups of cells, over the root of their number."""
    n = min(len(pair.real), len(pair.synthetic))
    n_groups = min(_N_GROUPS, n // _MIN_GROUP)
    if n_groups < 3:
        return values
    of_groups = []
    for i in range(n_groups):
        # the cells stand in random order
        group = Pair(pair.real[i:n:n_groups], pair.synthetic[i:n:n_groups], pair.train)
        outcome = _try(measure, group, options, "groups of cells")
        if isinstance(outcome, _Missing):
            return values
        of_groups.append(outcome.overall)
    half = {
        name: student.ppf(0.975, n_groups - 1) * np.std([g[name].value for g in of_groups], ddof=1) / np.sqrt(n_groups)
        for name in values
    }
    return {name: Value(v.value, v.value - half[name], v.value + half[name]) for name, v in values.items()}


def _rows(metric: Metric, measure: Measure, results: _Results, data: EvaluationData, min_cells: int) -> Iterator[Row]:
    """Rows of a metric, for all cells and for each label."""
    for label in (OVERALL, *data.labels) if measure.per_label != "none" else (OVERALL,):
        is_returned = measure.per_label == "returned" and label != OVERALL
        sides = data.compared.get(OVERALL if is_returned else label)
        n = [0, 0]
        if sides is not None and measure.whole:
            n = list(map(len, sides.within))
        elif sides is not None:
            n = [len(side.rows_of(label)) if is_returned else len(side) for side in (sides.real, sides.synthetic)]
        row = Row(metric.name, measure.group, label, np.nan, ideal=metric.ideal, n_real=n[0], n_synthetic=n[1])
        values = {source: of_source[metric.name] for source, of_source in results.values.get(label, {}).items()}
        missing = {source: gap for (of, source), gap in results.missing.items() if of == label}
        if "synthetic" in values:
            yield _filled(row, metric, measure, values, missing)
            continue
        gap = missing.get("synthetic") or results.missing.get((OVERALL, "synthetic"))
        why = gap.why if gap else f"Too few cells: {n[0]} real and {n[1]} synthetic among those compared."
        if label not in data.compared:
            n = [len(side.rows_of(label)) for side in (data.real, data.synthetic)]
            why = f"Too few cells: {n[0]} real and {n[1]} synthetic (min_cells={min_cells})."
        yield replace(row, warning=why)


def _filled(
    row: Row, metric: Metric, measure: Measure, values: Mapping[str, Value], missing: Mapping[str, _Missing]
) -> Row:
    """A row with the values of all sources, the score, and what is to be said against them."""
    value, n = values["synthetic"], row.n_real
    replicate = values["replicate"].value if "replicate" in values else np.nan
    ideal = replicate if np.isnan(metric.ideal) else metric.ideal
    trivial = {
        source: of_source.value
        for source, of_source in values.items()
        if source not in ("synthetic", "replicate") and np.isfinite(of_source.value)
    }
    best = min(trivial, key=lambda name: metric.loss(trivial[name], ideal, n)) if trivial else ""
    score, warning = np.nan, ""
    if best and np.isfinite(replicate) and measure.calibrated:
        score, warning = metric.score(value, replicate, trivial[best], ideal, n)
    copied = copy_warning(metric.name, value.value, value.low, replicate, high=value.high)
    warning = copied or label_warning(metric.name, value.value, value.low, value.high, replicate) or warning
    if not np.isfinite(value.value):
        warning = "The metric has no finite value for these cells."
    texts = [metric.beyond_chance(value.value, n), warning]
    texts += [f"{source}: {gap.why}" for source, gap in missing.items() if gap.is_fault]
    return replace(
        row,
        **vars(value),
        ideal=ideal,
        replicate=replicate,
        trivial=best,
        trivial_value=trivial.get(best, np.nan),
        score=score,
        warning=" ".join(text for text in texts if text),
    )
