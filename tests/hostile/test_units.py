"""Cells that changed under a model, and cells in other units than it was trained on."""

import copy
import re
import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi
import torch
from mudata import MuData

import scmimic as sm

QUIET = {"enable_progress_bar": False}
GAN = {"n_hidden_generator": (8,), "n_hidden_critic": (8,), "n_noise": 2}
SETUP = {"labels_key": "cell_type"}
VAE = {**SETUP, "batch_key": "batch"}
# class, arguments of its registration, and its sizes
MODELS = {
    "ACTIVA": (sm.ACTIVA, VAE, {"n_latent": 2, "n_hidden": (8,)}),
    "ACTIVA normal": (sm.ACTIVA, VAE, {"n_latent": 2, "n_hidden": (8,), "gene_likelihood": "normal"}),
    "BetaTCVAE": (sm.BetaTCVAE, VAE, {"n_latent": 2, "n_hidden": (8,)}),
    "BetaTCVAE nb": (sm.BetaTCVAE, VAE, {"n_latent": 2, "n_hidden": (8,), "gene_likelihood": "nb"}),
    "ACTINN": (sm.ACTINN, SETUP, {"n_hidden": (8,)}),
    "WGANGP": (sm.WGANGP, SETUP, {"n_latent": 2, **{k: v for k, v in GAN.items() if k != "n_noise"}}),
    "InfoWGANGP": (sm.InfoWGANGP, SETUP, {"n_latent": 2, **GAN}),
    "MichiGAN": (sm.MichiGAN, {**SETUP, "code_key": "X_code"}, GAN),
}
NORMAL = {"ACTIVA normal", "BetaTCVAE"}


def scale(adata, total=1_000, *, log=True):
    """Scaled to a total and logged, by hand."""
    x = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X)
    x = x * (total / x.sum(1, keepdims=True))
    adata.X = sp.csr_matrix(np.log1p(x) if log else x, dtype=np.float32)
    return adata


@pytest.fixture
def cells():
    cells = sm.datasets.synthetic_counts(n_obs=90, n_vars=30, n_batches=2, seed=0)
    cells.X = cells.X.astype(np.float32)
    cells.obs["cell_type"] = cells.obs["cell_type"].astype(str)
    cells.obs["size"] = np.linspace(0.5, 2, 90)
    cells.obsm["X_code"] = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    return cells


def made(name, cells, layer=None, **init):
    cls, setup, sizes = MODELS[name]
    cls.setup_anndata(cells, layer=layer, **setup)
    return cls(cells, **{**sizes, **init})


def trained(name, cells, layer=None):
    """A model that takes itself for trained: what it has learned is of no interest here."""
    model = made(name, cells, layer)
    model.is_trained_ = True
    return model


def use(model):
    return model.predict if isinstance(model, sm.ACTINN) else model.get_latent_representation


# Changes of the registered cells, in place.


def log1p(a):
    sc.pp.log1p(a)


def replace_x(a):
    a.X = a.X.log1p()


def other_value(a):
    a.X[45, a.X[45].indices[0]] += 1


def make_missing(a):
    a.X.data[0] = np.nan


def shuffle_cells(a):
    a.X = a.X[::-1].copy()


def swap_two_genes(a):
    a.X = a.X[:, np.r_[1, 0, 2:30]]


def reverse_genes(a):
    a._inplace_subset_var(a.var_names[::-1])


def cut_genes(a):
    a._inplace_subset_var(a.var_names[:20])


def rename_genes(a):
    a.var_names = [f"g{i}" for i in range(a.n_vars)]


def cut_cells(a):
    a._inplace_subset_obs(np.arange(a.n_obs) < 50)


def edit_label(a):
    a.obs.loc[a.obs_names[0], "cell_type"] = "type_2"


def rename_labels(a):
    a.obs["cell_type"] = a.obs["cell_type"].str.upper()


def edit_batch(a):
    a.obs["batch"] = a.obs["batch"].astype(str).to_numpy()[::-1]


def edit_code(a):
    a.obsm["X_code"] = a.obsm["X_code"] + 1


