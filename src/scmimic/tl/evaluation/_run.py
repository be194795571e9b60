"""Runs the measures on synthetic cells, a real replicate and trivial generators, and makes one table of it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from scmimic._arrays import ScaleWarning
from scmimic.metrics import DiscriminatorResult, TooFewCellsError
from scmimic.tl.evaluation._cells import MAX_CELLS_LABEL, Cells, EvaluationData, matched_rows
from scmimic.tl.evaluation._diagnostics import check_data, copy_warning
from scmimic.tl.evaluation._measure import Measure, Metric
from scmimic.tl.evaluation._measure_functions import Options, Outcome, Pair, Value
from scmimic.tl.evaluation._measures import MEASURES, METRICS, PROTOCOLS

logger = logging.getLogger(__name__)

OVERALL = "overall"
"""Label of the rows over all cells."""

COLUMNS = (
    *("metric", "group", "label", "value", "low", "high", "ideal", "replicate", "trivial", "trivial_value", "score"),
    *("n_real", "n_synthetic", "warning"),
)

# What may go wrong in a measure of well-formed cells, and should not cost all other measures.
_FAULTS = (ArithmeticError, ImportError, LookupError, RuntimeError, ValueError)

# The small forest that finds the best trivial generator, where the full one is dear.
_SCREEN_CELLS, _SCREEN_TREES = 500, 20

# Five groups give an interval for a fifth of the cost of the measure where that grows with the square of the cells.
_N_GROUPS, _MIN_GROUP = 5, 50


@dataclass(frozen=True)
class Evaluation:
    """Everything that an evaluation found; the report draws from it."""

    table: pd.DataFrame
    data: EvaluationData
    curves: Mapping[str, Mapping[str, DiscriminatorResult]]
    """ROC curves of each forest: of the synthetic cells, of the replicate and of the best trivial generator."""
    seconds: Mapping[str, float]
    """Time of each measure on all sides."""
    failed: tuple[str, ...] = ()
    """Which measures could not be taken of which cells, and why."""

    @property
    def alarms(self) -> list[str]:
        """What the rows over all cells say against believing the numbers: guards, copies, values beyond chance."""
        rows = self.table[(self.table["label"] == OVERALL) & (self.table["warning"] != "")]
        guards = rows["group"].isin(["diagnostic", "privacy"]) & np.isfinite(rows["value"].to_numpy(dtype=float))
        beyond = np.array([beyond_chance(row) != "" for row in rows.itertuples()], dtype=bool)
        texts = rows["warning"].where(guards, rows["metric"] + ": " + rows["warning"])
        return list(dict.fromkeys(texts[guards | beyond]))


@dataclass(frozen=True)
class _Missing:
    """Why a measure gave nothing."""

    why: str
    fault: bool
    """Whether it is more than that there are too few cells."""


@dataclass
class _Sides:
    """The sides of one comparison, cut to equal numbers."""

    real: Cells
    synthetic: Cells
    train: Cells | None
    replicate: Cells | None
    trivial: dict[str, Cells] = field(default_factory=dict)

    @property
    def both(self) -> tuple[Cells, Cells]:
        return self.real, self.synthetic

    def pair(self, cells: Cells) -> Pair:
        return Pair(self.real, cells, self.train)


def choose_measures(metrics: str | Sequence[str]) -> list[Measure]:
    """Resolve `metrics`: `"all"`, a protocol, metrics by name, or several of these."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    chosen: dict[int, Measure] = {}
    for name in names:
        if name == "all":
            found = MEASURES
        elif name in PROTOCOLS:
            found = PROTOCOLS[name]
        else:
            found = tuple(m for m in MEASURES if name in {metric.name for metric in m.metrics})
        if not found:
            raise ValueError(
                f"`metrics` has no {name!r}. Choose 'all', a protocol ({', '.join(PROTOCOLS)}) or of {list(METRICS)}."
            )
        chosen |= {MEASURES.index(m): m for m in found}
    if not chosen:
        raise ValueError("`metrics` is empty: give 'all', a protocol, or names of metrics.")
    return [chosen[i] for i in sorted(chosen)]


