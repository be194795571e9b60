"""The weights of ACTIVA's losses, epoch by epoch."""

from types import SimpleNamespace

import numpy as np
import pytest
import scvi
import torch

import scmimic as sm
from scmimic.model.activa import _plan
from scmimic.module import ACTINNModule, ACTIVAModule
from scmimic.nn import ACTINNClassifier
from scmimic.train import ClassifierTrainingPlan, IntrospectiveTrainingPlan, softadapt_weights

QUIET = {"enable_progress_bar": False}
HISTORY = [[50.0, 90.0, 3.0], [40.0, 88.0, 2.0], [35.0, 80.0, 1.5], [31.0, 79.0, 1.2], [30.0, 71.0, 1.1]]


def plan(**kwargs):
    return IntrospectiveTrainingPlan(ACTIVAModule(5, n_latent=2, n_hidden=(4,)), **kwargs)


def test_optimisers_get_their_settings():
    module = ACTIVAModule(
        5, n_latent=2, n_hidden=(4,), n_labels=2, gene_likelihood="nb", classifier=ACTINNClassifier(5, 2)
    )
    made = IntrospectiveTrainingPlan(
        module,
        lr=0.1,
        betas=(0.3, 0.4),
        eps=0.5,
        weight_decay=0.6,
        lr_dispersion_factor=3.0,
        lr_classifier=0.7,
        weight_decay_classifier=0.8,
    )
    made.trainer = SimpleNamespace(max_epochs=1)
    (encoder, generator, classifier), _ = made.configure_optimizers()
    for group in (*encoder.param_groups, *generator.param_groups):
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.3, 0.4), 0.5, 0.6)
    assert [group["lr"] for group in (*encoder.param_groups, *generator.param_groups)] == pytest.approx([0.1, 0.1, 0.3])
    assert (classifier.param_groups[0]["lr"], classifier.param_groups[0]["weight_decay"]) == (0.7, 0.8)
    # none is left to another default: the paper's is 1e-8
    made = IntrospectiveTrainingPlan(module)
    made.trainer = SimpleNamespace(max_epochs=1)
    assert made.configure_optimizers()[0][0].param_groups[0]["eps"] == 1e-8


@pytest.mark.parametrize("warmup_epochs", [0, 1])
def test_both_players_take_a_step(adata, warmup_epochs):
    """In the warm-up as in the game. Adam's first step is the learning rate, whatever the gradient."""
    before = {name: value.clone() for name, value in train(adata, 1, lr=1e-12).module.named_parameters()}
    after = dict(train(adata, 1, warmup_epochs, lr=1e-3, lr_dispersion_factor=5.0).module.named_parameters())
    for name, value in after.items():
        moved = (value - before[name]).abs().max().item()
        if name.startswith("classifier"):
            continue
        expected = 5e-3 if name == "px_r" else 1e-3
        assert moved == pytest.approx(expected, rel=0.05) or moved == 0, name
    for part in ("encoder", "decoder"):
        assert any(not torch.equal(after[name], before[name]) for name in after if name.startswith(part))


def test_kl_weight_rises_in_the_warmup(adata):
    model = train(adata, 5, warmup_epochs=5, n_epochs_kl_warmup=4)
    terms = {
        name: model.history[f"{name}_train"].iloc[:, 0].astype(float) for name in ("reconstruction_loss", "kl_local")
    }
    loss = model.history["train_loss"].iloc[:, 0].astype(float)
    expected = terms["reconstruction_loss"] + np.array([0, 0.25, 0.5, 0.75, 1]) * terms["kl_local"]
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.fixture
def classifiers(monkeypatch):
    """The classifier's mode and weights at every step of the game, after its own step."""
    states, play = [], _plan.introspective_gradients

    def spy(module, *args, **kwargs):
        states.append((module.classifier.training, next(module.classifier.parameters()).detach().clone()))
        return play(module, *args, **kwargs)

    monkeypatch.setattr(_plan, "introspective_gradients", spy)
    return states


def test_classifier_is_frozen_as_it_predicts(adata, classifiers):
    """It learns in training mode; then it judges by its running statistics and moves no more."""
    train(adata, 4, n_epochs_classifier=2)
    assert [training for training, _ in classifiers] == [True, True, False, False]
    weights = [weight for _, weight in classifiers]
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2]) and torch.equal(weights[2], weights[3])


@pytest.fixture
def seen(monkeypatch):
    """The weights that every step of the game is played with."""
    weights = []

    def spy(module, tensors, given, **kwargs):
        weights.append(given)
        return play(module, tensors, given, **kwargs)

    play = _plan.introspective_gradients
    monkeypatch.setattr(_plan, "introspective_gradients", spy)
    return weights


def train(adata, max_epochs, warmup_epochs=0, **plan_kwargs):
    scvi.settings.seed = 0
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=2, n_hidden=(4,))
    model.train(
        max_epochs,
        warmup_epochs=warmup_epochs,
        batch_size=300,
        calibrate_margins=False,
        plan_kwargs={"n_epochs_kl_warmup": 0, **plan_kwargs},
        **QUIET,
    )
    return model


def test_kl_weight_rises_in_the_game_too(adata, seen):
    train(adata, 5, n_epochs_kl_warmup=4, kl_weight=0.8)
    assert [weights.reg for weights in seen] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_weights_of_the_game_are_those_asked_for(adata, seen):
    train(adata, 1, alpha1=0.3, alpha2=0.7, alpha_cell_type=2.5, m=11.0, kl_weight=0.6)
    assert seen[0] == _plan.GameWeights(0.3, 0.7, 11.0, reg=0.6, rec=1.0, cell_type=2.5)


