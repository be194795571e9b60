import logging

import numpy as np
import pandas as pd
import pytest
import scvi
from lightning.pytorch.callbacks import Callback

import scmimic as sm
from scmimic.model.beta_tcvae import _restarts

QUIET = {"enable_progress_bar": False}
SMALL = {"n_latent": 3, "n_hidden": (16,), "gene_likelihood": "nb"}


def cells():
    return sm.datasets.synthetic_counts(n_obs=120, n_vars=30, n_labels=3, n_batches=2, seed=0)


def make(seed=0, **init):
    scvi.settings.seed = seed
    adata = cells()
    sm.BetaTCVAE.setup_anndata(adata, labels_key="cell_type")
    return sm.BetaTCVAE(adata, **SMALL | init)


def fit(seed=0, init=None, **train):
    model = make(seed, **init or {})
    model.train(**{"max_epochs": 6, "batch_size": 40, **QUIET, **train})
    return model


def same(a, b):
    """Whether two trained models are the same to the bit."""
    pairs = zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True)
    histories = [pd.concat(dict(m.history), axis=1).to_numpy(dtype=float) for m in (a, b)]
    return (
        all(bool((one == other).all()) for one, other in pairs)
        and np.array_equal(a.posterior_.mean, b.posterior_.mean)
        and np.array_equal(*histories, equal_nan=True)
    )


@pytest.fixture
def chosen(monkeypatch):
    """Let tests say the scores; they see which codes are ranked."""
    seen = []

    def rank(scores):
        def ranking(latents, variances):
            seen.append(latents)
            return np.asarray(scores)[: len(latents)]

        monkeypatch.setattr(_restarts, "unsupervised_disentanglement_ranking", ranking)
        return seen

    return rank


class Interrupt(Callback):
    """Ctrl-C, or what else, at one step of one of the trainings."""

    def __init__(self, training, epoch, error=KeyboardInterrupt):
        self.training, self.epoch, self.error = training, epoch, error

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch:
            raise self.error


@pytest.fixture
def interrupted(monkeypatch):
    """Let one of the trainings be ended, restarts too, which callbacks do not see."""

    def at(training, epoch, error=KeyboardInterrupt):
        train, count = sm.BetaTCVAE._train, iter(range(100))

        def ended(self, callbacks=(), **arguments):
            extra = [Interrupt(training, epoch, error)] if next(count) == training else []
            train(self, callbacks=[*callbacks, *extra], **arguments)

        monkeypatch.setattr(sm.BetaTCVAE, "_train", ended)

    return at


@pytest.mark.parametrize("best", [0, 2])
def test_the_best_goes_on_as_its_seed_alone_would(chosen, best):
    scores = np.array([0.1, 0.2, 0.3])
    scores[best] = 0.9
    seen = chosen(scores)
    model = fit(n_restarts=3, restart_epochs=2)
    assert [len(latents) for latents in seen] == [3] * len(seen)
    restarts = model.restarts_
    assert restarts["score"].tolist() == scores.tolist()
    assert restarts["chosen"].tolist() == [i == best for i in range(3)]
    assert restarts["seed"].nunique() == 3
    alone = fit(seed=int(restarts["seed"][best]))
    assert same(model, alone)
    assert len(model.history["elbo_train"]) == 6
    # the restart was the first part of it
    short = fit(seed=int(restarts["seed"][best]), callbacks=[_restarts.StopAfter(2)])
    np.testing.assert_array_equal(seen[0][best], short.get_latent_representation())
    assert len(short.history["elbo_train"]) == 2


def test_scores_are_those_of_the_metric():
    model = fit(n_restarts=3, restart_epochs=2)
    codes = [
        fit(seed=int(seed), callbacks=[_restarts.StopAfter(2)]).get_latent_representation(return_dist=True)
        for seed in model.restarts_["seed"]
    ]
    scores = sm.metrics.unsupervised_disentanglement_ranking(*zip(*codes, strict=True))
    np.testing.assert_array_equal(model.restarts_["score"], scores)
    assert model.restarts_["chosen"].to_numpy().argmax() == scores.argmax()


@pytest.mark.parametrize(
    "init", [{}, {"gene_likelihood": "normal", "start": "pca"}, {"library": "observed", "n_comps": None}]
)
def test_the_same_seed_chooses_the_same(init, caplog):
    with caplog.at_level(logging.INFO, "scmimic"):
        first = fit(3, init, n_restarts=3, restart_epochs=1)
    other = fit(3, init, n_restarts=3, restart_epochs=1)
    assert first.restarts_.equals(other.restarts_)
    assert same(first, other)
    best = int(first.restarts_["seed"][first.restarts_["chosen"]].iloc[0])
    assert same(first, fit(best, init))
    told = [record.getMessage() for record in caplog.records]
    assert [line[:14] for line in told if line.startswith("Restart ")] == [
        f"Restart {i} of 3"[:14] for i in (1, 2, 3)
    ] + ["Restart scores"]
    assert any(f"seed {best} goes on" in line for line in told)


