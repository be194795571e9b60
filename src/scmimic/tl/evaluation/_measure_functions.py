"""The metrics as functions of two sides of cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from sklearn.preprocessing import normalize

from scmimic import metrics
from scmimic.cells._units import expression_space
from scmimic.metrics._discriminator import out_of_fold, roc_result
from scmimic.metrics._intervals import proportion_interval
from scmimic.tl.evaluation._cells import Cells

_GROUNDGAN_TOTAL = 20_000


@dataclass(frozen=True)
class Value:
    """A measured number and its 95 % interval."""

    value: float
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True)
class Outcome:
    """What a measure returns: its metrics over all cells, and those of the labels where it gives them itself."""

    overall: Mapping[str, Value]
    per_label: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    curve: metrics.DiscriminatorResult | None = None


@dataclass(frozen=True)
class Options:
    """Settings that the measures share."""

    n_trees: int
    min_cells: int
    seed: int
    n_jobs: int


@dataclass(frozen=True)
class Pair:
    """Two sides of a comparison, cut to equal numbers, with the training cells where they are known."""

    real: Cells
    synthetic: Cells
    train: Cells | None = None


def forest_genes(pair: Pair, options: Options) -> Outcome:
    """AUC of the forest on genes."""
    result = metrics.discriminator_auc(
        pair.real.genes, pair.synthetic.genes, return_folds=True, **_forest_options(options)
    )
    return Outcome({"rf_auc_genes": Value(result.auc, *result.interval)}, curve=result)


def forest_pcs(pair: Pair, options: Options) -> Outcome:
    """AUC and error of one forest on principal components."""
    # one forest gives what discriminator_auc and random_forest_error would grow twice
    y, score, folds = out_of_fold(pair.real.pcs, pair.synthetic.pcs, n_folds=5, **_forest_options(options))
    result, wrong = roc_result(y, score, folds), (score > 0.5) != y
    low, high = proportion_interval(int(wrong.sum()), len(wrong))
    values = {
        "rf_auc_pcs": Value(result.auc, *result.interval),
        "rf_error": Value(100 * float(wrong.mean()), 100 * low, 100 * high),
    }
    return Outcome(values, curve=result)


def _forest_options(options: Options) -> dict[str, int]:
    return {"n_trees": options.n_trees, "seed": options.seed, "n_jobs": options.n_jobs}


def groundgan(pair: Pair, options: Options) -> Outcome:
    """AUC of the split protocol, on linear values of 20,000 per cell."""
    sides = [pair.real.raw, pair.synthetic.raw]
    if all(expression_space(x, None).units in ("counts", "linear") for x in sides):
        sides = [normalize(x, norm="l1") * np.float32(_GROUNDGAN_TOTAL) for x in sides]
    result = metrics.split_discriminator_auc(*sides, return_folds=True, **_forest_options(options))
    return Outcome({"split_auc": Value(result.auc, *result.interval)}, curve=result)


def inception(pair: Pair, options: Options) -> Outcome:
    """Inception score; the forest learns from the real cells, which no generator has seen."""
    score = metrics.inception_score(pair.real.genes, pair.real.labels, pair.synthetic.genes, **_forest_options(options))
    return Outcome({"inception_score": Value(score)})


def on_pcs(name: str, function: Callable[..., float]) -> Callable[[Pair, Options], Outcome]:
    """Measure `name` with a function of two arrays, on principal components."""

    def measure(pair: Pair, options: Options) -> Outcome:
        return Outcome({name: Value(function(pair.real.pcs, pair.synthetic.pcs, seed=options.seed))})

    return measure


def prdc(pair: Pair, options: Options) -> Outcome:
    """Precision, recall, density and coverage."""
    found = metrics.precision_recall_density_coverage(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({name: Value(getattr(found, name)) for name in ("precision", "recall", "density", "coverage")})


def gene_statistics(pair: Pair, options: Options) -> Outcome:
    """Distances of each gene's distribution."""
    found = metrics.gene_statistics_distance(pair.real.genes, pair.synthetic.genes)
    names = ("mean_log_ratio", "variance_log_ratio", "zero_fraction_difference", "ks_median")
    return Outcome({name: Value(getattr(found, name)) for name in names})


def correlation(pair: Pair, options: Options) -> Outcome:
    """Distance of the gene-gene correlations."""
    distance = metrics.correlation_distance(pair.real.genes, pair.synthetic.genes, seed=options.seed)
    return Outcome({"correlation_distance": Value(distance)})


def expression_change(pair: Pair, options: Options) -> Outcome:
    """Differential expression of each label against the rest."""
    found = metrics.differential_expression(
        pair.real.genes,
        pair.real.labels,
        pair.synthetic.genes,
        pair.synthetic.labels,
        min_cells=options.min_cells,
        seed=options.seed,
    )
    kinds = {"de_slope": "slope", "de_direction": "direction", "de_overlap": "overlap"}
    return Outcome(
        {name: Value(getattr(found, f"median_{kind}")) for name, kind in kinds.items()},
        {label: {name: Value(getattr(found, kind)[label]) for name, kind in kinds.items()} for label in found.slope},
    )


def agreement(pair: Pair, options: Options) -> Outcome:
    """Agreement of a classifier with the label asked for."""
    train, cells = pair.train, pair.synthetic
    found = metrics.label_agreement(train.genes, train.labels, cells.genes, cells.labels, classifier=train.classifier)
    n = {label: len(cells.rows_of(label)) for label in found.per_label}
    return Outcome(
        {"label_agreement": _proportion(found.overall, len(cells))},
        {label: {"label_agreement": _proportion(share, n[label])} for label, share in found.per_label.items()},
    )


def closest_record(pair: Pair, options: Options) -> Outcome:
    """Distance to the closest training cell."""
    found = metrics.distance_to_closest_record(pair.train.pcs, pair.synthetic.pcs, pair.real.pcs, n_jobs=options.n_jobs)
    return Outcome({"dcr_ratio": Value(found.ratio)})


def distance_ratio(pair: Pair, options: Options) -> Outcome:
    """Distance to the closest over that to the second closest training cell."""
    found = metrics.nearest_neighbor_distance_ratio(
        pair.train.pcs, pair.synthetic.pcs, pair.real.pcs, seed=options.seed, n_jobs=options.n_jobs
    )
    return Outcome({"nndr_ratio": Value(found.ratio)})


def duplicates(pair: Pair, options: Options) -> Outcome:
    """Share of cells that equal a training cell."""
    fraction = metrics.duplicate_fraction(pair.train.raw, pair.synthetic.raw)
    return Outcome({"duplicates": _proportion(fraction, len(pair.synthetic))})


def _proportion(share: float, n: int) -> Value:
    return Value(share, *proportion_interval(round(share * n), n))


def membership(pair: Pair, options: Options) -> Outcome:
    """Membership inference."""
    found = metrics.membership_inference(
        pair.train.pcs, pair.real.pcs, pair.synthetic.pcs, seed=options.seed, n_jobs=options.n_jobs
    )
    return Outcome(
        {"membership_auc": Value(found.auc, *found.interval), "membership_tpr_at_fpr_1": Value(found.tpr_at_fpr_1)}
    )
