"""A missing package is named with what pip installs it by, wherever scmimic came from."""

import ast
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scmimic import _extras

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
CALLS = [
    {keyword.arg: keyword.value for keyword in node.keywords} | {"module": node.args[0]}
    for path in (ROOT / "src").rglob("*.py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "need"
]
NEEDED = sorted((call["extra"].value, call["module"].value) for call in CALLS)


def metadata(_):
    """What a wheel says of the extras."""
    for extra, lines in EXTRAS.items():
        for line in lines:
            requirement, _, marker = line.partition(";")
            yield f"{requirement}; {f'({marker}) and ' if marker else ''}extra == '{extra}'"


def test_every_package_is_of_its_extra():
    assert {extra for extra, _ in NEEDED} == {"annbatch", "cell-eval2", "dask", "flow", "scdesigner"}
    for extra, module in NEEDED:
        packages = {Requirement(line).name.replace("-", "_") for line in EXTRAS[extra]}
        assert module.partition(".")[0] in packages


@pytest.mark.parametrize(("extra", "module"), NEEDED)
def test_packages_of_the_extra_are_named(extra, module, monkeypatch):
    monkeypatch.setattr(_extras, "requires", metadata)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as raised:
        _extras.need(module, extra=extra, what="This", hint="Or do without.")
    said = str(raised.value)
    command = said[said.index("pip install ") : said.index(" (scmimic's")]
    assert [Requirement(part) for part in command.split('"')[1::2]] == [
        Requirement(line.partition(";")[0]) for line in EXTRAS[extra]
    ]
    assert said.startswith(f"This needs {module}, which cannot be imported (")
    assert said.endswith(f"(scmimic's extra {extra!r}). Or do without.")


@pytest.mark.parametrize("found", [None, ["numpy"], PackageNotFoundError("scmimic")], ids=str)
def test_an_installation_that_does_not_know_the_extra(found, monkeypatch):
    def requires(_):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(_extras, "requires", requires)
    with pytest.raises(ImportError, match=r"pip install \"no_such\" \(scmimic's extra 'flow'\)\.$"):
        _extras.need("no_such", extra="flow", what="This")


def test_what_is_there_is_returned():
    assert _extras.need("json.decoder", extra="flow", what="This") is sys.modules["json.decoder"]


def test_nothing_asks_pip_for_an_extra_of_scmimic():
    # on PyPI there is nothing of that name before the first release, and a clone is installed otherwise
    texts = [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("docs/**/*.ipynb"), ROOT / "README.md"]
    assert not [path for path in texts if "scmimic[" in path.read_text(encoding="utf-8")]
