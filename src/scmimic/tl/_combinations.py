"""Combinations of a group and a condition, and the latent shift to one that was never seen (MichiGAN, section 2.2).

One parallelogram, two ways round. The paper's equation moves another group's cells under the target condition, by the
mean difference of the two groups over the conditions seen in both (`shift="group"`). The default moves the target
group's cells under a control condition, by the mean difference of the two conditions over other groups, as the
authors' program and scGen.

In the authors' program all that is averaged counts alike, whatever its number of cells: they repeat cells up to equal
numbers, here means of means are taken, which has the same expectation and no noise. Cells of several origins are
repeated up to equal numbers too. Reference groups may have weights instead: :mod:`scmimic.tl._similarity`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from scmimic._arguments import Choice
from scmimic._arrays import Matrix
from scmimic._random import draw_members
from scmimic.cells import ObsColumn, Values, as_list, label_column
from scmimic.metrics import latent_entropy
from scmimic.tl._latent_model import Code, Posterior

if TYPE_CHECKING:
    from anndata import AnnData

Target = tuple[str, str]
Shift = Literal["condition", "group"]
SHIFT = Choice(get_args(Shift))


@dataclass(frozen=True)
class Route:
    """Cells to move, and the differences whose mean moves them.

    Attributes
    ----------
    moved
        The control condition, or with shifts of groups the reference group, whose cells are moved.
    start
        The combination of these cells.
    averaged
        The reference groups, or the control conditions, over which differences are averaged.
    steps
        For each of them the combination that a difference leads to, and that which it comes from.
    weights
        Weight of each difference in the mean; None: all alike.
    share
        Share of the moved cells that start here, in any unit common to the routes to one target.
    """

    moved: str
    start: Target
    averaged: tuple[str, ...]
    steps: tuple[tuple[Target, Target], ...]
    weights: tuple[float, ...] | None = None
    share: float = 1.0


class Combinations:
    """Rows of the cells of each combination of a group and a condition."""

    def __init__(self, adata: AnnData, group_key: str, condition_key: str) -> None:
        if group_key == condition_key:
            raise ValueError(f"`group_key` and `condition_key` are the same column, {group_key!r}.")
        columns = {"group_key": group_key, "condition_key": condition_key}
        pairs = [label_column(adata, key, argument=argument) for argument, key in columns.items()]
        self.group_column, self.condition_column = (column for column, _ in pairs)
        groups, conditions = (np.array(column.names, dtype=str)[codes] for column, codes in pairs)
        self.group_key, self.condition_key = group_key, condition_key
        self.groups, self.conditions = (np.unique(x).tolist() for x in (groups, conditions))
        pair = np.searchsorted(self.groups, groups) * len(self.conditions) + np.searchsorted(
            self.conditions, conditions
        )
        order = np.argsort(pair, kind="stable")
        found, starts = np.unique(pair[order], return_index=True)
        self.rows: dict[Target, np.ndarray] = {
            (self.groups[pair // len(self.conditions)], self.conditions[pair % len(self.conditions)]): rows
            for pair, rows in zip(found, np.split(order, starts[1:]), strict=True)
        }

    def check_target(self, target: Target) -> Target:
        """The target as text, after checking that its group and its condition are known."""
        if isinstance(target, str) or not np.iterable(target) or len(tuple(target)) != 2:
            raise ValueError(f"`target` must be a pair (group, condition), got {target!r}.")
        columns = (self.group_column, self.condition_column)
        names = []
        for value, column, known in zip(target, columns, (self.groups, self.conditions), strict=True):
            code = column.code(value)
            if code is None or column.names[code] not in known:
                raise ValueError(
                    f"`target`: no cell has {value!r} in `adata.obs[{column.key!r}]`, which holds {known} "
                    f"({column.kind})."
                )
            names.append(column.names[code])
        return names[0], names[1]

    def without(self, held: Collection[Target]) -> Combinations:
        """The same, as if the cells of some combinations had not been seen."""
        seen = copy(self)
        seen.rows = {pair: rows for pair, rows in self.rows.items() if pair not in held}
        return seen

    def columns_of(self, target: Target) -> list[tuple[ObsColumn, int]]:
        """The columns of group and condition, with their codes in `target`."""
        columns = (self.group_column, self.condition_column)
        return [(column, column.names.index(name)) for column, name in zip(columns, target, strict=True)]

    def routes(
        self,
        target: Target,
        control: Values | None = None,
        reference_group: Values | None = None,
        shift: Shift = "condition",
    ) -> list[Route]:
        """Ways to the target over the named controls and reference groups, or over all there are.

        Never over cells of the target itself.
        """
        group, condition = self.check_target(target)
        others = [c for c in self.conditions if c != condition]
        controls = _names(control, others, self.condition_column, "control")
        others = [g for g in self.groups if g != group]
        groups = _names(reference_group, others, self.group_column, "reference_group")
        if shift == "condition":
            (moved, chosen), (averaged, limited) = (controls, control), (groups, reference_group)
            argument, both = "reference_group", f"under both {{}} and {condition!r}"
        else:
            (moved, chosen), (averaged, limited) = (groups, reference_group), (controls, control)
            argument, both = "control", f"in both {{}} and {group!r}"
        found = []
        for name in moved:
            ways = [_corners(group, condition, name, other, shift) for other in averaged]
            seen = [i for i, way in enumerate(ways) if all(corner in self.rows for corner in way)]
            if seen:
                names = tuple(averaged[i] for i in seen)
                if limited is not None and chosen is not None and len(names) < len(averaged):
                    missing = sorted(set(averaged) - set(names))
                    raise ValueError(
                        f"`{argument}`: {missing} were not seen {both.format(repr(name))}; {list(names)} were."
                    )
                found.append(Route(name, ways[0][0], names, tuple(ways[i][1:] for i in seen)))
        if not found or (chosen is not None and len(found) < len(moved)):
            raise ValueError(self._no_route(group, condition, controls, groups))
        return found

    def _no_route(self, group: str, condition: str, controls: list[str], named: list[str]) -> str:
        seen = [c for c in controls if (group, c) in self.rows]
        others = [g for g in named if (g, condition) in self.rows]
        return (
            f"No jointly observed combination leads to ({group!r}, {condition!r}): it takes cells of {group!r} under a "
            f"control condition, and another group seen under both that condition and {condition!r}. Among the "
            f"controls {controls}, {group!r} was seen under {seen}; among the groups {named}, {others} were seen under "
            f"{condition!r}."
        )

    def means(self, values: Matrix) -> dict[Target, np.ndarray]:
        """Mean `values` of the cells of each combination, in double precision."""
        return {
            pair: np.asarray(values[rows].mean(axis=0, dtype=np.float64)).ravel() for pair, rows in self.rows.items()
        }

    def shift(self, values: np.ndarray, route: Route) -> np.ndarray:
        """Mean of the differences of mean `values` along the steps of a route, by the route's weights."""
        corners = {corner for step in route.steps for corner in step}
        return mean_shift({corner: values[self.rows[corner]].mean(axis=0) for corner in corners}, route)

    def cells(self, routes: list[Route], n: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the cells to move, as many of each route, and the position of each one's route.

        `n` cells are shared by the routes' shares, the remainder goes to those that miss most, and of these to the
        first. `None` takes every cell once of the route with the largest share (of several, that with most cells), and
        of the others what their shares ask for. Within a route every cell comes equally often, up to one.
        """
        pools = [self.rows[route.start] for route in routes]
        shares = np.array([route.share for route in routes]) / sum(route.share for route in routes)
        if n is None:
            largest = shares > shares.max() * (1 - 1e-9)
            first = max(len(pool) for pool, chosen in zip(pools, largest, strict=True) if chosen)
            sizes = np.rint(first * shares / shares.max()).astype(int)
        else:
            # what rounding takes away from a whole number stays whole
            sizes = np.floor(n * shares + 1e-9).astype(int)
            sizes[np.argsort(sizes - n * shares, kind="stable")[: n - sizes.sum()]] += 1
        rows = [
            pool if n is None and len(pool) == size else draw_members(pool, max(size, 1), rng)[:size]
            for pool, size in zip(pools, sizes, strict=True)
        ]
        return np.concatenate(rows), np.repeat(np.arange(len(routes)), sizes)


def mean_shift(means: Mapping[Target, np.ndarray], route: Route) -> np.ndarray:
    """Mean of the differences along the steps of a route, given the means of their combinations."""
    return np.average([means[to] - means[origin] for to, origin in route.steps], axis=0, weights=route.weights)


@dataclass(frozen=True)
class Prediction:
    """Codes of a combination by latent arithmetic."""

    codes: np.ndarray
    """Predicted codes, one for each of `rows`."""
    rows: np.ndarray
    """Row of the cell that each code comes from."""
    shifts: np.ndarray
    """Shift by route, routes x dimensions."""
    shift: np.ndarray
    """Mean shift of the codes."""


def predict_codes(
    posterior: Posterior,
    combinations: Combinations,
    routes: list[Route],
    *,
    code: Code,
    n: int | None,
    rng: np.random.Generator,
) -> Prediction:
    """Codes of the cells at the start of each route, moved by its shift; `n` as in :meth:`Combinations.cells`."""
    shifts = np.array([combinations.shift(posterior.mean, route) for route in routes])
    rows, origin = combinations.cells(routes, n, rng)
    return Prediction(posterior[rows].codes(code, rng) + shifts[origin], rows, shifts, shifts[origin].mean(axis=0))


def entropies(
    observed: Posterior, predicted: np.ndarray, *, code: Code, rng: np.random.Generator, max_cells: int | None = None
) -> tuple[float, float]:
    """Latent entropy of the observed cells' own codes and of the predicted ones, both against the observed cells.

    Of each own code the cell itself is left out. NaN where a variance is 0, of which there is no density, and where
    there is one cell alone.
    """
    if observed.variance is None or not observed.variance.all():
        return float("nan"), float("nan")
    if max_cells is not None:
        observed = observed[np.sort(rng.permutation(len(observed))[:max_cells])]
        predicted = predicted[np.sort(rng.permutation(len(predicted))[:max_cells])]
    if len(observed) < 2:
        return float("nan"), float("nan")
    codes, mean, variance = observed.codes(code, rng), observed.mean, observed.variance
    return latent_entropy(codes, mean, variance, leave_one_out=True), latent_entropy(predicted, mean, variance)


def left_out(routes: list[Route], name: str) -> tuple[Target | None, list[Route]]:
    """What a step over `name` leads to, and the ways there from where it comes from by the other steps."""
    target, ways = None, []
    for route in routes:
        if name in route.averaged and len(route.averaged) > 1:
            i = route.averaged.index(name)
            target, start = route.steps[i]
            averaged, steps = route.averaged[:i] + route.averaged[i + 1 :], route.steps[:i] + route.steps[i + 1 :]
            ways.append(Route(route.moved, start, averaged, steps))
    return target, ways


def to_references(routes: list[Route], shift: Shift) -> dict[Target, list[Route]]:
    """The combinations of each reference group under the target condition, and the ways there by the other groups.

    They are to the target's neighbours what `routes` are to the target.
    """
    if shift == "condition":
        reached = [left_out(routes, name) for name in sorted({name for route in routes for name in route.averaged})]
        return {target: ways for target, ways in reached if target is not None}
    found = {}
    for route in routes:
        # the group's own cells under each control
        own = {name: origin for name, (_, origin) in zip(route.averaged, route.steps, strict=True)}
        ways = []
        for other in routes:
            steps = {
                name: (own[name], step[1])
                for name, step in zip(other.averaged, other.steps, strict=True)
                if name in own
            }
            if other is not route and steps:
                ways.append(Route(other.moved, other.start, tuple(steps), tuple(steps.values())))
        if ways:
            found[route.start] = ways
    return found


def _corners(group: str, condition: str, moved: str, averaged: str, shift: Shift) -> tuple[Target, Target, Target]:
    """The combination to move, and those that the difference leads to and comes from."""
    if shift == "condition":
        return (group, moved), (averaged, condition), (averaged, moved)
    return (moved, condition), (group, averaged), (moved, averaged)


def _names(given: Values | None, known: list[str], column: ObsColumn, argument: str) -> list[str]:
    if given is None:
        return known
    codes = ((value, column.code(value)) for value in as_list(given))
    names = list(dict.fromkeys(str(value) if code is None else column.names[code] for value, code in codes))
    if not names:
        raise ValueError(f"`{argument}` is empty: name at least one, or leave it out for all.")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`{argument}`: {unknown} is not among the values of `adata.obs[{column.key!r}]` other than the target's: "
            f"{known}."
        )
    return names
