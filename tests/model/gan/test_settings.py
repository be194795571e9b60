"""Presets and settings of the GANs: that they reach their place, and which are refused."""

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from small_gans import MODELS, QUIET, SMALL, fit, normalised

import scmimic as sm
from scmimic.model.gan._presets import default_epochs, gan_preset


def optimisers(model):
    return [optimiser.param_groups[0] for optimiser in model.trainer.optimizers]


def test_learning_rate_decays_with_the_steps_of_the_generator(adata):
    # 10 steps of the critic per epoch, the last of which sees one step of the generator before it
    model = fit(adata, max_epochs=1, plan_kwargs={"lr": 1e-3, "lr_decay_steps": 4})
    assert [group["lr"] for group in optimisers(model)] == pytest.approx([1e-3 * 0.1 ** (1 / 4)] * 2)
    model.train(2, **QUIET, plan_kwargs={"lr": 1e-3, "lr_decay_steps": 4})
    assert model.training_state_["generator_steps"] == 6
    assert optimisers(model)[0]["lr"] == pytest.approx(1e-3 * 0.1 ** (5 / 4))


ADAM = {"eps": 1e-8, "weight_decay": 0.0}
OURS, MICHIGAN = {"betas": (0.5, 0.9), "amsgrad": False}, {"betas": (0.9, 0.999), "amsgrad": False}
AUTHORS = {"prediction": 0.0, "average_decay": 0.0, "lr_decay_steps": None}
SCHEDULES = {
    "michigan": ({"lr": 3e-4, **OURS}, AUTHORS | {"prediction": 1.0, "average_decay": 0.999}, 1.0, 0.0),
    "michigan_paper": ({"lr": 1e-4, **MICHIGAN}, AUTHORS | {"prediction": 1.0}, 10.0, 0.2),
    "michigan_package": ({"lr": 5e-4, **MICHIGAN}, AUTHORS, 1.0, 0.2),
    "michigan_scripts": ({"lr": 1e-4, **MICHIGAN}, AUTHORS, 10.0, 0.0),
    "scgan": ({"lr": 1e-4, **OURS, "amsgrad": True}, AUTHORS | {"lr_decay_steps": 1_000_000}, 1.0, 0.0),
}


@pytest.mark.parametrize("preset", SCHEDULES)
@pytest.mark.parametrize("name", MODELS)
def test_presets_reach_the_optimisers(adata, preset, name):
    adam, plan, weight, dropout = SCHEDULES[preset]
    model = fit(normalised(adata), name, layer="norm", preset=preset, max_epochs=1)
    for group in optimisers(model):
        assert {key: group[key] for key in adam} == adam
        assert {key: group[key] for key in ADAM} == ADAM
    used = model.trainer.lightning_module
    found = {"average_decay": used.average_decay, "lr_decay_steps": used.lr_decay_steps}
    found["prediction"] = 0.0 if used._prediction is None else used._prediction.horizon
    assert found == plan
    assert (used.n_critic, used.gradient_penalty) == (5, 10.0)
    if name == "InfoWGANGP":
        assert model.module.mutual_information_weight == weight
    assert model.module.generator.dropout.p == dropout
    assert model.module.critic.dropout.p == 0
    assert (model.module.critic.norms is not None) == (preset == "michigan_paper")


PAPER_WIDTHS = ([128, 256, 512, 1024, 60], [60, 1024, 512, 10, 1])


@pytest.mark.parametrize("name", ["WGANGP", "InfoWGANGP", "MichiGAN"])
def test_networks_of_the_paper(adata, name):
    """Appendix A.1, "Implementation": widths, batch norm in all hidden layers, dropout 0.2, batches of 32."""
    adata = normalised(adata)
    adata.obsm["X_pca"] = 3 + 2 * np.random.default_rng(0).normal(size=(adata.n_obs, 10)).astype(np.float32)
    cls = getattr(sm, name)
    cls.setup_anndata(adata, layer="log")
    model = cls(adata, preset="michigan_paper")
    generator, critic = model.module.generator, model.module.critic
    for network, last, widths in (
        (generator, generator.output, PAPER_WIDTHS[0]),
        (critic, critic.score, PAPER_WIDTHS[1]),
    ):
        layers = [*network.layers, last]
        assert [layers[0].in_features, *(layer.out_features for layer in layers)] == widths
        assert len(network.norms) == 3
        assert network.slopes == (0.2, 0.2, 0.0)
    assert (generator.dropout.p, critic.dropout.p) == (0.2, 0.0)
    assert default_epochs(gan_preset("michigan_paper"), 300, 32, 20_000) == 1000
    model.train(1, **QUIET)
    assert model.trainer.datamodule.data_loader_kwargs["batch_size"] == 32
    assert np.isfinite(model.history["critic_loss_train"].to_numpy(dtype=float)).all()
    if name == "MichiGAN":
        # ten codes as they are, 118 of noise; the critic multiplies them by its ten units
        assert (model.module.n_latent, model.module.n_noise, critic.embedding) == (10, 118, None)
        draw = model.module.draw({"X": torch.zeros(300, 60), "code": torch.as_tensor(adata.obsm["X_pca"])})
        assert torch.equal(model.module.condition(draw), draw.z)
        assert torch.equal(model.module.generator_input(draw)[:, :10], draw.z)


