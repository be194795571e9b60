import anndata as ad
import pandas as pd
import pytest
from typer.testing import CliRunner

import scmimic as sm
from scmimic._cli import _parse_labels, app


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
    assert all(command in text for command in ("demo", "train", "generate"))


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
    assert _parse_labels(labels, n) == expected


@pytest.mark.parametrize(("labels", "n"), [(None, None), (["B"], None), (["B="], None), (["B=-1"], None)])
def test_labels_without_a_number_are_refused(labels, n):
    with pytest.raises(ValueError, match="--n"):
        _parse_labels(labels, n)


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
    assert "--n" in _error(run("generate", "model"))


def test_errors_are_one_line(run, tmp_path):
    assert "no file missing.h5ad" in _error(run("train", "missing.h5ad"))
    assert "no folder missing" in _error(run("generate", "missing", "--n", 3))
    (tmp_path / "taken").write_text("")
    assert "taken is a file" in _error(run("demo", "--out", "taken"))
    refused = run("demo", "--epochs", 0)
    assert refused.exit_code == 2 and "Invalid value for '--epochs'" in refused.output


def test_unknown_column_is_one_line(run, tmp_path):
    sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0).write_h5ad(tmp_path / "cells.h5ad")
    assert "nosuch" in _error(run("train", "cells.h5ad", "--labels", "nosuch"))


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
    done = run("evaluate", "real.h5ad", "synthetic.h5ad", *args, "--metrics", "mmd", "--metrics", "dcr_ratio")
    assert done.exit_code == 0, done.output
    assert "Report in out.html" in done.stdout
    assert "New? " in done.stdout
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    table = pd.read_csv(tmp_path / "out.csv")
    assert {"mmd", "dcr_ratio"} <= set(table["metric"])


def test_evaluate_errors_are_one_line(run, files, tmp_path):
    assert "no file missing.h5ad" in _error(run("evaluate", "missing.h5ad", "synthetic.h5ad"))
    assert "no file nosuch.h5ad" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--train", "nosuch.h5ad"))
    assert "'nosuch'" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--labels", "nosuch"))
    assert "'fid'" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--metrics", "fid"))
    cut = ad.read_h5ad("synthetic.h5ad")[:, :10].copy()
    cut.write_h5ad(tmp_path / "cut.h5ad")
    assert "same genes" in _error(run("evaluate", "real.h5ad", "cut.h5ad"))
    assert "no folder away" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--report", "away/out.html"))
    assert "no folder away" in _error(run("evaluate", "real.h5ad", "synthetic.h5ad", "--table", "away/out.csv"))
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
