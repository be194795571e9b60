"""A look at the cells amid the training, which changes nothing in it."""

import random

import numpy as np
import pandas as pd
import pytest
import scvi
import torch
from lightning.pytorch.callbacks import Callback
from mudata import MuData
from small_gans import normalised

import scmimic as sm
from scmimic.model.base import _realism_callback
from scmimic.train import RealismCallback

QUIET = {"enable_progress_bar": False}
GAN = {"n_hidden_generator": (16, 32), "n_hidden_critic": (32, 16)}
VAE = {"n_latent": 3, "n_hidden": (16,)}
CASES = {
    "ACTIVA": (sm.ACTIVA, VAE),
    "ACTIVA of values": (
        sm.ACTIVA,
        VAE | {"gene_likelihood": "normal", "encoder_head": "relu_bn", "dropout_rate": 0.1},
    ),
    "BetaTCVAE": (sm.BetaTCVAE, VAE | {"gene_likelihood": "nb"}),
    "WGANGP": (sm.WGANGP, {**GAN, "n_latent": 8, "use_batch_norm_critic": True, "dropout_rate": 0.1}),
    "InfoWGANGP": (sm.InfoWGANGP, {**GAN, "n_latent": 4, "n_noise": 6}),
    "MichiGAN": (sm.MichiGAN, {**GAN, "n_noise": 6}),
}
UNCALIBRATED = dict.fromkeys(("calibrate_dispersion", "calibrate_spread", "calibrate_margins"), False)


def make(adata, case, labels_key="cell_type"):
    cls, settings = CASES[case]
    scvi.settings.seed = 0
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)).astype(np.float32)
    cls.setup_anndata(adata, labels_key=labels_key, layer="norm" if case == "ACTIVA of values" else None)
    return cls(adata, **settings)


def train(model, *callbacks, max_epochs=3, **kwargs):
    kwargs = (UNCALIBRATED if isinstance(model, sm.ACTIVA) else {}) | {"train_size": 0.7} | kwargs
    model.train(max_epochs, callbacks=list(callbacks), **kwargs, **QUIET)
    return model


def random_numbers():
    # the generators of the process, which a look must leave as they are
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_with_it(adata, case):
    adata = normalised(adata)
    look = RealismCallback(every_n_epochs=1, n_cells=30, n_trees=3)
    plain = train(make(adata, case))
    numbers = random_numbers()
    looked = train(make(adata, case), look)
    assert random_numbers() == numbers
    for name, value in plain.module.state_dict().items():
        assert torch.equal(value, looked.module.state_dict()[name]), name
    for name, values in plain.history.items():
        pd.testing.assert_frame_equal(looked.history[name], values)
    added = ["inception_score_validation", "random_forest_error_validation"]
    assert sorted(looked.history.keys() - plain.history.keys()) == added
    for name in added:
        assert list(looked.history[name].index) == [0, 1, 2]
        assert looked.history[name].index.name == "epoch"
    assert (plain.generate(20, seed=1).X != looked.generate(20, seed=1).X).nnz == 0
    # neither the model nor its cells stay in memory
    assert look.model is None and look._real is None


@pytest.fixture
def compared(monkeypatch):
    """The real and the generated cells of each look."""
    pairs = []

    def spy(real, cells, **settings):
        pairs.append((real, cells))
        return measure(real, cells, **settings)

    measure = _realism_callback.random_forest_error
    monkeypatch.setattr(_realism_callback, "random_forest_error", spy)
    return pairs


def logged(x):
    x = x.toarray().astype(float)
    return np.log1p(1e4 * x / x.sum(1, keepdims=True))