VALUES = r"the values of `adata.X` changed"
CHANGES = [
    ("ACTIVA", log1p, VALUES),
    ("ACTIVA", other_value, VALUES),
    ("ACTIVA", make_missing, VALUES),
    ("ACTIVA", shuffle_cells, VALUES),
    ("ACTIVA", swap_two_genes, VALUES),
    ("ACTIVA", reverse_genes, "another order"),
    ("ACTIVA", cut_genes, "there are 20 genes, and were 30"),
    ("ACTIVA", rename_genes, "the genes have other names"),
    ("ACTIVA", cut_cells, "there are 50 cells, and were 90"),
    ("ACTIVA normal", replace_x, VALUES),
    ("BetaTCVAE", other_value, VALUES),
    ("BetaTCVAE nb", log1p, VALUES),
    ("BetaTCVAE nb", cut_genes, "20 genes"),
    ("ACTINN", log1p, VALUES),
    ("ACTINN", reverse_genes, "another order"),
    ("WGANGP", log1p, VALUES),
    ("WGANGP", rename_genes, "other names"),
    ("InfoWGANGP", log1p, VALUES),
    ("InfoWGANGP", cut_genes, "20 genes"),
    ("MichiGAN", log1p, VALUES),
    ("MichiGAN", edit_code, r"the values of `adata.obsm\['X_code'\]` changed"),
]
COLUMNS = [
    ("ACTIVA", edit_label, r"`adata.obs\['cell_type'\]` holds other values"),
    ("ACTIVA", rename_labels, r"`adata.obs\['cell_type'\]` holds other values"),
    ("ACTIVA", edit_batch, r"`adata.obs\['batch'\]` holds other values"),
    ("BetaTCVAE", edit_batch, r"`adata.obs\['batch'\]` holds other values"),
    ("ACTINN", edit_label, r"`adata.obs\['cell_type'\]` holds other values"),
    ("WGANGP", edit_label, r"`adata.obs\['cell_type'\]` holds other values"),
    ("InfoWGANGP", edit_label, r"`adata.obs\['cell_type'\]` holds other values"),
    ("MichiGAN", edit_label, r"`adata.obs\['cell_type'\]` holds other values"),
]


def given(name, cells):
    return scale(cells) if name in NORMAL else cells


@pytest.mark.parametrize(("name", "change", "message"), CHANGES + COLUMNS)
def test_changed_before_the_model_is_made(cells, name, change, message):
    cls, setup, sizes = MODELS[name]
    cls.setup_anndata(given(name, cells), **setup)
    change(cells)
    with pytest.raises(ValueError, match=message):
        cls(cells, **sizes)


@pytest.mark.parametrize(("name", "change", "message"), CHANGES + COLUMNS)
def test_changed_before_training(cells, name, change, message):
    model = made(name, given(name, cells))
    change(cells)
    with pytest.raises(ValueError, match=f"{message}.*setup_anndata"):
        model.train(max_epochs=1, **QUIET)
    assert not model.is_trained


@pytest.mark.parametrize(("name", "change", "message"), [row for row in CHANGES if row[0] != "WGANGP"])
@pytest.mark.parametrize("named", [False, True])
def test_changed_after_training(cells, name, change, message, named):
    model = trained(name, given(name, cells))
    change(cells)
    with pytest.raises(ValueError, match=message):
        use(model)(cells if named else None)


@pytest.mark.parametrize(("name", "change", "message"), [row for row in COLUMNS if row[0] != "WGANGP"])
def test_columns_changed_after_training(cells, name, change, message):
    """What was learned is still right, but the edit takes no part in it."""
    model = trained(name, given(name, cells))
    before = np.asarray(use(model)())
    change(cells)
    with pytest.warns(UserWarning, match=f"{message} than when this .* was set up"):
        np.testing.assert_array_equal(before, np.asarray(use(model)()))


