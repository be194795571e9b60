"""Saved GANs: the same cells, and training that goes on as if it had not been interrupted."""

import numpy as np
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from small_gans import fit, normalised

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_hidden_generator": (16, 32), "n_hidden_critic": (32, 16), "n_latent": 6}


@pytest.fixture(params=[sm.WGANGP, sm.InfoWGANGP])
def model(request, adata):
    request.param.setup_anndata(adata, labels_key="cell_type")
    model = request.param(adata, **SMALL)
    model.train(2, **QUIET)
    return model


def cells(model):
    return model.generate(30, seed=1).X.toarray()


def test_round_trip(model, tmp_path):
    cls = type(model)
    model.save(tmp_path / "m")
    for loaded in (cls.load(tmp_path / "m", adata=model.adata), cls.load(tmp_path / "m")):
        np.testing.assert_array_equal(cells(loaded), cells(model))
        assert loaded.history.keys() == model.history.keys()
        assert bool(loaded.module.log_counts)


def test_training_goes_on_after_loading(model, tmp_path):
    model.save(tmp_path / "m")
    loaded = type(model).load(tmp_path / "m", adata=model.adata)
    for each in (model, loaded):
        scvi.settings.seed = 7
        each.train(2, **QUIET)
    np.testing.assert_array_equal(cells(loaded), cells(model))
    assert len(loaded.history["critic_loss_train"]) == 4
    a, b = model.training_state_, loaded.training_state_
    assert a["critic_steps"] == b["critic_steps"] == 4 * (300 // 32 + 1)
    for player in ("critic", "generator"):
        moments = [state["exp_avg"] for state in a[player]["state"].values()]
        again = [state["exp_avg"] for state in b[player]["state"].values()]
        assert all(torch.equal(x, y) for x, y in zip(moments, again, strict=True))


def test_the_optimisers_memory_matters(model, tmp_path):
    """Without the saved moments the same steps lead elsewhere, so the test above is able to fail."""
    model.save(tmp_path / "m")
    other = type(model).load(tmp_path / "m", adata=model.adata)
    other.training_state_ = None
    for each in (model, other):
        scvi.settings.seed = 7
        each.train(2, **QUIET)
    assert not np.array_equal(cells(other), cells(model))


def test_adam_counts_its_steps_on(model):
    model.train(1, **QUIET)
    state = model.training_state_
    assert {int(s["step"]) for s in state["critic"]["state"].values()} == {state["critic_steps"]}
    assert {int(s["step"]) for s in state["generator"]["state"].values()} == {state["generator_steps"]}
    assert state["generator_steps"] == state["critic_steps"] // 5


def test_interrupt_keeps_the_model(adata):
    class Interrupt(Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    model = sm.WGANGP(adata, **SMALL)
    model.train(5, callbacks=[Interrupt()], **QUIET)
    assert model.is_trained
    assert model.training_state_["critic_steps"] == 11
    assert model.generate(10, seed=0).n_obs == 10
    model.train(1, **QUIET)
    assert model.training_state_["critic_steps"] == 21


def test_divergence_keeps_the_last_good_weights(adata):
    sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    model = sm.WGANGP(adata, **SMALL)
    model.train(2, **QUIET)

    class Spoil(Callback):
        def on_train_batch_start(self, trainer, plan, *args):
            with torch.no_grad():
                plan.module.critic.layers[0].bias.fill_(float("inf"))
                for moments in trainer.optimizers[1].state.values():
                    moments["exp_avg_sq"].fill_(float("inf"))

    before = cells(model)
    with pytest.raises(RuntimeError, match="not finite in the very first epoch"):
        model.train(3, callbacks=[Spoil()], **QUIET)
    np.testing.assert_array_equal(cells(model), before)
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    # and can go on from them
    weights = [p.detach().clone() for p in model.module.generator.parameters()]
    model.train(1, **QUIET)
    moved = [(p - w).abs().max() for p, w in zip(model.module.generator.parameters(), weights, strict=True)]
    assert min(moved) > 0


def test_data_in_other_units_are_refused(adata, tmp_path):
    logs = normalised(adata.copy())
    logs.X = logs.layers["log"]
    for data, other, message in (
        (logs, adata, "`adata.X` holds counts, but the model was trained on log1p values"),
        (adata, logs, "`adata.X` holds log1p values, but the model was trained on counts"),
    ):
        fit(data.copy(), max_epochs=1).save(tmp_path / message[-6:])
        with pytest.raises(ValueError, match=message):
            sm.WGANGP.load(tmp_path / message[-6:], adata=other.copy())
