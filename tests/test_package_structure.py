"""Rules of the code base that a reader may rely on, read from the sources and the signatures."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import doctest
import graphlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpydoc.validate
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import scmimic as sm

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "scmimic"
FILES = sorted(SRC.rglob("*.py"))

# What each part may import from scmimic besides itself. Helpers know no part; only the demonstration knows all.
HELPERS = {
    "_arguments",
    "_arrays",
    "_compat",
    "_extras",
    "_files",
    "_interrupts",
    "_keys",
    "_noise",
    "_plain",
    "_progress",
    "_random",
    "_reprs",
    "_version",
}
MAY_IMPORT = {
    "metrics": {"_arguments", "_arrays", "_reprs"},
    "cells": {"_arguments", "_arrays", "_compat", "_extras", "_files", "_keys", "_plain", "_version"},
    "nn": set(),
    "model": {*HELPERS, "baselines", "cells", "metrics", "nn"},
    "module": {"model"},
    "train": {"model"},
    "pp": {"_arguments", "_arrays", "_keys", "cells", "metrics"},
    "datasets": {"_arguments", "_files", "_keys", "_version", "cells", "metrics", "pp"},
    "baselines": {
        *("_arguments", "_arrays", "_extras", "_interrupts", "_keys", "_noise", "_progress", "_random"),
        *("cells", "metrics", "pp"),
    },
    "tl": {*HELPERS, "baselines", "cells", "metrics", "model", "pp"} - {"_files", "_plain"},
    "pl": {"_arguments", "_arrays", "_files", "_keys", "cells", "metrics", "model", "tl"},
    "_arguments": set(),
    "_arrays": {"_arguments"},
    "_compat": set(),
    "_extras": set(),
    "_files": set(),
    "_interrupts": set(),
    "_keys": set(),
    "_noise": set(),
    "_plain": set(),
    "_progress": set(),
    "_random": {"_noise"},
    "_reprs": set(),
    "_version": set(),
    "_demo": {*HELPERS, "_report", "baselines", "cells", "datasets", "metrics", "model", "pl", "pp", "tl"},
    "_report": {"_arguments", "_files", "_keys", "_progress", "_version", "cells", "metrics", "pl", "tl"},
    "_cli": {"", "_demo", "_files", "_interrupts", "_progress", "cells", "model", "tl"},
    "__main__": {"_cli"},
    "": {"_report", "baselines", "datasets", "metrics", "model", "module", "nn", "pl", "pp", "tl", "train"},
}
# What users have of the models' networks and plans stands in the files of the models.
FACES = ("module", "train")
# What may also be imported within functions, against that direction: an object's own view of itself.
MAY_IMPORT_LATE = {
    # the finished evaluation draws itself and writes its page
    "scmimic.tl.evaluation._result": {"pl", "_report"},
    # the model's own account of its cells takes the measures of the evaluation
    "scmimic.model.base._realism": {"tl"},
}
# What each folder of model/ may import of the others.
MODEL_FOLDERS = {
    # the networks of autoencoders, which the comparison with the training cells asks
    "generation": {"base"},
    "base": {"generation"},
    "actinn": {"base"},
    "activa": {"actinn", "base", "generation"},
    "beta_tcvae": {"base", "generation"},
    "gan": {"base", "generation"},
}
NOT_FOR_METRICS = {"anndata", "mudata", "scanpy", "scvi", "torch", "lightning", "matplotlib"}
FUNCTION_PARTS = ("pp", "tl", "pl", "metrics", "datasets")
CLASS_PARTS = ("model", "baselines")
# Each needs this many things of equal standing that have no sensible default.
MORE_POSITIONAL = {
    "report": 3,
    "tl.generate_distributed": 3,
    "pp.downsample_label": 3,
    "metrics.differential_expression": 4,
    "metrics.discriminator_auc_per_label": 4,
    "metrics.distance_to_closest_record": 3,
    "metrics.duplicate_fraction": 3,
    "metrics.inception_score": 3,
    "metrics.label_agreement": 4,
    "metrics.latent_entropy": 3,
    "metrics.membership_inference": 3,
    "metrics.nearest_neighbor_distance_ratio": 3,
}
# numpydoc's own codes: summary, parameters (missing, unknown, out of order), returns, yields, section order.
DOCSTRING_CODES = {"GL06", "GL07", "GL08", "SS01", "PR01", "PR02", "PR03", "PR07", "RT01", "YD01"}
ANNDATA_SLOTS = {"obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers"}


def _name(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in FILES}


def _imports(tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Every import in a tree, as (module, name) pairs."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import, line {node.lineno}"
            yield from ((node.module, alias.name) for alias in node.names)


def _targets(tree: ast.AST) -> Iterator[str]:
    """Names of the scmimic modules that a tree imports."""
    for module, name in _imports(tree):
        if module.split(".")[0] == "scmimic":
            inner = f"{module}.{name}"
            yield inner if inner in MODULES else module


def _part(module: str) -> str:
    return (module.split(".") + [""])[1]


def _late(module: str) -> set[str]:
    """Modules that a module imports within functions, and may."""
    functions = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.FunctionDef)]
    targets = {target for function in functions for target in _targets(function)}
    return {target for target in targets if _part(target) in MAY_IMPORT_LATE.get(module, ())}


def _public() -> Iterator[tuple[str, object]]:
    for part in (*FUNCTION_PARTS, *CLASS_PARTS):
        package = getattr(sm, part)
        yield from ((f"{part}.{name}", getattr(package, name)) for name in package.__all__)
    yield from ((name, getattr(sm, name)) for name in ("evaluate", "Evaluation", "report"))


PUBLIC = dict(_public())
FUNCTIONS = {name: obj for name, obj in PUBLIC.items() if inspect.isfunction(obj)}
CLASSES = {name: obj for name, obj in PUBLIC.items() if inspect.isclass(obj)}
METHODS = {
    f"{name}.{attribute}": member
    for name, cls in CLASSES.items()
    for attribute, member in inspect.getmembers(cls, callable)
    if not attribute.startswith("_") and getattr(member, "__module__", "").startswith("scmimic")
}


def _type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    part = _part(module)
    assert part in MAY_IMPORT, f"say in MAY_IMPORT what {part} may import"
    forbidden = {
        target
        for target in _targets(MODULES[module])
        if _part(target) not in MAY_IMPORT[part] | {part} and target not in _late(module)
    }
    assert not forbidden, f"{module} must not import {sorted(forbidden)}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("scmimic.model.")])
def test_models_know_what_they_are_made_of(module):
    """A model's folder imports the bases, and ACTIVA its classifier; no folder imports another model."""
    folder = module.split(".")[2]
    assert folder in MODEL_FOLDERS, f"say in MODEL_FOLDERS what model/{folder} may import"
    used = {target.split(".")[2] for target in _targets(MODULES[module]) if target.startswith("scmimic.model.")}
    forbidden = used - MODEL_FOLDERS[folder] - {folder}
    assert not forbidden, f"{module} must not import {sorted(forbidden)}"


