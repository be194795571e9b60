import importlib.util
import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from typer.testing import CliRunner

import scmimic as sm
from scmimic import _progress
from scmimic._cli import app
from scmimic._cli._errors import own_words
from scmimic._cli._requests import parse_labels

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return invoke


def _error(result):
    """The message of a command that failed as it should: status 1 and a single line."""
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("Error: ")
    return result.stderr


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.strip() == f"scmimic {sm.__version__}"


def test_help_names_every_command(run):
    text = run("--help").stdout
    assert all(command in text for command in ("demo", "train", "generate", "predict", "evaluate"))


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "scmimic", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"scmimic {sm.__version__}"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("`labels_key='no such'`: there is no such column", "--labels no such: there is no such column"),
        ("gene_likelihood='nb' is one of counts (`layer=...`)", "--likelihood nb is one of counts (--layer ...)"),
        ("`covariates` names 'donor'", "--covariate names 'donor'"),
        ("pass `log1p=False`, or `overwrite=True`.", "pass --as-is, or --overwrite."),
        ("`adata.layers['n']` and n cells, `train_size`", "`adata.layers['n']` and n cells, `train_size`"),
        ("50 cells of `adata` are in `train` too", "50 cells of FILE are in --train too"),
        ("model.n=3, `unlabeled_category=None`", 'model.n=3, --unlabeled ""'),
    ],
)
def test_errors_name_options(message, expected):
    assert own_words(message) == expected
    assert own_words("`adata` and `train`", adata="REAL") == "REAL and --train"


@pytest.mark.parametrize(
    ("labels", "n", "expected"),
    [
        (None, 5, None),
        (["B", "T"], 5, ["B", "T"]),
        (["B=3", "T=4"], None, {"B": 3, "T": 4}),
        (["B=3", "B=4"], None, {"B": 7}),
        (["a=b=3"], None, {"a=b": 3}),
        (["a=3"], 5, ["a=3"]),
    ],
)
def test_labels_are_read(labels, n, expected):
    assert parse_labels(labels, n) == expected


@pytest.mark.parametrize(("labels", "n"), [(None, None), (["B"], None), (["B="], None), (["B=-1"], None)])
def test_labels_without_a_number_are_refused(labels, n):
    with pytest.raises(ValueError, match="--n"):
        parse_labels(labels, n)


def test_train_then_generate(run, tmp_path):
    adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, seed=0)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    types = list(adata.obs["cell_type"].cat.categories)[:2]

    assert run("train", "cells.h5ad", "--labels", "cell_type", "--out", "model", "--max-epochs", 2).exit_code == 0
    assert "--overwrite" in _error(run("train", "cells.h5ad", "--labels", "cell_type", "--out", "model"))

    request = ["--labels", f"{types[0]}=7", "--labels", f"{types[1]}=4"]
    for out in ("a.h5ad", "b.h5ad"):
        done = run("generate", "model", *request, "--out", out, "--seed", 3)
        assert done.exit_code == 0, done.output
    a, b = ad.read_h5ad("a.h5ad"), ad.read_h5ad("b.h5ad")
    assert a.obs["cell_type"].value_counts()[types].tolist() == [7, 4]
    assert list(a.var_names) == list(adata.var_names)
    assert (a.X != b.X).nnz == 0

    assert "nosuch" in _error(run("generate", "model", "--n", 3, "--labels", "nosuch", "--out", "c.h5ad"))
    both = run("generate", "model", "--n", 3, "--labels", f"{types[0]}=7", "--out", "c.h5ad")
    assert f"leave --n out, or write '{types[0]}'" in _error(both)
    assert "--n" in _error(run("generate", "model"))


def test_errors_are_one_line(run, tmp_path):
    assert "no file missing.h5ad" in _error(run("train", "missing.h5ad"))
    assert "no folder missing" in _error(run("generate", "missing", "--n", 3))
    (tmp_path / "taken").write_text("")
    assert "taken is a file" in _error(run("demo", "--out", "taken"))
    refused = run("demo", "--epochs", 0)
    assert refused.exit_code == 2 and "Invalid value for '--epochs'" in refused.output


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """One set of cells in both formats."""
    folder = tmp_path_factory.mktemp("cells")
    adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    adata.obsm["X_pca"] = adata.X[:, :3].toarray().astype("float32")
    for name in ("cells.h5ad", "cells.zarr"):
        adata.write(folder / name) if name.endswith("h5ad") else adata.write_zarr(folder / name)
    return folder / "cells"


