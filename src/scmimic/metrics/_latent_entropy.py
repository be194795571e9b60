"""Latent space entropy: how well latent codes fit the posteriors of given cells (MichiGAN, section 2.3)."""

from __future__ import annotations

from typing import Any

import numpy as np

from scmimic._arrays import check_same_features
from scmimic.metrics._factors import as_latent, as_variance

# Codes x cells log densities held at once: 32 MB in double precision.
_CHUNK_VALUES = 2**22


def latent_entropy(codes: Any, mean: Any, variance: Any) -> float:
    r"""Latent space entropy of codes with respect to cells (MichiGAN, section 2.3).

    :math:`H = -E_z \log E_x\, q(z | x)`: the mean negative log density of the codes under the mixture of the cells'
    Gaussian posteriors, each cell with the same weight. The density is exact: every code against every cell, in chunks.

    Low where the codes lie where the cells are encoded, high where they lie elsewhere. It has no fixed range, and only
    differences on the same cells can be compared: with the cells of one combination of type and treatment, the entropy
    of predicted codes less that of the cells' own codes is the delta-H of the paper, ideally 0 or below.

    Parameters
    ----------
    codes
        Latent codes, codes x dimensions: of the cells themselves, or predicted ones.
    mean
        Means of the posteriors of the cells, cells x dimensions.
    variance
        Variances of the posteriors in the shape of `mean`, or one per dimension.

    Returns
    -------
    The entropy in nats.

    Raises
    ------
    ValueError
        If an array is empty or holds NaN, the dimensions differ, or a variance is not positive.

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
        highest = log_density.max(axis=1, keepdims=True)
        np.exp(log_density - highest, out=log_density)
        total += float((np.log(log_density.mean(axis=1)) + highest[:, 0]).sum())
    return -total / len(codes)
