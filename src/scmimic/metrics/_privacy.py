"""Whether the synthetic cells give their training cells away.

Nearest-neighbour distance ratio: Zhao et al. 2021 (CTAB-GAN, ACML), privacy analysis of the experiments. Membership
inference: the full black-box attack of Chen et al. 2020 (GAN-Leaks, CCS) and its attack calibration, with the
true-positive rate at a low false-positive rate after Carlini et al. 2022 (IEEE S&P, "Membership inference attacks from
first principles").

Deviation: GAN-Leaks calibrates with the samples of a second generator trained on other data; here real cells that are
in neither group stand in for them, as in van Breugel et al. 2023 (DOMIAS, AISTATS), with the nearest neighbour as the
density estimate. Where few synthetic cells are attacked, the attack is weaker than with unlimited samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import NearestNeighbors

from scmimic._arguments import COUNT_OR_NONE, SEED, THREADS
from scmimic._arrays import (
    as_labels,
    as_matrix,
    check_comparable,
    row_distances,
    row_keys,
    same_kind,
    sample_rows,
)
from scmimic._reprs import short_repr
from scmimic.metrics._closest_record import _distances
from scmimic.metrics._errors import TooFewCellsError
from scmimic.metrics._intervals import auc_interval

# Values of one chunk of cells whose differences are held: 64 MB in double precision.
_CHUNK_VALUES = 2**23


@short_repr
@dataclass(frozen=True)
class NearestNeighborDistanceRatio:
    """Result of :func:`~scmimic.metrics.nearest_neighbor_distance_ratio`."""

    ratio: float
    """`synthetic_median` over `test_median`: about 1 for new cells, 0 for a memoriser."""
    synthetic_median: float
    """Median over the synthetic cells of the distance to the nearest over that to the second nearest training cell."""
    test_median: float
    """The same of unseen real cells."""
    synthetic_low: float
    """5th percentile over the synthetic cells: the most exposed ones. Far below `test_low` some cells are copies."""
    test_low: float
    """The same of unseen real cells."""
    synthetic: np.ndarray = field(repr=False)
    """Ratio of each synthetic cell, from 0 to 1."""
    test: np.ndarray = field(repr=False)
    """Ratio of each test cell."""


@short_repr
@dataclass(frozen=True)
class MembershipInference:
    """Result of :func:`~scmimic.metrics.membership_inference`, of cells or of donors."""

    auc: float
    """AUC of the attack: 0.5 is ideal, 1 means that every training cell is recognised."""
    interval: tuple[float, float]
    """95 % confidence interval of `auc` for other cells (or donors) and the same synthetic cells (DeLong)."""
    tpr_at_fpr_1: float
    """Fraction of the training cells recognised where at most 1 % of the unseen cells are accused; 0.01 is ideal."""
    tpr_at_fpr_10: float
    """The same at 10 %; 0.1 is ideal."""
    train: np.ndarray = field(repr=False)
    """Score of each training cell (or donor): the higher, the more the attack takes it for one."""
    test: np.ndarray = field(repr=False)
    """Score of each unseen cell (or donor)."""
    donors: MembershipInference | None = None
    """The same attack on donors rather than cells, where donors are given; scores in the sorted order of names."""


def nearest_neighbor_distance_ratio(
    train: Any,
    synthetic: Any,
    test: Any,
    *,
    max_cells: int | None = 20_000,
    seed: int = 0,
    n_jobs: int = 1,
) -> NearestNeighborDistanceRatio:
    """Distance to the nearest over that to the second nearest training cell, beside the same for unseen real cells.

    A cell made from one training cell stands much closer to it than to any other: its ratio is near 0. Unlike the
    distance to the closest record, the ratio does not depend on how dense the cells are around it. Euclidean; the
    arrays are taken as they are. Principal components of log-normalised expression, fitted on cells apart from `train`
    and `test`, are the usual space.

    Parameters
    ----------
    train
        Cells x features that the generator was trained on, dense or sparse; at least two.
    synthetic
        Generated cells x features.
    test
        Real cells x features that the generator has not seen.
    max_cells
        Largest number of synthetic and of test cells, drawn at random. All training cells are used: leaving some out
        would hide their copies. `None` uses all.
    seed
        Seed of that draw.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    :class:`NearestNeighborDistanceRatio` with medians, 5th percentiles and the ratio of each cell. A cell that equals
    two training cells has ratio 1: no single one stands out.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN, or differs in features.
    TooFewCellsError
        If there is one training cell.

    See Also
    --------
    scmimic.metrics.distance_to_closest_record : The distance itself.
    scmimic.tl.privacy : All of them.

    Examples
    --------
    >>> import scmimic as sm
    >>> train, test = [[0.0], [4.0]], [[1.0]]
    >>> sm.metrics.nearest_neighbor_distance_ratio(train, [[2.0]], test).ratio  # (2 / 2) / (1 / 3)
    3.0
    >>> sm.metrics.nearest_neighbor_distance_ratio(train, train, test).ratio
    0.0
    """
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    train, synthetic, test = same_kind(train=train, synthetic=synthetic, test=test)
    if train.shape[0] < 2:
        raise TooFewCellsError("`train` has one cell, but the second nearest is needed as well.")
    rng = np.random.default_rng(seed)
    search = NearestNeighbors(n_neighbors=2, algorithm="brute", n_jobs=n_jobs).fit(train)
    ratios = []
    for x in (synthetic, test):
        x = x[sample_rows(x.shape[0], max_cells, rng)]
        nearest = search.kneighbors(x, return_distance=False)
        both = [row_distances(x, train, nearest[:, k], chunk_values=_CHUNK_VALUES) for k in (0, 1)]
        pair = np.sort(np.column_stack(both), axis=1)
        ratios.append(np.divide(pair[:, 0], pair[:, 1], out=np.ones(len(pair)), where=pair[:, 1] > 0))
    medians = [float(np.median(x)) for x in ratios]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.float64(medians[0]) / np.float64(medians[1]))
    return NearestNeighborDistanceRatio(
        ratio=ratio,
        synthetic_median=medians[0],
        test_median=medians[1],
        synthetic_low=float(np.quantile(ratios[0], 0.05)),
        test_low=float(np.quantile(ratios[1], 0.05)),
        synthetic=ratios[0],
        test=ratios[1],
    )


def duplicate_fraction(train: Any, synthetic: Any) -> float:
    """Fraction of the synthetic cells that equal a training cell in every feature: 0 is ideal, 1 is a memoriser.

    Meant for the cells as generated (counts): any transformation that rounds, or a library size of one's own, makes
    a copy differ. Cells with few counts may agree by chance; what chance gives is the same fraction with unseen real
    cells in the place of the synthetic ones.

    Parameters
    ----------
    train
        Cells x features that the generator was trained on, dense or sparse.
    synthetic
        Generated cells x features.

    Returns
    -------
    Fraction from 0 to 1.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN, or differs in features.

    See Also
    --------
    scmimic.metrics.distance_to_closest_record : Cells that are nearly copies.
    scmimic.tl.privacy : All of them.

    Examples
    --------
    >>> import scmimic as sm
    >>> sm.metrics.duplicate_fraction([[0, 1], [2, 0]], [[2, 0], [0, 2], [1, 1], [0, 0]])
    0.25
    """
    train, synthetic = as_matrix(train, "train"), as_matrix(synthetic, "synthetic")
    check_comparable(train=train, synthetic=synthetic)
    return float(np.isin(row_keys(synthetic), row_keys(train)).mean())


def membership_inference(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    train_donors: Any = None,
    test_donors: Any = None,
    reference: Any = None,
    max_cells: int | None = 20_000,
    seed: int = 0,
    n_jobs: int = 1,
) -> MembershipInference:
    """Tell training cells from unseen ones by their distance to the closest synthetic cell: an AUC of 0.5 is ideal.

    The attacker holds real cells and the synthetic ones, and takes those for training cells that a synthetic cell comes
    close to. Training and unseen cells must be draws from one population (a random split): where they differ by
    donor or batch, the attack finds that difference, leak or no leak. The measure is a lower bound of what leaks; other
    attacks may find more. Euclidean, the arrays are taken as they are, as in :func:`distance_to_closest_record`.

    Parameters
    ----------
    train
        Cells x features that the generator was trained on, dense or sparse.
    test
        Real cells x features that the generator has not seen.
    synthetic
        Generated cells x features. The more of them, the stronger the attack.
    train_donors, test_donors
        Donor of each cell. With both, the mean score over its cells is also taken per donor, and donors are told from
        donors: a person may be exposed by many cells of which none is. No donor may stand on both sides.
    reference
        Further real cells, in neither group. With them the score is the logarithm of the distance to the closest
        reference cell over that to the closest synthetic cell: a cell is suspect if synthetic cells come closer than
        its rarity explains. Stronger as a rule; `reference` must be as close to `train` as to `test`.
    max_cells
        Largest number of training and of unseen cells attacked, drawn at random. All synthetic cells are used. `None`
        attacks all.
    seed
        Seed of that draw.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.

    Returns
    -------
    :class:`MembershipInference` with AUC, interval and true-positive rates. The rates take the best threshold whose
    false-positive rate is at most the one named; with fewer than 100 unseen cells (or donors) it is 0 rather than 1 %.

    Raises
    ------
    ValueError
        If an array is empty, holds NaN, or differs in features, or if donors are given for one side alone, stand on
        both sides, are missing for a cell, or differ in number from the cells.

    See Also
    --------
    scmimic.metrics.distance_to_closest_record : The distance behind it.
    scmimic.tl.privacy : All of them.

    Examples
    --------
    >>> import scmimic as sm
    >>> train, test = [[0.0], [1.0], [2.0]], [[0.5], [1.5], [2.5]]
    >>> sm.metrics.membership_inference(train, test, train).auc
    1.0
    >>> sm.metrics.membership_inference(train, test, [[0.25], [1.25], [2.25]]).auc
    0.5
    """
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    arrays = {"train": train, "test": test, "synthetic": synthetic}
    if reference is not None:
        arrays["reference"] = reference
    train, test, synthetic, *rest = same_kind(**arrays)
    if (train_donors is None) != (test_donors is None):
        raise ValueError("Give both `train_donors` and `test_donors`, or neither.")
    donors: tuple[np.ndarray, np.ndarray] | None = None
    if train_donors is not None:
        donors = (
            as_labels(train_donors, "train_donors", train.shape[0]),
            as_labels(test_donors, "test_donors", test.shape[0]),
        )
        if both := np.intersect1d(*donors).tolist():
            raise ValueError(
                f"{len(both)} donors are in both `train_donors` and `test_donors` ({both[:3]}): a donor is either "
                "trained on or unseen. Split by donor, or leave the donors out."
            )
    rng = np.random.default_rng(seed)
    searches = [NearestNeighbors(n_neighbors=1, algorithm="brute", n_jobs=n_jobs).fit(x) for x in (synthetic, *rest)]
    cells = [sample_rows(x.shape[0], max_cells, rng) for x in (train, test)]
    scores = []
    for x, rows in zip((train, test), cells, strict=True):
        distances = [_distances(x[rows], y, search) for y, search in zip((synthetic, *rest), searches, strict=True)]
        if rest:
            # the smallest number instead of 0: the logarithm of a copy's distance is finite and below all others
            distances = [np.log(np.maximum(d, np.finfo(float).tiny)) for d in distances]
        scores.append(distances[1] - distances[0] if rest else -distances[0])
    by_donor = None
    if donors is not None:
        by_donor = _attack(*map(_mean_by, scores, map(np.take, donors, cells)))
    return _attack(*scores, donors=by_donor)


def _attack(train: np.ndarray, test: np.ndarray, *, donors: MembershipInference | None = None) -> MembershipInference:
    truth, score = np.repeat([1, 0], [len(train), len(test)]), np.concatenate([train, test])
    fpr, tpr, _ = roc_curve(truth, score, drop_intermediate=False)
    low, high = (float(tpr[fpr <= level].max()) for level in (0.01, 0.1))
    return MembershipInference(
        auc=float(roc_auc_score(truth, score)),
        interval=auc_interval(test, train),
        tpr_at_fpr_1=low,
        tpr_at_fpr_10=high,
        train=train,
        test=test,
        donors=donors,
    )


def _mean_by(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    _, codes = np.unique(groups, return_inverse=True)
    return np.bincount(codes, values) / np.bincount(codes)