METHODS = {
    "get_latent_representation": {},
    "get_normalized_expression": {},
    "posterior_predictive_sample": {},
    "get_elbo": {},
    "get_reconstruction_error": {},
    "get_likelihood_parameters": {},
    "get_feature_correlation_matrix": {"n_samples": 1},
    "differential_expression": {"groupby": "cell_type"},
    "get_latent_library_size": {},
    "classify": {},
    "realism_report": {},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_a_vae_notices(cells, method):
    model = trained("ACTIVA", cells)
    # what the report asks for first
    model.posterior_ = object()
    with pytest.raises(ValueError, match=r"`adata.X` holds log1p values, but the model was trained on counts"):
        getattr(model, method)(scale(cells.copy()), **METHODS[method])
    log1p(cells)
    for adata in (None, cells):
        with pytest.raises(ValueError, match=rf"{VALUES}.*\(log1p values in place of counts\)"):
            getattr(model, method)(adata, **METHODS[method])


# Cells of their own in other units, orders and numbers of genes.


def counts(a):
    return a


def logs(a):
    return scale(a)


def shares(a):
    return scale(a, log=False)


def binary_logs(a):
    x = scale(a, log=False).X
    a.X = sp.csr_matrix(np.log2(1 + x.toarray()), dtype=np.float32)
    return a


def logs_of_a_million(a):
    return scale(a, 1e6)


def size_factors(a):
    factor = np.exp(np.random.default_rng(1).normal(0, 0.3, (a.n_obs, 1)))
    a.X = sp.csr_matrix(a.X.multiply(factor), dtype=np.float32)
    return a


def centred(a):
    a.X = a.X.toarray() - 1
    return a


def reversed_genes(a):
    return a[:, ::-1].copy()


OTHER = [
    ("ACTIVA", counts, logs, r"`adata.X` holds log1p values, but the model was trained on counts.*Put the raw counts"),
    ("ACTIVA", counts, shares, "holds scaled counts, but the model was trained on counts"),
    ("ACTIVA", counts, size_factors, "holds scaled counts, but the model was trained on counts"),
    ("ACTIVA", counts, binary_logs, r"holds log2\(x \+ 1\) values, but"),
    ("ACTIVA", counts, centred, "holds negative values"),
    ("ACTIVA", counts, reversed_genes, "in another order"),
    ("ACTIVA normal", logs, counts, r"normalize_total\(adata, target_sum=1000\)` and `sc.pp.log1p\(adata\)`"),
    ("ACTIVA normal", logs, shares, "holds scaled counts, but the model was trained on log1p values"),
    ("BetaTCVAE", logs, counts, "holds counts, but the model was trained on log1p values"),
    ("BetaTCVAE", logs, binary_logs, "to the same base: multiply them by 0.693"),
    ("BetaTCVAE", logs, logs_of_a_million, "scaled to a total of 1,000,000, but .* trained on cells of 1,000"),
    ("BetaTCVAE", binary_logs, counts, r"`sc.pp.log1p\(adata, base=2\)`"),
    ("BetaTCVAE", binary_logs, logs, "multiply them by 1.44"),
    ("BetaTCVAE", shares, counts, r"`sc.pp.normalize_total\(adata, target_sum=1000\)`\."),
    ("BetaTCVAE nb", counts, logs, "holds log1p values, but the model was trained on counts"),
    ("ACTINN", counts, logs, "holds log1p values, but the model was trained on counts"),
    ("ACTINN", counts, reversed_genes, "in another order"),
    ("ACTINN", shares, logs, "holds log1p values, but the model was trained on scaled counts"),
    ("InfoWGANGP", counts, logs, "holds log1p values, but the model was trained on counts"),
    ("InfoWGANGP", logs, counts, "holds counts, but the model was trained on log1p values"),
]


@pytest.mark.filterwarnings("ignore:.*holds integers only")
@pytest.mark.parametrize(("name", "own", "other", "message"), OTHER)
def test_other_cells_in_other_units(cells, name, own, other, message):
    query = other(cells.copy())
    model = trained(name, own(cells))
    with pytest.raises(ValueError, match=message):
        use(model)(query)


@pytest.mark.parametrize(("name", "own", "other", "message"), [row for row in OTHER if row[2] is not reversed_genes])
def test_loading_with_cells_in_other_units(cells, name, own, other, message, tmp_path):
    query = other(cells.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = made(name, own(cells))
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="holds (negative values|standardised)" if other is centred else message):
        type(model).load(tmp_path / "model", adata=query)


def test_units_that_do_not_show_are_let_through(cells):
    query = cells.copy()
    query.X = query.X.multiply(np.random.default_rng(0).uniform(0.8, 1, query.shape)).tocsr()
    model = trained("ACTIVA", cells)
    with pytest.warns(UserWarning, match="holds fractions, in units that do not show"):
        assert model.get_latent_representation(query).shape == (90, 2)
    log_model = trained("BetaTCVAE", scale(cells.copy()))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        log_model.get_latent_representation(query)


def test_classifier_takes_counts_scaled_by_anything(cells):
    model = trained("ACTINN", cells)
    other = size_factors(cells.copy())
    np.testing.assert_allclose(model.predict(cells, soft=True), model.predict(other, soft=True), rtol=1e-4)


def test_labels_of_other_cells_are_read_each_time(cells):
    """scvi-tools keeps those of the first time."""
    model = trained("ACTIVA", cells.copy())

    def expression(of):
        torch.manual_seed(0)
        return model.get_normalized_expression(of, return_numpy=True)

    first = expression(cells)
    cells.obs["cell_type"] = "type_0"
    changed = expression(cells)
    np.testing.assert_allclose(changed, expression(cells.copy()), rtol=1e-5)
    assert np.abs(first - changed).max() > 1e-3


def test_cells_that_are_encoded_do_not_become_the_training_cells(cells, tmp_path):
    model = made("ACTIVA", cells)
    model.save(tmp_path / "model")
    loaded = sm.ACTIVA.load(tmp_path / "model")
    query = cells[:20].copy()
    loaded.is_trained_ = True
    first = loaded.get_latent_representation(query)
    assert first.shape == (20, 2)
    with pytest.raises(RuntimeError, match="loaded without its data"):
        loaded.get_latent_representation()
    query.X = query.X * 2
    assert np.abs(loaded.get_latent_representation(query) - first).max() > 0


# What must stay silent.


def add_columns(a):
    a.obs["new"] = 1
    a.obsm["X_pca"] = np.ones((a.n_obs, 2))
    a.var["mean"] = 1.0
    a.uns["log1p"] = {"base": None}
    a.layers["log"] = a.X.log1p()
    a.obs = a.obs[a.obs.columns[::-1]]


def other_format(a):
    a.X = a.X.toarray().astype(np.float64)


def other_sparse_format(a):
    x = a.X.tocoo()
    order = np.random.default_rng(0).permutation(x.nnz)
    a.X = sp.csc_matrix((x.data[order], (x.row[order], x.col[order])), x.shape)


def other_dtype(a):
    a.X = a.X.astype(np.int64)
    a.obs["cell_type"] = a.obs["cell_type"].astype("category")
    a.obs["batch"] = a.obs["batch"].astype(object)


def stored_zeros(a):
    x = a.X.tolil()
    a.X = sp.csr_matrix(x)
    a.X.data = np.append(a.X.data, 0).astype(np.float32)
    a.X.indices = np.append(a.X.indices, a.n_vars - 1)
    a.X.indptr[-1] += 1
    a.X.sum_duplicates()


def another_model(a):
    sm.WGANGP.setup_anndata(a, labels_key="batch")
    a.layers["log"] = a.X.log1p()
    sm.BetaTCVAE.setup_anndata(a, layer="log")


@pytest.mark.parametrize("name", ["ACTIVA", "ACTINN", "InfoWGANGP", "MichiGAN"])
@pytest.mark.parametrize(
    "change", [add_columns, other_format, other_sparse_format, other_dtype, stored_zeros, another_model]
)
def test_harmless_changes_are_silent(cells, name, change):
    model = trained(name, cells)
    before = np.asarray(use(model)())
    change(cells)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "Training will be faster when sparse matrix is formatted as CSR")
        after = np.asarray(use(model)())
    if before.dtype.kind == "f":
        np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)
    model._check_unchanged(strict=True)