def test_code_must_fit_the_last_layer_where_nothing_is_learned_between_them(adata):
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype(np.float32)
    sm.MichiGAN.setup_anndata(adata)
    with pytest.raises(
        ValueError, match=r"10 units and the other 3 dimensions. Pass `n_hidden_critic=\(1024, 512, 3\)`"
    ):
        sm.MichiGAN(adata, preset="michigan_paper")
    with pytest.raises(ValueError, match="16 units and the other 3 dimensions"):
        sm.MichiGAN(adata, conditioning="inner_product", **SMALL)
    fitting = sm.MichiGAN(adata, preset="michigan_paper", n_hidden_critic=(8, 3))
    assert fitting.module.critic.multiplies
    embedding = sm.MichiGAN(adata, preset="michigan_paper", conditioning="projection").module.critic.embedding
    assert embedding.weight.shape == (10, 3)


@pytest.mark.parametrize("name", MODELS)
def test_options_of_the_critic(adata, name, tmp_path):
    """They make the critic, survive a file, and training goes on with them."""
    options = {"use_batch_norm_critic": True, "dropout_rate_critic": 0.3}
    model = fit(adata, name, **options)
    assert (model.module.critic.dropout.p, len(model.module.critic.norms)) == (0.3, 2)
    assert model.module.generator.dropout.p == 0
    model.save(tmp_path / "m")
    loaded = type(model).load(tmp_path / "m", adata=adata)
    assert (loaded.module.critic.dropout.p, len(loaded.module.critic.norms)) == (0.3, 2)
    for each in (model, loaded):
        scvi.settings.seed = 3
        each.train(1, **QUIET)
    for key, value in model.module.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[key]), key
    plain = sm.WGANGP(adata, **SMALL) if name == "WGANGP" else sm.InfoWGANGP(adata, **SMALL)
    assert plain.module.critic.norms is None and plain.module.critic.dropout.p == 0
    off = type(model)(adata, preset="michigan_paper", use_batch_norm_critic=False, dropout_rate=0.0, **SMALL)
    assert off.module.critic.norms is None and off.module.generator.dropout.p == 0


def test_validation_with_batch_norm_is_on_the_scale_of_training(adata):
    """Each batch has statistics of its own, as in training: the running ones would give another number."""
    sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    model = sm.WGANGP(adata, n_latent=8, use_batch_norm_critic=True, **SMALL)
    model.train(2, train_size=0.5, validation_size=0.5, check_val_every_n_epoch=1, **QUIET)
    assert np.isfinite(model.history["wasserstein_validation"].to_numpy(dtype=float)).all()
    module, batch = model.module, {"X": torch.as_tensor(adata.X[:100].toarray()), "labels": torch.zeros(100, 1)}
    draw = module.draw(batch)
    cells, fake, condition = module.prepare(batch["X"]), module.run(module.generator, draw), module.condition(draw)
    found = module.loss(batch, {"draw": draw}, {"fake": fake}).loss
    by_running_statistics = module.critic(fake, condition).mean() - module.critic(cells, condition).mean()
    module.critic.train()
    expected = module.critic(fake, condition).mean() - module.critic(cells, condition).mean()
    torch.testing.assert_close(found, expected)
    assert (found - by_running_statistics).abs() > 1e-3


@pytest.mark.parametrize(("preset", "epochs"), [("michigan", 2223), ("michigan_package", 25), ("michigan_scripts", 10)])
def test_default_epochs(preset, epochs):
    assert default_epochs(gan_preset(preset), 300, 32, 20_000) == epochs


def test_default_length_by_what_is_generated(adata):
    values = normalised(adata)
    values.obsm["X_pca"] = np.random.default_rng(0).normal(size=(values.n_obs, 3))
    for cls, layer, steps in ((sm.WGANGP, None, 20_000), (sm.WGANGP, "norm", 8_000), (sm.MichiGAN, "norm", 20_000)):
        cls.setup_anndata(values, layer=layer)
        assert cls(values, **SMALL)._default_steps() == steps