def asked_metrics(metrics: str | Sequence[str]) -> set[str]:
    """Names of the metrics that the user names, or that are of a protocol that the user names."""
    names = {metrics} if isinstance(metrics, str) else set(metrics)
    return {m.name for measure in MEASURES for m in measure.metrics if m.name in names or names & measure.protocols}


def run_measures(
    data: EvaluationData,
    measures: Sequence[Measure],
    options: Options,
    *,
    asked: set[str],
    everything: bool,
    max_cells: int | None,
    log1p: bool,
) -> Evaluation:
    """Run the measures and the guards.

    Parameters
    ----------
    data
        The cells.
    measures
        What to run.
    options
        Settings of the measures.
    asked
        Metrics that were asked for by name: each has its rows, whatever happens.
    everything
        Whether all others are wanted too, as far as there is what they need.
    max_cells
        Largest number of cells per side.
    log1p
        Whether counts were log-normalised.
    """
    rng = np.random.default_rng(options.seed)
    sides = {OVERALL: _cut(data, None, max_cells, 2, rng)}
    small: dict[str, str] = {}
    for label in data.labels:
        n = [len(side.rows_of(label)) for side in (data.real, data.synthetic)]
        if min(n) >= options.min_cells:
            sides[label] = _cut(data, label, MAX_CELLS_LABEL, options.min_cells, rng)
        else:
            small[label] = f"Too few cells: {n[0]} real and {n[1]} synthetic (min_cells={options.min_cells})."
    rows: list[dict[str, object]] = []
    curves: dict[str, dict[str, DiscriminatorResult]] = {}
    seconds: dict[str, float] = {}
    for finding in check_data(data, log1p=log1p, min_cells=options.min_cells, overall=OVERALL):
        rows.append(
            _row(
                finding.metric,
                "diagnostic",
                finding.label,
                Value(finding.value),
                ideal=finding.ideal,
                n=(finding.n_real, finding.n_synthetic),
                warning=finding.warning,
            )
        )
    failed: list[str] = []
    for measure in measures:
        start = time.perf_counter()
        name = measure.metrics[0].name
        lacking = _lacking(measure, data)
        if lacking and not any(metric.name in asked for metric in measure.metrics):
            continue
        if lacking:
            found = _Results(missing={(OVERALL, "synthetic"): _Missing(lacking, fault=True)})
        else:
            found = _run(measure, sides, options)
        curves[name] = found.curves
        seconds[name] = time.perf_counter() - start
        logger.info("%s: %.1f s", name, seconds[name])
        failed += found.faults(name)
        for metric in measure.metrics:
            if everything or metric.name in asked:
                rows += _rows(metric, measure, found, sides, data.labels, small)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return Evaluation(table=table, data=data, curves=curves, seconds=seconds, failed=tuple(failed))


def _lacking(measure: Measure, data: EvaluationData) -> str:
    """What a measure needs and the user has not given."""
    if measure.needs_labels and not data.labels:
        return "Not measured: it needs the cell types, `labels_key`."
    if measure.needs_train and data.train is None:
        return "Not measured: it needs the cells that the generator was trained on, `train`."
    return ""


@dataclass
class _Results:
    """What a measure gave on all sides."""

    values: dict[str, dict[str, dict[str, Value]]] = field(default_factory=dict)
    """By label, source (synthetic, replicate or a trivial generator) and metric."""
    missing: dict[tuple[str, str], _Missing] = field(default_factory=dict)
    """By label and source."""
    curves: dict[str, DiscriminatorResult] = field(default_factory=dict)

    def faults(self, name: str) -> list[str]:
        """What the user should know of the sides without a value: each reason once, with where it was met."""
        where: dict[str, list[str]] = {}
        for (label, source), missing in self.missing.items():
            if missing.fault:
                where.setdefault(missing.why, []).append(f"{source}, {label}")
        return [f"{name} ({_first(places)}): {why}" for why, places in where.items()]


