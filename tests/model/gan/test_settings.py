"""Presets and settings of the GANs: that they reach their place, and which are refused."""

import numpy as np
import pytest
import scipy.sparse as sp
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


ADAM = {"betas": (0.5, 0.9), "eps": 1e-8, "weight_decay": 0.0}
AUTHORS = {"prediction": 0.0, "average_decay": 0.0, "lr_decay_steps": None}
SCHEDULES = {
    "michigan": ({"lr": 3e-4, "amsgrad": False}, AUTHORS | {"prediction": 1.0, "average_decay": 0.999}, 1.0, 0.0),
    "michigan_package": ({"lr": 5e-4, "amsgrad": False}, AUTHORS, 1.0, 0.2),
    "michigan_scripts": ({"lr": 1e-4, "amsgrad": False}, AUTHORS, 10.0, 0.0),
    "scgan": ({"lr": 1e-4, "amsgrad": True}, AUTHORS | {"lr_decay_steps": 1_000_000}, 1.0, 0.0),
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
