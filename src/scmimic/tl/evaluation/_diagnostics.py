"""Checks of whether the numbers of an evaluation mean anything: space, smooth output, composition, copies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scmimic import _keys
from scmimic._arrays import Matrix, column_variance
from scmimic._keys import OVERALL
from scmimic.cells import BASES, UNIT_NAMES
from scmimic.tl.evaluation._cells import EvaluationData
from scmimic.tl.evaluation._measures import Row

MIN_COPY_RATIO = 0.9
"""A median distance to the training cells below this share of that of unseen real cells is copying."""

CERTAIN_COPIES = 0.5
"""Smooth but new cells have been seen with a ratio of distances down to 0.8; below this there are copies."""

REPEATS = "self_distance_ratio"
"""The metric that sees cells that resemble each other."""

MIN_SELF_DISTANCE = 0.95
"""Below this share of the distance within real cells, synthetic ones repeat each other, or vary too little."""

UNSEEN = "unseen_combinations"
"""The row of cells whose combination of attributes the generator has not seen."""

AGREEMENT = "label_agreement"
"""The metric that sees cells that are not of the type that they are labelled as."""

MIN_AGREEMENT = 0.9
"""Below this share of the agreement of real cells, labels are doubtful."""

MIN_CERTAIN_AGREEMENT = 0.75
"""Below this share, the labels are wrong."""

MAX_MEMBERSHIP_AUC = 0.55
"""Beyond it, training cells are told from unseen ones."""

MIN_DOUBT = 0.25
"""Below this share of the errors that a classifier makes on real cells, the labels are exaggerated."""

_ZERO_RATIO = (0.9, 1.1)
# Where hardly any value is zero, as of proteins, the ratio is one of accidents.
_ZERO_DIFFERENCE = 0.02
_VARIANCE_RATIO = (0.75, 1.33)
_MAX_COMPOSITION = 0.05
_MAX_UNSEEN = 0.5
# Cells of a type on one side from which on it is no chance that the other has none; and types that are named.
_MIN_ABSENT, _MAX_NAMED = 10, 5
_SCALED = {"counts", "linear"}


def diagnose(data: EvaluationData, *, log1p: bool, min_cells: int) -> list[Row]:
    """Return the diagnostic rows, overall and per label."""
    real, synthetic = data.real, data.synthetic

    def row(metric: str, value: float, ideal: float, warning: str) -> Row:
        of_all = Row(metric, "diagnostic", OVERALL, value, n_real=len(real), n_synthetic=len(synthetic))
        return replace(of_all, ideal=ideal, warning=warning)

    rows = [row("same_space", _same_space(data, log1p), 1.0, space_warning(data, log1p))]
    zeros = _zero_fraction(real.raw)
    if zeros > 0:
        of_synthetic = _zero_fraction(synthetic.raw)
        rows.append(row("zero_fraction_ratio", of_synthetic / zeros, 1.0, _zero_warning(zeros, of_synthetic)))
    if data.unseen > 0:
        rows.append(row(UNSEEN, data.unseen, 0.0, _unseen_warning(data)))
    rows.append(row("real_copies", data.copied, 0.0, _real_copies_warning(data.copied)))
    if data.labels:
        distance = _composition_distance(real.labels, synthetic.labels, data.labels)
        rows.append(row("label_composition", distance, 0.0, _composition_warning(data, distance)))
    return rows + _variance_rows(data, min_cells, row)


def _composition_warning(data: EvaluationData, distance: float) -> str:
    """What is wrong with the types of the two sides, or an empty text: some that one side lacks, or proportions."""
    numbers = [Counter(side.labels.tolist()) for side in (data.real, data.synthetic)]
    lacking = []
    for name, own, other in zip(("real", "synthetic"), numbers, numbers[::-1], strict=True):
        absent = [repr(label) for label, n in other.most_common() if n >= _MIN_ABSENT and not own[label]]
        if absent:
            more = f" and {len(absent) - _MAX_NAMED} more" if len(absent) > _MAX_NAMED else ""
            lacking.append(f"no {name} cell is labelled {', '.join(absent[:_MAX_NAMED])}{more}")
    if lacking:
        text = "; ".join(lacking) + (": do the types have the same names on both sides?" if len(lacking) > 1 else ".")
        return text[0].upper() + text[1:] + " Overall rows measure that too; read the rows per type."
    if distance > _MAX_COMPOSITION:
        return (
            f"The cell types come in other proportions (total variation distance {distance:.2f}), which all overall "
            "rows measure too: generate the real cells' numbers, or read the rows per type."
        )
    return ""


def _variance_rows(data: EvaluationData, min_cells: int, overall: Callable[..., Row]) -> list[Row]:
    """Variance within labels, synthetic over real, of the median gene."""
    sides = data.real, data.synthetic
    members = {label: [side.rows_of(label) for side in sides] for label in data.labels}
    members = {label: rows for label, rows in members.items() if min(map(len, rows)) >= min_cells}
    if not data.labels:
        members = {OVERALL: [np.arange(len(side)) for side in sides]}
    if not members:
        return []
    variances = [
        [column_variance(side.genes[of]) for side, of in zip(sides, rows, strict=True)] for rows in members.values()
    ]
    weights = [float(len(rows[0])) for rows in members.values()]
    ratio = _median_ratio(*(np.average(side, axis=0, weights=weights) for side in zip(*variances, strict=True)))
    table = [overall("variance_ratio", ratio, 1.0, _variance_warning(ratio))]
    for (label, rows), pair in zip(members.items(), variances, strict=True):
        if label != OVERALL:
            n_real, n_synthetic = map(len, rows)
            ratio = _median_ratio(*pair)
            row = Row("variance_ratio", "diagnostic", label, ratio, ideal=1.0, n_real=n_real, n_synthetic=n_synthetic)
            table.append(replace(row, warning=_variance_warning(ratio)))
    return table


def _unseen_warning(data: EvaluationData) -> str:
    # trivial generators that the user gives may be of cells that the model has seen too
    is_theirs = data.train is None and "trivial" not in data.notes
    if data.unseen <= _MAX_UNSEEN or not data.trivial or is_theirs:
        return ""
    if data.train is None:
        why = "the trivial generators were fitted on real cells of these, the very truth that was to be predicted"
    else:
        why = "replicate and trivial generators come from `train`, which has none of these"
    return (
        f"{100 * data.unseen:.0f} % of the synthetic cells are of combinations that their generator has not seen "
        f"(`.obs['{_keys.OBS_SEEN}']`), and {why}: the calibrated scores say nothing of a prediction. Pass "
        "`baselines=()`, and set what was predicted beside simpler predictions with `sm.tl.holdout_arithmetic`."
    )


def _real_copies_warning(share: float) -> str:
    if share == 0:
        return ""
    percent = f"{100 * share:.0f}" if share >= 0.01 else "Under 1"
    return (
        f"{percent} % of the synthetic cells are exact copies of the real cells that judge them: the realism rows say "
        "nothing of these. Judge by cells that the generator has not seen."
    )


def copy_warning(metric: str, value: float, low: float, replicate: float = np.nan, *, high: float = np.nan) -> str:
    """What a metric of copies or repeats gives away, or an empty text.

    Parameters
    ----------
    metric, value
        Its name and value.
    low, high
        Interval of the value.
    replicate
        Its value for unseen real cells.
    """
    if metric == REPEATS and value < MIN_SELF_DISTANCE and high < 1:
        return (
            f"Synthetic cells lie closer to each other than as many real cells do (ratio {value:.2f}): the generator "
            "repeats some cells, or all vary too little (see variance_ratio)."
        )
    if metric == "dcr_ratio" and value < MIN_COPY_RATIO:
        closer = f"Synthetic cells lie closer to the training cells than unseen real cells do (ratio {value:.2f}): "
        if value < CERTAIN_COPIES:
            return closer + "the generator copies, and the realism rows say nothing."
        return closer + (
            "copies, in which case the realism rows say nothing, or cells that are all too typical (see "
            "membership_auc)."
        )
    # shallow cells agree by chance, and then unseen real cells do so too
    if metric == "duplicates" and low > 0.01 and not low <= replicate:
        return f"{100 * value:.0f} % of the synthetic cells are exact copies of training cells."
    if metric == "membership_auc" and low > MAX_MEMBERSHIP_AUC:
        return f"Training cells can be told from unseen real ones by the synthetic cells (AUC {value:.2f})."
    return ""


def label_warning(metric: str, value: float, low: float, high: float, replicate: float) -> str:
    """What the agreement with the labels gives away, or an empty text.

    Parameters
    ----------
    metric, value, low, high
        Its name, its value and the interval of this.
    replicate
        Its value for unseen real cells.
    """
    if metric != AGREEMENT:
        return ""
    if high < MIN_AGREEMENT * replicate:
        return (
            f"A classifier of real cells takes {100 * value:.0f} % of the synthetic cells for what their label says, "
            f"and {100 * replicate:.0f} % of unseen real ones: labels are mixed up, or types not learned apart."
        )
    if 1 - low < MIN_DOUBT * (1 - replicate):
        return (
            f"A classifier of real cells is wrong about {100 * (1 - value):.1f} % of the synthetic cells, and "
            f"{100 * (1 - replicate):.1f} % of unseen real ones: the types are exaggerated, further apart than in real "
            "cells, or the cells are copies that the classifier has learned."
        )
    return ""


def _same_space(data: EvaluationData, log1p: bool) -> float:
    if None in data.spaces:
        return np.nan
    return float(len(set(data.spaces)) == 1 or (log1p and set(data.spaces) <= _SCALED))


def space_warning(data: EvaluationData, log1p: bool) -> str:
    """What is wrong with the values of the two sides, or an empty text."""
    real, synthetic = data.spaces
    if _same_space(data, log1p) == 0:
        return (
            f"Real cells hold {UNIT_NAMES[real]}, synthetic cells {UNIT_NAMES[synthetic]}: the two cannot be "
            "compared. Give raw counts on both sides (`layer` names those of the real cells), or the same logarithms "
            "on both with `log1p=False`."
        )
    if log1p and not {real, synthetic}.isdisjoint(BASES):
        return (
            "The values look like logarithms already and are logged again: pass log1p=False, or `layer` with the "
            "counts."
        )
    return ""


def _zero_fraction(x: Matrix) -> float:
    n_nonzero = np.count_nonzero(x) if isinstance(x, np.ndarray) else x.count_nonzero()
    return 1 - n_nonzero / (x.shape[0] * x.shape[1])


def _zero_warning(real: float, synthetic: float) -> str:
    ratio = synthetic / real
    if _ZERO_RATIO[0] <= ratio <= _ZERO_RATIO[1] or abs(synthetic - real) < _ZERO_DIFFERENCE:
        return ""
    which = "Smooth output: too few zeros" if ratio < 1 else "Too many zeros"
    return f"{which} ({synthetic:.2f} of the values, {real:.2f} in real cells)."


def _variance_warning(ratio: float) -> str:
    if not np.isfinite(ratio) or _VARIANCE_RATIO[0] <= ratio <= _VARIANCE_RATIO[1]:
        return ""
    if ratio < 1:
        return f"Smooth output: genes vary {ratio:.2f} times as much as in real cells of the same type."
    return f"Noisy output: genes vary {ratio:.2f} times as much as in real cells of the same type."


def _median_ratio(real: np.ndarray, synthetic: np.ndarray) -> float:
    varies = real > 1e-8
    return float(np.median(synthetic[varies] / real[varies])) if varies.any() else np.nan


def _composition_distance(real: np.ndarray, synthetic: np.ndarray, labels: tuple[str, ...]) -> float:
    shares = [np.array([(side == k).mean() for k in labels]) for side in (real, synthetic)]
    return float(0.5 * np.abs(shares[0] - shares[1]).sum())
