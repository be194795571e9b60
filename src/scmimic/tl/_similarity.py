"""How much each reference group counts in latent arithmetic: by its likeness to the target's group (not in the paper).

Groups respond to a condition alike where they are alike: under interferon monocytes change three times as much as
lymphocytes, and their mean is right for neither. So a group weighs d^-p, where d is the distance of its mean expression
under a control condition from that of the target's group. The power p is the one with which the groups that were seen
under both conditions foretell one another best; p = 0, as in the paper, is among those asked. Distances are those of
gene expression: codes are pressed into the shape of their prior, and do not keep which types are near.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from scmimic._arguments import Choice
from scmimic.model.generation.similarity import POWERS, errors_by_power, least_power, similarity_weights
from scmimic.tl._combinations import Route, Shift, Target

ReferenceWeights = Literal["similar", "equal"]
REFERENCE_WEIGHTS = Choice(get_args(ReferenceWeights))

Means = Mapping[Target, np.ndarray]


def choose_power(routes: list[Route], shift: Shift, means: Means) -> int:
    """The power with which reference groups foretell each other's responses best; the least of several.

    Each group's response, under each control, is predicted from those of the others. Errors are shares of the squared
    response, so that no group counts for more because it changes more. With two groups or fewer there is no choice.

    Parameters
    ----------
    routes
        Ways to the target.
    shift
        Which way round they go.
    means
        Mean expression of the combinations.
    """
    seen: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for route in routes:
        for name, (to, origin) in zip(route.averaged, route.steps, strict=True):
            control, reached = (route.moved, to) if shift == "condition" else (name, route.start)
            seen.setdefault(control, []).append((means[origin], means[reached] - means[origin]))
    errors = np.zeros(len(POWERS))
    for groups in seen.values():
        places, responses = (np.array(column, dtype=float) for column in zip(*groups, strict=True))
        errors += errors_by_power(places, responses)
    return least_power(errors)


@dataclass(frozen=True)
class Weighting:
    """Weights of reference groups in routes of one kind.

    Attributes
    ----------
    shift
        Which way round the routes go.
    means
        Mean expression of the combinations.
    power
        Of the inverse distances; 0: all groups count alike.
    """

    shift: Shift
    means: Means
    power: int

    @classmethod
    def of(cls, weights: ReferenceWeights, routes: list[Route], shift: Shift, means: Means) -> Weighting:
        """The weighting that was asked for, of routes to a target."""
        return cls(shift, means, choose_power(routes, shift, means) if weights == "similar" else 0)

    def __call__(self, routes: list[Route]) -> list[Route]:
        """The routes with weights.

        With shifts of conditions these are weights of the differences; with shifts of groups shares of the moved cells,
        by the root mean squared distance over the controls.
        """
        if self.power == 0:
            return routes
        if self.shift == "condition":
            away = [np.array([self._distance(route.start, origin) for _, origin in route.steps]) for route in routes]
            return [
                replace(route, weights=tuple(similarity_weights(distances, self.power).tolist()))
                for route, distances in zip(routes, away, strict=True)
            ]
        mean = [np.sqrt(np.mean([self._distance(*step) ** 2 for step in route.steps])) for route in routes]
        shares = similarity_weights(np.array(mean), self.power).tolist()
        return [replace(route, share=share) for route, share in zip(routes, shares, strict=True)]

    def _distance(self, one: Target, other: Target) -> float:
        return float(np.linalg.norm(self.means[one] - self.means[other]))


def group_weights(routes: list[Route], shift: Shift) -> dict[str, float]:
    """Weight of each reference group over all routes; they sum to 1."""
    found: dict[str, float] = {}
    for route in routes:
        if shift == "group":
            found[route.moved] = found.get(route.moved, 0.0) + route.share
            continue
        weights = route.weights or (1 / len(route.averaged),) * len(route.averaged)
        for name, weight in zip(route.averaged, weights, strict=True):
            found[name] = found.get(name, 0.0) + weight * route.share
    total = sum(found.values())
    return {name: found[name] / total for name in sorted(found)}