def _first(places: Sequence[str], n: int = 3) -> str:
    return "; ".join(places[:n]) + (f" and {len(places) - n} more" if len(places) > n else "")


def _run(measure: Measure, sides: Mapping[str, _Sides], options: Options) -> _Results:
    found = _Results()
    overall = sides[OVERALL]
    trivial = list(overall.trivial) if measure.calibrated else []
    if measure.screen and len(trivial) > 1:
        trivial = [_best_on_few_cells(measure, overall, options)]
    for label, one in sides.items():
        if label != OVERALL and measure.per_label != "repeat":
            continue
        for source, pair in _pairs(measure, one, trivial):
            outcome = _try(measure, pair, options, f"{source}, {label}")
            if isinstance(outcome, _Missing):
                found.missing[label, source] = outcome
                continue
            values = dict(outcome.overall)
            if source == "synthetic" and not measure.own_interval:
                values = _with_intervals(measure, pair, options, values)
            found.values.setdefault(label, {})[source] = values
            if label == OVERALL:
                if outcome.curve is not None:
                    found.curves[source] = outcome.curve
                for inner, of_label in outcome.per_label.items():
                    found.values.setdefault(inner, {})[source] = dict(of_label)
    return found


def _pairs(measure: Measure, sides: _Sides, trivial: Sequence[str]) -> Iterator[tuple[str, Pair]]:
    yield "synthetic", sides.pair(sides.synthetic)
    if not measure.calibrated:
        # training cells would be copies: the second half of the unseen real cells stands for new cells here
        half = np.arange(len(sides.real)) % 2 == 0
        yield "replicate", Pair(sides.real[half], sides.real[~half], sides.train)
        return
    if sides.replicate is not None:
        yield "replicate", sides.pair(sides.replicate)
    yield from ((name, sides.pair(sides.trivial[name])) for name in trivial if name in sides.trivial)


def _try(measure: Measure, pair: Pair, options: Options, what: str) -> Outcome | _Missing:
    """Run a measure; one that cannot be taken of some cells does not cost the rest of the evaluation."""
    try:
        with warnings.catch_warnings():
            # the guards look at the units of the cells, and have a row for what they find
            warnings.simplefilter("ignore", ScaleWarning)
            return measure.function(pair, options)
    except TooFewCellsError as error:
        return _Missing(f"Too few cells. {error}", fault=False)
    except _FAULTS as error:
        logger.info("%s (%s) failed.", measure.metrics[0].name, what, exc_info=True)
        return _Missing(f"Not measured, {type(error).__name__}: {error}", fault=True)


def _best_on_few_cells(measure: Measure, sides: _Sides, options: Options) -> str:
    metric, values = measure.metrics[0], {}
    few = replace(options, n_trees=min(options.n_trees, _SCREEN_TREES))
    for name, cells in sides.trivial.items():
        pair = Pair(sides.real[:_SCREEN_CELLS], cells[:_SCREEN_CELLS], sides.train)
        outcome = _try(measure, pair, few, f"{name}, few cells")
        # a fault is told of where all cells are compared
        failed = isinstance(outcome, _Missing)
        values[name] = (
            np.inf if failed else metric.loss(outcome.overall[metric.name].value, metric.ideal, len(pair.real))
        )
    return min(values, key=values.__getitem__)


def _with_intervals(measure: Measure, pair: Pair, options: Options, values: dict[str, Value]) -> dict[str, Value]:
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


