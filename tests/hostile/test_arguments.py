"""Arguments that make no sense end in an error that names them, before any work is done."""

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from mudata import MuData
from typer.testing import CliRunner

import scmimic as sm
from scmimic._cli import app
from scmimic.model.base._likelihoods import CountParameters

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
        ("ACTIVA", {"plan_kwargs": {"softadapt": True}}, "`softadapt` must be 'original', 'normalized',"),
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
        ({"method": "Posterior"}, ValueError, "`method` must be 'posterior', 'mixture'"),
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


# ------------------------------------------------------------------------------------------------- counts too large


def counts_of(dtype):
    adata = cells()
    adata.X = adata.X.astype(dtype)
    return adata


@pytest.fixture(scope="module")
def of_type():
    """Models that were trained on counts of each type."""
    made = {}
    for dtype in ("int32", "int64", "float32", "float64", "uint16"):
        scvi.settings.seed = 0
        made[dtype] = make("ACTIVA", counts_of(dtype))
        made[dtype].train(1, **QUIET)
    return made


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "uint16"])
@pytest.mark.parametrize("size", [2.0**31, 1e10, 1e30])
def test_library_that_no_type_holds(of_type, dtype, size):
    message = "`library_size` must be at most 2,147,483,647, the most counts of a cell that can be drawn, not"
    for method in (of_type[dtype].generate, lambda n, **kw: of_type[dtype].decode(np.zeros((n, 2)), **kw)):
        for given in (size, [100, 100, size]):
            with pytest.raises(ValueError, match=message):
                method(3, library_size=given)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64", "uint16"])
def test_large_libraries_are_drawn(of_type, dtype):
    new = of_type[dtype].generate(20, library_size=1e7, seed=0)
    values = new.X.data.astype(np.float64)
    assert new.X.dtype == ("int32" if dtype == "uint16" else dtype)
    assert values.min() >= 0 and (values == np.rint(values)).all()
    # over-dispersed, so that a cell has a few times as many at most
    totals = new.X.astype(np.float64).sum(axis=1)
    assert 1e6 < totals.min() and totals.max() < 1e8


def test_a_draw_beyond_the_type_is_no_negative_count(of_type, tmp_path, monkeypatch):
    model = of_type["int32"]
    monkeypatch.setattr(CountParameters, "draw_positive", lambda of, stream: torch.full_like(of.rate, 3e9))
    for path in (None, tmp_path / "x.h5ad", tmp_path / "x.zarr"):
        with pytest.raises(ValueError, match="3e.09 counts of a gene, more than int32 holds"):
            model.generate(5, library_size=1e9, seed=0, path=path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["WGANGP", "InfoWGANGP", "MichiGAN"])
def test_library_of_gans(models, name):
    with pytest.raises(ValueError, match="`library_size` must be at most"):
        models[name]._check_counts_request(True, 1e10, 3)


@pytest.mark.parametrize("size", [2.0**31, 1e10, 1e30])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE", "WGANGP", "IndependentNB", "Multinomial", "Memoriser"])
def test_training_counts_too_large(name, dtype, size):
    if dtype == "int64" and size > 2**63:
        return
    adata = cells()
    x = adata.X.toarray().astype(dtype)
    x[3, 2] = size
    adata.X = x
    with pytest.raises(ValueError, match="holds counts up to .*, but 2,147,483,647 is the most"):
        if name in ALL:
            make(name, adata, **({"gene_likelihood": "nb"} if name == "BetaTCVAE" else {}))
        else:
            getattr(sm.baselines, name)(adata, labels_key="cell_type")


def test_largest_training_counts():
    adata = cells()
    x = adata.X.toarray().astype(np.int64)
    x[3, 2] = 2**31 - 1
    adata.X = x
    model = make("ACTIVA", adata)
    model.train(1, **QUIET)
    assert model.generate(20, seed=0).X.data.min() > 0


@pytest.mark.parametrize("unit", [1e-28, 1e-9, 1.0, 1e28])
def test_size_factors_in_any_unit(unit):
    """The unit of size factors cancels: the same library sizes are learned."""
    adata = cells()
    adata.obs["size"] = unit * np.asarray(adata.X.sum(axis=1)).ravel() / adata.X.sum(axis=1).mean()
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", size_factor_key="size")
    model = sm.ACTIVA(adata, **VAE)
    model.train(1, **QUIET)
    totals = np.log(np.asarray(adata.X.sum(axis=1)).ravel())
    np.testing.assert_allclose(model.posterior_.log_library.ravel(), totals, atol=1e-4)
    np.testing.assert_allclose(model.module.decoder.log_library_mean.item(), totals.mean(), atol=1e-4)