def test_one_is_a_plain_training():
    plain, one = fit(1), fit(1, n_restarts=1, restart_epochs=2)
    assert same(plain, one)
    assert one.restarts_ is None


def test_random_numbers_go_on_as_if_one_seed_had_been_drawn():
    """Restarts have random streams of their own."""
    import torch

    states = []
    for n_restarts in (3, 4):
        fit(5, n_restarts=n_restarts, restart_epochs=1)
        states.append(torch.get_rng_state())
        assert scvi.settings.seed == 5
    assert (states[0] == states[1]).all()


def test_whole_trainings_are_compared(chosen):
    chosen([0.1, 0.9, 0.3])
    model = fit(n_restarts=3, restart_epochs=9)
    assert same(model, fit(seed=int(model.restarts_["seed"][1])))


def test_a_quarter_by_default(monkeypatch):
    stops = []
    init = _restarts.StopAfter.__init__
    monkeypatch.setattr(_restarts.StopAfter, "__init__", lambda self, n: stops.append(n) or init(self, n))
    fit(n_restarts=3, max_epochs=6)
    assert stops == [2] * 3


def test_callbacks_see_the_last_training():
    class Watch(Callback):
        epochs = []

        def on_train_epoch_start(self, trainer, plan):
            self.epochs.append(trainer.current_epoch)

    fit(n_restarts=3, restart_epochs=2, callbacks=[Watch()])
    assert Watch.epochs == list(range(6))


def test_cells_left_out_are_compared_too(chosen):
    seen = chosen([0.9, 0.1, 0.2])
    model = fit(n_restarts=3, restart_epochs=1, train_size=0.7)
    assert {len(z) for z in seen[0]} == {120}
    assert len(model.train_indices_) == 84


@pytest.mark.parametrize(
    ("training", "epoch", "kept", "rows"),
    [
        (0, 0, 0, None),  # nothing but itself
        (1, 0, 0, 1),  # the first is done
        (2, 1, 1, 2),
        (3, 0, 2, 3),  # shorter than the restart that it goes on from
        (3, 4, 3, 3),
    ],
)
def test_ctrl_c_keeps_the_best_so_far(interrupted, chosen, training, epoch, kept, rows):
    chosen([0.1, 0.5, 0.9])
    interrupted(training, epoch)
    model = fit(n_restarts=3, restart_epochs=2)
    assert model.was_interrupted_
    assert model.is_trained
    assert model.generate(5, seed=0).n_obs == 5
    if rows is None:
        assert model.restarts_ is None
        return
    assert len(model.restarts_) == rows
    if kept < 3:
        seed = int(model.restarts_["seed"][kept])
        assert model.restarts_["chosen"].tolist() == [i == kept for i in range(rows)]
        assert same(model, fit(seed, callbacks=[_restarts.StopAfter(2)]))
    else:
        assert len(model.history["elbo_train"]) == 4


def test_sigterm_keeps_it_and_ends_the_process(interrupted, chosen):
    chosen([0.1, 0.9, 0.5])
    interrupted(2, 0, SystemExit)
    model = make()
    with pytest.raises(SystemExit):
        model.train(6, batch_size=40, n_restarts=3, restart_epochs=2, **QUIET)
    assert model.was_interrupted_
    assert len(model.restarts_) == 2
    assert same(model, fit(int(model.restarts_["seed"][1]), callbacks=[_restarts.StopAfter(2)]))


@pytest.mark.parametrize("training", [0, 2, 3])
def test_an_error_leaves_the_model_as_it_was(interrupted, training):
    interrupted(training, 1, RuntimeError)
    model = make()
    module, before = model.module, {name: value.clone() for name, value in model.module.state_dict().items()}
    with pytest.raises(RuntimeError):
        model.train(6, batch_size=40, n_restarts=3, restart_epochs=2, **QUIET)
    assert model.module is module
    assert all((value == before[name]).all() for name, value in module.state_dict().items())
    assert not model.is_trained
    assert model.restarts_ is None


def test_saved_with_the_model(tmp_path):
    model = fit(n_restarts=3, restart_epochs=1)
    model.save(tmp_path / "m")
    loaded = sm.BetaTCVAE.load(tmp_path / "m", adata=model.adata, allow_pickle=False)
    pd.testing.assert_frame_equal(loaded.restarts_, model.restarts_)
    # and kept when it is trained on
    loaded.train(1, **QUIET)
    assert loaded.restarts_.equals(model.restarts_)
    with pytest.raises(ValueError, match="not trained yet"):
        loaded.train(1, n_restarts=3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_restarts": 0}, "`n_restarts` must be a whole number at least 1"),
        ({"n_restarts": 2}, "agree with each other equally well"),
        ({"n_restarts": 3, "restart_epochs": 0}, "`restart_epochs`"),
        ({"n_restarts": 3, "devices": 2}, "one process"),
        ({"n_restarts": 3, "devices": [0, 1]}, "one process"),
        ({"n_restarts": 3, "strategy": "ddp"}, "one process"),
        ({"n_restarts": 3, "ckpt_path": "last.ckpt"}, "exclude each other"),
    ],
)
def test_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        fit(**wrong)