@pytest.mark.parametrize("case", CASES)
def test_last_look_is_at_the_cells_of_the_trained_model(adata, case, compared):
    """The cells of the last look, and its figures, computed anew from the trained model."""
    adata = normalised(adata)
    model = train(make(adata, case), RealismCallback(every_n_epochs=2, n_cells=60, n_trees=5, seed=4), max_epochs=3)
    errors = model.history["random_forest_error_validation"].iloc[:, 0]
    scores = model.history["inception_score_validation"].iloc[:, 0]
    assert list(errors.index) == list(scores.index) == [1, 2]
    assert len(compared) == 2
    layer = adata.layers["norm"] if case == "ACTIVA of values" else adata.X
    real, cells = (x.toarray() for x in compared[-1])
    np.testing.assert_allclose(cells, logged(model.generate(60, seed=4).X), rtol=1e-4)
    # 60 of the 90 validation cells, the same at both looks, each once
    own = logged(layer)
    rows = np.array([np.abs(own - cell).sum(1).argmin() for cell in real])
    np.testing.assert_allclose(real, own[rows], rtol=1e-4)
    assert len(set(rows)) == 60 and set(rows) <= set(model.validation_indices)
    np.testing.assert_array_equal(real, compared[0][0].toarray())
    settings = {"n_trees": 5, "seed": 4, "n_cells": None}
    assert errors.iloc[-1] == pytest.approx(sm.metrics.random_forest_error(*compared[-1], **settings))
    labels = adata.obs["cell_type"].to_numpy()[rows]
    score = sm.metrics.inception_score(compared[-1][0], labels, compared[-1][1], **settings)
    assert scores.iloc[-1] == pytest.approx(score)


def test_without_validation_cells_training_cells_stand_in(adata, compared, caplog):
    with caplog.at_level("INFO", logger="scmimic"):
        model = train(make(adata, "BetaTCVAE"), RealismCallback(every_n_epochs=9, n_trees=3), train_size=1.0)
    assert "There are no validation cells: generated cells are compared with training cells" in caplog.text
    assert {"random_forest_error_train", "inception_score_train"} < set(model.history)
    assert not any(name.startswith(("random_forest_error_val", "inception_score_val")) for name in model.history)
    # all of them, since there are fewer than may be
    np.testing.assert_allclose(compared[0][0].toarray(), logged(adata.X), rtol=1e-4)


def test_cells_without_a_label_are_left_out(adata, compared):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs_names[:100], "cell_type"] = "Unknown"
    model = train(make(adata, "ACTIVA"), RealismCallback(n_trees=3), train_size=1.0)
    assert compared[0][0].shape[0] == 200
    assert 1 <= model.history["inception_score_train"].iloc[-1, 0] <= 3


@pytest.mark.parametrize("labels", ["none", "one"])
@pytest.mark.parametrize("case", ["BetaTCVAE", "InfoWGANGP"])
def test_no_inception_score_without_two_labels(adata, labels, case, caplog):
    adata.obs["one"] = "T"
    if case == "InfoWGANGP" and labels == "none":
        # categories of its own are no labels
        sm.InfoWGANGP.setup_anndata(adata)
        model = sm.InfoWGANGP(adata, **CASES[case][1], n_categories=3)
    else:
        model = make(adata, case, labels_key="one" if labels == "one" else None)
    with caplog.at_level("INFO", logger="scmimic"):
        train(model, RealismCallback(n_trees=3))
    assert "random_forest_error_validation" in model.history
    assert "inception_score_validation" not in model.history
    assert ("There is no inception score: all real cells" in caplog.text) == (labels == "one")


def test_codes_come_from_some_training_cells_only(adata, monkeypatch):
    monkeypatch.setattr(_realism_callback, "_MAX_SOURCES", 40)
    seen = []

    class Spy(RealismCallback):
        def _cells(self):
            prepare = sm.MichiGAN._prepare_generation
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(sm.MichiGAN, "_prepare_generation", lambda shadow: (prepare(shadow), seen.append(shadow)))
                return super()._cells()

    model = train(make(adata, "MichiGAN"), Spy(n_trees=3, n_cells=200), max_epochs=1)
    (shadow,) = seen
    assert len(shadow.posterior_) == 40
    codes = {tuple(code) for code in shadow.posterior_.mean}
    assert codes < {tuple(code) for code in adata.obsm["X_pca"][model.train_indices]}
    assert shadow.module is not model.module
    # the trained model has all of them
    assert len(model.posterior_) == 210