def test_a_layer_keeps_counts_while_x_is_normalised(cells):
    cells.layers["counts"] = cells.X.copy()
    model = trained("ACTIVA", cells, layer="counts")
    before = model.get_latent_representation()
    sc.pp.normalize_total(cells)
    sc.pp.log1p(cells)
    np.testing.assert_allclose(before, model.get_latent_representation(), rtol=1e-4, atol=1e-5)
    cells.layers["counts"] = cells.X.copy()
    with pytest.raises(ValueError, match=r"the values of `adata.layers\['counts'\]` changed"):
        model.get_latent_representation()


def test_deep_copies_notice_too(cells):
    model = copy.deepcopy(trained("ACTIVA", cells))
    model.get_latent_representation()
    log1p(model.adata)
    with pytest.raises(ValueError, match=VALUES):
        model.get_latent_representation()


def test_loading_takes_other_cells_of_the_same_genes(cells, tmp_path):
    made("ACTIVA", cells).save(tmp_path / "model")
    other = sm.datasets.synthetic_counts(n_obs=50, n_vars=30, n_batches=2, seed=3)
    model = sm.ACTIVA.load(tmp_path / "model", adata=other)
    model.is_trained_ = True
    assert model.get_latent_representation().shape == (50, 2)
    other.X = other.X.astype(np.float32).log1p()
    with pytest.raises(ValueError, match=VALUES):
        model.get_latent_representation()


