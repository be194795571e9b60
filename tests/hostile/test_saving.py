"""What is saved belongs together, loads or says why not, and eats nothing of the user's."""

import importlib
import json
import os
import pickle
import pickletools
import subprocess
import sys
import zipfile

import anndata as ad
import numpy as np
import pytest
import scvi
import torch
from small_models import CLASSES, QUIET, cells, fit
from typer.testing import CliRunner

import scmimic as sm
from scmimic import _cli, _demo
from scmimic._files import OutputExistsError
from scmimic.model.generation import _output


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
    monkeypatch.setattr("scmimic.cells.read_cells", lambda path: pytest.fail(f"{path} is read"))
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
    write = _output._write

    def slow(*args):
        write(*args)
        path.write_text("of another process")

    monkeypatch.setattr(_output, "_write", slow)
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


@pytest.fixture(scope="module", params=CLASSES)
def saved(request, tmp_path_factory):
    """A model and the folder that it is saved in."""
    model = fit(request.param)
    path = tmp_path_factory.mktemp("saved") / "m"
    model.save(path)
    return model, path


def made(model):
    """What a model makes of nothing, or of its cells where it makes none."""
    if isinstance(model, sm.ACTINN):
        return model.predict(cells(), soft=True).to_numpy()
    return model.generate(20, seed=1).X.toarray()


def pickled(path):
    """Names of what a file of torch needs to be read, and its texts."""
    with zipfile.ZipFile(path) as file:
        (name,) = (name for name in file.namelist() if name.endswith("/data.pkl"))
        operations = list(pickletools.genops(file.read(name)))
    texts = [argument for _, argument, _ in operations if isinstance(argument, str)]
    names = {argument for operation, argument, _ in operations if operation.name in ("GLOBAL", "INST")}
    assert not any(operation.name == "STACK_GLOBAL" for operation, _, _ in operations)
    return names, texts


def test_files_hold_plain_values(saved):
    _, path = saved
    for file in path.iterdir():
        names, texts = pickled(file)
        assert {name.split()[0] for name in names} <= {"collections", "torch", "torch._utils"}
        assert not [text for text in texts if text.startswith("scmimic.")]


def test_all_is_back_without_pickles(saved):
    model, path = saved
    loaded = type(model).load(path, allow_pickle=False)
    np.testing.assert_array_equal(made(loaded), made(model))
    assert loaded.scmimic_version_ == sm.__version__
    names = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert {name: type(getattr(loaded, name)) for name in names} == {name: type(getattr(model, name)) for name in names}
    for name, values in model.history.items():
        assert values.equals(loaded.history[name])
        assert list(values.columns) == list(loaded.history[name].columns)
    assert loaded.var_.equals(model.var_)
    # and once more, from what was loaded without data
    loaded.save(path.parent / "again", overwrite=True)
    np.testing.assert_array_equal(made(type(model).load(path.parent / "again", allow_pickle=False)), made(model))


def test_loaded_with_data_it_trains_on(saved):
    model, path = saved
    loaded = type(model).load(path, adata=cells(), allow_pickle=False)
    before = made(loaded)
    loaded.train(1, **QUIET)
    assert not np.array_equal(made(loaded), before)


def test_scvi_tools_can_read_what_it_reads(saved):
    model, path = saved
    name = type(model).__name__
    registry = type(model).load_registry(str(path))
    assert registry["model_name"] == name
    assert registry["setup_args"]["labels_key"] == "cell_type"
    pytest.importorskip("huggingface_hub")
    metadata = importlib.import_module("scvi.hub").HubMetadata.from_dir(
        str(path), anndata_version="0.12", model_parent_module="scmimic"
    )
    assert (metadata.model_cls_name, metadata.scvi_version) == (name, scvi.__version__)