@pytest.mark.parametrize(("first", "rest"), [(1e-30, 1.0), (1e30, 1.0), (1e-40, 1e-40), (1e-9, 1.0)])
def test_size_factors_that_cannot_be(first, rest):
    adata = cells()
    adata.obs["size"] = rest
    adata.obs.iloc[0, adata.obs.columns.get_loc("size")] = first
    for setup in (sm.ACTIVA.setup_anndata, sm.BetaTCVAE.setup_anndata):
        with pytest.raises(ValueError, match=r"`adata.obs\['size'\]` holds size factors from .* times the smallest"):
            setup(adata, size_factor_key="size")


def test_real_cells_of_a_narrow_type(vae):
    """Synthetic counts beside real ones whose type they do not fit."""
    adata = cells()
    adata.X = np.minimum(adata.X.toarray(), 255).astype(np.uint8)
    model = sm.baselines.IndependentNB(adata, labels_key="cell_type").fit()
    model._library *= 1000
    both = sm.tl.augment(adata, model, n=20, seed=0)
    made = model.generate(20, seed=0)
    assert made.X.max() > 255
    assert (both.X[60:] != made.X).nnz == 0 and (both.X[:60] != adata.X).sum() == 0


@pytest.mark.parametrize("parameters", [{"lib_loc": 25.0}, {"lib_loc": 800.0}, {"lib_loc": 1e12, "lib_norm": True}])
def test_simulated_libraries(parameters):
    with pytest.raises(ValueError, match="`lib_loc=.*` and `lib_scale=.*` give cells of up to"):
        sm.datasets.splat(20, 10, parameters=sm.datasets.SplatParameters(**parameters))


# ---------------------------------------------------------------------------------------------- matrices of odd kinds


def twice(x):
    """The same matrix with every entry in two parts, and the entries of a row out of order."""
    x = sp.csr_matrix(x)
    part = np.floor(x.data / 2) + 0.25
    rows = [slice(a, b) for a, b in zip(x.indptr[:-1], x.indptr[1:], strict=True)]
    data = np.concatenate([np.r_[part[row], (x.data - part)[row]][::-1] for row in rows])
    indices = np.concatenate([np.r_[x.indices[row], x.indices[row]][::-1] for row in rows])
    made = sp.csr_matrix((data.astype(np.float32), indices, 2 * x.indptr), shape=x.shape)
    assert not made.has_canonical_format and not made.has_sorted_indices
    return made


def unsorted(x):
    x = sp.csr_matrix(x).copy()
    for a, b in zip(x.indptr[:-1], x.indptr[1:], strict=True):
        x.indices[a:b], x.data[a:b] = x.indices[a:b][::-1].copy(), x.data[a:b][::-1].copy()
    x.has_sorted_indices = False
    x.has_canonical_format = False
    return x


def with_zeros(x):
    dense = sp.csr_matrix(x).toarray()
    rows, columns = np.indices(dense.shape)
    return sp.csr_matrix((dense.ravel(), (rows.ravel(), columns.ravel())), shape=dense.shape)


FORMS = {"twice": twice, "unsorted": unsorted, "zeros": with_zeros}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["ACTINN", "ACTIVA", "BetaTCVAE", "WGANGP"])
def test_the_same_matrix_in_another_form(name, form):
    """Models learn the same of it, and leave it as it is."""
    found = []
    for change in (lambda x: x, form):
        adata = cells()
        adata.X = change(adata.X)
        before = adata.X.copy()
        scvi.settings.seed = 0
        model = make(name, adata, **({"gene_likelihood": "nb"} if name == "BetaTCVAE" else {}))
        model.train(1, **QUIET)
        found.append(
            model.predict(soft=True).to_numpy() if name == "ACTINN" else model.generate(20, seed=0).X.toarray()
        )
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(adata.X, part), getattr(before, part))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("name", ["IndependentNB", "GaussianCopula", "Multinomial", "Memoriser", "Bootstrap"])
def test_the_same_matrix_in_another_form_for_references(name, form):
    plain, other = cells(), cells()
    other.X = form(other.X)
    before = other.X.data.copy()
    made = [getattr(sm.baselines, name)(a, labels_key="cell_type").fit().generate(20, seed=0).X for a in (plain, other)]
    np.testing.assert_array_equal(made[0].toarray(), made[1].toarray())
    np.testing.assert_array_equal(other.X.data, before)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_same_matrix_in_another_form_elsewhere(form):
    plain, other = cells(), cells()
    other.X = form(other.X)
    assert sm.datasets.splat_estimate(plain) == sm.datasets.splat_estimate(other)
    for function in (
        lambda x: sm.metrics.gene_statistics_distance(x, plain.X).real_zero_fraction,
        lambda x: sm.metrics.duplicate_fraction(plain.X, x),
        lambda x: sm.metrics.mmd(x, plain.X),
    ):
        np.testing.assert_allclose(function(plain.X), function(other.X), rtol=1e-6, atol=1e-9)
    for adata in (plain, other):
        sm.pp.recipe_marouf20(adata, min_cells=1, min_genes=1)
    np.testing.assert_allclose(plain.X.toarray(), other.X.toarray(), rtol=1e-6)
    assert plain.obs["n_genes"].tolist() == other.obs["n_genes"].tolist()


