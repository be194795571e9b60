"""Parameters of the Splat simulation, estimated from counts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
from anndata import AnnData
from scipy import stats
from scipy.optimize import curve_fit, minimize
from scipy.special import expit

from scmimic._arguments import LAYER
from scmimic.cells import ANNDATA, check_no_empty_cells, read_counts, where_is
from scmimic.datasets._splat_dispersion import estimate_dispersion
from scmimic.datasets._splat_parameters import SplatParameters

_WINSORISE = 0.1
_OUTLIER_MADS = 2
_NORMAL_P = 0.2
_SHAPIRO_CELLS = 5000
_BCV_OFFSET, _BCV_SLOPE = 0.1, 0.25


def splat_estimate(adata: AnnData, *, layer: str | None = None) -> SplatParameters:
    r"""Estimate the parameters of :func:`~scmimic.datasets.splat` from raw counts, as Splatter's `splatEstimate` does.

    The cells are taken as one population: give cells of one type and batch. Counts are scaled to the median library
    size; genes seen in a single cell or in none are left out.

    - **Means:** the gamma distribution of least Cramér-von Mises distance to the gene means, whose lowest and highest
      tenth are set to the 10th and 90th percentile first.
    - **Library sizes:** log-normal by maximum likelihood; normal where a Shapiro-Wilk test on up to 5,000 cells gives
      p > 0.2.
    - **Outliers:** genes whose log mean lies more than two MAD above the median; their share is `out_prob`, and a
      log-normal distribution is fitted to their mean over the median mean.
    - **BCV:** edgeR's common dispersion :math:`\delta` (maximum of the Cox-Reid adjusted profile likelihood summed over
      genes), and from it :math:`0.1 + 0.25\,\delta`, the correction that Splatter's authors found on simulated data.
      The degrees of freedom are edgeR's prior degrees of freedom, at the trend of the dispersion with expression.
    - **Dropout:** midpoint and shape of the logistic curve through the fraction of zeros over the log mean. The type
      stays `"none"`: the curve does not tell dropout from the counts' own zeros.

    Batches, groups, paths and differential expression are not estimated; they keep the defaults of
    :class:`SplatParameters`. Change them with :func:`dataclasses.replace`.

    Parameters
    ----------
    adata
        Cells with raw counts.
    layer
        Layer with the counts. Default: `.X`.

    Returns
    -------
    The parameters.

    Raises
    ------
    KeyError
        If `layer` is not there.
    ValueError
        If there are other values than counts, cells without counts, or fewer than 10 cells or genes.

    Warns
    -----
    UserWarning
        If the curve of the zeros could not be fitted.

    See Also
    --------
    scmimic.datasets.splat : Simulates with them.
    scmimic.datasets.SplatParameters : The parameters.

    Notes
    -----
    What the estimates can do: `lib_*` come back from data simulated with them, `mean_shape` up to a tenth too high (the
    tied tails bend the fit). `out_prob` misses the outliers that lie among the high genes of the gamma distribution.
    `bcv_common` is never below 0.1: 0.13, 0.19 and 0.32 for 1,500 cells x 2,000 genes simulated with 0.1, 0.3 and 0.6.
    The dispersion is estimated on at most 1,000 cells and 2,000 genes drawn at random, always the same ones.

    Zappia, Phipson & Oshlack (2017), *Genome Biology* 18:174; McCarthy, Chen & Smyth (2012), *Nucleic Acids Research*
    40:4288 (dispersion); Smyth (2004), *Stat. Appl. Genet. Mol. Biol.* 3:3 (prior degrees of freedom).

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.splat(200, 300, n_batches=1, n_groups=1)
    >>> parameters = sm.datasets.splat_estimate(adata)
    >>> round(parameters.lib_loc, 1), round(parameters.lib_scale, 1)
    (11.0, 0.2)
    >>> sm.datasets.splat(100, 300, parameters=parameters).shape
    (100, 300)
    """
    ANNDATA.check(adata=adata)
    LAYER.check(layer=layer)
    counts = _counts(adata, layer)
    library = np.asarray(counts.sum(axis=1)).ravel()
    scaled = sp.csr_matrix(sp.diags(np.median(library) / library) @ counts)
    detected = scaled.getnnz(axis=0)
    kept = detected > 1
    if kept.sum() < 10:
        raise ValueError(f"Only {int(kept.sum())} genes are seen in two cells or more. At least 10 are needed.")
    means = np.asarray(scaled.mean(axis=0)).ravel()[kept]
    zeros = 1 - detected[kept] / counts.shape[0]
    shape, rate = _fit_gamma(means)
    dispersion, df = estimate_dispersion(counts)
    return SplatParameters(
        mean_shape=shape,
        mean_rate=rate,
        bcv_common=_BCV_OFFSET + _BCV_SLOPE * dispersion,
        bcv_df=df,
        **_library(library),
        **_outliers(means),
        **_dropout(means, zeros),
    )


def _counts(adata: AnnData, layer: str | None) -> sp.csr_matrix:
    counts = read_counts(adata, layer, dtype=np.float64)
    if counts.shape[0] < 10:
        raise ValueError(f"`{where_is(layer)}` has {counts.shape[0]} cells. At least 10 are needed.")
    check_no_empty_cells(counts, where_is(layer))
    return counts


def _fit_gamma(means: np.ndarray) -> tuple[float, float]:
    """Shape and rate of least Cramér-von Mises distance to the winsorised means."""
    values = np.sort(np.clip(means, *np.quantile(means, [_WINSORISE, 1 - _WINSORISE])))
    middle = (np.arange(len(values)) + 0.5) / len(values)
    variance = values.var()
    if variance == 0:
        raise ValueError("All genes have the same mean: there is no gamma distribution to fit.")
    start = np.log([values.mean() ** 2 / variance, values.mean() / variance])

    def distance(log: np.ndarray) -> float:
        shape, rate = np.exp(log)
        return float(((stats.gamma.cdf(values, shape, scale=1 / rate) - middle) ** 2).mean())

    found = minimize(distance, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12, "maxiter": 2000})
    # by moments where the search does not end, as in the original
    shape, rate = np.exp(found.x if found.success else start)
    return float(shape), float(rate)


def _library(library: np.ndarray) -> dict[str, Any]:
    sample = library
    if len(library) > _SHAPIRO_CELLS:
        sample = np.random.default_rng(0).choice(library, _SHAPIRO_CELLS, replace=False)
    normal = bool(np.ptp(sample) > 0 and stats.shapiro(sample).pvalue > _NORMAL_P)
    values = library if normal else np.log(library)
    return {"lib_loc": float(values.mean()), "lib_scale": float(values.std()), "lib_norm": normal}


def _outliers(means: np.ndarray) -> dict[str, Any]:
    log = np.log(means)
    bound = np.median(log) + _OUTLIER_MADS * stats.median_abs_deviation(log, scale="normal")
    outliers = log > bound
    result = {"out_prob": float(outliers.mean())}
    if outliers.sum() > 1:
        factor = log[outliers] - np.log(np.median(means))
        result |= {"out_fac_loc": float(factor.mean()), "out_fac_scale": float(factor.std())}
    return result


def _dropout(means: np.ndarray, zeros: np.ndarray) -> dict[str, Any]:
    log = np.log(means)
    middle = np.median(log[(zeros > 0.2) & (zeros < 0.8)]) if ((zeros > 0.2) & (zeros < 0.8)).any() else 0.0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (middle, shape), _ = curve_fit(lambda x, x0, k: expit(k * (x - x0)), log, zeros, p0=(middle, -1.0))
    except RuntimeError:
        warnings.warn(
            "The fraction of zeros does not follow a logistic curve of the mean: dropout_mid and dropout_shape keep "
            "their defaults.",
            UserWarning,
            stacklevel=3,
        )
        return {}
    return {"dropout_mid": float(middle), "dropout_shape": float(shape)}
