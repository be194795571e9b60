"""Tutorials run with other cells than those that they show, in their own kernel."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from mudata import MuData

import scmimic as sm

# of mudata, where the cells are written
pytestmark = pytest.mark.filterwarnings("ignore:From 0.4 .update:FutureWarning")
DOCS = Path(__file__).parents[1] / "docs"
spec = importlib.util.spec_from_file_location("execute", DOCS / "execute.py")
execute = importlib.util.module_from_spec(spec)
spec.loader.exec_module(execute)

SMALL = {
    "max_epochs": 2,
    "max_epochs_gan": 2,
    "min_genes": 10,
    "n_cells": 400,
    "n_generated": 9000,
    "n_known": 5,
    "n_synthetic": 100,
    "n_top_genes": 80,
    "n_trees": 10,
}
"""Values for whichever of these parameters a notebook has."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    return _written(tmp_path_factory.mktemp("cells"))


def _written(folder):
    """Where cells of three types in two conditions are written, and what their columns are called."""
    adata = sm.datasets.synthetic_counts(500, 120, n_labels=3, n_batches=2, seed=0)
    adata.obs = adata.obs.rename(columns={"cell_type": "kind", "batch": "treatment"})
    adata.obs["person"] = np.random.default_rng(0).choice(["a", "b", "c"], adata.n_obs)
    adata.write_h5ad(folder / "cells.h5ad")
    proteins = sm.datasets.synthetic_counts(500, 12, n_labels=3, seed=0)
    proteins.var_names = [f"protein_{number}" for number in range(12)]
    MuData({"rna": adata, "prot": proteins}).write(folder / "cells.h5mu")
    columns = {"labels_key": "kind", "batch_key": "treatment", "condition_key": "treatment", "donor_key": "person"}
    return columns | {"path": str(folder / "cells.h5ad")}


@pytest.fixture(scope="module")
def kernel():
    with execute.kernel() as manager:
        yield manager


@pytest.mark.parametrize("name", execute.NAMES)
def test_a_tutorial_runs_on_other_cells(name, cells, kernel, tmp_path):
    notebook = execute.read(name)
    known = execute.parameters(notebook)
    given = {"path": cells["path"].replace("h5ad", "h5mu")} if "protein_key" in known else cells
    execute.run(notebook, {key: value for key, value in (SMALL | given).items() if key in known}, tmp_path, kernel)


@pytest.mark.parametrize("name", execute.NAMES)
def test_what_a_tutorial_shows_is_its_own_and_small(name):
    notebook = execute.read(name)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run docs/execute.py"
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error"]
    # warnings that the text speaks of
    quiet = [cell for cell in code if "warns" not in cell.metadata.get("tags", ())]
    assert not [output for cell in quiet for output in cell.outputs if output.get("name") == "stderr"]
    assert (execute.FOLDER / f"{name}.ipynb").stat().st_size < 2**20
    texts = [output.get("text") or output.data.get("text/plain", "") for output in outputs]
    assert not [text for text in texts if re.search(rf"/(tmp|home|root|work|Users)/|{DOCS.parent}", text)]


def test_only_parameters_of_the_notebook_can_be_set(tmp_path):
    with pytest.raises(ValueError, match="epocs"):
        execute.run(execute.read("your_own_cells"), {"epocs": 2}, tmp_path, None)