def test_mudata(cells):
    mdata = MuData({"rna": cells})
    mdata.obs["kind"] = cells.obs["cell_type"].to_numpy()
    sm.ACTIVA.setup_mudata(mdata, modalities={"rna_layer": "rna"}, labels_key="kind")
    model = sm.ACTIVA(mdata, n_latent=2, n_hidden=(8,))
    model.is_trained_ = True
    model.get_latent_representation()
    mdata.obs["kind"] = "type_1"
    with pytest.warns(UserWarning, match=r"`mdata.obs\['kind'\]` holds other values"):
        model.get_latent_representation()
    other = MuData({"rna": scale(cells.copy())})
    other.obs["kind"] = "type_1"
    with pytest.raises(ValueError, match="holds log1p values, but the model was trained on counts"):
        model.get_latent_representation(other)
    log1p(cells)
    with pytest.raises(ValueError, match=r"the values of `mdata.mod\['rna'\].X` changed"):
        model.get_latent_representation()


# Metrics know arrays alone, but arrays on two scales show it.

COUNTS = np.random.default_rng(0).negative_binomial(2, 0.3, (120, 40)) * (np.arange(40) > 2)
SHARES = COUNTS / COUNTS.sum(1, keepdims=True)
ARRAYS = {
    "counts": COUNTS,
    "deep counts": COUNTS * 5,
    "10k": SHARES * 1e4,
    "20k": SHARES * 2e4,
    "size factors": COUNTS / np.random.default_rng(1).gamma(9, 1 / 9, (120, 1)),
    "log": np.log1p(SHARES * 1e4),
    "other log": np.log1p(SHARES * 1e4) * np.random.default_rng(2).uniform(0.9, 1.1, (120, 40)),
    "log2": np.log2(1 + SHARES * 1e6),
    "standard": (COUNTS - COUNTS.mean()) / COUNTS.std(),
    "codes": np.random.default_rng(3).random((120, 4)),
    "small codes": np.random.default_rng(3).random((120, 4)) / 9,
}
# the same sums, most of them in one gene
ARRAYS["peaked log"] = 0.3 * ARRAYS["log"]
ARRAYS["peaked log"][:, 5] += 0.7 * ARRAYS["log"].sum(1)


