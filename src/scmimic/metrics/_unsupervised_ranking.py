"""Unsupervised disentanglement ranking.

Duan et al. (2020) Unsupervised model selection for variational disentangled representation learning. ICLR, section 4.

A disentangled representation is much the same in every training, but for order and sign of its dimensions; an entangled
one is another each time. So the trainings of one model can be ranked by how well they agree, without labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, overload

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import Lasso

from scmimic._arguments import FLAG, NON_NEGATIVE, Choice, Listed, Ordered
from scmimic._reprs import short_repr
from scmimic.metrics._factors import as_latent, as_variance
from scmimic.metrics._spearman import standardise

Agreement = Literal["spearman", "lasso"]

# of the authors' program, for dimensions of variance 1
_LASSO_ALPHA = 0.1
_SEVERAL_TRAININGS = Listed(Ordered(), least=2)


@short_repr
@dataclass(frozen=True)
class DisentanglementRanking:
    """Result of :func:`~scmimic.metrics.unsupervised_disentanglement_ranking` with `return_pairs`."""

    scores: np.ndarray
    """Score of each training: the median of its agreements with the others."""
    pairs: np.ndarray = field(repr=False)
    """Agreement of each two trainings, symmetric; NaN on the diagonal."""
    informative: list[np.ndarray] = field(repr=False)
    """Which dimensions of each training were counted."""


@overload
def unsupervised_disentanglement_ranking(
    latents: Sequence[Any],
    variances: Sequence[Any] | None = ...,
    *,
    agreement: Agreement = ...,
    min_kl: float = ...,
    return_pairs: Literal[True],
) -> DisentanglementRanking: ...
@overload
def unsupervised_disentanglement_ranking(
    latents: Sequence[Any],
    variances: Sequence[Any] | None = ...,
    *,
    agreement: Agreement = ...,
    min_kl: float = ...,
    return_pairs: Literal[False] = ...,
) -> np.ndarray: ...
def unsupervised_disentanglement_ranking(
    latents: Sequence[Any],
    variances: Sequence[Any] | None = None,
    *,
    agreement: Agreement = "spearman",
    min_kl: float = 0.01,
    return_pairs: bool = False,
) -> np.ndarray | DisentanglementRanking:
    r"""Unsupervised disentanglement ranking (UDR) of several trainings of one model: 0 to 1 each, higher is better.

    With the agreement :math:`R_{ab}` of dimension :math:`a` of one training with dimension :math:`b` of another, two
    trainings of :math:`d` and :math:`d'` informative dimensions agree by

    .. math::
        \frac{1}{d + d'} \Bigl[ \sum_b \frac{(\max_a R_{ab})^2}{\sum_a R_{ab}}
        + \sum_a \frac{(\max_b R_{ab})^2}{\sum_b R_{ab}} \Bigr],

    which is 1 where each dimension of one is a dimension of the other, and of no second one. The score of a training is
    the median over the others. No labels are needed. Trainings that agree on the same wrong answer score well, and a
    single good one among bad ones does not: it ranks, and proves nothing.

    Parameters
    ----------
    latents
        Of each training, at least two, the codes of the same cells in the same order, cells x latent dimensions:
        means of the posteriors. The numbers of dimensions may differ.
    variances
        Of each training the variances of the posteriors, in the shape of its codes or one per dimension. None: every
        dimension that varies is taken for informative.
    agreement
        `"spearman"`, absolute rank correlation, which any monotone change of a dimension leaves alone; or `"lasso"`,
        absolute weights of a lasso regression (penalty 0.1) of each dimension of one training on all of the other,
        both brought to variance 1, taken both ways and averaged.
    min_kl
        Mean KL of the posteriors of a dimension from N(0, 1), in nats, above which it is informative; the others have
        vanished and are left out. 0.01 as the paper.
    return_pairs
        Return the agreement of each two trainings, and which dimensions were counted, too.

    Returns
    -------
    Array of one score per training, or :class:`DisentanglementRanking` with `return_pairs`. A training without an
    informative dimension agrees with none: 0.

    Raises
    ------
    ValueError
        If there are fewer than two trainings, their cells differ in number, or values are missing.

    See Also
    --------
    scmimic.metrics.mutual_information_gap : Where factors are known.
    scmimic.metrics.latent_matching_score : Which latent is which?

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> z = np.random.default_rng(0).normal(size=(1000, 2))
    >>> turned = z @ [[0.6, -0.8], [0.8, 0.6]]
    >>> sm.metrics.unsupervised_disentanglement_ranking([z, -z[:, ::-1], turned]).round(1)
    array([0.7, 0.7, 0.4])
    """
    Choice(get_args(Agreement)).check(agreement=agreement)
    NON_NEGATIVE.check(min_kl=min_kl)
    FLAG.check(return_pairs=return_pairs)
    _SEVERAL_TRAININGS.check(latents=latents)
    codes = [as_latent(latent, f"latents[{i}]") for i, latent in enumerate(latents)]
    if len(sizes := {len(z) for z in codes}) > 1:
        raise ValueError(
            f"`latents` must hold codes of the same cells in every training, but their numbers are {sorted(sizes)}."
        )
    if variances is None:
        informative = [np.ptp(z, axis=0) > 0 for z in codes]
    else:
        Listed(Ordered(), least=len(codes), most=len(codes)).check(variances=variances)
        informative = [
            (mean_kl(z, as_variance(v, z)) > min_kl) & (np.ptp(z, axis=0) > 0)
            for z, v in zip(codes, variances, strict=True)
        ]
    columns = [z[:, mask] for z, mask in zip(codes, informative, strict=True)]
    kept = [standardise(rankdata(z, axis=0) if agreement == "spearman" else z) for z in columns]
    compare = _rank_correlations if agreement == "spearman" else _lasso_weights
    pairs = np.full((len(kept), len(kept)), np.nan)
    for i in range(len(kept)):
        for j in range(i):
            pairs[i, j] = pairs[j, i] = _one_to_one(compare(kept[i], kept[j]))
    scores = np.nanmedian(pairs, axis=1)
    return DisentanglementRanking(scores, pairs, informative) if return_pairs else scores


def mean_kl(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """KL of each dimension's posteriors from N(0, 1), mean over cells, in nats; both cells x dimensions."""
    return 0.5 * (mean**2 + variance - 1 - np.log(variance)).mean(axis=0)


def _rank_correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.T @ b) / len(a)


def _lasso_weights(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not a.shape[1] or not b.shape[1]:
        return np.zeros((a.shape[1], b.shape[1]))
    forth, back = (
        np.abs(np.atleast_2d(Lasso(alpha=_LASSO_ALPHA, fit_intercept=False).fit(x, y).coef_))
        for x, y in ((a, b), (b, a))
    )
    return (forth.T + back) / 2


def _one_to_one(agreement: np.ndarray) -> float:
    """How far each row has one column of its own, and each column one row, in a matrix that is not negative."""
    if not sum(agreement.shape):
        return 0.0
    parts = []
    for matrix in (agreement, agreement.T):
        most, total = matrix.max(axis=1, initial=0), matrix.sum(axis=1)
        parts.append(np.divide(most**2, total, out=np.zeros(len(matrix)), where=total > 0))
    return float(np.concatenate(parts).mean())
