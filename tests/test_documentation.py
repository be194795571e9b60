"""What the pages of the API show of the package, and what the documentation may ask of a browser."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import re
import statistics
import sys
import tomllib
from pathlib import Path

import numpydoc.docscrape
import pytest
from docutils.utils.math.latex2mathml import tex2mathml
from scvi.model.base import BaseModelClass
from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.pycode import ModuleAnalyzer

import scmimic as sm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
API = (DOCS / "api.md").read_text(encoding="utf-8")
LISTED = [line.strip() for line in API.splitlines() if re.match(r"   \w[\w.]+$", line)]


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _named(name: str):
    found = sm
    for part in name.split("."):
        found = getattr(found, part)
    return found


conf = _load("conf")
reference = _load("reference")
results = _load("results")
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


@pytest.mark.parametrize("name", LISTED)
def test_names_in_docstrings_are_code(name):
    """In bold or slanted text docutils shows the marks of code as they stand."""
    documented = [_named(name), *(vars(_named(name)).values() if name in CLASSES else [])]
    for text in filter(None, map(inspect.getdoc, documented)):
        lines = str(NumpyDocstring(text, Config(napoleon_use_rtype=False))).splitlines()
        conf._unbold(None, "", name, None, None, lines)
        assert not [line for line in lines if re.search(r"(?<![\\*`])\*{1,2}[^*\s][^*]*`[^*]*\*", line)]


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


PAGES = {path.stem: results.read(path.stem) for path in sorted(results.FOLDER.glob("*.json"))}
TABLES = [(page, name) for page, tables in PAGES.items() for name in tables]


def _page(page: str) -> str:
    return (DOCS / "benchmarks" / f"{page}.md").read_text(encoding="utf-8")


def _several(cell):
    """Lists of runs and published means within a cell."""
    if isinstance(cell, dict):
        yield from [cell] if "runs" in cell else _several(cell.get("bold"))
    elif isinstance(cell, list):
        yield cell


@pytest.mark.parametrize("page", PAGES)
def test_pages_show_the_tables_of_their_file(page):
    assert re.findall(r"```\{results\} (\w+)\n", _page(page)) == list(PAGES[page])
    assert f"(results/{page}.json)" in _page(page)


def test_tables_of_numbers_are_in_files():
    """Tables of words stay in the pages, with a number here and there."""
    pages = sorted((DOCS / "benchmarks").glob("*.md"))
    rows = [
        re.split(r"(?<!\\)\|", line)[2:-1]
        for path in pages
        for line in _page(path.stem).splitlines()
        if line[:1] == "|"
    ]
    assert rows
    assert not [row for row in rows if len(row) > 1 and all(re.fullmatch(r"[\s\d.]+", cell) for cell in row)]


@pytest.mark.parametrize("page", PAGES)
def test_files_are_as_they_are_written(page, tmp_path, monkeypatch):
    """Putting a row into a table changes no other line."""
    text = (results.FOLDER / f"{page}.json").read_text(encoding="utf-8")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    results.write(page, PAGES[page])
    assert (tmp_path / f"{page}.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(("page", "name"), TABLES)
def test_means_are_those_of_the_runs(page, name):
    table = PAGES[page][name]
    for row in table["rows"]:
        assert len(row) == len(table["columns"])
        for column, cell in enumerate(row):
            text = results.shown(table, row, column).strip("*")
            form = results.form(table, row, column)
            for several in _several(cell):
                if isinstance(several, dict):  # rounded runs beside what was computed before rounding
                    unit = 10.0 ** -max(len(str(run).partition(".")[2]) for run in several["runs"])
                    assert abs(statistics.fmean(several["runs"]) - several["mean"]) <= unit
                    assert abs(statistics.stdev(several["runs"]) - several["sd"]) <= unit
                elif form.startswith("{mean") or "{" not in form:
                    shown = re.match(r"-?[\d.]+", text)[0]
                    unit = 10.0 ** -len(shown.partition(".")[2])
                    runs = [run["bold"] if isinstance(run, dict) else run for run in several]
                    assert abs(statistics.fmean(runs) - float(shown)) <= unit / 2 + 1e-9, (row[0], text)


EXAMPLE = {
    "columns": ["model", "AUC", "error %", "cells", "AUC / error"],
    "format": "{mean:.3f} ± {sd:.2f}",
    "formats": {"error %": "{mean:.1f} ({each:.1f})", "**ours**": ".2f", "AUC / error": "{:.2f} / {:.1f}"},
    "lines": {"names": {"nb": "NB"}, "measures": {"AUC": "auc", "error %": "error"}},
    "rows": [
        ["NB", [0.5, 0.6, 0.7005], {"mean": 40.0, "sd": 1.5}, 1200, [0.5, {"bold": 41.25}]],
        ["`x`", 0.6, [40, 42.5], None, [0.61, 7]],
        [
            "**ours**",
            {"bold": {"value": 0.645, "low": 0.6, "high": 0.7, "score": 0.5}},
            {"low": 1.0, "high": 2.5},
            "none",
            None,
        ],
        ["quoted", {"from": ["example", "one", "NB", "AUC"]}, [1, 2], 0, ""],
    ],
}


@pytest.fixture
def example(tmp_path, monkeypatch):
    """A page with the example, in a folder of its own."""
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks")
    results.FOLDER.mkdir()
    results.write("example", {"one": EXAMPLE, "two": EXAMPLE | {"rows": []}})
    return results.FOLDER / "example.json"


def test_cells_are_written_as_their_table_asks(example):
    assert results.read("example")["one"] == EXAMPLE
    assert [line.replace("\N{NO-BREAK SPACE}", " ") for line in results.markdown(EXAMPLE)] == [
        "| model | AUC | error % | cells | AUC / error |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| NB | 0.600 ± 0.10 | 40.0 ± 1.5 | 1,200 | 0.50 / **41.3** |",
        "| `x` | 0.600 | 41.3 (40, 42.5) |  | 0.61 / 7 |",
        "| **ours** | **0.65 (0.60 to 0.70); s 0.50** | 1.00 to 2.50 | none |  |",
        "| quoted | 0.600 | 1.5 (1, 2) | 0 |  |",
    ]
    with pytest.raises(ValueError, match="a cell has 3 numbers, its template 2"):
        results.shown(EXAMPLE, ["x", 0, 0, 0, [1, 2, 3]], 4)


def test_a_page_has_the_table_and_an_unknown_one_is_an_error(example, tmp_path):
    pytest.importorskip("myst_parser", reason="comes with the extra docs")
    from docutils.nodes import row
    from sphinx.testing.util import SphinxTestApp

    (tmp_path / "conf.py").write_text("extensions = ['myst_parser', 'results']\nroot_doc = 'example'\n")
    (tmp_path / "example.md").write_text("# Page\n\n- item\n\n  ```{results} one\n  ```\n\n```{results} three\n```\n")
    app = SphinxTestApp("dummy", srcdir=tmp_path)
    app.build()
    rows = [
        [cell.astext().replace("\N{NO-BREAK SPACE}", " ") for cell in cells]
        for cells in app.env.get_doctree("example").findall(row)
    ]
    assert rows[0] == EXAMPLE["columns"]
    assert rows[2] == ["x", "0.600", "41.3 (40, 42.5)", "", "0.61 / 7"]
    assert len(rows) == 5
    assert "example.json has no table 'three', but ['one', 'two']" in app.warning.getvalue()
    app.cleanup()


def test_lines_of_a_benchmark_become_rows(example, tmp_path, monkeypatch):
    lines = [
        {"name": "nb", "auc": 0.1, "error": 3},
        {"name": "other", "auc": 9},
        {"name": "nb", "auc": 1 / 3, "error": None},
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = example.read_text(encoding="utf-8").splitlines()
    monkeypatch.setattr(sys, "argv", ["results.py", "example", "one", str(tmp_path / "lines.jsonl")])
    results.main()
    after = example.read_text(encoding="utf-8").splitlines()
    assert [old != new for old, new in zip(before, after, strict=True)].count(True) == 1
    (row, *others) = results.read("example")["one"]["rows"]
    assert row == ["NB", [0.1, 0.333333], 3, *EXAMPLE["rows"][0][3:]]
    assert others == EXAMPLE["rows"][1:]


@pytest.mark.parametrize(("page", "name"), [place for place in TABLES if "lines" in PAGES[place[0]][place[1]]])
def test_lines_name_rows_and_columns_that_are_there(page, name):
    table = PAGES[page][name]
    rows = [cells[0] for cells in table["rows"]]
    assert all(rows.count(row) == 1 for row in table["lines"]["names"].values())
    assert set(table["lines"]["measures"]) <= set(table["columns"][1:])


FIGURES = PAGES["index"]
SECTIONS = re.findall(
    r"## [^\n]+\n\n([^\n]+)\n\n```\{image\} \.\./_static/summary/(\w+)\.png\n:alt: ([^\n]+);", _page("index")
)
SENTENCES = {name: sentence for sentence, name, _ in SECTIONS}


def _places(figure: str) -> list[list[str]]:
    return [cell["from"] for _, *cells in FIGURES[figure]["rows"] for cell in cells if cell]


def test_the_summary_quotes_what_the_pages_say():
    assert [name for _, name, _ in SECTIONS] == list(FIGURES)
    for (name, table), (_, _, measure) in zip(FIGURES.items(), SECTIONS, strict=True):
        assert measure == table["measure"]
        assert (summary.PICTURES / f"{name}.png").exists()
        for page, *place in _places(name):
            assert f"{{doc}}`{page}`" in SENTENCES[name], place


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d+\.\d+", text)


def _rounded(pages: set[str]) -> set[float]:
    """Numbers of pages of the benchmarks, to two digits."""
    lines = [line for page in pages for table in PAGES[page].values() for line in results.markdown(table)]
    numbers = map(float, _numbers("\n".join([*lines, *map(_page, pages)])))
    return {
        float(results.shown({"columns": [""], "format": ".1f" if one > 1.5 else ".2f"}, [one], 0)) for one in numbers
    }


@pytest.mark.parametrize("figure", FIGURES)
def test_numbers_in_sentences_stand_in_the_pages(figure):
    numbers = _numbers(SENTENCES[figure])
    assert numbers
    assert set(map(float, numbers)) <= _rounded({*(page for page, *_ in _places(figure)), "codes"})


def test_the_readme_has_the_numbers_of_the_summary():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("| | ACTIVA"))
    table = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]] for line in lines[first : first + 7] if "---" not in line
    ]
    names = {"real cells": "other real cells", "scVI": "scVI, posterior predictive"}
    columns = [names.get(name, name) for name in table[0][1:]]
    for (figure, group), row in zip(
        [("realism", 1), ("realism", 2), ("copies", 1), ("rare", 3), ("rare", 4)], table[1:], strict=True
    ):
        shown = {cells[0]: results.shown(FIGURES[figure], cells, group) for cells in FIGURES[figure]["rows"]}
        assert row[1:] == [shown.get(column, "") for column in columns]


def test_links_of_the_readme_lead_to_files():
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 10
    assert not [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()]


def test_every_extra_is_in_the_guide_to_installing():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    rows = re.findall(r"^\| (`.+?) \|", (DOCS / "install.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(extras) == sorted(re.findall(r"`([\w-]+)`", " ".join(rows)))
