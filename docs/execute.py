"""Run tutorials and keep what they show: ``python docs/execute.py your_own_cells``, all of them without a name.

Each notebook begins with a cell tagged `parameters`. Values given here take the place of the cell's own, and are not
written: ``python docs/execute.py your_own_cells --set path='"cells.h5ad"' --set max_epochs=20``.
"""

from __future__ import annotations

import argparse
import ast
import base64
import io
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import KernelManager
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

FOLDER = Path(__file__).parent / "tutorials"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# bars, drawn again after each carriage return, those of the time alone, and what Lightning says of scvi.settings.seed
_PASSING = re.compile(r"[^\n]*\r|[^\n]*\d+%\|[^\n]*\n?|[^\n:]*: \d\d:\d\d\n?|Seed set to \d+\n")
# the file that a cell is for Python, and the line of it
_WHERE = re.compile(r"\S*ipykernel_\S+: (\w+: [^\n]*)\n  [^\n]*\n")
_ENVIRONMENT = {
    # pictures go into the notebook, whatever the shell asks for
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # tqdm misses the widgets that Jupyter brings
    "PYTHONWARNINGS": "ignore:IProgress not found",
}


def read(name: str) -> NotebookNode:
    """Return a notebook by its name."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def parameters(notebook: NotebookNode) -> dict[str, Any]:
    """Return names and values that the notebook's cell of parameters sets."""
    found = {}
    for line in ast.parse(_parameters_cell(notebook).source).body:
        if isinstance(line, ast.Assign):
            found[ast.unparse(line.targets[0])] = ast.literal_eval(line.value)
    return found


@contextmanager
def kernel() -> Iterator[KernelManager]:
    """Start a kernel for several notebooks, which need not import and compile everything again."""
    manager, client = start_new_kernel(env=os.environ | _ENVIRONMENT)
    try:
        yield manager
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(notebook: NotebookNode, values: Mapping[str, Any], folder: str | os.PathLike, manager: KernelManager) -> None:
    """Run a notebook in a folder, with values in the place of its own parameters; its outputs are replaced.

    Raises
    ------
    ValueError
        If a value is of no parameter of the notebook.
    nbclient.exceptions.CellExecutionError
        If a cell raises.
    """
    unknown = values.keys() - parameters(notebook).keys()
    if unknown:
        raise ValueError(f"No parameters of the notebook: {sorted(unknown)}.")
    cell = _parameters_cell(notebook)
    own = cell.source
    cell.source = "\n".join([own, *(f"{name} = {value!r}" for name, value in values.items())])
    # names of a notebook before; what Python and IPython have there themselves stays
    clean = f"%reset_selective -f ^(?!_|In$|Out$|get_ipython$|exit$|quit$|open$)\n%cd -q {folder}"
    try:
        _execute(new_notebook(cells=[new_code_cell(clean)]), manager)
        _execute(notebook, manager)
    finally:
        cell.source = own


def _execute(notebook: NotebookNode, manager: KernelManager) -> None:
    runner = NotebookClient(notebook, km=manager, timeout=None, record_timing=False)
    try:
        runner.execute()
    finally:
        # nbclient leaves them open for a kernel that goes on
        if runner.kc is not None:
            runner.kc.stop_channels()


def tidy(notebook: NotebookNode) -> None:
    """Leave out of the outputs what says nothing to a reader, count from 1, and make pictures small."""
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), 1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
            if output.output_type == "stream":
                output.text = _WHERE.sub(r"\1\n", _PASSING.sub("", output.text))
            elif picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = _smaller(picture)
        cell.outputs = [output for output in cell.outputs if output.get("text", "shown").strip()]


def _smaller(picture: str) -> str:
    """Return a PNG with 128 colours, which curves and points do with."""
    file = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").quantize(128).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def _parameters_cell(notebook: NotebookNode) -> NotebookNode:
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    return cell


def main() -> None:
    """Run the notebooks that are named, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, as Python")
    arguments = parser.parse_args()
    values = {name: ast.literal_eval(value) for name, value in (one.split("=", 1) for one in arguments.set)}
    for name in arguments.names or NAMES:
        notebook = read(name)
        with tempfile.TemporaryDirectory() as folder, kernel() as manager:
            run(notebook, values, folder, manager)
        tidy(notebook)
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main()