@pytest.mark.parametrize("dtype", ["float16", "longdouble", "complex64", "object"])
@pytest.mark.parametrize("name", ALL)
def test_types_that_no_matrix_of_cells_has(name, dtype):
    adata = cells()
    adata.layers["odd"] = adata.X.toarray().astype(dtype)
    setup = {"code_key": CODES} if name == "MichiGAN" else {}
    with pytest.raises(TypeError, match=r"`adata.layers\['odd'\]` is of type .* Convert it: .*astype\('float32'\)"):
        getattr(sm, name).setup_anndata(adata, layer="odd", labels_key="cell_type", **setup)


def test_entries_in_parts_of_a_narrow_type():
    adata = cells()
    x = sp.csr_matrix(
        (np.full(2, 200, dtype=np.uint8), np.zeros(2, dtype=int), np.r_[0, 2 * np.ones(60, dtype=int)]), shape=(60, 12)
    )
    adata.layers["narrow"] = x
    with pytest.raises(TypeError, match="several times, whose sums may be too large for uint8"):
        sm.ACTIVA.setup_anndata(adata, layer="narrow")


def masked(x):
    return np.ma.masked_greater(x.toarray() if sp.issparse(x) else x, 5)


@pytest.mark.parametrize("name", ALL)
def test_masked_cells(name):
    adata = cells()
    adata.layers["masked"] = masked(adata.X)
    if not np.ma.is_masked(adata.layers["masked"]):
        pytest.skip("this anndata takes the mask off")
    setup = {"code_key": CODES} if name == "MichiGAN" else {}
    with pytest.raises(ValueError, match=r"`adata.layers\['masked'\]` holds \d+ masked values.*filled\(0\)"):
        getattr(sm, name).setup_anndata(adata, layer="masked", labels_key="cell_type", **setup)


def test_masked_arrays_in_metrics():
    x = cells().X.toarray().astype(float)
    labels = cells().obs["cell_type"].astype(str).to_numpy()
    hidden = np.ma.array(labels.astype(object), mask=np.arange(60) < 3)
    calls = {
        "real": lambda: sm.metrics.discriminator_auc(masked(x), x),
        "synthetic": lambda: sm.metrics.mmd(x, masked(x)),
        "train": lambda: sm.metrics.duplicate_fraction(masked(x), x),
        "latent": lambda: sm.metrics.spearman_gap(masked(x), labels),
        "variance": lambda: sm.metrics.latent_entropy(x, x, masked(x + 1)),
        "factors": lambda: sm.metrics.spearman_gap(x, masked(x)),
        "labels": lambda: sm.metrics.inception_score(x, hidden, x),
        "reference": lambda: sm.metrics.random_forest_error(x, x, reference=masked(x)),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"`{name}` holds .* masked values"):
            call()
    # a mask that hides nothing is no matter
    assert sm.metrics.duplicate_fraction(np.ma.array(x), x) == 1


# ----------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    "command",
    [
        ["demo", "--epochs", "0"],
        ["demo", "--trees", "-1"],
        ["demo", "--seed", "-1"],
        ["train", "no.h5ad", "--max-epochs", "0"],
        ["train", "no.h5ad", "--seed", "4294967296"],
        ["train", "no.h5ad", "--likelihood", "gauss"],
        ["generate", "no", "--n", "0"],
        ["generate", "no", "--n", "2.5"],
        ["generate", "no", "--seed", "one"],
        ["evaluate", "no.h5ad", "no.h5ad", "--trees", "0"],
        ["evaluate", "no.h5ad", "no.h5ad", "--max-cells", "-5"],
        ["evaluate", "no.h5ad", "no.h5ad", "--seed", "-1"],
    ],
    ids=" ".join,
)
def test_command_line(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2 and f"Invalid value for '{command[-2]}'" in done.output
    assert not list(tmp_path.iterdir())
