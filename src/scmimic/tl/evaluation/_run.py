"""Runs the measures on synthetic cells, a real replicate and trivial generators, and makes one table of it.

The calibrated score rescales a measure between two ends that are measured on the same data, since a raw distance means
little: s = (m - best trivial) / (replicate - best trivial).
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Unpack

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import t as student

from scmimic._arrays import ScaleWarning
from scmimic.cells._checks import ANNDATA
from scmimic.cells._generated import package_version
from scmimic.metrics import DiscriminatorResult, TooFewCellsError
from scmimic.tl.evaluation._cells import MAX_CELLS_LABEL, OVERALL, TRIVIAL, EvaluationData, Sides, prepare_data
from scmimic.tl.evaluation._diagnostics import copy_warning, diagnose
from scmimic.tl.evaluation._measures import (
    MEASURES,
    PROTOCOLS,
    Measure,
    Metric,
    Options,
    Outcome,
    Pair,
    Row,
    Value,
    metrics_by_name,
)
from scmimic.tl.evaluation._result import Evaluation
from scmimic.tl.evaluation._settings import Settings, complete, recorded, takes

logger = logging.getLogger(__name__)

_N_TREES, _MAX_CELLS = 100, 2000
_PAPER_TREES = 1000
# what the papers draw per side; ACTIVA and GRouNdGAN take all test cells
_PAPER_CELLS = {"michigan": 3000}

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
    :class:`scmimic.Evaluation`, with `table`, `verdict`, `plot()` and `to_html(path)`.

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
    >>> ax = evaluation.plot(show=False)  # doctest: +SKIP
    """
    evaluation = run(adata, synthetic, settings)
    for text in evaluation.alarms:
        warnings.warn(text, UserWarning, stacklevel=2)
    return evaluation


