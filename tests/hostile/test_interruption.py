"""Trainings that signals, errors and bad numbers end: what is kept, what is said, and how the process ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import scmimic as sm
from scmimic._interrupts import stop_if_interrupted

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SMALL_VAE = {"n_latent": 3, "n_hidden": (8,)}
SMALL_GAN = {"n_hidden_generator": (8,), "n_hidden_critic": (8,)}
MODELS = {
    "ACTIVA": SMALL_VAE,
    "ACTINN": {},
    "BetaTCVAE": SMALL_VAE | {"gene_likelihood": "nb"},
    "WGANGP": SMALL_GAN | {"n_latent": 3},
    "InfoWGANGP": SMALL_GAN | {"n_latent": 3},
    "MichiGAN": SMALL_GAN,
}
FROZEN = Path(__file__).parents[1] / "data" / "frozen" / "format-1"
GENERATORS = [name for name in MODELS if name != "ACTINN"]


def cells(n_obs=200):
    adata = sm.datasets.synthetic_counts(n_obs=n_obs, n_vars=20, n_labels=2, seed=0)
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(n_obs, 2)).astype(np.float32)
    return adata


def make(name, adata=None):
    adata = cells() if adata is None else adata
    cls = getattr(sm, name)
    cls.setup_anndata(adata, labels_key="cell_type")
    return cls(adata, **MODELS[name])


def train(model, max_epochs=2, **kwargs):
    # the slow part of the calibration
    quick = {"calibrate_margins": False} if isinstance(model, sm.ACTIVA) else {}
    model.train(max_epochs, **{"batch_size": 100, **quick, **QUIET, **kwargs})


# ---- signals from outside, in processes of their own

KEPT = ["finally, trained=True, interrupted=True, margins=False", "made 5, True"]
ENDS = {
    "train, SIGTERM": (143, ["READY", *KEPT], r"interrupted after \d+ of 100000 epochs", []),
    "train, Ctrl-C": (
        0,
        [
            "READY",
            "went on, interrupted=True",
            "finally, trained=True, interrupted=True, margins=True",
            "made 5, True",
        ],
        r"interrupted after \d+ of 100000 epochs",
        [],
    ),
    "before the first step, Ctrl-C": (
        130,
        ["READY", "finally, trained=False, interrupted=False, margins=False"],
        "KeyboardInterrupt",
        [],
    ),
    "in the first step, SIGTERM": (143, ["READY", *KEPT], "interrupted after 0 of 100000 epochs", []),
    "in the first step, Ctrl-C": (
        130,
        ["READY", "finally, trained=False, interrupted=False, margins=False"],
        "KeyboardInterrupt",
        [],
    ),
    "calibration, SIGTERM": (143, ["READY", *KEPT], "", []),
    "calibration, Ctrl-C": (0, ["READY", "went on, interrupted=True", *KEPT], "without what was still to be done", []),
    "second training, SIGTERM": (143, ["READY", "finally, same=True, interrupted=False, margins=True"], "", []),
    "own handler, SIGTERM": (143, ["READY", "own handler", *KEPT, "own handler"], "interrupted after", []),
    "own exit, SIGTERM": (7, ["READY", *KEPT], "interrupted after", []),
    "scVI, SIGTERM": (143, ["READY"], "", []),
    "scVI, Ctrl-C": (130, ["READY"], "KeyboardInterrupt", []),
    "experiment, SIGTERM": (143, ["READY", "finally, scored=False"], "interrupted after", []),
    "experiment, Ctrl-C": (
        130,
        ["READY", "finally, scored=False"],
        "The training of ACTIVA was interrupted, and the experiment with it",
        [],
    ),
    "command train, Ctrl-C": (
        130,
        ["READY"],
        r"\AInterrupted: after \d+ of 5000 epochs of training; nothing was saved\.\Z",
        ["cells.h5ad", "model", "model/model.pt"],
    ),
    "command train --keep-partial, SIGTERM": (
        143,
        ["READY"],
        r"\AInterrupted: after \d+ of 5000 epochs of training; the half-trained model is in model\.interrupted\.\Z",
        ["cells.h5ad", "model", "model.interrupted", "model.interrupted/model.pt", "model/model.pt"],
    ),
    "command generate, SIGTERM": (
        143,
        ["1 partial file", "READY"],
        r"Interrupted: nothing was written to out/new\.h5ad\.\Z",
        ["model", "model/adata.h5ad", "model/model.pt", "out"],
    ),
    "command evaluate, Ctrl-C": (
        130,
        ["READY"],
        r"\AInterrupted: the evaluation is not complete\.\Z",
        ["other.h5ad", "real.h5ad"],
    ),
    "command demo, SIGTERM": (
        143,
        ["> Training ACTIVA on 490 cells x 765 genes", "READY"],
        r"\AInterrupted: nothing was written to demo\.\Z",
        [],
    ),
}


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("signalled_runs.py"), tmp_path_factory.mktemp("runs")],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(ENDS)
    return found


@pytest.mark.parametrize("name", ENDS)
def test_signals(ends, name):
    status, out, err, files = ENDS[name]
    found = ends[name]
    # of an interrupt that nobody catches, Python ends by the signal or, with a traceback alone, with 1
    uncaught = status == 130 and not name.startswith("command")
    assert found["status"] in ((130, 1) if uncaught else (status,)), found["err"]
    # what scvi-tools prints by itself
    said = [line for line in found["out"] if "NameError" not in line and "already downloaded" not in line]
    assert said == out
    assert re.search(err, found["err"].strip())
    assert found["files"] == files


def test_an_interrupted_command_leaves_the_older_model_alone(ends):
    for name in ("command train, Ctrl-C", "command train --keep-partial, SIGTERM"):
        assert Path(ends[name]["folder"], "model", "model.pt").read_text() == "an older model"


def test_a_partial_model_says_so(ends):
    folder = Path(ends["command train --keep-partial, SIGTERM"]["folder"], "model.interrupted")
    model = sm.ACTIVA.load(folder)
    assert model.was_interrupted_ and model.is_trained
    assert model.generate(5, seed=0).uns["scmimic"]["interrupted"]


# ---- what ends a training before it has learned anything leaves the model as it was


def everything(model):
    """All that a model is."""
    state = {name: value.clone() for name, value in model.module.state_dict().items()}
    attributes = {
        name: getattr(model, name, None)
        for name in ("posterior_", "margins_", "is_trained_", "was_interrupted_", "training_state_", "plan_kwargs_")
    }
    attributes |= {"trainer": getattr(model, "trainer", None), "indices": model.train_indices_}
    history = {name: values.copy() for name, values in (model.history or {}).items()}
    settings = {
        name: (part.training, getattr(part, "mutual_information_weight", None))
        for name, part in model.module.named_modules()
    }
    free = {name: value.requires_grad for name, value in model.module.named_parameters()}
    return state, attributes, history, (settings, free)


def check_unchanged(model, before):
    state, attributes, history, settings = everything(model)
    assert all(torch.equal(value, before[0][name]) for name, value in state.items())
    assert all(attributes[name] is before[1][name] for name in attributes)
    assert set(history) == set(before[2])
    assert all(values.equals(before[2][name]) for name, values in history.items())
    assert settings == before[3]


class InStep(Callback):
    """Raise in the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_train_batch_end(self, trainer, *args):
        if trainer.current_epoch == 1:
            raise self.error