@pytest.mark.parametrize("slope_at", ["newest", "oldest"])
@pytest.mark.parametrize("variant", ["original", "normalized", "normalized-absolute", "loss-weighted"])
def test_softadapt_weighs_three_losses(variant, slope_at):
    """Three weights whose mean is one, and L_CT's own weight on top."""
    made = plan(softadapt=variant, softadapt_beta=0.2, alpha_cell_type=2.5, softadapt_slope_at=slope_at)
    made._term_history = HISTORY
    made._reweigh()
    reg, rec, cell_type = softadapt_weights(np.transpose(HISTORY), beta=0.2, variant=variant, slope_at=slope_at)
    found = made._weights
    np.testing.assert_allclose([found.reg, found.rec, found.cell_type], [3 * reg, 3 * rec, 7.5 * cell_type])
    assert found.reg + found.rec + found.cell_type / 2.5 == pytest.approx(3)


def test_softadapt_follows_the_history_every_few_epochs(adata, seen):
    model = train(adata, 8, softadapt="normalized", softadapt_every=3, softadapt_beta=2.0, alpha_cell_type=2.0)
    history = model.trainer.lightning_module._term_history
    assert len(history) == 8
    expected = [(1.0, 1.0, 2.0)] * 3
    for until in (3, 6):
        weights = 3 * softadapt_weights(
            np.transpose(history[max(until - 5, 0) : until]), beta=2.0, variant="normalized"
        )
        expected += [tuple(weights * [1, 1, 2])] * (3 if until == 3 else 2)
    np.testing.assert_allclose([(w.reg, w.rec, w.cell_type) for w in seen], expected)


@pytest.mark.parametrize(
    ("m", "warmup_kl", "expected"),
    [(None, 40.0, 110 * 2 / 128), (7.0, 40.0, 7.0), ("auto", 40.0, 60.0), ("auto", None, 110 * 2 / 128)],
)
def test_hinge_constant(m, warmup_kl, expected):
    made = plan(m=m, m_factor=1.5, n_epochs_warmup=0)
    made._warmup_kl = warmup_kl
    made.trainer = SimpleNamespace(current_epoch=0, sanity_checking=False)
    made.on_train_epoch_start()
    assert made._weights.m == pytest.approx(expected)


def test_softadapt_looks_at_the_oldest_of_the_last_epochs_where_told_to(adata, seen):
    settings = {"softadapt": "original", "softadapt_every": 5, "softadapt_beta": 1.0, "alpha_cell_type": 1.0}
    train(adata, 7, **settings, softadapt_slope_at="oldest")
    model = train(adata, 7, **settings)
    history = np.transpose(model.trainer.lightning_module._term_history[:5])
    # the first five epochs of both runs are the same
    for weights, slope_at in ((seen[5], "oldest"), (seen[12], "newest")):
        expected = 3 * softadapt_weights(history, beta=1.0, slope_at=slope_at)
        np.testing.assert_allclose([weights.reg, weights.rec, weights.cell_type], expected, rtol=1e-5, atol=1e-12)


@pytest.fixture
def classifier_rates(monkeypatch):
    """The learning rate of every step of the classifier."""
    rates = []

    def spy(self, batch, optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(self, batch, optimizer)

    step = IntrospectiveTrainingPlan._classifier_step
    monkeypatch.setattr(IntrospectiveTrainingPlan, "_classifier_step", spy)
    return rates


def test_classifier_decays_by_its_own_steps(adata, classifier_rates):
    """Three batches per epoch, whatever the epochs of the networks are."""
    decay = {"lr_decay_classifier": 0.5, "lr_decay_steps_classifier": 2, "lr_classifier": 0.01, "lr_final_factor": 0.1}
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=2, n_hidden=(4,))
    model.train(3, warmup_epochs=2, batch_size=100, plan_kwargs={**decay, "n_epochs_classifier": 2}, **QUIET)
    assert classifier_rates == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])
    # the networks' own schedule is that of the epochs
    encoder, generator, _ = model.trainer.optimizers
    assert encoder.param_groups[0]["lr"] == generator.param_groups[0]["lr"] == pytest.approx(3e-3 * 0.1)


@pytest.mark.parametrize("off", [{"lr_decay_classifier": 1}, {"lr_decay_steps_classifier": None}])
def test_classifier_keeps_its_rate_where_told_to(adata, classifier_rates, off):
    train(adata, 3, **{"lr_decay_steps_classifier": 1, "lr_classifier": 0.01, "n_epochs_classifier": 3} | off)
    assert classifier_rates == [0.01] * 3


def test_classifier_decays_as_the_published_one():
    module = ACTIVAModule(5, n_latent=2, n_hidden=(4,), n_labels=2, classifier=ACTINNClassifier(5, 2))
    made = IntrospectiveTrainingPlan(module)
    made.trainer = SimpleNamespace(max_epochs=1)
    _, schedulers = made.configure_optimizers()
    alone = ClassifierTrainingPlan(ACTINNModule(ACTINNClassifier(5, 2))).configure_optimizers()["lr_scheduler"][
        "scheduler"
    ]
    assert (schedulers[2].step_size, schedulers[2].gamma) == (alone.step_size, alone.gamma) == (1000, 0.95)


def test_hinge_constant_is_that_of_the_last_warmup_epoch(adata, seen):
    model = train(adata, 4, warmup_epochs=3, m="auto", m_factor=1.5)
    kl = float(model.history["kl_local_train"].iloc[2, 0])
    assert seen[0].m == pytest.approx(1.5 * kl, rel=1e-5)


def test_losses_of_the_game_are_remembered_in_order(adata):
    model = train(adata, 2)
    found = model.trainer.lightning_module._term_history
    names = ["kl_real_train", "reconstruction_loss_train", "cell_type_loss_train"]
    expected = [[float(value) for value in model.history[name].iloc[:, 0]] for name in names]
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-5)
