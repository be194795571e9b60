"""Parameters of the Splat simulation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

PerLevel = float | tuple[float, ...]
"""One number for all batches (or paths), or one for each."""

_INFINITY = float("inf")
# lower and upper limit of each number, both allowed
_RANGE = {
    "lib_scale": (0, _INFINITY),
    "out_prob": (0, 1),
    "out_fac_scale": (0, _INFINITY),
    "batch_fac_scale": (0, _INFINITY),
    "group_prob": (0, _INFINITY),
    "de_prob": (0, 1),
    "de_down_prob": (0, 1),
    "de_fac_scale": (0, _INFINITY),
    "bcv_common": (0, _INFINITY),
    "path_skew": (0, 1),
    "path_nonlinear_prob": (0, 1),
    "path_sigma_fac": (0, _INFINITY),
}
_POSITIVE = ("mean_shape", "mean_rate", "bcv_df")
_PER_LEVEL = (
    *("batch_fac_loc", "batch_fac_scale", "group_prob", "de_prob", "de_down_prob", "de_fac_loc", "de_fac_scale"),
    *("path_from", "path_skew", "path_nonlinear_prob", "path_sigma_fac", "dropout_mid", "dropout_shape"),
)
_DROPOUT_TYPES = ("none", "experiment", "batch", "group")


@dataclass(frozen=True)
class SplatParameters:
    """Parameters of :func:`~scmimic.datasets.splat`, as :func:`~scmimic.datasets.splat_estimate` returns them.

    The names are those of the R package Splatter (`out.facLoc` is `out_fac_loc`). Differential expression and
    `bcv_common` have the values of MichiGAN's simulations (section 3.1); everything else has Splatter's defaults. Where
    a field takes one number per batch, path or group, a single number holds for all of them.

    See Also
    --------
    scmimic.datasets.splat : Simulates with them.
    scmimic.datasets.splat_estimate : Takes them from real cells.
    """

    mean_shape: float = 0.6
    """Shape of the gamma distribution of the gene means."""
    mean_rate: float = 0.3
    """Its rate. Means are scaled to the library size afterwards, so the rate alone changes nothing."""
    lib_loc: float = 11.0
    """Mean of the logarithm of the library size; of the library size itself with `lib_norm`."""
    lib_scale: float = 0.2
    """Standard deviation of the same."""
    lib_norm: bool = False
    """Normal library sizes in place of log-normal ones. Negative draws become half the smallest positive one."""
    out_prob: float = 0.05
    """Probability that a gene is an expression outlier: its mean is the median gene's times an outlier factor."""
    out_fac_loc: float = 4.0
    """Mean of the logarithm of the outlier factor."""
    out_fac_scale: float = 0.5
    """Standard deviation of the same."""
    batch_fac_loc: PerLevel = 0.1
    """Mean of the logarithm of the batch factor of a gene, before one half of the genes is inverted. Per batch."""
    batch_fac_scale: PerLevel = 0.1
    """Standard deviation of the same. Per batch."""
    group_prob: PerLevel = 1.0
    """Relative frequency of each path or group. One number: all equal."""
    de_prob: PerLevel = 0.5
    """Probability that a gene changes along a path, or in a group. Splatter: 0.1. Per path or group."""
    de_down_prob: PerLevel = 0.5
    """Probability that a changing gene goes down. Per path or group."""
    de_fac_loc: PerLevel = 0.01
    """Mean of the logarithm of the factor by which it changes. Splatter: 0.1. Per path or group."""
    de_fac_scale: PerLevel = 0.5
    """Standard deviation of the same. Splatter: 0.4. Per path or group."""
    bcv_common: float = 0.1
    """Biological coefficient of variation that highly expressed genes tend to."""
    bcv_df: float = 60.0
    """Degrees of freedom of the chi-square that sets the genes' BCV apart; infinity: all genes follow the trend."""
    path_from: int | tuple[int, ...] = -1
    """Where each path begins: -1 is the common origin, k the end of path k (the first is 0)."""
    path_skew: PerLevel = 0.5
    """Where on a path the cells are: 0.5 everywhere alike, 1 mostly at its start, 0 mostly at its end. Per path."""
    path_nonlinear_prob: PerLevel = 1.0
    """Share of the genes that leave the straight line where `step="nonlinear"`. Splatter: 0.1. Per path."""
    path_sigma_fac: PerLevel = 0.8
    """How far they leave it; see :func:`~scmimic.datasets.splat`. Per path."""
    dropout_type: Literal["none", "experiment", "batch", "group"] = "none"
    """Zeros on top of the counts' own: none, or by one curve for all cells, one per batch, one per path (group)."""
    dropout_mid: PerLevel = 0.0
    """Natural logarithm of the mean at which half of the counts are dropped. Per batch or path, as the type says."""
    dropout_shape: PerLevel = -1.0
    """Slope of the logistic curve of dropout; negative: low counts are dropped more. Likewise."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name not in ("lib_norm", "dropout_type"):
                self._set_number(field.name, value)
        if not isinstance(self.lib_norm, bool | np.bool_):
            raise ValueError(f"`lib_norm` must be True or False, got {self.lib_norm!r}.")
        object.__setattr__(self, "lib_norm", bool(self.lib_norm))
        if self.dropout_type not in _DROPOUT_TYPES:
            raise ValueError(f"`dropout_type` must be one of {_DROPOUT_TYPES}, got {self.dropout_type!r}.")

    def _set_number(self, name: str, value: Any) -> None:
        """Check a number, or one per level, and store it as Python's own, so that it compares and prints plainly."""
        try:
            numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
        except (TypeError, ValueError):
            raise ValueError(f"`{name}` must be a number, got {value!r}.") from None
        single = np.ndim(value) == 0
        if numbers.ndim > 1 or numbers.size == 0 or (not single and name not in _PER_LEVEL):
            allowed = "a number or a tuple of numbers" if name in _PER_LEVEL else "a single number"
            raise ValueError(f"`{name}` must be {allowed}, got {value!r}.")
        low, high = _RANGE.get(name, (-_INFINITY, _INFINITY))
        good = (numbers >= low) & (numbers <= high) & (np.isfinite(numbers) | (name == "bcv_df"))
        if name in _POSITIVE:
            good &= numbers > 0
        if name == "path_from":
            good &= (numbers >= -1) & (numbers == np.rint(numbers))
        if not good.all():
            limits = "above 0" if name in _POSITIVE else f"between {low:g} and {high:g}"
            raise ValueError(f"`{name}` must be {'-1 or a path' if name == 'path_from' else limits}, got {value!r}.")
        plain = tuple((numbers.astype(int) if name == "path_from" else numbers).tolist())
        object.__setattr__(self, name, plain[0] if single else plain)


def per_level(parameters: SplatParameters, name: str, n: int, level: str) -> np.ndarray:
    """Value of a parameter for each of `n` batches or paths; `level` is what error messages call them."""
    values = np.atleast_1d(np.asarray(getattr(parameters, name)))
    if len(values) not in (1, n):
        raise ValueError(f"`{name}` has {len(values)} values, but there are {n} {level}. Give one for each, or one.")
    return np.broadcast_to(values, n)
