"""The metrics of the Virtual Cell Challenge 2026 in one context, by the challenge's own code, cell-eval2.

A scale is what all predictions of a context have in common: for each metric its baseline (0), which is what the mean
response of the context gives, and its replicate (1), which is what one half of the real cells gives for the other.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeAlias

import pandas as pd
from pandas.errors import PerformanceWarning

from scmimic._arguments import check_keywords
from scmimic._extras import need
from scmimic.cells import Perturbed

logger = logging.getLogger(__name__)

Emission: TypeAlias = Literal["tile", "dispersed"]

PDS = "pds_cosine"
EXPRESSION = "expr_mse_unbiased_capped_norm"
FOLD_CHANGES = "de_wilcoxon_lfc_nmae"
TITLES = {
    PDS: "perturbations told apart",
    EXPRESSION: "expression error",
    "de_wilcoxon_direction_fidelity_yield_raw": "directions of changed genes",
    "de_wilcoxon_direction_reach_raw": "depth of right directions",
    "de_wilcoxon_sig_jaccard": "sets of changed genes",
    FOLD_CHANGES: "error of fold changes",
}
"""The six metrics by the names of cell-eval2, and what pictures call them."""

_PRESET = "vcc2026"
_KEY = "perturbation"
# said once for all runs by what calls them
_LOGGER = "cell_eval2"
# what this package decides, or gives by arguments of its own
_TAKEN = {
    "metrics": "all six are measured",
    "pert_col": "give `perturbation_key`",
    "control": "give `control`",
    "target_gene_map": "give `target_genes`",
    "discrimination.distance": "the metric is of cosines",
    "discrimination.embed_key": "the metric is of genes",
    "control_source": "the real control cells serve both sides",
    **dict.fromkeys(("outdir", "cache_real", "cache_pred", "cache_strict"), "nothing is written to files"),
    **dict.fromkeys(("version", "input_type", "allow_discrete", "autodetect_input_type"), "the metrics are of counts"),
    **dict.fromkeys(("allow_fractional_counts", "validate_input"), "counts are checked before"),
    # the same numbers on every machine
    **dict.fromkeys(("device", "pert_chunk", "num_threads", "gather_threads"), "one processor computes all"),
    **dict.fromkeys(("de.backend", "de.method", "de.replicate_col"), "scanpy's rank test is taken"),
}


def import_cell_eval2() -> Any:
    """The package, or how to get it."""
    return need("cell_eval2", extra="cell-eval2", what="`evaluate_perturbation`")


@dataclass(frozen=True)
class Preset:
    """The challenge's settings, with what was changed of them.

    Attributes
    ----------
    config
        Settings of cell-eval2.
    changed
        Value of each setting that is not the challenge's, under its dotted name.
    """

    config: Any
    changed: dict[str, Any]

    @classmethod
    def of(cls, control: str, changes: Mapping[str, Any], target_genes: Mapping[str, str | None] | None) -> Preset:
        """Settings for cells whose controls are called `control`.

        Parameters
        ----------
        control
            Name of the controls.
        changes
            Values of settings, under their dotted names.
        target_genes
            The gene that each perturbation aims at.

        Raises
        ------
        TypeError
            If there is no such setting.
        ValueError
            If cell-eval2 does not take its value.
        """
        config_class = import_cell_eval2().EvalConfig
        preset = config_class.from_preset(_PRESET)
        known = _leaves(preset)
        check_keywords(changes, [name for name in known if name not in _TAKEN], what="`changes`", hints=_TAKEN)
        # the engine of scanpy, which there always is
        config = _set(preset, {"device": "cpu", "de.backend": "scanpy", "num_threads": 1, "gather_threads": 1})
        config = _set(config, {"pert_col": _KEY, "control": control, "cache_strict": False})
        try:
            config = _set(config, changes)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`changes={dict(changes)}`: cell-eval2 does not take that: {error}") from error
        changed = {name: value for name, value in changes.items() if value != known[name]}
        if target_genes is not None:
            config = replace(config, target_gene_map=dict(target_genes))
            changed["target_gene_map"] = dict(target_genes)
        return cls(config, changed)


def _leaves(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting under its dotted name."""
    found: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        found |= _leaves(value, f"{prefix}{item.name}.") if is_dataclass(value) else {prefix + item.name: value}
    return found