def _rows(
    metric: Metric,
    measure: Measure,
    found: _Results,
    sides: Mapping[str, _Sides],
    labels: Sequence[str],
    small: Mapping[str, str],
) -> Iterator[dict[str, object]]:
    own = measure.per_label == "own"
    for label in (OVERALL, *labels) if measure.per_label != "none" else (OVERALL,):
        of_label = found.values.get(label, {})
        cut = sides.get(OVERALL if own else label)
        n = (0, 0)
        if cut is not None:
            of = (len(side) if label == OVERALL or not own else len(side.rows_of(label)) for side in cut.both)
            n = tuple(of)
        if "synthetic" not in of_label:
            missing = found.missing.get((label, "synthetic")) or found.missing.get((OVERALL, "synthetic"))
            few = f"Too few cells: {n[0]} real and {n[1]} synthetic among those compared."
            why = small.get(label) or (missing.why if missing else few)
            yield _row(metric.name, measure.group, label, Value(np.nan), ideal=metric.ideal, n=n, warning=why)
            continue
        value = of_label["synthetic"][metric.name]
        replicate = of_label["replicate"][metric.name].value if "replicate" in of_label else np.nan
        ideal = replicate if np.isnan(metric.ideal) else metric.ideal
        trivial = {
            source: values[metric.name].value
            for source, values in of_label.items()
            if source not in ("synthetic", "replicate") and np.isfinite(values[metric.name].value)
        }
        best = min(trivial, key=lambda name: metric.loss(trivial[name], ideal, n[0])) if trivial else ""
        score, warning = np.nan, ""
        if best and np.isfinite(replicate) and measure.calibrated:
            score, warning = calibrated_score(metric, value, replicate, trivial[best], ideal, n[0])
        if measure.group == "privacy":
            warning = copy_warning(metric.name, value.value, value.low, replicate)
        if not np.isfinite(value.value):
            warning = "The metric has no finite value for these cells."
        texts = [metric.beyond_chance(value.value, n[0]), warning]
        texts += [f"{source}: {gap.why}" for (of, source), gap in found.missing.items() if of == label and gap.fault]
        yield _row(
            metric.name,
            measure.group,
            label,
            value,
            ideal=ideal,
            replicate=replicate,
            trivial=best,
            trivial_value=trivial.get(best, np.nan),
            score=score,
            n=n,
            warning=" ".join(text for text in texts if text),
        )


def beyond_chance(row: Any) -> str:
    """What it means that a row of the table lies beyond chance, or an empty text."""
    metric = METRICS.get(row.metric)
    return "" if metric is None else metric.beyond_chance(row.value, row.n_real)


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


def _row(
    metric: str,
    group: str,
    label: str,
    value: Value,
    *,
    ideal: float,
    n: tuple[int, int],
    replicate: float = np.nan,
    trivial: str = "",
    trivial_value: float = np.nan,
    score: float = np.nan,
    warning: str = "",
) -> dict[str, object]:
    numbers = (value.value, value.low, value.high, ideal, replicate, trivial, trivial_value, score)
    return dict(zip(COLUMNS, (metric, group, label, *numbers, *n, warning), strict=True))


def _cut(
    data: EvaluationData, label: str | None, max_cells: int | None, min_cells: int, rng: np.random.Generator
) -> _Sides:
    """Cut all sides, of one label or of all cells, to equal numbers in random order."""

    def rows(cells: Cells) -> np.ndarray:
        return rng.permutation(len(cells) if label is None else cells.rows_of(label))

    real, synthetic = rows(data.real), rows(data.synthetic)
    replicate = rows(data.replicate) if data.replicate is not None else np.empty(0, int)
    n = min(len(real), len(synthetic), max_cells if max_cells is not None else len(real))
    if len(replicate) >= min_cells:
        n = min(n, len(replicate))
    chosen = data.real[real[:n]]
    trivial = {}
    for name, cells in data.trivial.items():
        if label is None:
            # as many of each label as the real cells have: some labels were drawn in excess for their own rows
            own = rng.permutation(matched_rows(cells.labels, chosen.labels, rng))
        else:
            own = rows(cells)
        if len(own) >= min_cells:
            trivial[name] = cells[own[:n]]
    return _Sides(
        real=chosen,
        synthetic=data.synthetic[synthetic[:n]],
        train=data.train,
        replicate=data.replicate[replicate[:n]] if len(replicate) >= min_cells else None,
        trivial=trivial,
    )