def test_unknown_options_are_one_line(run, cells):
    train = ["train", f"{cells}.zarr"]
    assert _error(run(*train, "--labels", "nosuch")).startswith("Error: --labels nosuch: ")
    assert _error(run(*train, "--model", "wgangp", "--batch", "batch")) == (
        "Error: WGANGP takes no --batch: leave it out, or choose of ACTIVA, BetaTCVAE.\n"
    )
    assert "takes no --likelihood" in _error(run(*train, "--model", "ACTINN", "--likelihood", "nb"))
    assert "takes no --unlabeled" in _error(run(*train, "--model", "WGANGP", "--unlabeled", "type_1"))
    assert "--labels" in _error(run(*train, "--model", "ACTINN"))
    assert "nosuch" in _error(run(*train, "--model", "MichiGAN", "--codes", "nosuch"))
    assert "not for ACTIVA" in _error(run(*train, "--representation", "model"))
    michigan = [*train, "--model", "MichiGAN", "--representation", "away"]
    assert "no folder away" in _error(run(*michigan))
    assert "leave one out" in _error(run(*michigan, "--codes", "X_pca"))
    assert run(*train, "--model", "nosuch").exit_code == 2


def test_files_that_hold_no_cells_are_one_line(run, cells, tmp_path):
    (tmp_path / "text.h5ad").write_text("no cells")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "cells.loom").write_text("")
    for name in ("text.h5ad", "empty.zarr"):
        assert f"{name} holds no AnnData" in _error(run("train", name))
        assert f"{name} holds no AnnData" in _error(run("evaluate", name, f"{cells}.h5ad"))
    assert "must end in .h5ad or .zarr" in _error(run("train", "cells.loom"))
    assert "no file away.zarr" in _error(run("train", "away.zarr"))


@pytest.mark.parametrize("name", ["BetaTCVAE", "WGANGP", "InfoWGANGP", "MichiGAN"])
def test_every_model_trains_and_generates(run, cells, name):
    """From zarr to zarr; a MichiGAN on the codes of the file."""
    further = ["--codes", "X_pca"] if name == "MichiGAN" else []
    train = ["train", f"{cells}.zarr", "--model", name.lower(), "--labels", "cell_type", *further]
    done = run(*train, "--max-epochs", 1, "--out", "model")
    assert done.exit_code == 0, done.output
    assert f"Trained {name} on 60 cells x 20 genes" in done.stdout
    told = done.stderr
    done = run("generate", "model", "--n", 7, "--labels", "type_1", "--out", "new.zarr")
    assert done.exit_code == 0, done.output
    new = ad.read_zarr("new.zarr")
    assert new.obs["cell_type"].tolist() == ["type_1"] * 7
    assert new.uns["scmimic"]["model"] == name
    assert "exists already" in _error(run("generate", "model", "--n", 7, "--out", "new.zarr"))
    assert run("generate", "model", "--n", 8, "--out", "new.zarr", "--overwrite", "--resume").exit_code == 0
    assert ad.read_zarr("new.zarr").n_obs == 8
    if name == "BetaTCVAE":
        # counts, where logarithms are expected: a warning, in the words of the command line
        assert "--likelihood normal expects log expression" in told and "UserWarning" not in told
        assert "knows neither" in _error(run("generate", "model", "--n", 3, "--covariate", "a=1", "--out", "b.h5ad"))
        michigan = ["train", f"{cells}.h5ad", "--model", "MichiGAN", "--representation", "model", "--max-epochs", 1]
        done = run(*michigan, "--out", "michigan")
        assert done.exit_code == 0, done.output
        assert sm.MichiGAN.load("michigan").representation_class_.endswith("BetaTCVAE")
    else:
        message = _error(run("generate", "model", "--n", 3, "--covariate", "donor=1", "--out", "b.h5ad"))
        assert f"{name} takes no --covariate" in message


def test_classifier_predicts(run, cells):
    train = ["train", f"{cells}.h5ad", "--model", "ACTINN", "--labels", "cell_type"]
    done = run(*train, "--max-epochs", 2, "--out", "model")
    assert done.exit_code == 0, done.output
    done = run("predict", "model", f"{cells}.zarr")
    assert done.exit_code == 0, done.output
    adata = ad.read_h5ad(f"{cells}.h5ad")
    types = pd.read_csv("types.csv", index_col="cell")
    assert types.index.astype(str).tolist() == adata.obs_names.tolist()
    assert types.columns.tolist() == ["cell_type"]
    expected = sm.ACTINN.load("model").predict(adata)
    assert types["cell_type"].tolist() == expected.tolist()
    assert "exists already" in _error(run("predict", "model", f"{cells}.zarr"))
    done = run("predict", "model", f"{cells}.zarr", "--overwrite", "--probabilities")
    assert done.exit_code == 0, done.output
    assert pd.read_csv("types.csv", index_col="cell").sum(axis=1).round(5).eq(1).all()
    assert "generates no cells" in _error(run("generate", "model", "--n", 3))
    assert "no folder" in _error(run("predict", "away", f"{cells}.zarr", "--overwrite"))