def _set(config: Any, values: Mapping[str, Any]) -> Any:
    for name, value in values.items():
        section, _, inner = name.rpartition(".")
        one = {section: replace(getattr(config, section), **{inner: value})} if section else {name: value}
        config = replace(config, **one)
    return config


@dataclass(frozen=True)
class Measured:
    """The metrics of one prediction, or of a baseline.

    Attributes
    ----------
    values
        Value of each metric over all perturbations.
    perturbations
        Value of each metric for each perturbation, where it has one: columns `perturbation`, `metric`, `value`.
    """

    values: dict[str, float]
    perturbations: pd.DataFrame

    def number(self, metric: str) -> int:
        """Number of perturbations that a metric is taken over."""
        table = self.perturbations
        if metric == EXPRESSION:
            # a ratio of two sums: of the perturbations that have both
            parts = [part for part in table["metric"].unique() if part in _COMPONENTS]
            known = table[table["metric"].isin(parts)].groupby("perturbation")["value"].agg(lambda x: x.notna().all())
            return int(known.sum())
        return int(table.loc[table["metric"] == metric, "value"].notna().sum())


_WITHOUT_VALUE = {
    FOLD_CHANGES: "no perturbation has ten genes that change significantly",
    EXPRESSION: "the effects of the real cells are no larger than their sampling noise",
}
_COMPONENTS = ("expr_mse_unbiased_capped", "expr_distance_unbiased")


