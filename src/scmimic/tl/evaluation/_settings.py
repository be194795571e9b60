"""The settings of an evaluation: each stands here once, with its type, its default, what it may be and what it means.

Functions that take them say so with :func:`takes`, which writes the settings into their signature and their docstring.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, TypeVar, get_args, get_type_hints

from anndata import AnnData

from scmimic._arguments import (
    COLUMN,
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    LAYER,
    POSITIVE,
    SEED,
    THREADS,
    Kind,
    Listed,
    Ordered,
    Range,
    Text,
    check_keywords,
)
from scmimic.cells import ANNDATA
from scmimic.tl.evaluation._cells import TRIVIAL
from scmimic.tl.evaluation._measures import MEASURES, PROTOCOLS, metrics_by_name

Function = TypeVar("Function", bound=Callable[..., Any])

_N_TREES, _MAX_CELLS = 100, 2000
_PAPER_TREES = 1000
# what the papers draw per side; ACTIVA and GRouNdGAN take all test cells
_PAPER_CELLS = {"michigan": 3000}


@dataclass(frozen=True)
class Setting:
    """What is known of a setting besides its type."""

    default: Any
    kind: Kind
    """What it may be: a measure would stumble over other values after hours."""
    meaning: str
    """What it means, for the docstrings."""
    recorded: bool = True
    """Whether it stands in the parameters of the result: what is small, and may change the numbers."""


class Settings(TypedDict, total=False):
    """Keyword arguments of :func:`scmimic.evaluate`, :func:`scmimic.tl.evaluate` and :func:`scmimic.report`."""

    labels_key: Annotated[
        str | None,
        Setting(
            None,
            COLUMN.or_none,
            "Column of `.obs` of all objects with the cell types; `None` compares all cells as one.",
        ),
    ]
    layer: Annotated[
        str | None,
        Setting(
            None,
            LAYER,
            "Layer of `adata`, `.X` by default; the other objects give it too where they have it, else their `.X`.",
        ),
    ]
    train: Annotated[
        AnnData | None,
        Setting(
            None,
            ANNDATA.or_none,
            "Cells that the generator was trained on. They are needed for the privacy rows; the replicate is drawn "
            "from them (in the proportions of `adata`), and the trivial generators are fitted on them. Without, both "
            "come from half of `adata`, and the synthetic cells are compared with the other half.",
            recorded=False,
        ),
    ]
    reference: Annotated[
        AnnData | None,
        Setting(
            None,
            ANNDATA.or_none,
            "Further real cells, on which the PCA is fitted: a PCA fitted on either side favours it. Without, a "
            "quarter of `train` is set aside for it, or else a fifth of `adata`.",
            recorded=False,
        ),
    ]
    metrics: Annotated[
        str | Sequence[str],
        Setting(
            "all",
            Listed(Text("the name of a metric or a protocol"), least=0, alone=True),
            '`"all"`, a protocol, or names of metrics, one or several; `"all"` leaves out what needs `train` or '
            "`labels_key` where these are not given, while a metric that is named has its row in any case. "
            '`"activa"`: AUC of a forest of 1,000 trees on genes; `"michigan"`: error of a forest of 1,000 trees on '
            'principal components, 3,000 + 3,000 cells, and inception score; `"groundgan"`: AUC of a forest of 1,000 '
            "trees on one split, on 20,000 counts per cell without logarithm.",
        ),
    ]
    baselines: Annotated[
        Sequence[str] | Mapping[str, AnnData],
        Setting(
            tuple(TRIVIAL),
            Ordered(),
            'Trivial generators: any of `"independent_nb"`, `"multinomial"` and `"copula"`, fitted on the raw counts '
            'of `train` (or its layer `"counts"`); or their cells, by name, from any generator. Empty: no calibration. '
            "All of `adata` is compared, there is no `score`, and the verdict does not say how close the cells are; "
            "`replicate` is NaN but for the metrics that take it from `adata` in any case: privacy, agreement with the "
            "labels, distances within the sides.",
        ),
    ]
    log1p: Annotated[
        bool,
        Setting(
            True,
            FLAG,
            "Scale every cell to `target_sum` and take log(1 + x): right for counts and for linear values of any "
            "scale. `False` takes the values as they are: right for values already logged, for which there are no "
            "trivial generators unless their cells are given.",
        ),
    ]
    target_sum: Annotated[float, Setting(1e4, POSITIVE, "Total per cell before the logarithm.")]
    n_comps: Annotated[
        int, Setting(50, COUNT, "Principal components, 50 as in the papers; fewer where the reference allows fewer.")
    ]
    min_cells: Annotated[
        int,
        Setting(
            30,
            # forests are cross-validated in five folds, and a type needs some cells in each
            Range(10, whole=True),
            "Types with fewer cells on either side get rows without a value.",
        ),
    ]
    max_cells: Annotated[
        int | None,
        Setting(
            None,
            COUNT_OR_NONE,
            "Cells per side, drawn at random where there are more. By default 2,000, or what the protocol takes. "
            "Within a type at most 300 are compared.",
        ),
    ]
    n_trees: Annotated[
        int | None,
        Setting(
            None,
            COUNT_OR_NONE,
            "Trees of each forest. By default 100, with which an AUC between 0.5 and 1 comes out lower than with more "
            "trees, or 1,000 where only protocols are asked for.",
        ),
    ]
    seed: Annotated[int, Setting(0, SEED, "Seed of everything random.")]
    n_jobs: Annotated[
        int,
        Setting(-1, THREADS, "Threads of forests and neighbour searches; `-1` for all cores.", recorded=False),
    ]


@functools.cache
def described(settings: type) -> dict[str, tuple[Any, Setting]]:
    """Type and description of each setting of a class such as :class:`Settings`."""
    hints = get_type_hints(settings, include_extras=True)
    return {name: get_args(hint) for name, hint in hints.items()}


def complete(given: Mapping[str, Any], settings: type = Settings) -> dict[str, Any]:
    """Check the settings that are given, and add the others with their defaults.

    Parameters
    ----------
    given
        By name.
    settings
        Class that describes them.

    Raises
    ------
    TypeError, ValueError
        If there is no such setting, or a value may not be.
    """
    known = described(settings)
    check_keywords(given, known, what="The evaluation")
    values = {name: given.get(name, setting.default) for name, (_, setting) in known.items()}
    for name, (_, setting) in known.items():
        setting.kind.check(**{name: values[name]})
    return values


def recorded(values: Mapping[str, Any], settings: type = Settings) -> dict[str, Any]:
    """Settings as the parameters of a result; of cells that are given by name, the names."""
    chosen = {name: values[name] for name, (_, setting) in described(settings).items() if setting.recorded}
    return {name: list(value) if isinstance(value, Mapping | tuple) else value for name, value in chosen.items()}


def resolved(settings: Mapping[str, Any], n_obs: int) -> dict[str, Any]:
    """All settings, those that depend on others too: the protocols', or the defaults.

    Parameters
    ----------
    settings
        Any of :class:`Settings`.
    n_obs
        Number of real cells.
    """
    values = complete(settings)
    metrics, baselines, min_cells = values["metrics"], values["baselines"], values["min_cells"]
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise ValueError("`metrics` is empty: give 'all', a protocol, or names of metrics.")
    for name in names:
        if name != "all" and not any(measure.asked([name]) for measure in MEASURES.values()):
            raise ValueError(
                f"`metrics` has no {name!r}. Choose 'all', a protocol ({', '.join(PROTOCOLS)}) or of "
                f"{list(metrics_by_name())}."
            )
    only_protocols = all(name in PROTOCOLS for name in names)
    n_trees, max_cells = values["n_trees"], values["max_cells"]
    if n_trees is None:
        n_trees = _PAPER_TREES if only_protocols else _N_TREES
    if max_cells is None:
        max_cells = min(_PAPER_CELLS.get(name, n_obs) for name in names) if only_protocols else _MAX_CELLS
        max_cells = max(max_cells, min_cells)
    if max_cells < min_cells:
        raise ValueError(f"`max_cells` must be at least `min_cells`: {max_cells} and {min_cells}.")
    if not isinstance(baselines, Mapping):
        baselines = (baselines,) if isinstance(baselines, str) else tuple(baselines)
        if unknown := [name for name in baselines if name not in TRIVIAL]:
            raise ValueError(f"`baselines` has no {unknown}: choose of {list(TRIVIAL)}, or give their cells by name.")
    return values | {"metrics": names, "baselines": baselines, "n_trees": n_trees, "max_cells": max_cells}


def takes(settings: type) -> Callable[[Function], Function]:
    """Say in signature and docstring of a function with ``**settings`` which these are.

    The settings come before the function's other keyword-only arguments, and in the docstring in the place of the
    entry ``**settings``.

    Parameters
    ----------
    settings
        Class that describes them.
    """
    known = described(settings)

    def describe(function: Function) -> Function:
        others = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        keywords = [
            # as in the sources: AnnData, without the module that it is defined in
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=setting.default,
                annotation=re.sub(r"[\w.]+\.(\w+)", r"\1", inspect.formatannotation(of_type)),
            )
            for name, (of_type, setting) in known.items()
        ]
        parameters = sorted([*keywords, *others], key=lambda parameter: parameter.kind)
        function.__signature__ = inspect.signature(function).replace(parameters=parameters)  # type: ignore[attr-defined]  # functions have none until one is set
        if function.__doc__ is not None:
            # Python without docstrings has none to complete
            entry = re.compile(r"^( *)\*\*settings\n(?:\1 +.*\n)+", flags=re.MULTILINE)
            function.__doc__ = entry.sub(lambda match: _entries(known, match[1]), function.__doc__)
        return function

    return describe


def _entries(known: Mapping[str, tuple[Any, Setting]], indent: str) -> str:
    """Settings as the section of parameters of a docstring has them."""
    lines = []
    for name, (_, setting) in known.items():
        lines += [name, *(f"    {line}" for line in textwrap.wrap(setting.meaning, 112, break_on_hyphens=False))]
    return textwrap.indent("\n".join(lines) + "\n", indent)
