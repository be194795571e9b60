"""Arguments that make no sense end in an error that names them, before any work is done."""

import numpy as np
import pytest
import scvi
from mudata import MuData

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_hidden_generator": (8,), "n_hidden_critic": (8,)}
VAE = {"n_latent": 2, "n_hidden": (4,)}
CODES = "codes"


def cells():
    adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=12, n_labels=3, n_batches=2, seed=0)
    adata.layers["log"] = adata.X.log1p()
    adata.obsm[CODES] = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    return adata


def make(name, adata, **kwargs):
    cls = getattr(sm, name)
    setup = {"code_key": CODES} if name == "MichiGAN" else {}
    cls.setup_anndata(adata, labels_key="cell_type", **setup)
    return cls(adata, **({} if name == "ACTINN" else VAE if name in ("ACTIVA", "BetaTCVAE") else SMALL), **kwargs)


@pytest.fixture(scope="module")
def models():
    """The six models on small data, not trained: what they refuse, they refuse before they look at that."""
    scvi.settings.seed = 0
    made = {name: make(name, cells()) for name in ("ACTINN", "ACTIVA", "InfoWGANGP", "MichiGAN", "WGANGP")}
    made["BetaTCVAE"] = make("BetaTCVAE", cells(), gene_likelihood="nb")
    return made


@pytest.fixture(scope="module")
def vae():
    scvi.settings.seed = 0
    model = make("ACTIVA", cells())
    model.train(2, **QUIET)
    return model


