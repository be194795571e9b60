"""What the pages of the API show of the package, and what the documentation may ask of a browser."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import numpydoc.docscrape
import pytest
from docutils.utils.math.latex2mathml import tex2mathml
from scvi.model.base import BaseModelClass
from sphinx.pycode import ModuleAnalyzer

import scmimic as sm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
LISTED = [line.strip() for line in API.splitlines() if re.match(r"   \w[\w.]+$", line)]


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _named(name: str):
    found = sm
    for part in name.split("."):
        found = getattr(found, part)
    return found


reference = _load("reference")
summary = _load("summary")
CLASSES = [name for name in LISTED if inspect.isclass(_named(name))]


def _sections(obj, section: str) -> list:
    return numpydoc.docscrape.get_doc_object(obj, config={"show_class_members": False})[section]


@pytest.mark.parametrize("name", CLASSES)
def test_class_pages_show_every_public_member(name):
    """All that `dir` tells, but what comes from torch, Lightning and Python themselves."""
    cls, shown = _named(name), reference.members(f"scmimic.{name}")
    owners = {member: next(k for k in cls.__mro__ if member in vars(k)) for member in dir(cls) if member[0] != "_"}
    public = {member for member, owner in owners.items() if owner.__module__.split(".")[0] == "scmimic"}
    if issubclass(cls, BaseModelClass):
        public |= {member for member, owner in owners.items() if owner.__module__.startswith("scvi.")}
    described = {field.name for field in _sections(cls, "Attributes")}
    assert public <= {*shown.attributes, *shown.methods, *shown.borrowed, *shown.others, *described}
    assert len(set().union(*shown)) == sum(map(len, shown))


@pytest.mark.parametrize("name", CLASSES)
def test_attributes_are_described(name):
    cls = _named(name)
    bases = [base for base in cls.__mro__ if base.__module__.startswith("scmimic")]
    described = {
        attribute
        for base in bases
        for owner, attribute in ModuleAnalyzer.for_module(base.__module__).find_attr_docs()
        if owner == base.__qualname__
    }
    described |= {
        key for base in bases for key, value in vars(base).items() if isinstance(value, property) and value.__doc__
    }
    assert set(reference.members(f"scmimic.{name}").attributes) <= described


@pytest.mark.parametrize("name", [name for name in LISTED if not name.startswith("train.")])
def test_see_also_names_what_is_there(name):
    related = [target for line in _sections(_named(name), "See Also") for target, _ in line[0]]
    documented = {f"scmimic.{one}" for one in LISTED}
    for target in related:
        if target.startswith("scmimic."):
            owner = target if target in documented else target.rpartition(".")[0]
            assert owner in documented, target
            assert _named(target.removeprefix("scmimic."))
            assert target != f"scmimic.{name}"
    is_result = name.startswith("metrics.") and inspect.isclass(_named(name))
    assert related or is_result, "add a section See Also"


def test_pages_that_use_a_name_are_found():
    assert "/user_guide/michigan" in reference.guides("scmimic.model.MichiGAN")
    assert "/tutorials/latent_space" in reference.guides("scmimic.tl.latent_traversal")
    assert "/tutorials/your_own_cells" in reference.guides("scmimic.tl.augment")
    assert not reference.guides("scmimic.tl.latent")


def _formulas():
    for path in sorted(DOCS.rglob("*.md")):
        text = re.sub(r"```.*?```|`[^`]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        yield from ((path.name, formula) for formula in re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL))
        text = re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL)
        yield from ((path.name, formula) for formula in re.findall(r"(?<![\\$])\$([^$\n]+?)\$", text))


def test_formulas_need_no_script():
    formulas = list(_formulas())
    assert len(formulas) > 50
    assert all(tex2mathml(formula) for _, formula in formulas)
    # docutils takes all digits that follow for the numerator
    assert not [formula for _, formula in formulas if re.search(r"frac\s*\d", formula)]
    config = ast.parse((DOCS / "conf.py").read_text(encoding="utf-8"))
    assert "mathjax" not in ast.unparse(config)


def _tables(page: str) -> dict[tuple[str, str], dict[str, dict[str, str]]]:
    """Tables of a page by heading and first word of their first line; the first of a name, rows by their first cell."""
    tables, heading, header = {}, "", None
    for line in (DOCS / "benchmarks" / f"{page}.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        cells = [re.sub(r"\*\*|`", "", cell).strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells
            rows = {} if (heading, header[0]) in tables else tables.setdefault((heading, header[0]), {})
        else:
            rows[cells[0]] = dict(zip(header, cells, strict=False))
    return tables


@pytest.mark.parametrize("figure", summary.FIGURES, ids=lambda figure: figure["name"])
def test_the_summary_quotes_what_the_pages_say(figure):
    for row in figure["rows"]:
        assert len(row["cells"]) <= len(figure["groups"])
        for cell in row["cells"]:
            said = _tables(cell["page"])[cell["section"], cell["table"]][cell["row"]][cell["column"]]
            assert float(said.split()[0]) == cell["value"], (row["name"], said)


def test_the_summary_is_up_to_date():
    """`python docs/summary.py` writes what is there."""
    assert summary.page() == summary.PAGE.read_text(encoding="utf-8")
    for figure in summary.FIGURES:
        assert (summary.PICTURES / f"{figure['name']}.png").exists()


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+\.\d+", text)


def _rounded(pages: set[str]) -> set[float]:
    """Numbers of pages of the benchmarks, to two digits."""
    text = "".join((DOCS / "benchmarks" / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    return {float(summary.shown(float(number))) for number in _numbers(text)}


@pytest.mark.parametrize("figure", summary.FIGURES, ids=lambda figure: figure["name"])
def test_numbers_in_sentences_stand_in_the_pages(figure):
    pages = {cell["page"] for row in figure["rows"] for cell in row["cells"]}
    numbers = _numbers(figure["sentence"])
    assert numbers
    assert set(map(float, numbers)) <= _rounded({*pages, "codes"})


def test_the_readme_has_the_numbers_of_the_summary():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| | ACTIVA"))
    table = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines[first : first + 7] if "---" not in line
    ]
    names = {"real cells": "other real cells", "scVI": "scVI, posterior predictive"}
    columns = [names.get(name, name) for name in table[0][1:]]
    figures = {figure["name"]: {row["name"]: row["cells"] for row in figure["rows"]} for figure in summary.FIGURES}
    for (name, group), row in zip(
        [("realism", 0), ("realism", 1), ("copies", 0), ("rare", 2), ("rare", 3)], table[1:], strict=True
    ):
        rows = figures[name]
        expected = [summary.shown(rows[column][group]["value"]) if column in rows else "" for column in columns]
        assert row[1:] == expected


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]


def test_every_extra_is_in_the_guide_to_installing():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`.+?) \|", (DOCS / "install.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(extras) == sorted(re.findall(r"`([\w-]+)`", " ".join(rows)))
