"""Latent space entropy: how well latent codes fit the posteriors of given cells (MichiGAN, section 2.3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmimic._arguments import FLAG
from scmimic._arrays import check_same_features
from scmimic.metrics._factors import as_latent, as_variance

# Codes x cells log densities held at once: 32 MB in double precision.
_CHUNK_VALUES = 2**22


def latent_entropy(codes: Any, mean: Any, variance: Any, *, leave_one_out: bool = False) -> float:
    r"""Latent space entropy of codes with respect to cells (MichiGAN, section 2.3).

    :math:`H = -E_z \log\, E_x\, q(z | x)`: the mean negative log density of the codes under the mixture of the cells'
    Gaussian posteriors, each cell with the same weight. The density is exact: every code against every cell, in chunks.

    Low where the codes lie where the cells are encoded, high where they lie elsewhere. It has no fixed range, and only
    differences on the same cells can be compared: with the cells of one combination of type and treatment, the entropy
    of predicted codes less that of the cells' own codes is the delta-H of the paper. A cell's own code lies in the
    middle of its own posterior, where no predicted code lies: by the paper's definition delta-H is far above 0 even for
    perfect predictions, where cells are few or posteriors narrow. With `leave_one_out` for the cells' own codes its
    expected value is 0 for codes that are drawn as those of the cells are, below 0 for typical codes alone.

    Parameters
    ----------
    codes
        Latent codes, codes x dimensions: of the cells themselves, or predicted ones.
    mean
        Means of the posteriors of the cells, cells x dimensions.
    variance
        Variances of the posteriors in the shape of `mean`, or one per dimension.
    leave_one_out
        Code ``i`` is that of cell ``i``, whose posterior is left out of the mixture for it.

    Returns
    -------
    The entropy in nats.

    Raises
    ------
    ValueError
        If an array is empty or holds NaN, the dimensions differ, a variance is not positive, or there is no other cell
        than the one that is left out.
    TypeError
        If `leave_one_out` is no truth value.

    See Also
    --------
    scmimic.tl.latent_entropy : For the cells of a model.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> cells = np.zeros((10, 1))
    >>> round(sm.metrics.latent_entropy([[0.0]], cells, [1.0]), 3)
    0.919
    >>> round(sm.metrics.latent_entropy([[2.0]], cells, [1.0]), 3)
    2.919
    """
    codes, mean = as_latent(codes, "codes"), as_latent(mean, "mean")
    check_same_features(codes=codes, mean=mean)
    variance = as_variance(variance, mean)
    FLAG.check(leave_one_out=leave_one_out)
    if leave_one_out and not 1 < len(mean) == len(codes):
        raise ValueError(
            f"`leave_one_out` needs a code for each of two cells or more, not {len(codes)} codes for {len(mean)} cells."
        )
    # the square is written out for one matrix product; near the origin its terms do not cancel
    center = mean.mean(axis=0)
    codes, mean = codes - center, mean - center
    precision = 1 / variance
    weights = np.hstack([-0.5 * precision, mean * precision]).T
    constant = -0.5 * (mean**2 * precision + np.log(2 * np.pi * variance)).sum(axis=1)
    total = 0.0
    step = max(1, _CHUNK_VALUES // len(mean))
    for start in range(0, len(codes), step):
        z = codes[start : start + step]
        log_density = np.hstack([z**2, z]) @ weights
        log_density += constant
        if leave_one_out:
            log_density[np.arange(len(z)), start + np.arange(len(z))] = -np.inf
        highest = log_density.max(axis=1, keepdims=True)
        np.exp(log_density - highest, out=log_density)
        n_cells = len(mean) - leave_one_out
        total += float((np.log(log_density.sum(axis=1) / n_cells) + highest[:, 0]).sum())
    return -total / len(codes)
