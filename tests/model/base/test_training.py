"""What every model's ``train`` shares."""

import re

import numpy as np
import pytest
import scvi
from scvi.train import SaveCheckpoint
from small_gans import QUIET, SMALL

import scmimic as sm

SMALL_VAE = {"n_latent": 3, "n_hidden": (8,)}
MODELS = {"ACTIVA": SMALL_VAE, "BetaTCVAE": SMALL_VAE, "WGANGP": SMALL, "InfoWGANGP": SMALL}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("when", ["before the model is made", "before training"])
def test_labels_stay_those_of_the_model(adata, name, when):
    cls = getattr(sm, name)
    cls.setup_anndata(adata, labels_key="cell_type")
    model = None
    if when == "before training":
        model = cls(adata, **MODELS[name])
    scvi.model.SCVI.setup_anndata(adata, labels_key="batch")
    if model is None:
        model = cls(adata, **MODELS[name])
    model.train(1, **QUIET)
    expected = adata.obs["cell_type"].cat.codes.to_numpy()
    np.testing.assert_array_equal(model.posterior_.labels, expected)


def test_labels_stay_those_of_the_classifier(adata, learned):
    adata.obs["constant"] = "same"
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTINN(adata)
    scvi.model.SCVI.setup_anndata(adata, labels_key="constant")
    model.train(40, plan_kwargs={"lr": 1e-2}, **QUIET)
    learned("accuracy", (model.predict() == adata.obs["cell_type"]).mean(), above=0.9)


def test_report_compares_the_labels_of_the_model(adata):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, **SMALL_VAE)
    model.train(2, train_size=0.8, **QUIET)
    scvi.model.SCVI.setup_anndata(adata, labels_key="batch")
    cells = model._labelled_counts(adata, None)
    np.testing.assert_array_equal(cells.obs.iloc[:, 0], adata.obs["cell_type"].astype(str))


@pytest.mark.parametrize(
    ("plan_kwargs", "error", "message"),
    [
        ({"state": {}}, TypeError, r"does not take `state`: it takes n_critic, (?!.*\bstate\b)"),
        ({"betas": (2, 3)}, ValueError, r"`betas` must be a pair, each a number at least 0 and below 1, not \(2, 3\)"),
        ({"betas": 0.5}, ValueError, "`betas` must be a pair"),
    ],
)
def test_settings_of_the_plan(adata, plan_kwargs, error, message):
    sm.WGANGP.setup_anndata(adata)
    with pytest.raises(error, match=message):
        sm.WGANGP(adata, **SMALL).train(1, plan_kwargs=plan_kwargs, **QUIET)


@pytest.mark.parametrize("setting", ["check_val_every_n_epoch", "learning_rate_monitor", "fast_dev_run"])
@pytest.mark.parametrize("size", [{}, {"train_size": 0.9, "validation_size": 0}])
def test_settings_that_need_validation_cells(adata, setting, size):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, **SMALL_VAE)
    with pytest.raises(ValueError, match=f"`{setting}=1` needs validation cells.*`train_size=0.9`"):
        model.train(2, **{setting: 1}, **size, **QUIET)
    assert not model.is_trained


def test_early_stopping_and_checkpoints_need_validation_cells(adata, tmp_path):
    sm.BetaTCVAE.setup_anndata(adata)
    model = sm.BetaTCVAE(adata, gene_likelihood="nb", **SMALL_VAE)
    with pytest.raises(ValueError, match=r"`callbacks=\['SaveCheckpoint'\]` needs validation cells.*`train_size=0.9`"):
        model.train(1, **QUIET, callbacks=[SaveCheckpoint(dirpath=tmp_path, monitor="elbo_validation")])
    with pytest.raises(ValueError, match="`early_stopping=True` needs validation cells.*`train_size=0.9`"):
        model.train(2, early_stopping=True, **QUIET)
    rows = np.arange(adata.n_obs)
    given = {"external_indexing": [rows[:-40], rows[-40:], rows[:0]]}
    model.train(2, early_stopping=True, datasplitter_kwargs=given, **QUIET)
    assert "elbo_validation" in model.history and len(model.validation_indices) == 40


@pytest.mark.parametrize(
    ("keyword", "message"),
    [
        ("use_gpu", "it takes max_epochs, warmup_epochs, accelerator"),
        ("plan_config", "write `plan_kwargs={...}`"),
        ("trainer_kwargs", "is `plan_kwargs` meant?"),
    ],
)
def test_keywords_that_no_training_takes(adata, keyword, message):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, **SMALL_VAE)
    with pytest.raises(TypeError, match=f"`ACTIVA.train` does not take `{keyword}`: {re.escape(message)}") as raised:
        model.train(1, **{keyword: False})
    named = str(raised.value).rpartition("it takes ")[2].rstrip(".").split(", ")
    assert len(named) == len(set(named))