def run(adata: AnnData, synthetic: AnnData, given: Mapping[str, Any]) -> Evaluation:
    """Do the work of :func:`evaluate`, and warn its caller's caller of what was not done.

    Alarms are left to those who do not show the verdict, which has them.

    Parameters
    ----------
    adata, synthetic
        The cells.
    given
        Any of :class:`~scmimic.tl.evaluation._settings.Settings`.
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    settings = complete(given, what="`evaluate`")
    measures = choose_measures(settings["metrics"])
    settings |= _resolved(settings, adata.n_obs)
    data = prepare_data(adata, synthetic, settings)
    if min(len(data.real), len(data.synthetic)) < settings["min_cells"]:
        raise ValueError(
            f"There are {len(data.real)} real cells to compare with and {len(data.synthetic)} synthetic ones: at least "
            f"{settings['min_cells']} of each are needed. Without `train`, half of `adata` is the replicate."
        )
    comparison = _Comparison.of(data, settings)
    rows = diagnose(data, log1p=settings["log1p"], min_cells=settings["min_cells"])
    asked, names = _asked(settings["metrics"]), settings["metrics"]
    curves, seconds, failed = {}, {}, []
    for measure in measures:
        start = time.perf_counter()
        wanted = [metric for metric in measure.metrics if metric.name in asked]
        lacking = _lacking(measure, data)
        if lacking and not wanted:
            continue
        if lacking:
            results = _Results(missing={(OVERALL, "synthetic"): _Missing(lacking, is_fault=True)})
        else:
            results = comparison.take(measure)
        curves[measure.name] = results.curves
        seconds[measure.name] = time.perf_counter() - start
        logger.info("%s: %.1f s", measure.name, seconds[measure.name])
        failed += results.faults(measure.name)
        for metric in measure.metrics if "all" in names else wanted:
            rows += comparison.rows(metric, measure, results)
    params = recorded(settings) | {
        "n_comps": data.real.pcs.shape[1],
        "n_real": adata.n_obs,
        "n_synthetic": synthetic.n_obs,
        "n_train": None if settings["train"] is None else settings["train"].n_obs,
        "n_genes": adata.n_vars,
        "version": package_version(),
        **data.notes,
        "left_out": list(data.left_out),
    }
    table = pd.DataFrame(map(vars, rows), columns=[column.name for column in fields(Row)])
    evaluation = Evaluation(table, params, seconds, curves, tuple(failed), adata, synthetic, settings)
    for text in evaluation.faults:
        warnings.warn(text, UserWarning, stacklevel=3)
    return evaluation


def choose_measures(metrics: str | Sequence[str]) -> list[Measure]:
    """Resolve `metrics`: `"all"`, a protocol, metrics by name, or several of these."""
    chosen = []
    for name in [metrics] if isinstance(metrics, str) else metrics:
        of_name = [
            m for m in MEASURES.values() if name in {"all", *m.protocols, *(metric.name for metric in m.metrics)}
        ]
        if not of_name:
            raise ValueError(
                f"`metrics` has no {name!r}. Choose 'all', a protocol ({', '.join(PROTOCOLS)}) or of "
                f"{list(metrics_by_name())}."
            )
        chosen += of_name
    if not chosen:
        raise ValueError("`metrics` is empty: give 'all', a protocol, or names of metrics.")
    return [measure for measure in MEASURES.values() if measure in chosen]


def _asked(names: Sequence[str]) -> set[str]:
    """Names of the metrics that the user names, or that are of a protocol that the user names."""
    return {m.name for measure in MEASURES.values() for m in measure.metrics if {m.name, *measure.protocols} & {*names}}


def _resolved(settings: Mapping[str, Any], n_obs: int) -> dict[str, Any]:
    """Settings that depend on others: those of the protocols, or the defaults."""
    metrics, baselines = settings["metrics"], settings["baselines"]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    n_trees, max_cells, min_cells = settings["n_trees"], settings["max_cells"], settings["min_cells"]
    only_protocols = all(name in PROTOCOLS for name in names)
    if n_trees is None:
        n_trees = _PAPER_TREES if only_protocols else _N_TREES
    if max_cells is None:
        max_cells = min(_PAPER_CELLS.get(name, n_obs) for name in names) if only_protocols else _MAX_CELLS
        max_cells = max(max_cells, min_cells)
    if max_cells < min_cells:
        raise ValueError(f"`max_cells` must be at least `min_cells`: {max_cells} and {min_cells}.")
    if not isinstance(baselines, Mapping):
        baselines = (baselines,) if isinstance(baselines, str) else tuple(baselines)
        if unknown := [name for name in baselines if name not in TRIVIAL]:
            raise ValueError(f"`baselines` has no {unknown}: choose of {list(TRIVIAL)}, or give their cells by name.")
    return {"metrics": names, "baselines": baselines, "n_trees": n_trees, "max_cells": max_cells}


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
    curves: dict[str, DiscriminatorResult] = field(default_factory=dict)

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


@dataclass(frozen=True)
class _Comparison:
    """The sides of all cells and of each label, cut to equal numbers, and what measures give on them."""

    sides: Mapping[str, Sides]
    """By label, all cells first."""
    labels: Sequence[str]
    """All labels, also those with too few cells for sides."""
    too_few: Mapping[str, str]
    """What to say of these."""
    options: Options

    @classmethod
    def of(cls, data: EvaluationData, settings: Mapping[str, Any]) -> _Comparison:
        """Cut the sides."""
        options = Options(**{name: settings[name] for name in ("n_trees", "min_cells", "seed", "n_jobs")})
        rng = np.random.default_rng(options.seed)
        sides = {OVERALL: data.equal_sides(None, max_cells=settings["max_cells"], min_replicate=2, rng=rng)}
        too_few = {}
        for label in data.labels:
            n = [len(side.rows_of(label)) for side in (data.real, data.synthetic)]
            if min(n) >= options.min_cells:
                sides[label] = data.equal_sides(
                    label, max_cells=MAX_CELLS_LABEL, min_replicate=options.min_cells, rng=rng
                )
            else:
                too_few[label] = f"Too few cells: {n[0]} real and {n[1]} synthetic (min_cells={options.min_cells})."
        return cls(sides, data.labels, too_few, options)

    def take(self, measure: Measure) -> _Results:
        """Take a measure on all sides."""
        results = _Results()
        trivial = list(self.sides[OVERALL].trivial) if measure.calibrated else []
        if measure.screen and len(trivial) > 1:
            trivial = [_best_on_few_cells(measure, self.sides[OVERALL], self.options)]
        for label, sides in self.sides.items():
            if label != OVERALL and measure.per_label != "repeated":
                continue
            for source, pair in _pairs(measure, sides, trivial):
                outcome = _try(measure, pair, self.options, f"{source}, {label}")
                if isinstance(outcome, _Missing):
                    results.missing[label, source] = outcome
                    continue
                values = outcome.overall
                if source == "synthetic" and not measure.has_interval:
                    values = with_intervals(measure, pair, self.options, values)
                results.values.setdefault(label, {})[source] = values
                if label == OVERALL:
                    if outcome.curve is not None:
                        results.curves[source] = outcome.curve
                    for of_label, returned in outcome.per_label.items():
                        results.values.setdefault(of_label, {})[source] = returned
        return results

    def rows(self, metric: Metric, measure: Measure, results: _Results) -> Iterator[Row]:
        """Rows of a metric, for all cells and for each label."""
        for label in (OVERALL, *self.labels) if measure.per_label != "none" else (OVERALL,):
            n_real, n_synthetic = self._n_compared(label, measure)
            row = Row(
                metric.name,
                measure.group,
                label,
                np.nan,
                ideal=metric.ideal,
                n_real=n_real,
                n_synthetic=n_synthetic,
            )
            values = {source: of_source[metric.name] for source, of_source in results.values.get(label, {}).items()}
            missing = {source: gap for (of, source), gap in results.missing.items() if of == label}
            if "synthetic" in values:
                yield _filled(row, metric, measure, values, missing)
                continue
            gap = missing.get("synthetic") or results.missing.get((OVERALL, "synthetic"))
            few = f"Too few cells: {n_real} real and {n_synthetic} synthetic among those compared."
            yield replace(row, warning=self.too_few.get(label) or (gap.why if gap else few))

    def _n_compared(self, label: str, measure: Measure) -> tuple[int, int]:
        is_returned = measure.per_label == "returned" and label != OVERALL
        sides = self.sides.get(OVERALL if is_returned else label)
        if sides is None:
            return 0, 0
        if is_returned:
            return len(sides.real.rows_of(label)), len(sides.synthetic.rows_of(label))
        return len(sides.real), len(sides.synthetic)


def _pairs(measure: Measure, sides: Sides, trivial: Sequence[str]) -> Iterator[tuple[str, Pair]]:
    yield "synthetic", Pair(sides.real, sides.synthetic, sides.train)
    if not measure.calibrated:
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
        with warnings.catch_warnings():
            # the diagnostics look at the units of the cells, and have a row for what they find
            warnings.simplefilter("ignore", ScaleWarning)
            return measure.function(pair, options)
    except TooFewCellsError as error:
        return _Missing(f"Too few cells. {error}", is_fault=False)
    except _FAULTS as error:
        logger.info("%s (%s) failed.", measure.name, what, exc_info=True)
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
        score, warning = calibrated_score(metric, value, replicate, trivial[best], ideal, n)
    if measure.group == "privacy":
        warning = copy_warning(metric.name, value.value, value.low, replicate)
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


def calibrated_score(
    metric: Metric, value: Value, replicate: float, trivial: float, ideal: float, n: int
) -> tuple[float, str]:
    """Place a value between the best trivial generator (0) and the replicate (1), with `n` cells per side.

    Both ends are bounded by their theory: a replicate beyond the ideal was lucky, and counts as the ideal. So does a
    value beyond it, unless luck does not explain it.
    """
    of_value, of_replicate, of_trivial = (metric.loss(v, ideal, n) for v in (value.value, replicate, trivial))
    room = of_trivial - of_replicate
    noise = (value.high - value.low) / 2
    if room <= 0 or (np.isfinite(noise) and room < noise):
        return np.nan, "No score: the best trivial generator does as well as real cells here."
    return (of_trivial - of_value) / room, ""
