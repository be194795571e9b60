"""The FactorVAE metric (Kim & Mnih 2018, Disentangling by factorising, section 4).

Constants and pruning are those of Locatello et al. (2019): 10,000 votes to train, 5,000 to judge, 64 cells each,
dimensions of standard deviation below 0.05 left out.

Deviations: the cells of a vote are drawn, with replacement, from those that share the level in the data, because a
data set cannot be asked for new cells.
"""

from __future__ import annotations

import logging
from typing import Any, Literal, TypedDict, Unpack, overload

import numpy as np

from scmimic._arguments import COUNT, FLAG, NON_NEGATIVE, SEED, SEVERAL, Choice
from scmimic.metrics._factors import Factor, FactorScores, as_factors, as_latent

logger = logging.getLogger(__name__)

# Values gathered at once: 32 MB.
_CHUNK_VALUES = 2**22


class _Settings(TypedDict, total=False):
    n_train: int
    n_test: int
    n_cells: int
    min_std: float
    vote: Literal["argmin", "michigan_argmax"]
    factor_bins: int
    seed: int


@overload
def factor_vae_score(
    latent: Any, factors: Any, *, return_per_factor: Literal[True], **settings: Unpack[_Settings]
) -> FactorScores: ...
@overload
def factor_vae_score(
    latent: Any, factors: Any, *, return_per_factor: Literal[False] = ..., **settings: Unpack[_Settings]
) -> float: ...
def factor_vae_score(
    latent: Any,
    factors: Any,
    *,
    n_train: int = 10_000,
    n_test: int = 5_000,
    n_cells: int = 64,
    min_std: float = 0.05,
    vote: Literal["argmin", "michigan_argmax"] = "argmin",
    factor_bins: int = 4,
    seed: int = 0,
    return_per_factor: bool = False,
) -> float | FactorScores:
    """FactorVAE metric: accuracy from about 1 / number of factors, by chance, to 1; higher is better.

    A vote: choose a factor at random, a level of it at random, and `n_cells` cells of this level. The dimension whose
    variance among them is smallest in relation to its variance over all cells should be the one that holds the factor.
    The majority of `n_train` votes says which factor a dimension stands for; the metric is the fraction of `n_test`
    further votes for which that is right. It is 1 where each factor has a dimension of its own, also where others know
    the factor in part: compare :func:`mutual_information_gap`.

    Parameters
    ----------
    latent
        Cells x latent dimensions: codes, or the means of their posteriors.
    factors
        Mapping or data frame from name to one value per cell, or an array (cells x factors). Text and booleans are
        levels. Numbers are levels too where there are at most 20 distinct ones, and are cut into `factor_bins` classes
        otherwise.
    n_train, n_test
        Votes that the classifier learns from, and that it is judged by.
    n_cells
        Cells of a vote.
    min_std
        Dimensions of smaller standard deviation have collapsed and get no vote. The default is meant for latents
        with a standard normal prior; set 0 for codes of another scale, where only constant dimensions are left out.
    vote
        `"argmin"` is the metric. `"michigan_argmax"` takes the dimension of the *largest* variance, as the program of
        MichiGAN does, so that its Table 1 can be compared with: a perfect representation then scores little more than
        chance.
    factor_bins
        Classes of equal numbers of cells for a continuous factor.
    seed
        Seed of the votes.
    return_per_factor
        Return the accuracy over the votes of each factor too; the metric is over all votes.

    Returns
    -------
    The accuracy, or :class:`FactorScores` with `return_per_factor`. 0 if all dimensions have collapsed.

    Raises
    ------
    ValueError
        If values are missing, shapes differ, a factor has one level only, a number is below 1, or `vote` is unknown.

    See Also
    --------
    scmimic.metrics.mutual_information_gap : By mutual information.
    scmimic.metrics.dci : By the importance of latents.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> factors = np.random.default_rng(0).integers(5, size=(1000, 3))
    >>> float(sm.metrics.factor_vae_score(factors, factors))
    1.0
    """
    COUNT.check(n_train=n_train, n_test=n_test)
    SEVERAL.check(n_cells=n_cells)
    NON_NEGATIVE.check(min_std=min_std)
    Choice(("argmin", "michigan_argmax")).check(vote=vote)
    SEED.check(seed=seed)
    FLAG.check(return_per_factor=return_per_factor)
    latent = as_latent(latent)
    known = as_factors(factors, len(latent), factor_bins=factor_bins)
    sd = latent.std(axis=0)
    active = np.flatnonzero((sd >= min_std) & (sd > 0))
    if len(active) == 0:
        logger.warning("No dimension has a standard deviation of %g or more: the score is 0.", min_std)
        scores = FactorScores(0.0, {factor.name: 0.0 for factor in known})
        return scores if return_per_factor else scores.score
    rng = np.random.default_rng(seed)
    scaled = latent[:, active] / sd[active]
    fixed, voted = _votes(scaled, known, n_train + n_test, n_cells, vote == "argmin", rng)

    counts = np.zeros((len(active), len(known)), dtype=np.intp)
    np.add.at(counts, (voted[:n_train], fixed[:n_train]), 1)
    right = counts.argmax(axis=1)[voted[n_train:]] == fixed[n_train:]
    asked = fixed[n_train:]
    per_factor = {
        f.name: float(right[asked == k].mean()) if (asked == k).any() else np.nan for k, f in enumerate(known)
    }
    scores = FactorScores(float(right.mean()), per_factor)
    return scores if return_per_factor else scores.score


def _votes(
    scaled: np.ndarray, factors: list[Factor], n: int, n_cells: int, smallest: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The fixed factor of each vote, and the dimension of smallest (or largest) variance."""
    fixed, voted = rng.integers(len(factors), size=n), np.empty(n, dtype=np.intp)
    step = max(1, _CHUNK_VALUES // (n_cells * scaled.shape[1]))
    for k, factor in enumerate(factors):
        votes = np.flatnonzero(fixed == k)
        # cells sorted by level, so that a level is a stretch of them
        order = np.argsort(factor.codes, kind="stable")
        size = np.bincount(factor.codes)
        first = np.cumsum(size) - size
        level = rng.integers(factor.n_levels, size=len(votes))
        for start in range(0, len(votes), step):
            of = level[start : start + step, None]
            cells = order[first[of] + (rng.random((len(of), n_cells)) * size[of]).astype(np.intp)]
            variance = scaled[cells].var(axis=1)
            voted[votes[start : start + step]] = variance.argmin(axis=1) if smallest else variance.argmax(axis=1)
    return fixed, voted
