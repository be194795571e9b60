"""Checks of whether the numbers of an evaluation mean anything: space, smooth output, composition, copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from scmimic._arrays import Matrix, column_variance
from scmimic.cells._units import BASES, UNIT_NAMES
from scmimic.tl.evaluation._cells import Cells, EvaluationData

MIN_COPY_RATIO = 0.9
"""A median distance to the training cells below this share of that of unseen real cells is copying."""

CERTAIN_COPIES = 0.5
"""Smooth but new cells have been seen with a ratio of distances down to 0.8; below this there are copies."""

_ZERO_RATIO = (0.9, 1.1)
_VARIANCE_RATIO = (0.75, 1.33)
_MAX_COMPOSITION = 0.05
_MAX_MEMBERSHIP_AUC = 0.55
_SCALED = {"counts", "linear"}


@dataclass(frozen=True)
class Finding:
    """One diagnostic row."""

    metric: str
    label: str
    value: float
    ideal: float
    n_real: int
    n_synthetic: int
    warning: str = ""


def check_data(data: EvaluationData, *, log1p: bool, min_cells: int, overall: str) -> list[Finding]:
    """Return the diagnostic rows, overall and per label; `overall` is what the label of the first is called."""
    real, synthetic = data.real, data.synthetic
    size = (len(real), len(synthetic))
    found = [Finding("same_space", overall, *_same_space(data, log1p), *size, space_warning(data, log1p))]
    ratio = _zero_fraction(synthetic.raw) / max(_zero_fraction(real.raw), 1e-12)
    if _zero_fraction(real.raw) > 0:
        found.append(Finding("zero_fraction_ratio", overall, ratio, 1.0, *size, _zero_warning(real, synthetic, ratio)))
    found.append(Finding("real_copies", overall, data.copied, 0.0, *size, _real_copies_warning(data.copied)))
    shared = [k for k in data.labels if min(len(real.rows_of(k)), len(synthetic.rows_of(k))) >= min_cells]
    if data.labels:
        distance = _composition_distance(real.labels, synthetic.labels, data.labels)
        text = (
            f"The cell types come in other proportions (total variation distance {distance:.2f}), which all overall "
            "rows measure too: generate the real cells' numbers, or read the rows per type."
            if distance > _MAX_COMPOSITION
            else ""
        )
        found.append(Finding("label_composition", overall, distance, 0.0, *size, text))
    rows = {k: (real.rows_of(k), synthetic.rows_of(k)) for k in shared}
    if not data.labels:
        rows = {overall: (np.arange(size[0]), np.arange(size[1]))}
    variances = {
        k: tuple(column_variance(side.genes[r]) for side, r in zip((real, synthetic), pair, strict=True))
        for k, pair in rows.items()
    }
    if variances:
        weight = np.array([len(rows[k][0]) for k in variances], dtype=float)
        within = [np.average([v[side] for v in variances.values()], axis=0, weights=weight) for side in (0, 1)]
        ratio = _median_ratio(*within)
        found.append(Finding("variance_ratio", overall, ratio, 1.0, *size, _variance_warning(ratio)))
        for label, (pair, (a, b)) in zip(variances, zip(rows.values(), variances.values(), strict=True), strict=True):
            if label != overall:
                ratio = _median_ratio(a, b)
                found.append(
                    Finding("variance_ratio", label, ratio, 1.0, len(pair[0]), len(pair[1]), _variance_warning(ratio))
                )
    return found


def _real_copies_warning(share: float) -> str:
    if share == 0:
        return ""
    percent = f"{100 * share:.0f}" if share >= 0.01 else "Under 1"
    return (
        f"{percent} % of the synthetic cells are exact copies of the real cells that judge them: the realism rows say "
        "nothing of these. Judge by cells that the generator has not seen."
    )


def copy_warning(metric: str, value: float, low: float, replicate: float = np.nan) -> str:
    """What a privacy metric gives away, or an empty text; `replicate` is its value for unseen real cells."""
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
    if metric == "membership_auc" and low > _MAX_MEMBERSHIP_AUC:
        return f"Training cells can be told from unseen real ones by the synthetic cells (AUC {value:.2f})."
    return ""


def _same_space(data: EvaluationData, log1p: bool) -> tuple[float, float]:
    if None in data.spaces:
        return np.nan, 1.0
    same = len(set(data.spaces)) == 1 or (log1p and set(data.spaces) <= _SCALED)
    return float(same), 1.0


def space_warning(data: EvaluationData, log1p: bool) -> str:
    """What is wrong with the values of the two sides, or an empty text."""
    real, synthetic = data.spaces
    if _same_space(data, log1p)[0] == 0:
        return (
            f"Real cells hold {UNIT_NAMES[real]}, synthetic cells {UNIT_NAMES[synthetic]}: the two cannot be "
            "compared. Give both in one space; `layer` chooses the real one."
        )
    if log1p and not {real, synthetic}.isdisjoint(BASES):
        return (
            "The values look like logarithms already and are logged again: pass log1p=False, or `layer` with the "
            "counts."
        )
    return ""


def _zero_fraction(x: Matrix) -> float:
    n_nonzero = x.count_nonzero() if sp.issparse(x) else np.count_nonzero(x)
    return 1 - n_nonzero / (x.shape[0] * x.shape[1])


def _zero_warning(real: Cells, synthetic: Cells, ratio: float) -> str:
    if _ZERO_RATIO[0] <= ratio <= _ZERO_RATIO[1]:
        return ""
    which = "Smooth output: too few zeros" if ratio < 1 else "Too many zeros"
    return f"{which} ({_zero_fraction(synthetic.raw):.2f} of the values, {_zero_fraction(real.raw):.2f} in real cells)."


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