def test_models_stand_on_three_bases():
    bases = {
        cls.__name__: [base.__name__ for base in cls.__bases__] for cls in map(vars(sm.model).get, sm.model.__all__)
    }
    assert bases == {
        "ACTINN": ["CellModel"],
        **dict.fromkeys(("ACTIVA", "BetaTCVAE"), ["GenerativeVAE"]),
        **dict.fromkeys(("InfoWGANGP", "MichiGAN", "WGANGP"), ["GenerativeGAN"]),
    }


@pytest.mark.parametrize("module", MODULES)
def test_no_class_has_many_bases(module):
    classes = [node for node in ast.walk(MODULES[module]) if isinstance(node, ast.ClassDef)]
    many = [node.name for node in classes if len(node.bases) > 5]
    assert not many, f"{many} have more than five bases: let one hold another"


def test_no_circular_imports():
    graph = {}
    for name, tree in MODULES.items():
        eager = ast.Module([node for node in tree.body if not _type_checking(node)], [])
        graph[name] = set(_targets(eager)) - {name} - _late(name)
    # a cycle raises CycleError, which names it
    assert set(graphlib.TopologicalSorter(graph).static_order()) >= set(MODULES)


@pytest.mark.parametrize("module", [m for m in MODULES if _part(m) == "metrics"])
def test_metrics_know_arrays_only(module):
    assert not {name.split(".")[0] for name, _ in _imports(MODULES[module])} & NOT_FOR_METRICS


