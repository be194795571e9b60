"""Combinations of a group and a condition, and the latent shift to one that was never seen (MichiGAN, section 2.2).

One parallelogram, two ways round. Here the shift is that of the condition, from cells of the same group: the target
group's cells under a control condition, moved by the mean difference of target and control condition in other groups.
The paper's equation starts from another group's cells under the target condition: it is the same with the roles of
the two columns exchanged.

As in the authors' program every reference group counts alike, whatever its number of cells: they repeat cells up to
equal numbers, here means of groups are averaged, which has the same expectation and no noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scmimic.metrics import latent_entropy
from scmimic.tl._checks import label_array
from scmimic.tl._latent_model import Code, Posterior

if TYPE_CHECKING:
    from anndata import AnnData

Target = tuple[str, str]


@dataclass(frozen=True)
class Route:
    """A control condition of the target's group, and the groups seen under it and under the target's condition."""

    control: str
    references: tuple[str, ...]


class Combinations:
    """Rows of the cells of each combination of a group and a condition."""

    def __init__(self, adata: AnnData, group_key: str, condition_key: str) -> None:
        if group_key == condition_key:
            raise ValueError(f"`group_key` and `condition_key` are the same column, {group_key!r}.")
        groups, conditions = label_array(adata, group_key), label_array(adata, condition_key)
        self.group_key, self.condition_key = group_key, condition_key
        self.groups, self.conditions = (np.unique(x).tolist() for x in (groups, conditions))
        pairs = np.searchsorted(self.groups, groups) * len(self.conditions) + np.searchsorted(
            self.conditions, conditions
        )
        order = np.argsort(pairs, kind="stable")
        found, starts = np.unique(pairs[order], return_index=True)
        self.rows: dict[Target, np.ndarray] = {
            (self.groups[pair // len(self.conditions)], self.conditions[pair % len(self.conditions)]): rows
            for pair, rows in zip(found, np.split(order, starts[1:]), strict=True)
        }

    def check_target(self, target: Target) -> Target:
        """The target as text, after checking that its group and its condition are known."""
        if isinstance(target, str) or len(tuple(target)) != 2:
            raise ValueError(f"`target` must be a pair (group, condition), got {target!r}.")
        group, condition = (str(name) for name in target)
        for name, known, key in (
            (group, self.groups, self.group_key),
            (condition, self.conditions, self.condition_key),
        ):
            if name not in known:
                raise ValueError(f"`target`: no cell has {name!r} in `adata.obs[{key!r}]`, which holds {known}.")
        return group, condition

    def routes(
        self,
        target: Target,
        control: str | Sequence[str] | None = None,
        reference_group: str | Sequence[str] | None = None,
    ) -> list[Route]:
        """Ways to the target over the named controls and reference groups, or over all there are.

        Never over cells of the target itself.
        """
        group, condition = self.check_target(target)
        controls = _names(control, [c for c in self.conditions if c != condition], self.condition_key, "control")
        named = _names(reference_group, [g for g in self.groups if g != group], self.group_key, "reference_group")
        found = []
        for c in controls:
            references = tuple(g for g in named if (g, c) in self.rows and (g, condition) in self.rows)
            if (group, c) in self.rows and references:
                if reference_group is not None and len(references) < len(named) and control is not None:
                    missing = sorted(set(named) - set(references))
                    raise ValueError(
                        f"`reference_group`: {missing} were not seen under both {c!r} and {condition!r}; "
                        f"{list(references)} were."
                    )
                found.append(Route(c, references))
        if not found or (control is not None and len(found) < len(controls)):
            raise ValueError(self._no_route(group, condition, controls, named))
        return found

    def _no_route(self, group: str, condition: str, controls: list[str], named: list[str]) -> str:
        own = [c for c in controls if (group, c) in self.rows]
        others = [g for g in named if (g, condition) in self.rows]
        return (
            f"No jointly observed combination leads to ({group!r}, {condition!r}): it takes cells of {group!r} under a "
            f"control condition, and another group seen under both that condition and {condition!r}. Among the "
            f"controls {controls}, {group!r} was seen under {own}; among the groups {named}, {others} were seen under "
            f"{condition!r}."
        )

    def shift(self, values: np.ndarray, target: Target, route: Route) -> np.ndarray:
        """Mean over the reference groups of the difference of mean `values` between target and control condition."""
        return np.mean(
            [
                values[self.rows[group, target[1]]].mean(axis=0) - values[self.rows[group, route.control]].mean(axis=0)
                for group in route.references
            ],
            axis=0,
        )


@dataclass(frozen=True)
class Prediction:
    """Codes of a combination by latent arithmetic."""

    codes: np.ndarray
    """Predicted codes, one for each of `rows`."""
    rows: np.ndarray
    """Row of the control cell that each code comes from."""
    shifts: np.ndarray
    """Shift by control, controls x dimensions."""
    shift: np.ndarray
    """Mean shift of the codes."""


def predict_codes(
    posterior: Posterior,
    combinations: Combinations,
    target: Target,
    routes: list[Route],
    *,
    code: Code,
    n: int | None,
    rng: np.random.Generator,
) -> Prediction:
    """Codes of the control cells, each moved by the shift from its own control condition.

    `n` cells are drawn from all controls together, every cell equally often, up to one; `None` takes each cell once.
    """
    shifts = np.array([combinations.shift(posterior.mean, target, route) for route in routes])
    pools = [combinations.rows[target[0], route.control] for route in routes]
    rows, origin = np.concatenate(pools), np.repeat(np.arange(len(routes)), [len(pool) for pool in pools])
    if n is not None:
        rounds = -(-n // len(rows))
        drawn = np.concatenate([rng.permutation(len(rows)) for _ in range(rounds)])[:n]
        rows, origin = rows[drawn], origin[drawn]
    return Prediction(posterior[rows].codes(code, rng) + shifts[origin], rows, shifts, shifts[origin].mean(axis=0))


def entropies(
    observed: Posterior, predicted: np.ndarray, *, code: Code, rng: np.random.Generator, max_cells: int | None = None
) -> tuple[float, float]:
    """Latent entropy of the observed cells' own codes and of the predicted ones, both against the observed cells."""
    if observed.variance is None:
        return float("nan"), float("nan")
    if max_cells is not None:
        observed = observed[np.sort(rng.permutation(len(observed))[:max_cells])]
        predicted = predicted[np.sort(rng.permutation(len(predicted))[:max_cells])]
    own = observed.codes(code, rng)
    return tuple(latent_entropy(z, observed.mean, observed.variance) for z in (own, predicted))


def without_group(routes: list[Route], group: str) -> list[Route]:
    """Ways that reach a reference group from the other ones."""
    left = ((route, tuple(g for g in route.references if g != group)) for route in routes)
    return [Route(route.control, others) for route, others in left if others and group in route.references]


def _names(given: str | Sequence[str] | None, known: list[str], key: str, argument: str) -> list[str]:
    if given is None:
        return known
    names = list(dict.fromkeys([str(given)] if isinstance(given, str) else [str(name) for name in given]))
    if not names:
        raise ValueError(f"`{argument}` is empty: name at least one, or leave it out for all.")
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`{argument}`: {unknown} is not among the values of `adata.obs[{key!r}]` other than the target's: {known}."
        )
    return names