@pytest.fixture
def files(tmp_path):
    cells = sm.datasets.synthetic_counts(n_obs=300, n_vars=25, seed=0)
    train, real = cells[:150].copy(), cells[150:].copy()
    counts = real.obs["cell_type"].value_counts()
    synthetic = sm.baselines.Multinomial(train, labels_key="cell_type").fit().generate(labels=counts, seed=0)
    for name, a in {"train": train, "real": real, "synthetic": synthetic}.items():
        a.write_h5ad(tmp_path / f"{name}.h5ad")


def test_evaluate_writes_page_and_table(run, files, tmp_path):
    args = ["--labels", "cell_type", "--train", "train.h5ad", "--report", "out.html", "--table", "out.csv"]
    args += ["--json", "out.json"]
    done = run("evaluate", "real.h5ad", "synthetic.h5ad", *args, "--metrics", "mmd", "--metrics", "dcr_ratio")
    assert done.exit_code == 0, done.output
    assert "Report in out.html" in done.stdout
    assert "New? " in done.stdout
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    table = pd.read_csv(tmp_path / "out.csv")
    assert {"mmd", "dcr_ratio"} <= set(table["metric"])
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["verdict"]["headline"] in done.stdout
    again = ["evaluate", "real.h5ad", "synthetic.h5ad", "--report", "new.html"]
    assert "out.json exists already: choose another --json" in _error(run(*again, "--json", "out.json"))
    assert "--json must end in .json" in _error(run(*again, "--json", "out.txt"))
    assert not (tmp_path / "new.html").exists()


def test_evaluate_ends_with_3_where_the_numbers_mean_nothing(run, files, tmp_path):
    """Other spaces and copies; cells that are only bad are a result."""
    real, train = ad.read_h5ad("real.h5ad"), ad.read_h5ad("train.h5ad")
    logs, poor, train.uns = real.copy(), real.copy(), {}
    logs.X = logs.X.log1p()
    poor.X = sp.csr_matrix(np.random.default_rng(0).poisson(real.X.mean(axis=0).A1[None], real.shape).astype("float32"))
    for name, cells in {"logs": logs, "poor": poor, "copies": train}.items():
        cells.write_h5ad(f"{name}.h5ad")
    found = {}
    for name in ("logs", "copies", "poor"):
        args = ["--train", "train.h5ad", "--report", f"{name}.html", "--trees", 10, "--metrics", "rf_auc_genes"]
        args += ["--json", f"{name}.json"]
        found[name] = run("evaluate", "real.h5ad", f"{name}.h5ad", *args, "--metrics", "duplicates")
        assert f"Report in {name}.html" in found[name].stdout and (tmp_path / f"{name}.html").exists()
    assert {name: one.exit_code for name, one in found.items()} == {"logs": 3, "copies": 3, "poor": 0}
    verdicts = {name: json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["verdict"] for name in found}
    assert {name: one["is_meaningful"] for name, one in verdicts.items()} == {
        "logs": False,
        "copies": False,
        "poor": True,
    }
    assert "cannot be compared" in found["logs"].stdout and "copies" in found["copies"].stdout
    assert "Not real yet" in found["poor"].stdout
    assert "exit status is 3" in " ".join(run("evaluate", "--help").stdout.split())


def test_progress_in_a_file_is_lines_on_stderr(run, files, monkeypatch):
    monkeypatch.setattr(_progress, "DELAY", 0)
    monkeypatch.setattr(_progress, "_LINES", 0.01)
    # long enough for many lines
    args = ["--metrics", "rf_auc_genes", "--trees", 10, "--report", "out.html"]
    done = run("evaluate", "real.h5ad", "synthetic.h5ad", *args)
    assert re.search(r"^Evaluating \(rf_auc_genes\): 0 of 1, \d+ s$", done.stderr, flags=re.MULTILINE), done.output
    assert "Evaluating: done, " in done.stderr and "Evaluating" not in done.stdout
    done = run("train", "train.h5ad", "--labels", "cell_type", "--max-epochs", 3, "--out", "model")
    assert "Training: 1 of 3, " in done.stderr and "Training: done, " in done.stderr
    # nothing is left of it
    notes = logging.getLogger("scmimic._progress")
    assert not notes.handlers and notes.propagate and notes.level == logging.NOTSET


