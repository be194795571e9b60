"""What is saved belongs together, loads or says why not, and eats nothing of the user's."""

import json

import pytest
from typer.testing import CliRunner

import scmimic as sm
from scmimic import _cli, _demo
from scmimic._files import OutputExistsError

QUIET = {"enable_progress_bar": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of real and generated cells, and a model."""
    folder = tmp_path_factory.mktemp("outputs")
    cells = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
    sm.ACTIVA.setup_anndata(cells, labels_key="cell_type")
    model = sm.ACTIVA(cells, n_latent=2, n_hidden=(8,))
    model.train(1, calibrate_margins=False, calibrate_spread=False, **QUIET)
    model.save(folder / "model", save_anndata=True)
    for name in ("real", "train", "generated"):
        cells.write_h5ad(folder / f"{name}.h5ad")
    (folder / "link.h5ad").symlink_to("real.h5ad")
    (folder / "page.html").write_text("a page")
    (folder / "link.html").symlink_to("real.h5ad")
    (folder / "table.csv").write_text("a table")
    (folder / "file").write_text("a file")
    (folder / "x.zarr").mkdir()
    return folder


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EVALUATE = "evaluate real.h5ad generated.h5ad"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train real.h5ad --out model", "--overwrite"),
        ("train real.h5ad --out file --overwrite", "file is a file"),
        ("train real.h5ad --out file/model", "file is a file"),
        ("train real.h5ad --out real.h5ad --overwrite", "would overwrite FILE"),
        ("train model/adata.h5ad --out model --overwrite", "would overwrite FILE"),
        ("train real.h5ad --out . --overwrite", "would overwrite FILE"),
        ("generate model --n 3 --out real.h5ad", "--overwrite"),
        ("generate model --n 3 --out x.zarr", "--overwrite"),
        ("generate model --n 3 --out new.csv", "must end in .h5ad or .zarr"),
        ("generate model --n 3 --out model --overwrite", "would overwrite MODEL_DIR"),
        ("generate model --n 3 --out model/adata.h5ad --overwrite", "would overwrite MODEL_DIR"),
        ("generate model --n 3 --out nowhere/new.h5ad", "no folder nowhere"),
        (f"{EVALUATE} --report real.h5ad", "would overwrite REAL"),
        (f"{EVALUATE} --report real.h5ad --overwrite", "would overwrite REAL"),
        (f"{EVALUATE} --report link.html --overwrite", "would overwrite REAL"),
        (f"{EVALUATE} --report generated.h5ad --overwrite", "would overwrite SYNTHETIC"),
        (f"{EVALUATE} --train train.h5ad --report train.h5ad --overwrite", "would overwrite --train"),
        (f"{EVALUATE} --reference link.h5ad --report new.html --table link.h5ad --overwrite", "would overwrite"),
        (f"{EVALUATE} --report page.html", "page.html exists already"),
        (f"{EVALUATE} --report page.txt", "must end in .html"),
        (f"{EVALUATE} --report new.html --table table.csv", "table.csv exists already"),
        (f"{EVALUATE} --report new.html --table new.txt", "must end in .csv"),
        (f"{EVALUATE} --report page.html --table page.html --overwrite", "would overwrite --report"),
        (f"{EVALUATE} --report model --overwrite", "is a folder"),
        ("demo --out file", "is a file"),
        ("demo --out .", "folder that you work in"),
    ],
)
def test_commands_refuse_before_the_work(folder, monkeypatch, command, message):
    monkeypatch.chdir(folder)
    before = contents(folder)
    # reading the cells or the model is work
    monkeypatch.setattr("scanpy.read_h5ad", lambda path: pytest.fail(f"{path} is read"))
    monkeypatch.setattr(sm.ACTIVA, "load", lambda *args, **kwargs: pytest.fail("the model is loaded"))
    result = CliRunner().invoke(_cli.app, command.split())
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert message in " ".join(result.stderr.split())
    assert contents(folder) == before


def test_commands_replace_when_told_to(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("new.h5ad", "new.zarr"):
        for seed in ("0", "1"):
            command = ["generate", "model", "--n", "3", "--out", str(tmp_path / name), "--seed", seed, "--overwrite"]
            result = CliRunner().invoke(_cli.app, command)
            assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.h5ad", "new.zarr"]


@pytest.mark.parametrize("name", ["real.h5ad", "x.zarr"])
def test_generate_refuses_what_is_there(folder, name):
    model = sm.ACTIVA.load(folder / "model")
    before = contents(folder)
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        model.generate(3, path=folder / name)
    assert contents(folder) == before


def test_a_place_that_is_taken_meanwhile_stays(tmp_path, folder, monkeypatch):
    model = sm.ACTIVA.load(folder / "model")
    path = tmp_path / "new.h5ad"
    write = sm.model._writing._write

    def slow(*args):
        write(*args)
        path.write_text("of another process")

    monkeypatch.setattr(sm.model._writing, "_write", slow)
    with pytest.raises(OutputExistsError, match="exists already"):
        model.generate(3, path=path)
    assert path.read_text() == "of another process"


def test_report_spares_the_file_that_its_cells_are_read_from(folder, tmp_path):
    (tmp_path / "cells.html").hardlink_to(folder / "real.h5ad")
    backed = sm.ACTIVA.load(folder / "model").generate(3, path=tmp_path / "new.h5ad")
    (tmp_path / "new.html").symlink_to("new.h5ad")
    with pytest.raises(ValueError, match="would overwrite the file of `adata`"):
        sm.report(backed, backed, tmp_path / "new.html", overwrite=True)
    with pytest.raises(OutputExistsError, match="exists already"):
        sm.report(backed, backed, tmp_path / "cells.html")
    backed.file.close()


@pytest.mark.parametrize("written", [[], ["embedding.png", "report.html"], list(_demo.FILES.values())])
@pytest.mark.parametrize("overwrite", [False, True])
def test_demo_replaces_its_own_files_alone(tmp_path, monkeypatch, written, overwrite):
    """Files of an earlier demonstration, as its summary names them, and files of the user."""
    out = tmp_path / "demo"
    out.mkdir()
    for name in [*_demo.FILES.values(), "notes.txt"]:
        (out / name).write_text("mine")
    (out / "summary.json").write_text(json.dumps({"files": {name: name for name in written}}))
    seen = []

    def run(folder, *args):
        seen.append(folder)
        for name in _demo.FILES.values():
            (folder / name).write_text("new")
        return _demo.DemoResult((), 1, 1, 1, 0, 0.0, "0", {})

    monkeypatch.setattr(_demo, "_run", run)
    if overwrite or len(written) == len(_demo.FILES):
        _demo.run_demo(out, overwrite=overwrite)
        assert {(out / name).read_text() for name in _demo.FILES.values()} == {"new"}
    else:
        with pytest.raises(OutputExistsError, match="which no demonstration wrote"):
            _demo.run_demo(out)
        assert not seen
        assert (out / "roc.png").read_text() == "mine"
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