class BeforeStep(InStep):
    def on_train_batch_start(self, *args):
        raise self.error


class Spoil(Callback):
    """Make the weights of an epoch NaN, whatever the model."""

    def __init__(self, epoch=0, value=float("nan")):
        self.epoch, self.value = epoch, value

    def on_train_batch_start(self, trainer, plan, *args):
        if trainer.current_epoch == self.epoch:
            with torch.no_grad():
                for parameter in plan.module.parameters():
                    parameter.fill_(self.value)


FAILURES = {
    "misspelt setting": (TypeError, "learning_rate", lambda: {"plan_kwargs": {"learning_rate": 1.0}}),
    "setting out of range": (ValueError, "`lr` must be", lambda: {"plan_kwargs": {"lr": -1.0}}),
    "unknown argument of the trainer": (TypeError, "unknown", lambda: {"unknown": 1}),
    "error in a step": (ZeroDivisionError, "by zero", lambda: {"callbacks": [InStep(ZeroDivisionError("by zero"))]}),
    "lack of memory": (MemoryError, None, lambda: {"callbacks": [InStep(MemoryError())]}),
    "Ctrl-C before the first step": (KeyboardInterrupt, None, lambda: {"callbacks": [BeforeStep(KeyboardInterrupt())]}),
    "exit before the first step": (SystemExit, "9", lambda: {"callbacks": [BeforeStep(SystemExit(9))]}),
    "drop_last": (
        ValueError,
        "with `drop_last` the 200 training cells do not fill a batch of 500",
        lambda: {"batch_size": 500, "datasplitter_kwargs": {"drop_last": True}},
    ),
    "limit_train_batches=0": (ValueError, "`limit_train_batches` is 0", lambda: {"limit_train_batches": 0}),
    "max_steps=0": (ValueError, r"`max_steps` \(0\)", lambda: {"max_steps": 0}),
    "NaN weights in the first epoch": (
        RuntimeError,
        "not finite in the very first epoch",
        lambda: {"callbacks": [Spoil()]},
    ),
    "infinite weights in the first epoch": (
        RuntimeError,
        "not finite in the very first epoch",
        lambda: {"callbacks": [Spoil(value=float("inf"))]},
    ),
}


