"""Packages that single functions need, which come with extras of scmimic."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from typing import Any

from packaging.requirements import Requirement


def need(module: str, *, extra: str, what: str, hint: str = "") -> Any:
    """A module that an extra brings, or an ImportError that says how to get it.

    It names the packages rather than scmimic with the extra, which pip would look for on PyPI even where scmimic was
    installed from a clone.

    Parameters
    ----------
    module
        What is imported.
    extra
        The extra that brings it.
    what
        What needs it.
    hint
        What else is to be said, such as how to do without.

    Raises
    ------
    ImportError
        If it cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        # an editable installation that is older than the code does not know the extra
        packages = " ".join(f'"{package}"' for package in _packages(extra) or [module])
        raise ImportError(
            f"{what} needs {module}, which cannot be imported ({error}): pip install {packages} (scmimic's extra "
            f"{extra!r}). {hint}".rstrip()
        ) from error


def _packages(extra: str) -> list[str]:
    """What the installed scmimic asks for under an extra, without the conditions."""
    try:
        found = [Requirement(line) for line in requires("scmimic") or []]
    except PackageNotFoundError:
        return []
    chosen = [one for one in found if one.marker is not None and f'extra == "{extra}"' in str(one.marker)]
    for one in chosen:
        one.marker = None
    return [str(one) for one in chosen]