@pytest.mark.parametrize("module", [m for m in MODULES if m != "scmimic._compat"])
def test_private_names_of_scvi_stand_in_compat_alone(module):
    private = [
        f"{path}.{name}"
        for path, name in _imports(MODULES[module])
        if path.split(".")[0] == "scvi" and any(part.startswith("_") for part in [*path.split("."), name or ""])
    ]
    assert not private, f"import {private} through scmimic._compat"


@pytest.mark.parametrize("module", MODULES)
def test_private_names_stay_within_their_part(module):
    private = [
        f"{path}.{name}"
        for path, name in _imports(MODULES[module])
        if path.split(".")[0] == "scmimic"
        and _part(path) != _part(module)
        and re.match("_[^_]", name or "")
        and f"{path}.{name}" not in MODULES
    ]
    assert not private, f"{private} are used outside of their part: drop the underscore"


@pytest.mark.parametrize("module", [m for m in MODULES if _part(m) not in FACES])
def test_private_files_stay_within_their_part(module):
    private = {
        target
        for target in _targets(MODULES[module])
        if _part(target) != _part(module) and any(name.startswith("_") for name in target.split(".")[2:])
    }
    assert not private, f"{sorted(private)} are files of another part: import from what its packages export"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_printed(module):
    calls = (node.func for node in ast.walk(MODULES[module]) if isinstance(node, ast.Call))
    assert not any(isinstance(func, ast.Name) and func.id in {"print", "pprint"} for func in calls)


@pytest.mark.parametrize("module", MODULES)
def test_import_does_nothing(module):
    bare = [
        ast.unparse(node)
        for node in MODULES[module].body
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
    ]
    assert not bare, f"statements that run at import: {bare}"


@pytest.mark.parametrize("module", [m for m in MODULES if m != "scmimic._keys"])
def test_names_written_into_anndata_stand_in_keys(module):
    written = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ANNDATA_SLOTS
        and (isinstance(node.slice, ast.JoinedStr) or isinstance(getattr(node.slice, "value", None), str))
    ]
    assert not written, f"move these names to scmimic._keys: {written}"


def test_import_pulls_in_no_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [req for extra in project["optional-dependencies"].values() for req in extra]
    extras = {re.match(r"[\w-]+", req)[0].lower().replace("-", "_") for req in requirements} - {"scmimic"}
    code = (
        "import json, logging, sys\n"
        "import matplotlib.pyplot, scanpy, scvi, sklearn, umap\n"
        "before, handlers = set(sys.modules), list(logging.root.handlers)\n"
        "import scmimic\n"
        "for name in scmimic.__all__: getattr(scmimic, name)\n"
        "assert logging.root.handlers == handlers\n"
        "sys.stdout.write('\\n' + json.dumps(sorted({m.split('.')[0].lower() for m in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "scmimic" in loaded
    assert not loaded & extras


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signature(name):
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if name.startswith(("pp.", "tl.")) and name != "tl.generate_distributed":
        assert positional[0].name == "adata"
    limit = MORE_POSITIONAL.get(name, 2)
    assert len(positional) <= limit, f"keyword-only from the argument {positional[limit].name} on"
    missing = [p.name for p in parameters if p.annotation is p.empty]
    assert not missing, f"no type for {missing}"
    assert inspect.signature(FUNCTIONS[name]).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.startswith("pl.")])
