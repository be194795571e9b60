"""What is measured: each measure once, with its metrics (direction, ideal, meaning) and the function that takes it.

Another one is another function with the decorator :func:`measure`. Its order in this file is that of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
from sklearn.preprocessing import normalize

from scmimic import metrics
from scmimic.cells import expression_space
from scmimic.metrics.parts import (
    ACCURACY,
    AUC,
    ERROR,
    SPLIT_AUC,
    Chance,
    out_of_fold,
    proportion_interval,
    roc_result,
    score_of_types,
    type_forest,
)
from scmimic.tl.evaluation._cells import Cells

Group = Literal["discriminator", "distribution", "genes", "types", "privacy", "diagnostic"]
Better = Literal["lower", "higher", "closer"]

PROTOCOLS = ("activa", "michigan", "groundgan")
"""Names of papers, for the measures and settings that they use."""

Function = TypeVar("Function", bound=Callable[..., Any])

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
    curve: metrics.DiscriminatorResult | metrics.SelfDistance | None = None
    """What the number is taken from, for pictures."""


@dataclass(frozen=True)
class Options:
    """Settings that the measures share."""

    n_trees: int
    seed: int
    n_jobs: int
    min_cells: int = 30

    @property
    def forest(self) -> dict[str, int]:
        """Settings of a forest."""
        return {"n_trees": self.n_trees, "seed": self.seed, "n_jobs": self.n_jobs}


@dataclass(frozen=True)
class Pair:
    """Two sides of a comparison, cut to equal numbers, with the training cells where they are known."""

    real: Cells
    synthetic: Cells
    train: Cells | None = None
    within: tuple[np.ndarray, np.ndarray] | None = None
    """Principal components of all real and of all synthetic cells, for measures that look within each side."""

    @property
    def training(self) -> Cells:
        """The training cells; measures that need them are taken where they are known."""
        assert self.train is not None
        return self.train


# Of what is wrong with the best trivial generator where the ideal can be overshot, the share that real cells must be
# without for a score to mean anything: slopes of 0.92 and 0.93 are no two ends of a scale.
_LEAST_ROOM = 0.1


@dataclass(frozen=True)
class Metric:
    """One row of the result: a number with a direction."""

    name: str
    title: str
    """What a reader calls it."""
    ideal: float
    """NaN: what the real cells score."""
    better: Better
    """Whether lower or higher values are better up to the ideal, or values closer to it from both sides."""
    meaning: str
    """What it says, in one sentence for a reader without statistics."""
    chance: Chance | None = None
    """What guessing gives, where that is the ideal: values far beyond it mean copies."""

    def loss(self, value: float, ideal: float, n: int) -> float:
        """How bad a value is with `n` cells per side: 0 is ideal, whatever the direction of the metric.

        Values beyond the ideal are luck, and as good as the ideal: an unbiased distance below 0, an AUC below that of
        guessing. What is too far beyond chance for luck counts against the cells again.
        """
        if np.isnan(value):
            return np.nan
        if self.chance is not None:
            return self.chance.loss(value, n)
        if self.better == "closer":
            return abs(value - ideal)
        return max(0.0, value - ideal if self.better == "lower" else ideal - value)

    def score(self, value: Value, replicate: float, trivial: float, ideal: float, n: int) -> tuple[float, str]:
        """Place a value between the best trivial generator (0) and the replicate (1), with `n` cells per side.

        Both ends are bounded by their theory: a replicate beyond the ideal was lucky, and counts as the ideal. So does
        a value beyond it, unless luck does not explain it. Ends that are too close to each other make no scale.
        """
        of_value, of_replicate, of_trivial = (self.loss(v, ideal, n) for v in (value.value, replicate, trivial))
        room = of_trivial - of_replicate
        noise = (value.high - value.low) / 2
        least = _LEAST_ROOM * of_trivial if self.better == "closer" else 0
        if room <= least or (np.isfinite(noise) and room < noise):
            return np.nan, "No score: the best trivial generator does as well as real cells here."
        return (of_trivial - of_value) / room, ""

    def beyond_chance(self, value: float, n: int) -> str:
        """What it means that a value lies further beyond chance than luck leads, or an empty text."""
        if self.chance is None or not self.chance.copied(value, n):
            return ""
        side = "below" if self.chance.sign > 0 else "above"
        return (
            f"Far {side} {self.chance.ideal:g}, which is guessing: the synthetic cells copy the real ones they are "
            "compared with, or one of the samples is less random than a sample."
        )


@dataclass(frozen=True)
class Measure:
    """A function and the metrics it gives."""

    function: Callable[[Pair, Options], Outcome]
    metrics: tuple[Metric, ...]
    group: Group
    source: str
    """Paper whose protocol or definition it follows."""
    protocols: frozenset[str] = frozenset()
    per_label: Literal["repeated", "returned", "none"] = "repeated"
    """Whether labels have values: the measure is repeated within each, or returns them all; or they have none."""
    needs_labels: bool = False
    needs_train: bool = False
    has_interval: bool = False
    """Whether the function gives intervals; otherwise they come from disjoint groups of cells."""
    screen: bool = False
    """Find the best trivial generator with a small run, and measure that one alone."""
    calibrated: bool = True
    """Whether trivial generators are the other end of a scale. They copy and repeat nothing, and are truer to type than
    real cells are: for privacy, repeats and agreement the replicate is unseen real cells, and there is no score."""
    whole: bool = False
    """Whether it takes all cells of each side, rather than equal numbers."""

    def asked(self, names: Sequence[str]) -> list[Metric]:
        """Its metrics that the user names, or that are of a protocol that the user names."""
        return [metric for metric in self.metrics if metric.name in names or self.protocols.intersection(names)]


@dataclass(frozen=True)
class Row:
    """A row of the table: its columns, in their order."""

    metric: str
    group: Group
    label: str
    value: float
    low: float = np.nan
    high: float = np.nan
    ideal: float = np.nan
    replicate: float = np.nan
    trivial: str = ""
    trivial_value: float = np.nan
    score: float = np.nan
    n_real: int = 0
    n_synthetic: int = 0
    warning: str = ""


MEASURES: dict[str, Measure] = {}
"""All measures, by the names of their functions."""


def metrics_by_name() -> dict[str, Metric]:
    """All metrics."""
    return {metric.name: metric for measure in MEASURES.values() for metric in measure.metrics}


def beyond_chance(row: Any) -> str:
    """What it means that a row of the table lies beyond chance, or an empty text."""
    metric = metrics_by_name().get(row.metric)
    return "" if metric is None else metric.beyond_chance(row.value, row.n_real)


def measure(*of: Metric, **description: Any) -> Callable[[Function], Function]:
    """Register a function as a measure that gives these metrics; the description is that of :class:`Measure`."""

    def register(function: Function) -> Function:
        MEASURES[function.__name__] = Measure(function, of, **description)
        return function

    return register


@measure(
    Metric(
        "rf_auc_genes",
        "Forest AUC, genes",
        0.5,
        "lower",
        "How often a forest that sees all genes picks the synthetic cell out of a real and a synthetic one; "
        "far below 0.5 are copies.",
        AUC,
    ),
    group="discriminator",
    source="ACTIVA: Heydari et al. 2022, section 4.1; Marouf et al. 2020",
    protocols=frozenset({"activa"}),
    has_interval=True,
    screen=True,
)
def forest_genes(pair: Pair, options: Options) -> Outcome:
    """AUC of the forest on genes."""
    result = metrics.discriminator_auc(pair.real.genes, pair.synthetic.genes, return_folds=True, **options.forest)
    return Outcome({"rf_auc_genes": Value(result.auc, *result.interval)}, curve=result)


@measure(
    Metric(
        "rf_auc_pcs",
        "Forest AUC, principal components",
        0.5,
        "lower",
        "The same on the main axes of variation, which hides the noise of single genes.",
        AUC,
    ),
    Metric(
        "rf_error",
        "Forest error %, principal components",
        50.0,
        "higher",
        "Share of cells that a forest puts on the wrong side; 50 is guessing, far above are copies.",
        ERROR,
    ),
    group="discriminator",
    source="MichiGAN: Yu & Welch 2021, Methods, random forest error",
    protocols=frozenset({"michigan"}),
    has_interval=True,
    screen=True,
)
def forest_pcs(pair: Pair, options: Options) -> Outcome:
    """AUC and error of one forest on principal components."""
    # one forest gives what discriminator_auc and random_forest_error would grow twice
    y, score, folds = out_of_fold(pair.real.pcs, pair.synthetic.pcs, n_folds=5, **options.forest)
    result, wrong = roc_result(y, score, folds), (score > 0.5) != y
    low, high = proportion_interval(int(wrong.sum()), len(wrong))
    values = {
        "rf_auc_pcs": Value(result.auc, *result.interval),
        "rf_error": Value(100 * float(wrong.mean()), 100 * low, 100 * high),
    }
    return Outcome(values, curve=result)


@measure(
    Metric(
        "split_auc",
        "Forest AUC, split protocol",
        0.5,
        "lower",
        "The forest's AUC on a third of the cells, with axes fitted on the other two.",
        SPLIT_AUC,
    ),
    group="discriminator",
    source="GRouNdGAN: Zinati et al. 2024, Methods",
    protocols=frozenset({"groundgan"}),
    per_label="none",
    has_interval=True,
)
def groundgan(pair: Pair, options: Options) -> Outcome:
    """AUC of the split protocol, on linear values of 20,000 per cell."""
    sides = [pair.real.raw, pair.synthetic.raw]
    if all(expression_space(x, None).units in ("counts", "linear") for x in sides):
        sides = [normalize(x, norm="l1") * np.float32(_GROUNDGAN_TOTAL) for x in sides]
    result = metrics.split_discriminator_auc(*sides, return_folds=True, **options.forest)
    return Outcome({"split_auc": Value(result.auc, *result.interval)}, curve=result)


@measure(
    Metric("mmd", "MMD²", 0.0, "lower", "Distance of the two clouds of cells; about 0 where they are the same."),
    group="distribution",
    source="Gretton et al. 2012",
)
def mmd(pair: Pair, options: Options) -> Outcome:
    """Maximum mean discrepancy."""
    value = metrics.mmd(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({"mmd": Value(value)})


@measure(
    Metric(
        "wasserstein",
        "2-Wasserstein distance",
        0.0,
        "lower",
        "How far cells must be moved to turn one cloud into the other.",
    ),
    group="distribution",
    source="Peyré & Cuturi 2019",
)
def wasserstein(pair: Pair, options: Options) -> Outcome:
    """Transport of one side to the other."""
    value = metrics.wasserstein(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({"wasserstein": Value(value)})


@measure(
    Metric(
        "energy_distance",
        "Energy distance",
        0.0,
        "lower",
        "Mean distance between the sides, beyond that within them.",
    ),
    group="distribution",
    source="Székely & Rizzo 2013",
)
def energy_distance(pair: Pair, options: Options) -> Outcome:
    """Energy distance of the sides."""
    value = metrics.energy_distance(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({"energy_distance": Value(value)})


@measure(
    Metric(
        "one_nn_accuracy",
        "1-NN accuracy",
        0.5,
        "lower",
        "How often a cell's nearest neighbour is of its own side: above 0.5 they lie apart, far below are copies.",
        ACCURACY,
    ),
    group="distribution",
    source="Lopez-Paz & Oquab 2017",
)
def one_nn_accuracy(pair: Pair, options: Options) -> Outcome:
    """Side of each cell's nearest neighbour."""
    value = metrics.one_nn_accuracy(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({"one_nn_accuracy": Value(value)})


@measure(
    Metric(
        "lisi_mixing",
        "LISI mixing",
        2.0,
        "higher",
        "How many sides there are, effectively, among a cell's neighbours: 1 is apart, 2 is mixed.",
    ),
    group="distribution",
    source="Korsunsky et al. 2019; GRouNdGAN",
)
def lisi_mixing(pair: Pair, options: Options) -> Outcome:
    """Sides among each cell's neighbours."""
    value = metrics.lisi_mixing(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({"lisi_mixing": Value(value)})


@measure(
    Metric("precision", "Precision", 1.0, "higher", "Share of synthetic cells that lie among real ones."),
    Metric("recall", "Recall", 1.0, "higher", "Share of real cells that lie among synthetic ones."),
    Metric(
        "density",
        "Density",
        1.0,
        "closer",
        "How crowded with real cells the places of synthetic cells are; far above 1 all are typical.",
    ),
    Metric("coverage", "Coverage", 1.0, "higher", "Share of real cells that have a synthetic cell nearby."),
    group="distribution",
    source="Naeem et al. 2020",
)
def prdc(pair: Pair, options: Options) -> Outcome:
    """Precision, recall, density and coverage."""
    result = metrics.precision_recall_density_coverage(pair.real.pcs, pair.synthetic.pcs, seed=options.seed)
    return Outcome({name: Value(getattr(result, name)) for name in ("precision", "recall", "density", "coverage")})


@measure(
    Metric(
        "self_distance_ratio",
        "Distance within the synthetic cells, ratio",
        1.0,
        "closer",
        "Distance of a synthetic cell to the nearest other one, over that within as many real cells: below 1 cells "
        "are repeated, or vary too little.",
    ),
    group="distribution",
    source="after Grassberger & Procaccia 1983; Zelnik-Manor & Perona 2004",
    has_interval=True,
    calibrated=False,
    whole=True,
)
def self_distance(pair: Pair, options: Options) -> Outcome:
    """Distances within the synthetic and within the real cells."""
    real, synthetic = pair.within or (pair.real.pcs, pair.synthetic.pcs)
    result = metrics.self_distance_ratio(real, synthetic, seed=options.seed, n_jobs=options.n_jobs)
    return Outcome({"self_distance_ratio": Value(result.ratio, *result.interval)}, curve=result)


@measure(
    Metric(
        "mean_log_ratio",
        "Gene means, log ratio",
        0.0,
        "lower",
        "By how much mean expression is off, over the genes.",
    ),
    Metric(
        "variance_log_ratio",
        "Gene variances, log ratio",
        0.0,
        "lower",
        "By how much the variance is off, over the genes.",
    ),
    Metric(
        "zero_fraction_difference",
        "Zeros per gene, difference",
        0.0,
        "lower",
        "By how much the share of zeros is off, over the genes.",
    ),
    Metric(
        "ks_median",
        "Gene distributions, KS",
        0.0,
        "lower",
        "Largest gap between the distributions of a gene on both sides, for the median gene.",
    ),
    group="genes",
    source="Cao et al. 2021; Crowell et al. 2023",
)
def gene_statistics(pair: Pair, options: Options) -> Outcome:
    """Distances of each gene's distribution."""
    result = metrics.gene_statistics_distance(pair.real.genes, pair.synthetic.genes)
    names = ("mean_log_ratio", "variance_log_ratio", "zero_fraction_difference", "ks_median")
    return Outcome({name: Value(getattr(result, name)) for name in names})


@measure(
    Metric(
        "correlation_distance",
        "Gene-gene correlation, difference",
        0.0,
        "lower",
        "By how much the correlation of two genes is off.",
    ),
    group="genes",
    source="Cao et al. 2021",
)
def correlation(pair: Pair, options: Options) -> Outcome:
    """Distance of the gene-gene correlations."""
    distance = metrics.correlation_distance(pair.real.genes, pair.synthetic.genes, seed=options.seed)
    return Outcome({"correlation_distance": Value(distance)})


@measure(
    Metric(
        "de_slope",
        "Differential expression, slope",
        1.0,
        "closer",
        "Size of the differences between types: below 1 they are too small, above 1 too large.",
    ),
    Metric(
        "de_direction",
        "Differential expression, direction",
        1.0,
        "higher",
        "Share of a type's marker genes that change in the right direction.",
    ),
    Metric(
        "de_overlap",
        "Differential expression, overlap",
        1.0,
        "higher",
        "Share of marker genes that both sides agree on.",
    ),
    group="types",
    source="Crowell et al. 2023",
    per_label="returned",
    needs_labels=True,
)
def expression_change(pair: Pair, options: Options) -> Outcome:
    """Differential expression of each label against the rest."""
    result = metrics.differential_expression(
        pair.real.genes,
        pair.real.labels,
        pair.synthetic.genes,
        pair.synthetic.labels,
        min_cells=options.min_cells,
        seed=options.seed,
    )
    kinds = {"de_slope": "slope", "de_direction": "direction", "de_overlap": "overlap"}
    return Outcome(
        {name: Value(getattr(result, f"median_{kind}")) for name, kind in kinds.items()},
        {label: {name: Value(getattr(result, kind)[label]) for name, kind in kinds.items()} for label in result.slope},
    )


@measure(
    Metric(
        "inception_score",
        "Inception score",
        np.nan,
        "closer",
        "How clearly each cell is of one type, and how evenly the types occur; ideal is what real cells score.",
    ),
    group="types",
    source="MichiGAN: Yu & Welch 2021, Methods, inception score",
    protocols=frozenset({"michigan"}),
    per_label="none",
    needs_labels=True,
)
def inception(pair: Pair, options: Options) -> Outcome:
    """Inception score; the forest learns from the real cells, which no generator has seen."""
    forest = pair.real.fitted(type_forest, **options.forest)
    return Outcome({"inception_score": Value(score_of_types(forest, pair.synthetic.genes))})


def _proportion(share: float, n: int) -> Value:
    return Value(share, *proportion_interval(round(share * n), n))


@measure(
    Metric(
        "label_agreement",
        "Agreement with the type asked for",
        np.nan,
        "closer",
        "Share of cells that a classifier of real cells takes for their type; ideal is what real cells score.",
    ),
    group="types",
    source="Heydari et al. 2022, section 4.3",
    per_label="returned",
    needs_labels=True,
    needs_train=True,
    has_interval=True,
    calibrated=False,
)
def agreement(pair: Pair, options: Options) -> Outcome:
    """Agreement of a classifier with the label asked for."""
    train, cells = pair.training, pair.synthetic
    classifier = train.fitted(metrics.fit_label_classifier)
    result = metrics.label_agreement(train.genes, train.labels, cells.genes, cells.labels, classifier=classifier)
    n = {label: len(cells.rows_of(label)) for label in result.per_label}
    return Outcome(
        {"label_agreement": _proportion(result.overall, len(cells))},
        {label: {"label_agreement": _proportion(share, n[label])} for label, share in result.per_label.items()},
    )


@measure(
    Metric(
        "dcr_ratio",
        "Distance to closest training cell, ratio",
        1.0,
        "closer",
        "Distance to the nearest training cell, over that of unseen real cells: 1 is new, 0 is a copy.",
    ),
    group="privacy",
    source="Zhao et al. 2021 (CTAB-GAN)",
    needs_train=True,
    calibrated=False,
)
def closest_record(pair: Pair, options: Options) -> Outcome:
    """Distance to the closest training cell."""
    result = metrics.distance_to_closest_record(
        pair.training.pcs, pair.synthetic.pcs, pair.real.pcs, n_jobs=options.n_jobs
    )
    return Outcome({"dcr_ratio": Value(result.ratio)})


@measure(
    Metric(
        "nndr_ratio",
        "Nearest-neighbour distance ratio",
        1.0,
        "closer",
        "Whether synthetic cells lie unusually close to one single training cell: 1 is usual, 0 is a copy.",
    ),
    group="privacy",
    source="Zhao et al. 2021 (CTAB-GAN)",
    needs_train=True,
    calibrated=False,
    per_label="none",
)
def distance_ratio(pair: Pair, options: Options) -> Outcome:
    """Distance to the closest over that to the second closest training cell."""
    result = metrics.nearest_neighbor_distance_ratio(
        pair.training.pcs, pair.synthetic.pcs, pair.real.pcs, seed=options.seed, n_jobs=options.n_jobs
    )
    return Outcome({"nndr_ratio": Value(result.ratio)})


@measure(
    Metric(
        "duplicates",
        "Exact copies of training cells",
        0.0,
        "lower",
        "Share of synthetic cells that equal a training cell in every gene.",
    ),
    group="privacy",
    source="SDMetrics, new row synthesis",
    needs_train=True,
    calibrated=False,
    has_interval=True,
)
def duplicates(pair: Pair, options: Options) -> Outcome:
    """Share of cells that equal a training cell."""
    fraction = metrics.duplicate_fraction(pair.training.raw, pair.synthetic.raw)
    return Outcome({"duplicates": _proportion(fraction, len(pair.synthetic))})


@measure(
    Metric(
        "membership_auc",
        "Membership inference, AUC",
        0.5,
        "lower",
        "How often one who holds the synthetic cells can tell a training cell from an unseen one.",
    ),
    Metric(
        "membership_tpr_at_fpr_1",
        "Membership inference, recognised at 1 % false alarms",
        0.01,
        "lower",
        "Share of training cells that are recognised where 1 % of unseen cells are accused wrongly.",
    ),
    group="privacy",
    source="Hilprecht et al. 2019; Carlini et al. 2022",
    needs_train=True,
    calibrated=False,
    per_label="none",
    has_interval=True,
)
def membership(pair: Pair, options: Options) -> Outcome:
    """Membership inference."""
    result = metrics.membership_inference(
        pair.training.pcs, pair.real.pcs, pair.synthetic.pcs, seed=options.seed, n_jobs=options.n_jobs
    )
    return Outcome(
        {"membership_auc": Value(result.auc, *result.interval), "membership_tpr_at_fpr_1": Value(result.tpr_at_fpr_1)}
    )
