"""A prediction of a combination's cells beside what costs nothing: mean expression of all genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.metrics import r2_score

from scmimic.tl._combinations import Route, Shift, Target, mean_shift

CONTROL, MEAN_SHIFT = "control", "mean_shift"


def trivial_means(
    means: Mapping[Target, np.ndarray], routes: Sequence[Route], shift: Shift = "condition"
) -> dict[str, np.ndarray]:
    """Mean expression of the group's own control cells, and of the mean shift of the genes along the routes.

    No gene is moved below 0 where none was there.

    Parameters
    ----------
    means
        Mean expression of the combinations.
    routes
        Ways to the combination that is predicted; their weights count here as in the latent space.
    shift
        Which way round they go: with shifts of groups control cells are not where they start.
    """
    least = -np.inf if min(means[route.start].min() for route in routes) < 0 else 0.0
    starts = [means[route.start] for route in routes]
    moved = [np.maximum(start + mean_shift(means, route), least) for start, route in zip(starts, routes, strict=True)]
    shares = [route.share for route in routes]
    own = starts
    if shift == "group":
        own = [np.mean([means[to] for to, _ in route.steps], axis=0) for route in routes]
    found = {CONTROL: own, MEAN_SHIFT: moved}
    return {name: np.average(values, axis=0, weights=shares) for name, values in found.items()}


def errors_of_means(real: np.ndarray, predictions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Root mean squared error over the genes (`error_NAME`) and R2 (`r2_NAME`) of each predicted mean expression."""
    errors = {f"error_{name}": float(np.sqrt(np.mean((x - real) ** 2))) for name, x in predictions.items()}
    return errors | {f"r2_{name}": float(r2_score(real, x)) for name, x in predictions.items()}


def explained_change(error: np.ndarray, error_control: np.ndarray, weights: np.ndarray) -> float:
    """Share of the squared change from the control cells that predictions foretell, over combinations with weights.

    1 is ideal; 0 is as far from the real cells as the control cells are, and below 0 farther.
    """
    change = np.dot(weights, np.square(error_control))
    return float(1 - np.dot(weights, np.square(error)) / change) if change > 0 else float("nan")