@pytest.fixture(scope="module")
def trained():
    """One trained model of each class; all tests must leave it alone."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = make(name)
            train(made[name])
        return made[name]

    return get


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", MODELS)
def test_a_training_that_fails_leaves_the_model_as_it_was(trained, name, failure):
    error, message, arguments = FAILURES[failure]
    model = trained(name)
    before = everything(model)
    with pytest.raises(error, match=message):
        train(model, **arguments())
    check_unchanged(model, before)
    assert model.is_trained and not model.was_interrupted_


@pytest.mark.parametrize("name", GENERATORS)
def test_cells_are_the_same_to_the_bit_after_a_training_that_fails(trained, name):
    model = trained(name)
    before = model.generate(100, seed=3)
    with pytest.raises(ZeroDivisionError):
        train(model, callbacks=[InStep(ZeroDivisionError())])
    after = model.generate(100, seed=3)
    assert (before.X != after.X).nnz == 0
    for key, codes in before.obsm.items():
        np.testing.assert_array_equal(codes, after.obsm[key])


@pytest.mark.parametrize(
    "failure", ["error in a step", "drop_last", "limit_train_batches=0", "NaN weights in the first epoch"]
)
@pytest.mark.parametrize("name", MODELS)
def test_a_first_training_that_fails_makes_no_trained_model(name, failure):
    error, message, arguments = FAILURES[failure]
    model = make(name)
    before = everything(model)
    with pytest.raises(error, match=message):
        train(model, **arguments())
    check_unchanged(model, before)
    assert not model.is_trained
    with pytest.raises(RuntimeError, match="not trained yet"):
        model.predict() if name == "ACTINN" else model.generate(5)
    train(model, 1)
    assert model.is_trained


# ---- numbers that are not finite


@pytest.mark.parametrize("name", MODELS)
def test_the_weights_of_the_last_finite_epoch_are_kept_and_calibrated(name, caplog):
    class Note(Callback):
        def on_train_epoch_end(self, trainer, plan):
            if trainer.current_epoch == 0:
                self.first = {key: item.clone() for key, item in plan.module.named_parameters()}

    note, model = Note(), make(name)
    calibrated = {"calibrate_margins": True} if name == "ACTIVA" else {}
    train(model, 5, callbacks=[note, Spoil(1)], **calibrated)
    assert "The loss of epoch 1 is not finite" in caplog.text
    assert model.is_trained and not model.was_interrupted_
    for key, item in model.module.named_parameters():
        # which the calibration moves
        if key != "px_r":
            assert torch.equal(item, note.first[key]), key
    if name == "ACTINN":
        assert np.isfinite(model.predict(soft=True).to_numpy()).all()
    else:
        assert np.isfinite(model.generate(20, seed=0).X.data).all()
    if name == "ACTIVA":
        assert model.margins_ is not None


@pytest.mark.parametrize("part", ["encoder", "decoder"])
@pytest.mark.parametrize("warmup_epochs", [9, 0])
@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson", "normal"])
def test_no_step_trips_over_nan(likelihood, warmup_epochs, part):
    """Neither the warm-up nor the game of any likelihood, whichever network it is that diverges."""

    class SpoilPart(Callback):
        def on_train_batch_start(self, trainer, plan, *args):
            if trainer.current_epoch == 1:
                with torch.no_grad():
                    next(getattr(plan.module, part).parameters()).fill_(float("nan"))

    adata = cells()
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, **SMALL_VAE, gene_likelihood=likelihood)
    train(model, 5, warmup_epochs=warmup_epochs, callbacks=[SpoilPart()])
    assert len(model.history["elbo_train"]) == 2
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert np.isfinite(model.generate(10, seed=0).X.data).all()


class SpoilData(Callback):
    """Make values of the data NaN while the training runs."""

    def __init__(self, adata, when):
        self.adata = adata
        setattr(self, when, self.spoil)

    def spoil(self, *args):
        self.adata.X.data[:50] = np.nan


@pytest.mark.parametrize("when", ["before", "on_fit_start", "on_train_end"])
@pytest.mark.parametrize("name", MODELS)
def test_nan_in_the_data_of_a_model(name, when):
    adata = cells()
    adata.X = adata.X.astype(np.float32)
    model = make(name, adata)
    spoil = SpoilData(adata, when)
    if when == "before":
        spoil.spoil()
    if when == "on_train_end" and name in ("WGANGP", "InfoWGANGP", "MichiGAN"):
        # which look at no cell once they are trained
        train(model, callbacks=[spoil])
        assert np.isfinite(model.generate(10, seed=0).X.data).all()
        return
    with pytest.raises((RuntimeError, ValueError), match="changed, with a sum of nan" if when == "before" else "NaN"):
        train(model, callbacks=[spoil])
    assert not model.is_trained


@pytest.mark.parametrize("lr", [1e6, 1e12])
@pytest.mark.parametrize("name", MODELS)
def test_absurd_learning_rates(name, lr):
    model = make(name)
    try:
        train(model, plan_kwargs={"lr": lr})
    except RuntimeError as error:
        assert "Lower the learning rate" in str(error)
        assert not model.is_trained
    else:
        made = model.predict(soft=True).to_numpy() if name == "ACTINN" else model.generate(50, seed=0).X.data
        assert np.isfinite(made).all()
    assert all(torch.isfinite(p).all() for p in model.module.parameters())


def test_weights_that_are_finite_and_of_no_use():
    class Blow(Callback):
        def on_train_end(self, trainer, plan):
            with torch.no_grad():
                for parameter in plan.module.encoder.parameters():
                    parameter.mul_(1e30)

    model = make("ACTIVA")
    before = everything(model)
    with pytest.raises(RuntimeError, match="has failed: .* or beyond all bounds.*Lower the learning rate"):
        train(model, callbacks=[Blow()])
    assert not model.is_trained
    check_unchanged(model, before)
    assert not hasattr(model, "trainer")


# ---- what an interrupted model says


def interrupted(name, adata=None, epoch=1):
    class CtrlC(Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.current_epoch == epoch:
                raise KeyboardInterrupt

    model = make(name, adata)
    train(model, 9, callbacks=[CtrlC()])
    return model


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupted_model_says_so_until_it_is_trained_to_the_end(name, tmp_path):
    model = make(name)
    assert model.was_interrupted_ is False
    model = interrupted(name)
    assert model.was_interrupted_ is True and model.is_trained
    assert "Training status: Trained, interrupted before the end" in repr(model)
    model.save(tmp_path / "half", save_anndata=True)
    loaded = getattr(sm, name).load(tmp_path / "half")
    assert loaded.was_interrupted_ is True
    assert "interrupted before the end" in repr(loaded)

    train(loaded, 1)
    assert loaded.was_interrupted_ is False
    assert "interrupted" not in repr(loaded)
    loaded.save(tmp_path / "whole")
    assert getattr(sm, name).load(tmp_path / "whole").was_interrupted_ is False


@pytest.mark.parametrize("name", GENERATORS)
def test_cells_of_an_interrupted_model_say_so(name, tmp_path):
    model = interrupted(name)
    for expected in (True, False):
        made = [model.generate(3, seed=0), model.decode(np.zeros((3, model.module.n_latent), dtype=np.float32), seed=0)]
        for ending in ("h5ad", "zarr"):
            path = tmp_path / f"{expected}.{ending}"
            made.append(model.generate(3, seed=0, path=path))
            made.append(ad.read_zarr(path) if ending == "zarr" else ad.read_h5ad(path))
        assert [bool(each.uns["scmimic"]["interrupted"]) for each in made] == 6 * [expected]
        train(model, 1)


def test_what_is_made_on_an_interrupted_representation_says_so(tmp_path):
    vae = interrupted("BetaTCVAE")
    model = sm.MichiGAN.from_representation(vae, **SMALL_GAN)
    train(model)
    # what the codes came from stays half-trained, whatever becomes of it later
    train(vae)
    assert not model.was_interrupted_
    model.save(tmp_path / "m", save_anndata=True)
    for each in (model, sm.MichiGAN.load(tmp_path / "m")):
        assert each.generate(3, seed=0).uns["scmimic"]["interrupted"]
        assert "Made on: BetaTCVAE whose training was interrupted" in repr(each)
        with pytest.raises(KeyboardInterrupt, match="BetaTCVAE"):
            stop_if_interrupted(each)
    whole = sm.MichiGAN.from_representation(vae, **SMALL_GAN)
    train(whole)
    assert not whole.generate(3, seed=0).uns["scmimic"]["interrupted"]


def test_what_is_made_on_an_interrupted_classifier_says_so(tmp_path):
    adata = cells()
    classifier = interrupted("ACTINN", adata)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, classifier=classifier, **SMALL_VAE)
    train(model)
    model.save(tmp_path / "m", save_anndata=True)
    for each in (model, sm.ACTIVA.load(tmp_path / "m")):
        assert not each.was_interrupted_
        assert each.generate(3, seed=0).uns["scmimic"]["interrupted"]
        assert "Made on: ACTINN whose training was interrupted" in repr(each)


@pytest.mark.parametrize("name", MODELS)
def test_models_whose_files_do_not_say_are_whole(name, tmp_path):
    # a copy, since others may write what the older files do not say
    folder = shutil.copytree(FROZEN / name, tmp_path / "m")
    path = folder / "model.pt"
    saved = torch.load(path, weights_only=False)
    for attribute in ("was_interrupted_", "interrupted_source_"):
        saved["attr_dict"]["scmimic_"]["attributes"].pop(attribute, None)
    torch.save(saved, path)
    loaded = getattr(sm, name).load(folder)
    assert loaded.was_interrupted_ is False
    if name != "ACTINN":
        assert loaded.generate(3, seed=0).uns["scmimic"]["interrupted"] is False


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupt_in_the_very_first_epoch(name):
    model = interrupted(name, epoch=0)
    assert model.is_trained and model.was_interrupted_
    assert not model.history
    made = model.predict() if name == "ACTINN" else model.generate(5, seed=0)
    assert len(made)


# ---- threads, and handlers


def test_training_in_a_thread(caplog):
    """Signals come to the main thread alone; an interrupt can be raised in any."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    found = []

    def run():
        try:
            whole = make("ACTIVA")
            train(whole)
            found.extend([whole, interrupted("ACTIVA")])
        except BaseException as error:
            found.append(error)
            raise

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    whole, half = found
    assert not whole.was_interrupted_ and half.was_interrupted_
    assert half.generate(3, seed=0).n_obs == 3
    assert {number: signal.getsignal(number) for number in handlers} == handlers


@pytest.mark.parametrize("error", [None, KeyboardInterrupt, ZeroDivisionError, SystemExit])
def test_handlers_are_as_before(error):
    def ours(*args):
        pass

    before = {number: signal.signal(number, ours) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        callbacks = [] if error is None else [InStep(error())]
        try:
            train(make("WGANGP"), callbacks=callbacks)
        except (ZeroDivisionError, SystemExit):
            pass
        assert signal.getsignal(signal.SIGINT) is ours and signal.getsignal(signal.SIGTERM) is ours
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
