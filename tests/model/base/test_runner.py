import os
import pickle
import signal

import pandas as pd
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from small_models import CLASSES, fit

import scmimic as sm
from scmimic.train import KeepFiniteWeights, n_epochs

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SMALL_VAE = {"n_latent": 3, "n_hidden": (8,)}
SMALL_GAN = {"n_latent": 3, "n_hidden_generator": (8,), "n_hidden_critic": (8,)}
MODELS = {"ACTIVA": SMALL_VAE, "ACTINN": {}, "BetaTCVAE": SMALL_VAE, "WGANGP": SMALL_GAN}


def small(adata, name):
    """A model, and what makes its training quick."""
    cls = getattr(sm, name)
    cls.setup_anndata(adata, labels_key="cell_type")
    return cls(adata, **MODELS[name]), QUIET | ({"calibrate_margins": False} if name == "ACTIVA" else {})


class Terminate(Callback):
    def on_train_batch_end(self, trainer, *args):
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="Lightning leaves the signals of Windows alone")
@pytest.mark.parametrize("name", MODELS)
def test_terminated_training_is_kept_and_said_and_ends_the_process(adata, caplog, name):
    model, quick = small(adata, name)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        model.train(max_epochs=7, batch_size=100, callbacks=[Terminate()], **quick)
    assert ended.value.code == 143
    assert "interrupted after 2 of 7 epochs" in caplog.text
    assert model.was_interrupted_
    assert model.is_trained
    assert {len(values) for values in model.history.values()} == {2}
    assert signal.getsignal(signal.SIGTERM) == before
    kept = [callback for callback in model.trainer.callbacks if isinstance(callback, KeepFiniteWeights)]
    assert [callback._state for callback in kept] == [None]

    caplog.clear()
    model.train(max_epochs=1, batch_size=100, **quick)
    assert not model.was_interrupted_
    assert "interrupted" not in caplog.text


class TerminateAtTheEnd(Callback):
    def on_train_end(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.skipif(os.name == "nt", reason="Lightning leaves the signals of Windows alone")
def test_a_signal_that_lightning_has_no_time_to_hear_ends_the_process_too(adata):
    model, quick = small(adata, "ACTIVA")
    with pytest.raises(SystemExit, match="143"):
        model.train(max_epochs=2, batch_size=100, callbacks=[TerminateAtTheEnd()], **quick)
    assert model.is_trained and model.was_interrupted_
    assert len(model.history["elbo_train"]) == 2


class PoisonThenStop(Callback):
    """Ctrl-C in the middle of an epoch whose weights are NaN already."""

    def on_train_batch_start(self, trainer, plan, *args):
        if trainer.current_epoch == 2:
            with torch.no_grad():
                for parameter in plan.module.parameters():
                    parameter.fill_(float("nan"))
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", MODELS)
def test_an_interrupt_keeps_no_weights_that_are_not_finite(adata, name):
    model, quick = small(adata, name)
    model.train(max_epochs=7, batch_size=100, callbacks=[PoisonThenStop()], **quick)
    assert model.was_interrupted_
    assert all(torch.isfinite(p).all() for p in model.module.parameters())


class Modes(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, plan, *args):
        self.seen.append((plan.training, all(network.training for network in plan.module.modules())))


@pytest.mark.parametrize("name", MODELS)
def test_a_further_training_is_in_train_mode_too(adata, name):
    model, quick = small(adata, name)
    for _ in range(2):
        modes = Modes()
        model.train(max_epochs=1, batch_size=100, callbacks=[modes], **quick)
        assert set(modes.seen) == {(True, True)}
        assert not any(network.training for network in model.module.modules())


class InterruptAtOnce(Callback):
    def on_train_batch_end(self, *args):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", MODELS)
def test_history_after_an_interrupt_in_the_first_epoch(adata, name):
    model, quick = small(adata, name)
    model.train(max_epochs=3, batch_size=100, callbacks=[InterruptAtOnce()], **quick)
    assert not model.history
    for total in (2, 3):
        model.train(max_epochs=total - len(next(iter(model.history.values()), [])), batch_size=100, **quick)
        assert model.history
        assert {len(values) for values in model.history.values()} == {total}


def test_epochs_of_losses_that_are_not_computed_in_each(adata):
    model, quick = small(adata, "WGANGP")
    some = quick | {"train_size": 0.8, "check_val_every_n_epoch": 2}
    model.train(4, batch_size=100, **some)
    model.train(6, batch_size=100, **some)
    assert model.history["wasserstein_validation"].index.tolist() == [1, 3, 5, 7, 9]
    assert model.history["critic_loss_train"].index.tolist() == list(range(10))

    other, quick = small(adata, "WGANGP")
    other.train(3, batch_size=100, **quick)
    other.train(4, batch_size=100, **some)
    found = other.history["wasserstein_validation"].dropna()
    assert found.index.tolist() == [4, 6] and found.index.name == "epoch"


def test_epochs_are_counted_by_their_numbers():
    """Losses of some epochs count to the last of them; what goes by steps does not count."""

    def record(numbers, name):
        return pd.DataFrame({"loss": [0.0] * len(numbers)}, index=pd.Index(numbers, name=name))

    assert n_epochs({}) == 0
    assert n_epochs({"lr": record([0, 50], "step")}) == 0
    assert n_epochs({"a": record([0, 1, 2], "epoch"), "b": record([1, 4], "epoch"), "c": record([99], "step")}) == 5


@pytest.mark.parametrize("name", CLASSES)
def test_a_trained_model_is_pickled_like_any_other_object(name):
    model = fit(name)
    copy = pickle.loads(pickle.dumps(model))
    assert copy.is_trained and copy.history.keys() == model.history.keys()
    for key, value in model.module.state_dict().items():
        torch.testing.assert_close(copy.module.state_dict()[key], value, rtol=0, atol=0, equal_nan=True)
    if name != "ACTINN":
        assert (copy.generate(5, seed=0).X != model.generate(5, seed=0).X).sum() == 0


@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE", "ACTINN"])
def test_the_history_has_the_loss_where_scvi_tools_has_it(name):
    cells = fit(name).adata.copy()
    scvi.model.SCVI.setup_anndata(cells)
    reference = scvi.model.SCVI(cells)
    reference.train(2, **QUIET)
    theirs = {key: list(values.index) for key, values in reference.history.items() if "loss" in key}
    ours = fit(name).history
    assert {key: list(ours[key].index) for key in theirs} == theirs