@pytest.mark.parametrize(
    ("real", "synthetic", "message"),
    [
        ("counts", "10k", "`real` holds whole numbers, `synthetic` fractions"),
        ("log", "counts", "`synthetic` holds whole numbers, `real` fractions"),
        ("counts", "size factors", "`real` holds whole numbers, `synthetic` fractions"),
        ("10k", "log", "the values sum to 1e.04 per row in `real`"),
        ("10k", "20k", "the values sum to 1e.04 per row in `real` and 2e.04 in `synthetic`"),
        ("log2", "log", "the values sum to"),
        ("peaked log", "log", "the largest value of a row is"),
        ("counts", "deep counts", None),
        ("counts", "counts", None),
        ("10k", "10k", None),
        ("log", "other log", None),
        ("counts", "standard", None),
        ("standard", "10k", None),
        ("codes", "small codes", None),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_arrays_on_two_scales_are_warned_of(real, synthetic, message, sparse):
    pair = [sp.csr_matrix(ARRAYS[name]) if sparse else ARRAYS[name] for name in (real, synthetic)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sm.metrics.correlation_distance(*pair)
    texts = [str(w.message) for w in caught if "`scmimic.tl.evaluate`" in str(w.message)]
    assert len(texts) == (message is not None)
    if message is not None:
        assert re.search(message, texts[0])
        # the line of the user, so that Python shows it once
        assert [w.filename for w in caught if "`scmimic.tl.evaluate`" in str(w.message)] == [__file__]


def test_one_total_beside_several():
    x = ARRAYS["10k"] * np.random.default_rng(4).gamma(9, 1 / 9, (120, 1))
    with pytest.warns(UserWarning, match="all rows of `real` have the same sum, those of `synthetic` have not"):
        sm.metrics.mmd(ARRAYS["10k"], x)


LABELS = np.repeat(["a", "b"], 60)
PAIRS = {
    "discriminator_auc": lambda f, a, b: f(a, b, n_trees=3),
    "random_forest_error": lambda f, a, b: f(a, b, n_trees=3),
    "split_discriminator_auc": lambda f, a, b: f(a, b, n_trees=3),
    "discriminator_auc_per_label": lambda f, a, b: f(a, LABELS, b, LABELS, n_trees=3),
    "inception_score": lambda f, a, b: f(a, LABELS, b, n_trees=3),
    "label_agreement": lambda f, a, b: f(a, LABELS, b, LABELS),
    "differential_expression": lambda f, a, b: f(a, LABELS, b, LABELS),
    "mmd": lambda f, a, b: f(a, b),
    "wasserstein": lambda f, a, b: f(a, b),
    "energy_distance": lambda f, a, b: f(a, b),
    "gene_statistics_distance": lambda f, a, b: f(a, b),
    "precision_recall_density_coverage": lambda f, a, b: f(a, b),
    "one_nn_accuracy": lambda f, a, b: f(a, b),
    "self_distance_ratio": lambda f, a, b: f(a, b),
    "lisi_mixing": lambda f, a, b: f(a, b),
    "distance_to_closest_record": lambda f, a, b: f(a, b, a),
    "nearest_neighbor_distance_ratio": lambda f, a, b: f(a, b, a),
    "duplicate_fraction": lambda f, a, b: f(a, b),
    "membership_inference": lambda f, a, b: f(a, a, b),
}


@pytest.mark.parametrize("name", PAIRS)
def test_every_metric_of_two_matrices_warns(name):
    with pytest.warns(UserWarning, match=r"look normalised in different ways.*`scmimic.tl.evaluate`"):
        PAIRS[name](getattr(sm.metrics, name), ARRAYS["10k"], ARRAYS["log"])


# Tools that put real and generated cells side by side.

TOOLS = {
    "privacy": lambda a, b: sm.tl.privacy(a, b, holdout=a.copy(), n_comps=3),
    "joint_embedding": lambda a, b: sm.tl.joint_embedding(a, b, basis="pca", n_comps=3),
    "joint_embedding as they are": lambda a, b: sm.tl.joint_embedding(a, b, basis="pca", n_comps=3, log1p=False),
    "gene_statistics": lambda a, b: sm.pl.gene_statistics(a, b, show=False),
    "markers": lambda a, b: sm.pl.markers(a, b, labels_key="cell_type", show=False),
    "augment": lambda a, b: sm.tl.augment(a, Generator(b)),
    "evaluate, training cells": lambda a, b: sm.tl.evaluate(a, a.copy(), train=b),
    "evaluate, reference": lambda a, b: sm.tl.evaluate(a, a.copy(), reference=b),
}


class Generator:
    def __init__(self, cells):
        self.cells = cells

    def generate(self, n=None, labels=None, *, seed=None):
        return self.cells


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("turned", [False, True])
def test_tools_refuse_two_units(cells, tool, turned):
    pair = [cells, scale(cells.copy())]
    with pytest.raises(ValueError, match=r"holds (counts|log1p values) and .* (counts|log1p values)|logged again"):
        TOOLS[tool](*(pair[::-1] if turned else pair))


@pytest.mark.parametrize(
    ("real", "synthetic", "options", "message"),
    [
        (counts, logs, {}, "Real cells hold counts, synthetic cells log1p values"),
        (size_factors, logs, {}, "Real cells hold scaled counts, synthetic cells log1p values"),
        (logs, binary_logs, {"log1p": False}, r"log1p values, synthetic cells log2\(x \+ 1\) values"),
        (counts, shares, {"log1p": False}, "Real cells hold counts, synthetic cells scaled counts"),
        (logs, logs, {}, "look like logarithms already"),
    ],
)
def test_evaluation_names_two_units(cells, real, synthetic, options, message):
    made = synthetic(cells[45:].copy())
    with pytest.warns(UserWarning, match=message):
        sm.tl.evaluate(real(cells.copy()), made, metrics="mmd", baselines=(), min_cells=10, n_comps=3, **options)


@pytest.mark.parametrize(("real", "synthetic"), [(counts, shares), (size_factors, counts), (shares, size_factors)])
def test_scales_of_one_kind_are_one_space(cells, real, synthetic):
    """Size factors leave cells with unequal totals, whose values are as linear as before."""
    made = synthetic(cells[45:].copy())
    options = {"metrics": "mmd", "baselines": (), "min_cells": 10, "n_comps": 3}
    table = sm.tl.evaluate(real(cells.copy()), made, **options).set_index("metric")
    assert table.loc["same_space", "value"] == 1
    sm.tl.joint_embedding(real(cells.copy()), made, basis="pca", n_comps=3)


def test_record_tells_what_values_do_not(cells):
    made = scale(cells[45:].copy())
    made.X = made.X.multiply(np.random.default_rng(0).uniform(0.8, 1, made.shape)).tocsr()
    options = {"metrics": "mmd", "baselines": (), "min_cells": 10, "n_comps": 3}
    table = sm.tl.evaluate(cells, made, **options).set_index("metric")
    assert np.isnan(table.loc["same_space", "value"])
    made.uns["scmimic"] = {"parameters": {"units": "log1p", "layer": "None"}}
    with pytest.warns(UserWarning, match="synthetic cells log1p values"):
        sm.tl.evaluate(cells, made, **options)


# scanpy's own order: normalise, log, choose genes. The cells have no total in common then.


@pytest.fixture
def chosen():
    cells = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_batches=2, seed=0)
    cells.layers["counts"] = cells.X.copy()
    cells = scale(cells, 500)[:, 5:25].copy()
    return cells[cells.layers["counts"].sum(1).A1 > 2].copy()


@pytest.mark.parametrize("layer", [None, "counts"])
def test_michigan_on_genes_chosen_after_the_logarithm(chosen, layer):
    sm.BetaTCVAE.setup_anndata(chosen, labels_key="cell_type")
    encoder = sm.BetaTCVAE(chosen, n_latent=3, n_hidden=(16,), n_comps=5)
    encoder.train(2, **QUIET)
    model = sm.MichiGAN.from_representation(encoder, layer=layer, n_hidden_generator=(8,), n_hidden_critic=(8,))
    model.train(1, n_faithfulness_cells=50, **QUIET)
    recorded = model.history["code_faithfulness"].to_numpy().item()
    cells = model.generate(50, seed=0)
    assert cells.uns["scmimic"]["parameters"]["units"] == ("log1p" if layer is None else "counts")
    sm.tl.code_faithfulness(cells, model)
    assert cells.uns["code_faithfulness"]["median"] == pytest.approx(recorded, nan_ok=True)
    sm.tl.code_faithfulness(cells, encoder, use_rep="X_michigan")
    keys = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_1", "batch_1")}
    assert sm.tl.latent_arithmetic(chosen, model, **keys, n=5, seed=0).shape == (5, 20)


def test_counts_for_an_encoder_of_logarithms_are_worth_the_median(chosen):
    """Codes of real counts, by the record of generated cells, are nearly those of the logarithms."""
    sm.BetaTCVAE.setup_anndata(chosen)
    encoder = sm.BetaTCVAE(chosen, n_latent=3, n_hidden=(16,), n_comps=5)
    encoder.train(8, **QUIET)
    asked = encoder.get_latent_representation()
    cells = ad.AnnData(chosen.layers["counts"].copy(), obs=chosen.obs.copy(), var=chosen.var.copy())
    cells.obsm["X_betatcvae"] = asked
    cells.uns["scmimic"] = {"parameters": {"units": "counts", "layer": "counts", "one_count": 1.0}}
    table = sm.tl.code_faithfulness(cells, encoder)
    assert table["pearson"].min() > 0.9


@pytest.mark.parametrize("layer", [None, "counts"])
def test_library_sizes_of_chosen_genes(chosen, layer):
    """Those of generated counts are totals over the genes that are left, whatever the cells were scaled to."""
    sm.WGANGP.setup_anndata(chosen, layer=layer)
    model = sm.WGANGP(chosen, n_latent=2, n_hidden_generator=(8,), n_hidden_critic=(8,))
    observed = chosen.layers["counts"].sum(1).A1
    single = chosen.layers["counts"].toarray()
    single = np.where(single == 0, np.inf, single).min(1) == 1
    assert single.mean() > 0.9
    np.testing.assert_array_equal(model._library_size[single], observed[single])


def test_evaluation_and_augmentation_of_chosen_genes(chosen):
    sm.ACTIVA.setup_anndata(chosen, labels_key="cell_type")
    model = sm.ACTIVA(chosen, n_latent=2, n_hidden=(8,), gene_likelihood="normal")
    model.train(1, warmup_epochs=1, **QUIET)
    new = model.generate(80, seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        options = {"metrics": "mmd", "log1p": False, "min_cells": 10, "n_comps": 3}
        table = sm.tl.evaluate(chosen.copy(), new, **options).set_index("metric")
        both = sm.tl.augment(chosen, model, n=10, seed=0)
    assert table.loc["same_space", "value"] != 0
    assert not [w for w in caught if "space" in str(w.message) or "fractions" in str(w.message)]
    assert both.n_obs == chosen.n_obs + 10
    assert len(model.classify(new)) == 80
    assert model.get_latent_representation(new).shape == (80, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_value, "but the values of `adata.X` changed"),
        (edit_label, r"but `adata.obs\['cell_type'\]` holds other values"),
        (add_columns, None),
        (other_format, None),
    ],
)
def test_loading_with_the_same_cells(cells, change, message, tmp_path):
    made("ACTIVA", cells).save(tmp_path / "model")
    change(cells)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sm.ACTIVA.load(tmp_path / "model", adata=cells)
    texts = [str(w.message) for w in caught if "the cells that this ACTIVA was saved with" in str(w.message)]
    assert len(texts) == (message is not None)
    assert message is None or re.search(message, texts[0])


def test_generators_of_baselines_keep_what_they_were_given(cells):
    generator = sm.baselines.Bootstrap(cells, labels_key="cell_type").fit()
    before = generator.generate(20, seed=0).X.toarray()
    log1p(cells)
    np.testing.assert_array_equal(generator.generate(20, seed=0).X.toarray(), before)


@pytest.mark.parametrize("method", ["fit", "get_latent_representation"])
def test_ppca_notices(cells, method):
    model = sm.baselines.PPCA(scale(cells), n_latent=2).fit()
    with pytest.raises(ValueError, match="holds counts, but the model was trained on log1p values"):
        model.get_latent_representation(sm.datasets.synthetic_counts(n_obs=20, n_vars=30, seed=0))
    decoded = model.decode(np.zeros((3, 2)), seed=0)
    assert model.get_latent_representation(decoded).shape == (3, 2)
    cells.X = cells.X * 2
    with pytest.raises(ValueError, match="the values of `adata.X` changed|The values of `adata.X` changed"):
        getattr(model, method)()


def test_models_of_scvi_are_given_the_units_they_were_trained_on(cells):
    scvi.model.SCVI.setup_anndata(cells)
    model = scvi.model.SCVI(cells, n_latent=2, n_hidden=8)
    model.train(1, **QUIET)
    other = scale(cells.copy())
    with pytest.raises(ValueError, match="holds log1p values, but the model was trained on counts"):
        sm.tl.latent_entropy(other, model, group_key="cell_type", condition_key="batch")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (logs, r"such as [\d.]+ \(log1p values\), but raw counts are needed\. gene_likelihood='nb'"),
        (size_factors, r"such as [\d.]+ \(scaled counts\), but raw counts are needed\. gene_likelihood='nb'"),
    ],
)
@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE nb"])
def test_a_model_of_counts_says_what_it_was_given(cells, name, other, message):
    with pytest.raises(ValueError, match=message):
        made(name, other(cells))
