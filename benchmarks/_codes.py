"""Where codes and library sizes of new cells may come from, instead of each training cell's own posterior.

Each is a function of an aggregated posterior that gives another one of the same form: codes of a new set of cells,
which `generate` then draws from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.mixture import GaussianMixture

from scmimic.model.generation._sampler import AggregatedPosterior

FEW = 20
"""Training cells per type whose posteriors stand for a VampPrior's pseudo-inputs."""


def _each_label(
    posterior: AggregatedPosterior, change: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator
) -> AggregatedPosterior:
    """Replace samples of the codes of each label by what `change` gives for them."""
    codes = posterior.mean + posterior.std * rng.standard_normal(posterior.mean.shape)
    for label in np.unique(posterior.labels):
        rows = posterior.labels == label
        codes[rows] = change(codes[rows])
    return replace(posterior, mean=codes.astype(np.float32), std=np.zeros_like(posterior.std))


def gaussian(posterior: AggregatedPosterior, rng: np.random.Generator) -> AggregatedPosterior:
    """One Gaussian per type."""
    return _each_label(posterior, lambda z: _mixture(z, [1], rng), rng)


def mixture(posterior: AggregatedPosterior, rng: np.random.Generator) -> AggregatedPosterior:
    """A mixture of 1 to 8 Gaussians per type, their number by BIC."""
    return _each_label(posterior, lambda z: _mixture(z, [1, 2, 3, 5, 8], rng), rng)


def _mixture(z: np.ndarray, sizes: list[int], rng: np.random.Generator) -> np.ndarray:
    seed = int(rng.integers(2**31))
    fits = [GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(z) for k in sizes if k == 1 or len(z) > 4 * k]
    return min(fits, key=lambda found: found.bic(z)).sample(len(z))[0]


def kernel(posterior: AggregatedPosterior, rng: np.random.Generator) -> AggregatedPosterior:
    """Posterior samples smoothed by a Gaussian kernel per type, of Silverman's width."""

    def smooth(z: np.ndarray) -> np.ndarray:
        n, d = z.shape
        width = (4 / (n * (d + 2))) ** (1 / (d + 4))
        return z + width * z.std(axis=0) * rng.standard_normal(z.shape)

    return _each_label(posterior, smooth, rng)


def few_posteriors(posterior: AggregatedPosterior, rng: np.random.Generator) -> AggregatedPosterior:
    """The posteriors of a few cells of each type, as a VampPrior has them at its pseudo-inputs."""
    source = np.arange(len(posterior))
    for label in np.unique(posterior.labels):
        rows = np.flatnonzero(posterior.labels == label)
        source[rows] = rng.choice(rng.permutation(rows)[:FEW], len(rows))
    return replace(posterior, mean=posterior.mean[source], std=posterior.std[source])


def library_apart(posterior: AggregatedPosterior, rng: np.random.Generator) -> AggregatedPosterior:
    """Library sizes of other cells of the type."""
    library = posterior.log_library.copy()
    for label in np.unique(posterior.labels):
        rows = posterior.labels == label
        library[rows] = rng.permutation(library[rows])
    return replace(posterior, log_library=library)


def library_regressed(posterior: AggregatedPosterior, rng: np.random.Generator) -> AggregatedPosterior:
    """Log library sizes by linear regression on the code, with a Gaussian residual per type."""
    design = np.column_stack([posterior.mean, np.ones(len(posterior))])
    fitted = design @ np.linalg.lstsq(design, posterior.log_library, rcond=None)[0]
    residual = posterior.log_library - fitted
    library = np.empty_like(posterior.log_library)
    for label in np.unique(posterior.labels):
        rows = posterior.labels == label
        mean, std = residual[rows].mean(), residual[rows].std()
        library[rows] = fitted[rows] + mean + std * rng.standard_normal(rows.sum())
    return replace(posterior, log_library=library)


SAMPLERS = {f.__name__: f for f in (gaussian, mixture, kernel, few_posteriors, library_apart, library_regressed)}