def test_plots_take_the_usual_arguments(name):
    assert {"ax", "show", "return_fig", "save"} <= set(inspect.signature(FUNCTIONS[name]).parameters)


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *METHODS])
def test_docstring_is_complete(name):
    found = numpydoc.validate.validate(f"scmimic.{name}")["errors"]
    # fields of a dataclass are described where they stand, not again as parameters of its constructor
    ignored = {"PR01"} if dataclasses.is_dataclass(PUBLIC.get(name)) else set()
    errors = [message for code, message in found if code in DOCSTRING_CODES - ignored]
    assert not errors, errors


@pytest.mark.parametrize("name", [*FUNCTIONS, *(n for n in CLASSES if n.split(".")[0] in CLASS_PARTS), *METHODS])
def test_docstring_has_an_example(name):
    described = PUBLIC.get(name) or METHODS[name]
    if inspect.isabstract(described):
        return
    # indented or not: Python 3.13 removes the indentation
    assert doctest.DocTestParser().get_examples(described.__doc__), "no doctest under Examples"


def _raised(function) -> set[str]:
    """Exceptions that a function raises in its own body."""
    names = set()
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            callee = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(callee, ast.Name) and hasattr(builtins, callee.id):
                names.add(callee.id)
    return names


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_docstring_names_what_is_raised(name):
    function = FUNCTIONS.get(name) or METHODS[name]
    section = re.search(r"^\s*Raises\n\s*-+\n(.*?)(\n\s*\w+\n\s*-+\n|\Z)", function.__doc__, re.MULTILINE | re.DOTALL)
    documented = section[1] if section else ""
    missing = {error for error in _raised(function) if error not in documented}
    assert not missing, f"add to Raises: {sorted(missing)}"


def test_every_public_object_is_in_the_api_page():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").split()
    missing = [name for name in PUBLIC if name not in page]
    assert not missing, f"add to docs/api.md: {missing}"


def test_top_level_names():
    assert set(sm.__all__) >= {"ACTINN", "ACTIVA", "__version__", *FUNCTION_PARTS, *CLASS_PARTS}
    assert all(hasattr(sm, name) for name in sm.__all__)
    for part in (sm, *(getattr(sm, name) for name in (*FUNCTION_PARTS, *CLASS_PARTS, *FACES, "nn"))):
        assert dir(part) == sorted(part.__all__)
    with pytest.raises(AttributeError, match="nosuch"):
        _ = sm.nosuch


def test_lazy_names_are_those_that_type_checkers_see():
    """What stands under TYPE_CHECKING is what `__getattr__` gives, from the same places."""
    (checked,) = (node for node in MODULES["scmimic"].body if _type_checking(node))
    seen = {name: module for module, name in _imports(checked)}
    assert set(seen) >= set(sm.__all__) - {"__version__"}
    for name, module in seen.items():
        value = getattr(sm, name)
        assert value is sys.modules.get(f"{module}.{name}", getattr(sys.modules[module], name))


@pytest.mark.parametrize("code", ["import scmimic", "from scmimic._cli import app"])
def test_import_is_light(code):
    """Seconds of imports come with what needs them, not with `scmimic --help`."""
    code = f"import json, sys\n{code}\nsys.stdout.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"anndata", "lightning", "matplotlib", "numpy", "pandas", "scanpy", "scipy", "scvi", "sklearn", "torch"}
    assert not heavy & set(json.loads(done.stdout))


def test_readme_has_two_commands_for_a_fresh_clone():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if line.startswith("python3 -m venv")]
    assert [command.split()[-1] for command in commands] == ["demo", "2"]
    assert all("-c constraints.txt" in command for command in commands)


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"version: {project['version']}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-latest.txt"])
def test_tested_versions_are_allowed_ones(name):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (inner,) = (requirement for requirement in map(Requirement, extras["test"]) if requirement.extras)
    needed = [*project["dependencies"], *extras["test"], *(one for extra in inner.extras for one in extras[extra])]
    lines = [Requirement(line) for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    tested = {canonicalize_name(line.name): next(iter(line.specifier)).version for line in lines}
    assert len(tested) == len(lines)
    for requirement in map(Requirement, needed):
        if not requirement.extras:
            version = tested[canonicalize_name(requirement.name)]
            assert version in requirement.specifier, f"{name} has {version}, pyproject.toml asks for {requirement}"
