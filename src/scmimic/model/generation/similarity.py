"""How groups of cells foretell one another's response: those that are near count most. Not public."""

from __future__ import annotations

import numpy as np

POWERS = (0, 1, 2, 3, 4, 6, 8, 12, 16)
"""Powers of the inverse distance by which groups may count; 0: all alike."""

GOOD_TRUST = 0.5
"""Below it, less than half of a response is foretold, and predictions want a word of caution."""

# an improvement by less than this share is one of rounding
_TIED = 1e-6
# of the largest distance: groups that are the same share what there is
_LEAST_DISTANCE = 1e-9


def similarity_weights(distances: np.ndarray, power: float) -> np.ndarray:
    """Weights that fall with the distance; they sum to 1."""
    distances = np.maximum(distances, _LEAST_DISTANCE * max(distances.max(), np.finfo(float).tiny / _LEAST_DISTANCE))
    weights = (distances.min() / distances) ** power
    return weights / weights.sum()


def foretold_by_others(places: np.ndarray, responses: np.ndarray, power: float) -> np.ndarray:
    """Each group's response as those of the other groups foretell it, by the distances of their places."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    weights = np.zeros_like(distances)
    for row, of in enumerate(~np.eye(len(places), dtype=bool)):
        weights[row, of] = similarity_weights(distances[row, of], power)
    return weights @ responses


def errors_by_power(places: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Squared error of :func:`foretold_by_others` with each of `POWERS`, summed as shares of the squared responses.

    As shares, so that no group counts for more because it changes more.
    """
    size = (responses**2).sum(axis=1)
    changed = size > 0
    errors = np.zeros(len(POWERS))
    if len(places) > 2 and changed.any():
        for i, power in enumerate(POWERS):
            error = ((foretold_by_others(places, responses, power) - responses) ** 2).sum(axis=1)
            errors[i] = (error[changed] / size[changed]).sum()
    return errors


def least_power(errors: np.ndarray) -> int:
    """The power of the least error; the lowest of several."""
    return POWERS[int(np.flatnonzero(errors <= errors.min() * (1 + _TIED) + _TIED**2)[0])]
