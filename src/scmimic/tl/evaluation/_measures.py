"""Every realism measure in one table: what it computes, in which space, and what is good."""

from __future__ import annotations

import numpy as np

from scmimic import metrics
from scmimic.metrics._chance import ACCURACY, AUC, ERROR, SPLIT_AUC
from scmimic.tl.evaluation import _measure_functions as functions
from scmimic.tl.evaluation._measure import Measure, Metric

MEASURES: tuple[Measure, ...] = (
    Measure(
        functions.forest_genes,
        (
            Metric(
                "rf_auc_genes",
                "Forest AUC, genes",
                0.5,
                "lower",
                "How often a forest that sees all genes picks the synthetic cell out of a real and a synthetic one; "
                "far below 0.5 are copies.",
                AUC,
            ),
        ),
        group="discriminator",
        space="genes",
        source="ACTIVA: Heydari et al. 2022, section 4.1; Marouf et al. 2020",
        protocols=frozenset({"activa"}),
        own_interval=True,
        screen=True,
    ),
    Measure(
        functions.forest_pcs,
        (
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
        ),
        group="discriminator",
        space="pcs",
        source="MichiGAN: Yu & Welch 2021, Methods, random forest error",
        protocols=frozenset({"michigan"}),
        own_interval=True,
        screen=True,
    ),
    Measure(
        functions.groundgan,
        (
            Metric(
                "split_auc",
                "Forest AUC, split protocol",
                0.5,
                "lower",
                "The forest's AUC on a third of the cells, with axes fitted on the other two.",
                SPLIT_AUC,
            ),
        ),
        group="discriminator",
        space="raw",
        source="GRouNdGAN: Zinati et al. 2024, Methods",
        protocols=frozenset({"groundgan"}),
        per_label="none",
        own_interval=True,
    ),
    Measure(
        functions.on_pcs("mmd", metrics.mmd),
        (Metric("mmd", "MMD²", 0.0, "lower", "Distance of the two clouds of cells; about 0 where they are the same."),),
        group="distribution",
        space="pcs",
        source="Gretton et al. 2012",
    ),
    Measure(
        functions.on_pcs("wasserstein", metrics.wasserstein),
        (
            Metric(
                "wasserstein",
                "2-Wasserstein distance",
                0.0,
                "lower",
                "How far cells must be moved to turn one cloud into the other.",
            ),
        ),
        group="distribution",
        space="pcs",
        source="Peyré & Cuturi 2019",
    ),
    Measure(
        functions.on_pcs("energy_distance", metrics.energy_distance),
        (
            Metric(
                "energy_distance",
                "Energy distance",
                0.0,
                "lower",
                "Mean distance between the sides, beyond that within them.",
            ),
        ),
        group="distribution",
        space="pcs",
        source="Székely & Rizzo 2013",
    ),
    Measure(
        functions.on_pcs("one_nn_accuracy", metrics.one_nn_accuracy),
        (
            Metric(
                "one_nn_accuracy",
                "1-NN accuracy",
                0.5,
                "lower",
                "How often a cell's nearest neighbour is of its own side: above 0.5 they lie apart, far below are "
                "copies.",
                ACCURACY,
            ),
        ),
        group="distribution",
        space="pcs",
        source="Lopez-Paz & Oquab 2017",
    ),
    Measure(
        functions.on_pcs("lisi_mixing", metrics.lisi_mixing),
        (
            Metric(
                "lisi_mixing",
                "LISI mixing",
                2.0,
                "higher",
                "How many sides there are, effectively, among a cell's neighbours: 1 is apart, 2 is mixed.",
            ),
        ),
        group="distribution",
        space="pcs",
        source="Korsunsky et al. 2019; GRouNdGAN",
    ),
    Measure(
        functions.prdc,
        (
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
        ),
        group="distribution",
        space="pcs",
        source="Naeem et al. 2020",
    ),
    Measure(
        functions.gene_statistics,
        (
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
        ),
        group="genes",
        space="genes",
        source="Cao et al. 2021; Crowell et al. 2023",
    ),
    Measure(
        functions.correlation,
        (
            Metric(
                "correlation_distance",
                "Gene-gene correlation, difference",
                0.0,
                "lower",
                "By how much the correlation of two genes is off.",
            ),
        ),
        group="genes",
        space="genes",
        source="Cao et al. 2021",
    ),
    Measure(
        functions.expression_change,
        (
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
        ),
        group="types",
        space="genes",
        source="Crowell et al. 2023",
        per_label="own",
        needs_labels=True,
    ),
    Measure(
        functions.inception,
        (
            Metric(
                "inception_score",
                "Inception score",
                np.nan,
                "closer",
                "How clearly each cell is of one type, and how evenly the types occur; ideal is what real cells score.",
            ),
        ),
        group="types",
        space="genes",
        source="MichiGAN: Yu & Welch 2021, Methods, inception score",
        protocols=frozenset({"michigan"}),
        per_label="none",
        needs_labels=True,
    ),
    Measure(
        functions.agreement,
        (
            Metric(
                "label_agreement",
                "Agreement with the type asked for",
                np.nan,
                "closer",
                "Share of cells that a classifier of real cells takes for their type; ideal is what real cells score.",
            ),
        ),
        group="types",
        space="genes",
        source="Heydari et al. 2022, section 4.3",
        per_label="own",
        needs_labels=True,
        needs_train=True,
        own_interval=True,
        calibrated=False,
    ),
    Measure(
        functions.closest_record,
        (
            Metric(
                "dcr_ratio",
                "Distance to closest training cell, ratio",
                1.0,
                "closer",
                "Distance to the nearest training cell, over that of unseen real cells: 1 is new, 0 is a copy.",
            ),
        ),
        group="privacy",
        space="pcs",
        source="Zhao et al. 2021 (CTAB-GAN)",
        needs_train=True,
        calibrated=False,
    ),
    Measure(
        functions.distance_ratio,
        (
            Metric(
                "nndr_ratio",
                "Nearest-neighbour distance ratio",
                1.0,
                "closer",
                "Whether synthetic cells lie unusually close to one single training cell: 1 is usual, 0 is a copy.",
            ),
        ),
        group="privacy",
        space="pcs",
        source="Zhao et al. 2021 (CTAB-GAN)",
        needs_train=True,
        calibrated=False,
        per_label="none",
    ),
    Measure(
        functions.duplicates,
        (
            Metric(
                "duplicates",
                "Exact copies of training cells",
                0.0,
                "lower",
                "Share of synthetic cells that equal a training cell in every gene.",
            ),
        ),
        group="privacy",
        space="raw",
        source="SDMetrics, new row synthesis",
        needs_train=True,
        calibrated=False,
        own_interval=True,
    ),
    Measure(
        functions.membership,
        (
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
        ),
        group="privacy",
        space="pcs",
        source="Hilprecht et al. 2019; Carlini et al. 2022",
        needs_train=True,
        calibrated=False,
        per_label="none",
        own_interval=True,
    ),
)

METRICS: dict[str, Metric] = {metric.name: metric for measure in MEASURES for metric in measure.metrics}
PROTOCOLS: dict[str, tuple[Measure, ...]] = {
    name: tuple(measure for measure in MEASURES if name in measure.protocols)
    for name in ("activa", "michigan", "groundgan")
}