def test_history_goes_on_with_the_training_and_the_file(adata, tmp_path):
    look = RealismCallback(every_n_epochs=2, n_cells=30, n_trees=3)
    model = train(make(adata, "WGANGP"), max_epochs=3)
    train(model, look, max_epochs=4)
    train(model, look, max_epochs=1)
    values = model.history["random_forest_error_validation"].iloc[:, 0].astype(float)
    assert list(values.dropna().index) == [4, 6, 7]
    model.save(tmp_path / "m")
    loaded = sm.WGANGP.load(tmp_path / "m", adata=adata)
    for name in ("random_forest_error_validation", "inception_score_validation"):
        pd.testing.assert_frame_equal(loaded.history[name], model.history[name], check_dtype=False)
    train(loaded, look, max_epochs=2)
    assert list(loaded.history["inception_score_validation"].iloc[:, 0].dropna().index) == [4, 6, 7, 9]
    for panels in (sm.pl.training(loaded, keys=["random_forest_error", "inception_score"], show=False),):
        assert [ax.get_title() for ax in panels] == ["random-forest error", "inception score"]
        assert {ax.get_xlabel() for ax in panels} == {"epoch"}
        np.testing.assert_array_equal(panels[0].lines[0].get_xdata(), [4, 6, 7, 9])
    assert "inception score" in [ax.get_title() for ax in sm.pl.training(loaded, show=False)]


def test_weights_that_make_no_cells_end_no_training(adata, monkeypatch, caplog):
    def fails(self):
        raise RuntimeError("The training of WGANGP has failed")

    model = make(adata, "WGANGP")
    look = RealismCallback(every_n_epochs=1, n_trees=3)
    monkeypatch.setattr(look, "_cells", lambda: fails(model))
    train(model, look)
    assert model.is_trained and "random_forest_error_validation" not in model.history
    assert "The realism of this epoch's cells is not known. The training of WGANGP has failed" in caplog.text


def test_interrupt_keeps_what_was_seen(adata):
    class Interrupt(Callback):
        def on_train_epoch_start(self, trainer, plan):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    look = RealismCallback(every_n_epochs=1, n_cells=30, n_trees=3)
    model = train(make(adata, "ACTIVA"), look, Interrupt(), max_epochs=9)
    assert model.was_interrupted_
    assert list(model.history["random_forest_error_validation"].index) == [0, 1]
    assert look.model is None


def test_amounts_below_nothing_are_none(adata):
    adata = normalised(adata)
    sm.WGANGP.setup_anndata(adata, layer="norm")
    model = train(sm.WGANGP(adata, **GAN, output="linear"), RealismCallback(n_trees=3))
    assert (model.generate(50, seed=0).X.toarray() < 0).any()
    assert np.isfinite(model.history["random_forest_error_validation"].iloc[-1, 0])


def test_mudata(adata, compared):
    mdata = MuData({"rna": adata})
    sm.ACTIVA.setup_mudata(mdata, modalities={"rna_layer": "rna", "labels_key": "rna"}, labels_key="cell_type")
    model = train(sm.ACTIVA(mdata, **VAE), RealismCallback(n_trees=3))
    assert {"random_forest_error_validation", "inception_score_validation"} < set(model.history)
    assert compared[0][0].shape == (90, 60)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: value} for name in ("every_n_epochs", "n_trees") for value in (0, 1.5, "3", None)),
        *({"n_cells": value} for value in (19, 0, None)),
        *({"seed": value} for value in (-1, 0.5, None)),
        {"n_jobs": 0},
    ],
)
def test_bad_arguments(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        RealismCallback(**wrong)


def test_models_that_it_cannot_look_at(adata):
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTINN(adata)
    with pytest.raises(TypeError, match="ACTINN makes none"):
        model.train(1, callbacks=[RealismCallback()], **QUIET)
    assert not model.is_trained
    scvi.model.SCVI.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="for `train\\(callbacks=.*of a model of scmimic"):
        scvi.model.SCVI(adata, n_hidden=8).train(1, callbacks=[RealismCallback()], **QUIET)


@pytest.mark.parametrize("labels", [False, True])
def test_too_few_validation_cells(adata, labels):
    model = make(adata, "WGANGP", labels_key="cell_type" if labels else None)
    about = "5 validation cells with a label" if labels else "5 validation cells"
    with pytest.raises(ValueError, match=f"There are {about}, and a RealismCallback needs 20 or more"):
        train(model, RealismCallback(), train_size=0.9, validation_size=5 / 300)
    assert not model.is_trained