@pytest.mark.parametrize("options", [{"save_anndata": True}, {"shareable": True}], ids=str)
def test_a_card_of_the_hub_goes_with_a_model_to_another_process(tmp_path, activa, options):
    pytest.importorskip("huggingface_hub")
    from huggingface_hub import ModelCard
    from scvi.hub import HubMetadata, HubModel

    path = str(tmp_path / "model")
    activa.save(path, **options)
    metadata = HubMetadata.from_dir(path, anndata_version="0.12", model_parent_module="scmimic")
    about = tmp_path / "model" / "model_card.md"
    text = about.read_text() if about.exists() else "# ACTIVA"
    HubModel(path, metadata=metadata, model_card=ModelCard(f"---\nlicense: cc-by-4.0\n---\n\n{text}")).save()

    load = "hub.model" if "save_anndata" in options else f"scmimic.{metadata.model_cls_name}.load(hub.local_dir)"
    code = (
        "import sys, scmimic\nfrom scvi.hub import HubModel\n"
        f"hub = HubModel({path!r})\nassert {text.splitlines()[0]!r} in hub.model_card.text\n"
        f"sys.stdout.write('\\n%d' % {load}.generate(20, codes='mixture', seed=1).X.sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = activa if "save_anndata" in options else sm.ACTIVA.load(path)
    assert int(done.stdout.splitlines()[-1]) == here.generate(20, codes="mixture", seed=1).X.sum()


@pytest.fixture(scope="module")
def activa():
    return fit("ACTIVA")


class Bomb:
    """Writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def _scvi_model(path):
    adata = cells()
    scvi.model.SCVI.setup_anndata(adata)
    scvi.model.SCVI(adata, n_latent=2, n_hidden=4).save(path.parent, overwrite=True)


def _npz(path):
    with path.open("wb") as file:
        np.savez(file, x=np.arange(3))


def _later(path):
    content = torch.load(path, weights_only=True)
    content["attr_dict"]["scmimic_"] |= {"format": 2, "version": "9.0"}
    torch.save(content, path)


def _garbled(path):
    data = bytearray(path.read_bytes())
    start = data.index(b"model_state_dict")
    data[start - 10 : start + 40] = b"\xff" * 50
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "the file is cut off"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "the file is cut off"),
        (lambda path: path.write_text("a note"), "was not written by torch"),
        (lambda path: path.write_bytes(pickle.dumps({"a": 1})), "was not written by torch"),
        (_npz, "no saved model, or damaged"),
        (_garbled, "damaged"),
        (lambda path: torch.jit.save(torch.jit.script(torch.nn.ReLU()), path), "no saved model, or damaged"),
        (lambda path: torch.save(torch.nn.Linear(2, 2).state_dict(), path), r"it holds a dict of \['weight', 'bias'\]"),
        (lambda path: torch.save(torch.ones(2), path), "it holds a Tensor"),
        (lambda path: torch.save({"model_state_dict": {}, "var_names": []}, path), "it holds a dict of"),
        (
            lambda path: fit("ACTINN").save(path.parent, overwrite=True),
            r"class: ACTINN, not ACTIVA.* `scmimic.ACTINN.load`",
        ),
        (_scvi_model, "it holds SCVI of scvi-tools"),
        (_later, "saved by scmimic 9.0 in format 2"),
        (lambda path: path.unlink(), "there is no model.pt in it"),
        (lambda path: (path.unlink(), path.mkdir()), "there is no model.pt in it"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_files_that_are_no_model_are_named(activa, tmp_path, spoil, message):
    path = tmp_path / "m" / "model.pt"
    activa.save(path.parent)
    spoil(path)
    with pytest.raises(ValueError, match=message) as error:
        sm.ACTIVA.load(path.parent)
    assert str(path) in str(error.value) or "there is no" in message


@pytest.mark.parametrize("place", ["model", "attribute", "parameter"])
def test_no_code_of_the_file_is_run(activa, tmp_path, place):
    path = tmp_path / "m" / "model.pt"
    activa.save(path.parent)
    content = torch.load(path, weights_only=True)
    bomb = Bomb(str(tmp_path / "exploded"))
    if place == "model":
        content = bomb
    elif place == "attribute":
        content["attr_dict"]["scmimic_"]["attributes"]["history_"] = bomb
    else:
        content["attr_dict"]["init_params_"]["non_kwargs"]["classifier"] = bomb
    torch.save(content, path)
    with pytest.raises(ValueError, match="allow_pickle=True"):
        sm.ACTIVA.load(path.parent, allow_pickle=False)
    result = CliRunner().invoke(_cli.app, ["generate", str(path.parent), "--n", "3", "--out", str(tmp_path / "x.h5ad")])
    assert "pickled objects" in result.stderr
    assert not (tmp_path / "exploded").exists()


def with_own_classifier(network):
    adata = cells()
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,), classifier=network)
    model.train(2, warmup_epochs=1, **QUIET)
    return model


def test_a_network_of_ones_own_is_the_exception(tmp_path):
    model = with_own_classifier(torch.nn.Sequential(torch.nn.Linear(40, 3)))
    model.save(tmp_path / "m")
    loaded = sm.ACTIVA.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.classify(cells(), soft=True), model.classify(cells(), soft=True))
    with pytest.raises(ValueError, match="holds pickled objects"):
        sm.ACTIVA.load(tmp_path / "m", allow_pickle=False)
    command = ["generate", str(tmp_path / "m"), "--n", "3", "--out", str(tmp_path / "x.h5ad")]
    assert CliRunner().invoke(_cli.app, command).exit_code == 1
    assert CliRunner().invoke(_cli.app, [*command, "--allow-pickle"]).exit_code == 0


def test_a_network_whose_class_is_gone(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("import torch\nclass Net(torch.nn.Linear):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import mine

    with_own_classifier(mine.Net(40, 3)).save(tmp_path / "m")
    (tmp_path / "mine.py").unlink()
    monkeypatch.delitem(__import__("sys").modules, "mine")
    with pytest.raises(ValueError, match="whose class is not there.*mine"):
        sm.ACTIVA.load(tmp_path / "m")


@pytest.mark.parametrize("transform", ["log2", "none"])
def test_an_actinn_as_classifier_is_plain(tmp_path, transform):
    actinn = fit("ACTINN", n_hidden=(7, 5), filter_genes=True, input_transform=transform)
    model = with_own_classifier(actinn)
    model.save(tmp_path / "m")
    loaded = sm.ACTIVA.load(tmp_path / "m", allow_pickle=False)
    np.testing.assert_array_equal(loaded.classify(cells(), soft=True), actinn.predict(cells(), soft=True))
    loaded = sm.ACTIVA.load(tmp_path / "m", adata=cells(), allow_pickle=False)
    before = [p.clone() for p in loaded.module.classifier.parameters()]
    loaded.train(1, warmup_epochs=0, **QUIET)
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.module.classifier.parameters(), strict=True))


def test_a_representation_of_another_package(tmp_path, monkeypatch):
    adata = cells()
    scvi.model.SCVI.setup_anndata(adata)
    vae = scvi.model.SCVI(adata, n_latent=2, n_hidden=8)
    vae.train(1, **QUIET)
    model = sm.MichiGAN.from_representation(vae, n_noise=4, n_hidden_generator=(8,), n_hidden_critic=(8,))
    assert model.representation_class_ == "scvi.model:SCVI"
    model.train(1, n_faithfulness_cells=0, **QUIET)
    model.save(tmp_path / "m")
    assert isinstance(sm.MichiGAN.load(tmp_path / "m").representation, scvi.model.SCVI)
    with pytest.raises(ValueError, match="a SCVI of scvi.model, is saved as pickled objects"):
        sm.MichiGAN.load(tmp_path / "m", allow_pickle=False)

    def tables_of_another_pandas(*args, **kwargs):
        raise NotImplementedError("StringDtype")

    monkeypatch.setattr(scvi.model.SCVI, "load", tables_of_another_pandas)
    with pytest.raises(ValueError, match=r"cannot be loaded: StringDtype\. It is pickled"):
        sm.MichiGAN.load(tmp_path / "m")


def test_representations_are_named_by_public_paths():
    assert fit("MichiGAN").representation_class_ == "scmimic:BetaTCVAE"


def test_a_set_is_replaced_as_a_set(activa, tmp_path, caplog):
    path = tmp_path / "m"
    activa.save(path, save_anndata=True)
    (path / "notes.txt").write_text("mine")
    fit("MichiGAN").save(path, prefix="gan_", save_anndata=True, overwrite=True)
    files = {"model.pt", "adata.h5ad", "notes.txt"}
    gan = {f"gan_{name}" for name in ("model.pt", "adata.h5ad", "representation_model.pt")}
    assert set(os.listdir(path)) == files | gan
    activa.save(path, overwrite=True)
    assert set(os.listdir(path)) == (files - {"adata.h5ad"}) | gan
    assert "adata.h5ad of the model that is replaced is removed" in caplog.text
    assert sm.ACTIVA.load(path).adata is None
    adata = cells()
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(120, 3)).astype(np.float32)
    sm.MichiGAN.setup_anndata(adata)
    other = sm.MichiGAN(adata, n_noise=2, n_hidden_generator=(8,), n_hidden_critic=(8,))
    other.train(1, **QUIET)
    other.save(path, prefix="gan_", save_anndata=True, overwrite=True)
    assert set(os.listdir(path)) == {"model.pt", "notes.txt", "gan_model.pt", "gan_adata.h5ad"}
    assert sm.MichiGAN.load(path, prefix="gan_").representation is None
    np.testing.assert_array_equal(made(sm.ACTIVA.load(path)), made(activa))


@pytest.mark.parametrize("function", ["rename", "link"])
def test_failure_leaves_the_older_model_and_its_data(activa, tmp_path, monkeypatch, function):
    path = tmp_path / "m"
    activa.save(path, save_anndata=True)
    (path / "notes.txt").write_text("mine")
    before = contents(path)
    calls, real = [], getattr(os, function)

    def broken(*args, **kwargs):
        calls.append(args)
        if len(calls) > (function == "rename"):
            monkeypatch.setattr(os, function, real)
            raise OSError("disk full")
        return real(*args, **kwargs)

    monkeypatch.setattr(os, function, broken)
    if function == "link":
        # a disk that knows no second names gets a copy, and is full then
        monkeypatch.setattr("shutil.copy2", broken)
    with pytest.raises(OSError, match="disk full"):
        activa.save(path, overwrite=True)
    assert contents(path) == before
    assert os.listdir(tmp_path) == ["m"]


def test_what_is_replaced_while_it_is_loaded_is_not_mixed(activa, tmp_path, monkeypatch):
    path = tmp_path / "m"
    activa.save(path, save_anndata=True)
    other = with_own_classifier(None)
    read, calls = ad.read_h5ad, []

    def late(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            other.save(path, overwrite=True, save_anndata=True)
        return read(*args, **kwargs)

    monkeypatch.setattr(ad, "read_h5ad", late)
    loaded = sm.ACTIVA.load(path)
    assert len(calls) == 2
    assert (loaded.module.n_latent, loaded.batch_key_) == (2, None)
    monkeypatch.setattr(sm.ACTIVA, "_load", lambda *args, **kwargs: activa.save(path, overwrite=True))
    with pytest.raises(OSError, match="again and again"):
        sm.ACTIVA.load(path)


@pytest.mark.parametrize(
    ("place", "prefix", "error", "message"),
    [
        ("model", None, ValueError, "overwrite=True"),
        ("file", None, OSError, "is a file"),
        ("file/model", None, OSError, "is a file"),
        (".", None, ValueError, "folder that you work in"),
        ("new", "a/b_", ValueError, "without a folder"),
        ("new", "representation_", ValueError, "models use themselves"),
    ],
)
def test_places_that_save_refuses(activa, tmp_path, monkeypatch, place, prefix, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "model").mkdir()
    with pytest.raises(error, match=message):
        activa.save(place, prefix=prefix, overwrite=place != "model")
    assert sorted(os.listdir(tmp_path)) == ["file", "model"]


def test_data_that_are_not_there_cannot_be_saved(activa, tmp_path):
    activa.save(tmp_path / "m")
    with pytest.raises(ValueError, match="this ACTIVA was loaded without"):
        sm.ACTIVA.load(tmp_path / "m").save(tmp_path / "n", save_anndata=True)
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("mine_", Bomb(""), "`mine_` holds a .*Bomb"),
        ("mine_", {"deep": [lambda: 0]}, r"`mine_\['deep'\]` holds a builtins.function"),
        ("mine_", torch.nn.Linear(1, 1), "Linear"),
    ],
)
def test_what_cannot_be_saved_is_named_and_nothing_is_lost(tmp_path, name, value, message):
    model = fit("ACTINN")
    model.save(tmp_path / "m")
    before = contents(tmp_path)
    setattr(model, name, value)
    with pytest.raises(TypeError, match=message):
        model.save(tmp_path / "m", overwrite=True)
    assert contents(tmp_path) == before
    assert os.listdir(tmp_path) == ["m"]


def test_attributes_of_the_user_travel_along(tmp_path):
    model = fit("ACTINN")
    model.mine_ = {"note": "checked", "cells": np.arange(3), 5: (1, None)}
    model.save(tmp_path / "m")
    back = sm.ACTINN.load(tmp_path / "m", allow_pickle=False).mine_
    assert back["cells"].tolist() == [0, 1, 2]
    assert (back["note"], back[5]) == ("checked", (1, None))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([3, 1, 2], "int16"),
        ([3, 1, 2], "category"),
        ([True, False, True], "bool"),
        ([0.5, 1.5, 2.0], "float32"),
        (["b", "a", "c"], "object"),
        (["b", "a", "c"], "string"),
        ([1, 0, 2], "Int64"),
    ],
)
def test_labels_and_batches_of_any_type_are_saved(tmp_path, values, dtype):
    adata = cells()
    adata.obs["kind"] = np.array(values * 40)
    adata.obs["kind"] = adata.obs["kind"].astype(dtype)
    sm.BetaTCVAE.setup_anndata(adata, labels_key="kind", batch_key="kind")
    model = sm.BetaTCVAE(adata, n_latent=2, n_hidden=(8,), gene_likelihood="poisson")
    model.train(1, **QUIET)
    model.save(tmp_path / "m")
    for data in (None, adata.copy()):
        loaded = sm.BetaTCVAE.load(tmp_path / "m", adata=data, allow_pickle=False)
        assert loaded.label_categories_ == model.label_categories_
        assert list(map(type, loaded.label_categories_)) == list(map(type, model.label_categories_))
        before, after = (each.generate(9, seed=0).obs["kind"] for each in (model, loaded))
        assert after.dtype == before.dtype
        assert after.tolist() == before.tolist()


def test_odd_columns_of_genes_are_saved(tmp_path):
    adata = cells()
    adata.var["nullable"] = np.arange(40)
    adata.var["nullable"] = adata.var["nullable"].astype("Int64").where(adata.var["nullable"] > 3)
    adata.var["kind"] = (["a", "b"] * 20,)[0]
    adata.var["kind"] = adata.var["kind"].astype("category")
    adata.var["text"] = [None, *map(str, range(39))]
    adata.var["mixed"] = [1, "a"] * 20
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTINN(adata)
    model.train(1, **QUIET)
    model.save(tmp_path / "m")
    back = sm.ACTINN.load(tmp_path / "m", allow_pickle=False).var_
    assert back[["nullable", "kind", "mixed"]].equals(adata.var[["nullable", "kind", "mixed"]])
    assert back["text"].isna().tolist() == adata.var["text"].isna().tolist()
    assert list(back["text"][1:]) == list(map(str, range(39)))