def test_settings_of_the_plan_reach_their_place(adata):
    changes = {"lr": 2e-3, "betas": (0.3, 0.8), "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True}
    model = fit(adata, max_epochs=1, plan_kwargs=changes, dropout_rate=0.3)
    for group in optimisers(model):
        assert {key: group[key] for key in changes} == changes
    states = model.training_state_["critic"]["state"].values()
    assert all("max_exp_avg_sq" in state for state in states)
    generator = model.module.generator
    assert generator.dropout.p == 0.3
    hidden = generator.train().hidden(torch.randn(500, 8 + 3))
    assert (hidden == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert (generator.eval().hidden(torch.randn(500, 8 + 3)) != 0).all()


def test_settings_stay_for_the_next_training(adata, tmp_path):
    first = {"lr": 2e-3, "mutual_information_weight": 3.0}
    model = fit(adata, "InfoWGANGP", max_epochs=1, plan_kwargs=first)
    model.save(tmp_path / "m")
    for again in (model, sm.InfoWGANGP.load(tmp_path / "m", adata=adata)):
        again.train(1, plan_kwargs={"gradient_penalty": 5.0}, **QUIET)
        assert optimisers(again)[0]["lr"] == 2e-3
        assert again.module.mutual_information_weight == 3.0
        assert again.trainer.lightning_module.gradient_penalty == 5.0
        # what is given anew comes first
        again.train(1, plan_kwargs={"lr": 1e-3}, **QUIET)
        assert optimisers(again)[0]["lr"] == 1e-3
        assert again.trainer.lightning_module.gradient_penalty == 5.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("n_critic", value) for value in (0, 2.5, True, None)),
        *(("gradient_penalty", value) for value in (-1, np.nan, "10")),
        *(("lr_decay_steps", value) for value in (0, -5)),
        *(("average_decay", value) for value in (-0.1, 1.0)),
        ("prediction", -1.0),
        ("lr", 0.0),
        ("mutual_information_weight", -1.0),
    ],
)
def test_bad_settings_of_the_plan(adata, setting, value):
    sm.InfoWGANGP.setup_anndata(adata)
    model = sm.InfoWGANGP(adata, n_latent=2, n_noise=2, **SMALL)
    with pytest.raises(ValueError, match=f"`{setting}` must be .*not {value!r}"):
        model.train(1, plan_kwargs={setting: value}, **QUIET)
    assert not model.is_trained and model.plan_kwargs_ == {}


@pytest.mark.parametrize(
    ("name", "init"),
    [
        *(("WGANGP", {"n_latent": value}) for value in (0, 1.5)),
        *(("InfoWGANGP", {key: -1}) for key in ("n_noise", "n_categories")),
        *(("WGANGP", {"n_hidden_critic": value}) for value in ((), (0,), (8, 2.5), 16)),
        *(("WGANGP", {"n_hidden_generator": value}) for value in ((), (-3, 4))),
        ("WGANGP", {"dropout_rate": 1.0}),
        *(("WGANGP", {"dropout_rate_critic": value}) for value in (1.0, -0.1, "0.2")),
        *(("InfoWGANGP", {"use_batch_norm_critic": value}) for value in (1, "both")),
    ],
)
def test_bad_sizes(adata, name, init):
    cls, sizes = MODELS[name]
    cls.setup_anndata(adata)
    with pytest.raises(ValueError, match=f"`{next(iter(init))}` (must|is empty)"):
        cls(adata, **{**SMALL, **sizes, **init})


def test_what_a_model_cannot_use_is_refused(adata):
    sm.WGANGP.setup_anndata(adata)
    model = sm.WGANGP(adata, n_latent=2, **SMALL)
    with pytest.raises(ValueError, match="`mutual_information_weight` is that of codes.*use InfoWGANGP"):
        model.train(1, plan_kwargs={"mutual_information_weight": 1.0}, **QUIET)
    for size in (0, -1, 2.5):
        with pytest.raises(ValueError, match="`batch_size` must be a whole number at least 1"):
            model.train(1, batch_size=size, **QUIET)
    adata.obs["none"] = "Unknown"
    with pytest.raises(ValueError, match="Every cell is unlabeled"):
        sm.InfoWGANGP.setup_anndata(adata, labels_key="none")


@pytest.mark.parametrize(("layer", "instead"), [(None, "counts"), ("log", "relu")])
@pytest.mark.parametrize("how", [{"preset": "scgan"}, {"output": "library"}])
def test_one_sum_for_all_cells_needs_values_without_logarithm(adata, layer, instead, how):
    sm.WGANGP.setup_anndata(normalised(adata), layer=layer)
    if layer is None and "preset" in how:
        # raw counts have an output of their own
        assert sm.WGANGP(adata, **SMALL, **how).module.generator.activation == "counts"
        return
    with pytest.raises(ValueError, match=f"the same sum.*`output='{instead}'`"):
        sm.WGANGP(adata, **SMALL, **how)
    sm.WGANGP(adata, **SMALL, **how | {"output": instead})


@pytest.mark.parametrize("how", [{"preset": "scgan"}, {"output": "library"}])
def test_one_sum_for_all_cells_needs_cells_of_one_total(adata, how):
    sm.WGANGP.setup_anndata(normalised(adata), layer="norm")
    sm.WGANGP(adata, **SMALL, **how)
    adata.layers["norm"] = sp.diags(np.linspace(0.5, 2, adata.n_obs)) @ adata.layers["norm"]
    sm.WGANGP.setup_anndata(adata, layer="norm")
    with pytest.raises(ValueError, match="Scale them to one total"):
        sm.WGANGP(adata, **SMALL, **how)
    sm.WGANGP(adata, **SMALL, **how | {"output": "relu"})