def test_evaluate_errors_are_one_line(run, files, tmp_path):
    assert "no file missing.h5ad" in _error(run("evaluate", "missing.h5ad", "synthetic.h5ad"))
    assert "no file nosuch.h5ad" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--train", "nosuch.h5ad"))
    assert "--labels nosuch" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--labels", "nosuch"))
    assert "'fid'" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--metrics", "fid"))
    cut = ad.read_h5ad("synthetic.h5ad")[:, :10].copy()
    cut.write_h5ad(tmp_path / "cut.h5ad")
    assert "same genes" in _error(run("evaluate", "real.h5ad", "cut.h5ad"))
    assert "no folder away" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--report", "away/out.html"))
    assert "no folder away" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--table", "away/out.csv"))
    ad.read_h5ad("real.h5ad")[:3].copy().write_h5ad("few.h5ad")
    assert "3 real cells, and 1 to compare: too few" in _error(run("evaluate", "few.h5ad", "synthetic.h5ad"))
    assert not list(tmp_path.glob("*.html"))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A model that knows plate, donor and dose, and the table of its cells."""
    folder = tmp_path_factory.mktemp("told")
    adata = sm.datasets.synthetic_counts(n_obs=120, n_vars=20, seed=0)
    adata.obs["donor"] = ["1015", "1016", "1244"] * 40
    adata.obs["dose"] = [0.5, 1.0] * 60
    adata.write_h5ad(folder / "cells.h5ad")
    keys = ["--labels", "cell_type", "--batch", "batch", "--covariate", "donor", "--continuous-covariate", "dose"]
    args = ["train", folder / "cells.h5ad", *keys, "--out", folder / "model", "--max-epochs", 1]
    done = CliRunner().invoke(app, [str(arg) for arg in args])
    assert done.exit_code == 0, done.output
    return folder


def test_generate_by_covariates(run, told):
    asked = ["--covariate", "donor=1015", "--covariate", "donor=1244", "--covariate", "dose=0.75"]
    done = run("generate", told / "model", "--n", 10, *asked, "--out", "a.h5ad")
    assert done.exit_code == 0, done.output
    obs = ad.read_h5ad("a.h5ad").obs
    assert obs["donor"].astype(str).value_counts().to_dict() == {"1015": 5, "1244": 5}
    assert (obs["dose"] == 0.75).all()
    assert "not seen" in _error(run("generate", told / "model", "--n", 3, "--covariate", "donor=9", "--out", "b.h5ad"))
    assert "is none" in _error(run("generate", told / "model", "--n", 3, "--covariate", "dose=x", "--out", "b.h5ad"))
    assert "VALUE" in _error(run("generate", told / "model", "--n", 3, "--covariate", "dose", "--out", "b.h5ad"))


def test_generate_like_a_table(run, told):
    table = pd.DataFrame({"donor": [1244, 1015, 1016], "dose": [1, 0.5, 0.5], "cell_type": ["type_1"] * 3})
    table.to_csv("like.csv", index=False)
    done = run("generate", told / "model", "--like", "like.csv", "--out", "a.h5ad")
    assert done.exit_code == 0, done.output
    obs = ad.read_h5ad("a.h5ad").obs
    assert obs["donor"].tolist() == ["1244", "1015", "1016"]
    assert obs["dose"].tolist() == [1, 0.5, 0.5]
    done = run("generate", told / "model", "--like", told / "cells.h5ad", "--out", "b.h5ad")
    assert done.exit_code == 0, done.output
    keys = ["cell_type", "batch", "donor", "dose"]
    real, twin = ad.read_h5ad(told / "cells.h5ad").obs, ad.read_h5ad("b.h5ad").obs
    assert twin[keys].astype(str).to_numpy().tolist() == real[keys].astype(str).to_numpy().tolist()
    assert "leave --n" in _error(run("generate", told / "model", "--like", "like.csv", "--n", 3, "--out", "c.h5ad"))
    assert "no file" in _error(run("generate", told / "model", "--like", "no.csv", "--out", "c.h5ad"))
    assert "must end in" in _error(
        run("generate", told / "model", "--like", told / "model/model.pt", "--out", "c.h5ad")
    )


def test_page_has_every_option():
    """The guide's page is what `python docs/command_line.py` writes."""
    spec = importlib.util.spec_from_file_location("command_line", ROOT / "docs" / "command_line.py")
    docs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(docs)
    text = docs.reference()
    assert all(word in text for word in ("### `scmimic predict MODEL_DIR FILE", "`--overwrite`", "`--version`"))
    assert docs.PAGE.read_text(encoding="utf-8").endswith(text)