@dataclass
class PerturbationScale:
    """Baselines and replicates of the metrics in one context.

    Attributes
    ----------
    preset
        The settings.
    real
        Real cells.
    baseline
        How the mean response is made cells, or cells that stand at 0 in its place.
    n_splits
        Number of times that the real cells are halved.
    seed
        Seed of the halving, and of baseline cells that are drawn.
    notes
        Why a metric has no score, by metric.
    """

    preset: Preset
    real: Perturbed
    baseline: Emission | Perturbed
    n_splits: int
    seed: int
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._real = self.real.to_anndata(_KEY)
        if len(self.real.numbers(self.preset.config.control)) == 1:
            self.notes[PDS] = "there is no other perturbation to be told from"
        self._baseline = self._measure_baseline()
        for metric, value in self._baseline.values.items():
            if not math.isfinite(value):
                self.notes[metric] = _WITHOUT_VALUE.get(metric, "the baseline has no value")
        self._replicates = self._measure_replicates()
        self._policies = {metric: self._policy(metric) for metric in self._scaled()}

    def rows(self, predicted: Perturbed) -> tuple[list[dict[str, Any]], pd.DataFrame]:
        """One row per metric for predicted cells, and the values of the perturbations.

        Parameters
        ----------
        predicted
            Their own control cells are left out: the real ones serve both sides.
        """
        from cell_eval2.scoring import score_one

        measured = self._measure(predicted, fractions=False)
        rows = []
        for metric in TITLES:
            value, base = measured.values.get(metric, math.nan), self._baseline.values.get(metric, math.nan)
            replicate, spread = self._replicates.get(metric, (math.nan, math.nan))
            policy = self._policies.get(metric)
            score = math.nan if policy is None else score_one(value, base, policy)
            rows.append(
                {
                    "metric": metric,
                    "score": score,
                    "value": value,
                    "baseline": base,
                    "replicate": replicate,
                    "replicate_sd": spread,
                    "n_perturbations": measured.number(metric),
                    "note": self.notes.get(metric) or self._remark(metric),
                }
            )
        table = measured.perturbations
        return rows, table[table["metric"].isin([*TITLES, *_COMPONENTS])]

    def _remark(self, metric: str) -> str:
        replicate, spread = self._replicates[metric]
        near = abs(replicate - self._baseline.values[metric]) < 2 * spread
        return "baseline and replicate differ by less than twice the replicate's standard deviation" if near else ""

    def _scaled(self) -> list[str]:
        return [metric for metric in TITLES if metric not in self.notes]

    def _measure_baseline(self) -> Measured:
        if isinstance(self.baseline, Perturbed):
            return self._measure(self.baseline, fractions=True)
        from cell_eval2.baseline import build_baseline_prediction, generic_response_profile

        config = self.preset.config
        about = {"pert_col": _KEY, "control": config.control}
        with _quiet():
            profile = generic_response_profile(
                self._real,
                **about,
                exclude_target_gene=config.discrimination.exclude_target_gene,
                target_gene_map=config.target_gene_map,
            )
            cells = build_baseline_prediction(profile, self._real, **about, emit=self.baseline, seed=self.seed)
        return self._run(cells, fractions=True)

    def _measure(self, cells: Perturbed, *, fractions: bool) -> Measured:
        whole = cells.with_control(self.real, self.preset.config.control)
        return self._run(whole.to_anndata(_KEY), fractions=fractions)

    def _run(self, cells: Any, *, fractions: bool) -> Measured:
        package = import_cell_eval2()
        config = replace(self.preset.config, metrics=list(TITLES), allow_fractional_counts=fractions)
        with _quiet():
            table = package.compute_metrics(cells, self._real, config=config)
            try:
                means = package.aggregate_metrics(table, metrics=list(TITLES))
            except ValueError as error:
                # the effects of the real cells, less their noise, sum to nothing that errors could be divided by
                logger.info("%s: %s", EXPRESSION, error)
                means = package.aggregate_metrics(table, metrics=[name for name in TITLES if name != EXPRESSION])
        found = dict(zip(means["metric"], means["mean"], strict=True))
        values = {metric: float(found.get(metric, math.nan)) for metric in TITLES}
        # without pyarrow, which polars' own way to pandas takes
        return Measured(values, pd.DataFrame(table.to_dict(as_series=False)))

    def _measure_replicates(self) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the splits."""
        metrics = self._scaled()
        if not metrics:
            return {}
        try:
            return self._anchors(metrics)
        except ValueError as error:
            # one that has no value in a half leaves none to the others
            logger.info("Metrics are halved one by one, since together they give: %s", error)
        found: dict[str, tuple[float, float]] = {}
        for metric in metrics:
            try:
                found |= self._anchors([metric])
            except ValueError as error:
                logger.info("%s: %s", metric, error)
                noisy = "in a half of the real cells effects are no larger than their sampling noise"
                self.notes[metric] = noisy if metric == EXPRESSION else "a half of the real cells gives no value"
        return found

    def _anchors(self, metrics: list[str]) -> dict[str, tuple[float, float]]:
        from cell_eval2.anchor import compute_replicate_anchor

        config = replace(self.preset.config, metrics=metrics)
        with _quiet():
            _, table = compute_replicate_anchor(self._real, config=config, base_seed=self.seed, n_splits=self.n_splits)
        columns = (table[name].to_list() for name in ("metric", "replicate", "replicate_sd"))
        return {metric: (mean, sd) for metric, mean, sd in zip(*columns, strict=True) if metric in metrics}

    def _policy(self, metric: str) -> Any:
        """How a value becomes a score; None where baseline and replicate leave no scale between them."""
        from cell_eval2.catalog import CATALOG
        from cell_eval2.scoring import is_degenerate

        base, (replicate, _) = self._baseline.values[metric], self._replicates[metric]
        try:
            policy = replace(CATALOG[metric].scoring, anchor=replicate, allow_negative_baseline=False)
        except ValueError:
            policy = None
        if policy is None or is_degenerate(base, policy):
            self.notes[metric] = "one half of the real cells is no nearer to the other than the baseline is"
            return None
        return policy


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what cell-eval2 says again for each half and each baseline, and what is no fault of the cells."""
    other = logging.getLogger(_LOGGER)
    level = other.level
    other.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerformanceWarning)
            # of genes that no cell has
            warnings.filterwarnings("ignore", message="invalid value encountered in divide", category=RuntimeWarning)
            # it puts real control cells beside predicted ones, and reads no name
            warnings.filterwarnings("ignore", message="Observation names are not unique")
            yield
    finally:
        other.setLevel(level)