ALL = ("ACTINN", "ACTIVA", "BetaTCVAE", "InfoWGANGP", "MichiGAN", "WGANGP")
GENERATORS = ALL[1:]
TRAINING = [
    ({"train_size": 0}, ValueError, "`train_size` must be a number above 0 and at most 1, or None, not 0"),
    ({"train_size": 1.1}, ValueError, "`train_size` must be"),
    ({"train_size": "0.5"}, ValueError, "`train_size` must be"),
    ({"train_size": 0.7, "validation_size": 0.5}, ValueError, "`train_size` and `validation_size` must add up to 1"),
    ({"max_epochs": "5"}, ValueError, "`max_epochs` must be a whole number at least 1, or None, not '5'"),
    ({"max_epochs": -1}, ValueError, "`max_epochs` must be"),
    ({"max_epochs": 2.5}, ValueError, "`max_epochs` must be"),
    ({"max_epochs": True}, ValueError, "`max_epochs` must be"),
    ({"epochs": 5}, TypeError, "does not take `epochs`: is `max_epochs` meant"),
    ({"batchsize": 5}, TypeError, "does not take `batchsize`: is `batch_size` meant"),
    ({"lr": 0.1}, TypeError, r"does not take `lr`: write `plan_kwargs=\{'lr': ...\}`"),
    ({"drop_last": True}, TypeError, r"`drop_last`: write `datasplitter_kwargs=\{'drop_last': ...\}`"),
    ({"batch_size": 0}, ValueError, "`batch_size` must be"),
    ({"batch_size": "all"}, ValueError, "`batch_size` must be"),
    ({"accelerator": "abacus"}, ValueError, "`accelerator` must be"),
    ({"devices": 0}, ValueError, "`devices` must be"),
    ({"devices": 1.5}, TypeError, "`devices` must be"),
    ({"early_stopping": "yes"}, ValueError, "`early_stopping` must be True or False"),
    ({"shuffle_set_split": 1}, ValueError, "`shuffle_set_split` must be"),
    ({"precision": 64}, ValueError, "precision: leave `precision=64` out"),
    ({"precision": "16-true"}, ValueError, "precision: leave `precision='16-true'` out"),
    ({"plan_kwargs": [("lr", 1e-3)]}, TypeError, "`plan_kwargs` must be a dict"),
    ({"plan_kwargs": {"learning_rate": 1e-3}}, TypeError, "`plan_kwargs` does not take `learning_rate`: `lr` is meant"),
    ({"plan_kwargs": {"lr": "fast"}}, ValueError, "`lr` must be a number above 0"),
    ({"datasplitter_kwargs": {"batch_size": 3}}, TypeError, "`batch_size`: it is an argument of `train` itself"),
    ({"datasplitter_kwargs": {"droplast": True}}, TypeError, "does not take `droplast`: is `drop_last` meant"),
]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("kwargs", "error", "message"), TRAINING, ids=[str(row[0]) for row in TRAINING])
def test_training(models, name, kwargs, error, message):
    with pytest.raises(error, match=message):
        models[name].train(**kwargs, **QUIET)
    assert not models[name].is_trained


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("ACTIVA", {"warmup_epochs": -1}, "`warmup_epochs` must be a whole number at least 0"),
        ("ACTIVA", {"calibrate_margins": "no"}, "`calibrate_margins` must be True or False"),
        ("ACTIVA", {"plan_kwargs": {"m": "automatic"}}, "`m` must be a number at least 0, 'auto', or None"),
        ("ACTIVA", {"plan_kwargs": {"softadapt": True}}, "`softadapt` must be 'original', 'normalized' or"),
        ("ACTIVA", {"plan_kwargs": {"fake_statistics": "mine"}}, "`fake_statistics` must be 'running' or 'batch'"),
        ("ACTIVA", {"plan_kwargs": {"n_epochs_classifier": -1}}, "`n_epochs_classifier` must be"),
        ("ACTIVA", {"plan_kwargs": {"betas": (0.9,)}}, "`betas` must be a pair"),
        ("ACTINN", {"plan_kwargs": {"lr_decay": 2}}, "`lr_decay` must be"),
        ("WGANGP", {"plan_kwargs": {"amsgrad": "yes"}}, "`amsgrad` must be True or False"),
        ("BetaTCVAE", {"precision": "bf16-mixed"}, "trains in single precision"),
        ("MichiGAN", {"n_faithfulness_cells": -1}, "`n_faithfulness_cells` must be"),
    ],
)
def test_training_of_one(models, name, kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        models[name].train(1, **kwargs, **QUIET)


REQUESTS = [
    ({"seed": -1}, ValueError, "`seed` must be a whole number at least 0"),
    ({"seed": 2**32}, ValueError, "`seed` must be a whole number at least 0 and at most 4,294,967,295"),
    ({"seed": 1.5}, ValueError, "`seed`"),
    (
        {"labels": {"type_0"}},
        TypeError,
        "`labels` is a set, whose order changes from one run",
    ),
    ({"labels": frozenset({"type_0"})}, TypeError, "`labels`"),
    ({"batch_size": 0}, ValueError, "`batch_size`"),
    ({"silent": "yes"}, ValueError, "`silent` must be True or False"),
    ({"path": 3}, TypeError, "`path` must be a path"),
]


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("kwargs", "error", "message"), REQUESTS, ids=[str(row[0]) for row in REQUESTS])
def test_requests(models, name, kwargs, error, message):
    with pytest.raises(error, match=message):
        models[name].generate(5, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"max_draws": 0}, ValueError, "`max_draws` must be a whole number at least 1, or None, not 0"),
        ({"max_draws": -1}, ValueError, "`max_draws`"),
        ({"match_margins": "no"}, ValueError, "`match_margins` must be True or False, or None, not 'no'"),
        ({"match_margins": 0}, ValueError, "`match_margins`"),
        ({"min_confidence": 1.5}, ValueError, "`min_confidence`"),
        ({"min_confidence": "high"}, ValueError, "`min_confidence`"),
        ({"method": "Posterior"}, ValueError, "`method` must be 'posterior' or 'prior'"),
        ({"library_size": "large"}, TypeError, "`library_size` must be a number or an array of numbers"),
        ({"library_size": True}, TypeError, "`library_size`"),
        ({"library_size": {1000}}, TypeError, "`library_size`"),
        ({"library_size": np.ma.masked_less([1.0, 2, 3, 4, 5], 3)}, ValueError, "`library_size` holds 2 masked values"),
        ({"n": "5"}, ValueError, "`n` must be a whole number"),
        ({"n": 2.0}, ValueError, "`n` must be a whole number"),
    ],
)
def test_requests_of_vaes(vae, kwargs, error, message):
    with pytest.raises(error, match=message):
        vae.generate(**{"n": 5, **kwargs})


