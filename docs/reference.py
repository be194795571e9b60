"""What the pages of the API list: read from the package and from the guides, so that nothing has to be kept by hand."""

import inspect
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from numpydoc.docscrape import ClassDoc

DOCS = Path(__file__).parent
GUIDES = ("user_guide", "tutorials", "benchmarks")
SUFFIXES = (".md", ".ipynb")
PACKAGE = "scmimic"


class Members(NamedTuple):
    """Public members of a class, in the order of their definition."""

    attributes: list[str]
    """Those of scmimic, but for what the class's own docstring describes."""
    methods: list[str]
    """Those that scmimic defines or describes anew."""
    borrowed: list[str]
    """Those of scvi-tools' mixins, which say something of cells."""
    others: list[str]
    """Those of scvi-tools' `BaseModelClass`."""


def members(name: str) -> Members:
    """Members of the class with a full name."""
    cls = _find(name)
    described = {field.name for field in ClassDoc(cls, config={"show_class_members": False})["Attributes"]}
    found = Members([], [], [], [])
    for base in cls.__mro__:
        for member in {**getattr(base, "__annotations__", {}), **vars(base)}:
            if member.startswith("_") or member in described or any(member in names for names in found):
                continue
            value = inspect.getattr_static(cls, member, None)
            is_method = isinstance(value, classmethod | staticmethod) or callable(value)
            if base.__module__.startswith(PACKAGE):
                (found.methods if is_method else found.attributes).append(member)
            elif base.__module__.startswith("scvi.model"):
                in_mixin = is_method and base.__name__ != "BaseModelClass"
                (found.borrowed if in_mixin else found.others).append(member)
    return Members(*(sorted(names) if names is found.others else names for names in found))


def guides(name: str) -> list[str]:
    """Pages that name something of the package, guides first."""
    short = name.removeprefix(f"{PACKAGE}.").removeprefix("model.")
    used = re.compile(rf"\b(?:sm|{PACKAGE}(?:\.model)?)\.{re.escape(short)}\b")
    return [page for page, text in _pages().items() if used.search(text)]


def _find(name: str) -> Any:
    path, _, last = name.rpartition(".")
    return getattr(import_module(path), last)


@cache
def _pages() -> dict[str, str]:
    files = [path for folder in GUIDES for path in sorted((DOCS / folder).glob("*.*")) if path.suffix in SUFFIXES]
    return {f"/{path.relative_to(DOCS).with_suffix('')}": _text(path) for path in files}


def _text(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