@pytest.mark.parametrize(
    ("z", "error"),
    [
        ("codes", TypeError),
        ([["a", "b"]], TypeError),
        (None, TypeError),
        (np.ma.masked_greater(np.eye(2), 0.5), ValueError),
    ],
)
def test_codes(vae, z, error):
    for method in (vae.decode, vae.expected_expression):
        with pytest.raises(error, match="`z`"):
            method(z)


def test_a_bound_on_draws_is_a_bound(vae):
    with pytest.raises(RuntimeError, match="Raise `max_draws`"):
        vae.generate(500, "type_2", min_confidence=0.999, max_draws=1, seed=0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"labels_key": ["cell_type"]}, "`labels_key` must be the name of a column"),
        ({"labels_key": 3}, "`labels_key` must be the name of a column"),
        ({"layer": ["log"]}, "`layer` must be the name of a layer"),
        ({"label_key": "cell_type"}, "does not take `label_key`: is `labels_key` meant"),
        ({"colour": "red"}, "does not take `colour`: it takes layer"),
    ],
    ids=str,
)
def test_setup(name, kwargs, message):
    setup = {"labels_key": "cell_type"} | ({"code_key": CODES} if name == "MichiGAN" else {})
    with pytest.raises(TypeError, match=message):
        getattr(sm, name).setup_anndata(cells(), **setup | kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("ACTINN", {"labels_key": None}, "`labels_key` must be the name of a column, not None"),
        ("ACTIVA", {"batch_key": ("batch",)}, "`batch_key`"),
        ("BetaTCVAE", {"size_factor_key": 1.0}, "`size_factor_key`"),
        ("MichiGAN", {"code_key": ["codes"]}, "`code_key`"),
        ("MichiGAN", {"code_var_key": 1}, "`code_var_key`"),
    ],
)
def test_setup_of_one(name, kwargs, message):
    with pytest.raises(TypeError, match=message):
        getattr(sm, name).setup_anndata(cells(), **kwargs)


@pytest.mark.parametrize("cls", [sm.ACTIVA, sm.BetaTCVAE])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"modalities": "rna"}, "`modalities` must be a dict"),
        ({"modalities": {"rna_layer": "rna"}, "rna_layer": 3}, "`rna_layer`"),
        ({"modalities": {"rna_layer": "rna"}, "labels_key": ["cell_type"]}, "`labels_key`"),
        ({"modalities": {"rna_layer": "rna"}, "label_key": "cell_type"}, "does not take `label_key`: is `labels_key`"),
    ],
)
def test_setup_of_mudata(cls, kwargs, message):
    with pytest.raises(TypeError, match=message):
        cls.setup_mudata(MuData({"rna": cells()}), **kwargs)


@pytest.mark.parametrize("rows", [[60], [-61], [True, False], [0.5], {1, 2}], ids=str)
def test_rows(models, vae, rows):
    codes = {"indices": rows}
    for call in (
        lambda: vae.classify(**codes),
        lambda: models["MichiGAN"].get_latent_representation(**codes),
    ):
        with pytest.raises((TypeError, ValueError), match="`indices`"):
            call()


def test_weights_of_types():
    adata = cells()
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    for wrong, message in (
        ("balance", "`class_weights` must be 'balanced', a dict or None"),
        (3, "`class_weights` must be"),
        ({"type_0": 1}, "`class_weights` has no weight for"),
        ({"type_0": -1, "type_1": 1, "type_2": 1}, "`class_weights` must be a number at least 0, not -1"),
    ):
        with pytest.raises(ValueError, match=message):
            sm.ACTINN(adata, class_weights=wrong)


def test_integers_of_numpy_are_numbers(vae):
    first = vae.generate(np.int64(5), seed=np.int64(3))
    assert (first.X != vae.generate(5, seed=3).X).nnz == 0
