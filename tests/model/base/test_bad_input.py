"""Each bad input gives a clear error (what, where, how to mend), or simply works."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
from mudata import MuData
from small_gans import SMALL

import scmimic as sm

QUIET = {"enable_progress_bar": False}


def put(value):
    def change(adata):
        adata.X[0, 0] = value
        return adata

    return change


def lognormalised(adata):
    adata.X = adata.X.astype(np.float32).log1p()
    return adata


def missing_label(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc[adata.obs_names[3], "cell_type"] = np.nan
    return adata


def empty_cell(adata):
    x = adata.X.toarray()
    x[5] = 0
    adata.X = sp.csr_matrix(x)
    return adata


def repeated_gene(adata):
    names = adata.var_names.to_list()
    names[1] = names[0]
    adata.var_names = names
    return adata


def as_array(adata):
    adata.X = sp.csr_array(adata.X)
    return adata


def bad_size_factor(adata):
    adata.obs["size"] = 1.0
    adata.obs.loc[adata.obs_names[0], "size"] = 0.0
    return adata


SETUP = {"labels_key": "cell_type"}
TABLE = [
    ("negative", put(-1.0), SETUP, {}, ValueError, "negative values.*raw counts"),
    ("nan", put(np.nan), SETUP, {}, ValueError, "NaN or infinite"),
    ("inf", put(np.inf), SETUP, {}, ValueError, "NaN or infinite"),
    ("fraction under nb", put(0.5), SETUP, {}, ValueError, "no integers, such as 0.5.*gene_likelihood='normal'"),
    ("log-normalised under nb", lognormalised, SETUP, {}, ValueError, r"\(log1p values\)"),
    ("missing label", missing_label, SETUP, {}, ValueError, "1 of 300 cells have no value.*fillna"),
    ("empty cell", empty_cell, SETUP, {}, ValueError, "1 cells of .* have no counts.*filter_cells"),
    ("repeated gene", repeated_gene, SETUP, {}, ValueError, "var_names_make_unique"),
    ("csr_array", as_array, SETUP, {}, TypeError, "csr_matrix"),
    ("view", lambda a: a[:100], SETUP, {}, ValueError, r"view.*adata.copy\(\)"),
    ("no cells", lambda a: a[:0].copy(), SETUP, {}, ValueError, "empty"),
    ("no such label column", lambda a: a, {"labels_key": "x"}, {}, KeyError, "no such column"),
    ("no such batch column", lambda a: a, {"batch_key": "x"}, {}, KeyError, "no such column"),
    ("no such layer", lambda a: a, {"layer": "x"}, {}, KeyError, "no layer"),
    ("size factor of zero", bad_size_factor, {"size_factor_key": "size"}, {}, ValueError, "positive"),
    ("unknown likelihood", lambda a: a, SETUP, {"gene_likelihood": "gauss"}, ValueError, "gene_likelihood"),
    ("unknown dispersion", lambda a: a, SETUP, {"dispersion": "cell"}, ValueError, "dispersion"),
    ("classifier is no module", lambda a: a, SETUP, {"classifier": 3}, TypeError, "classifier"),
    ("not an AnnData", lambda a: a.X, SETUP, {}, TypeError, "AnnData"),
]


@pytest.mark.parametrize(
    ("change", "setup", "init", "error", "message"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE]
)
def test_refused(adata, change, setup, init, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        data = change(adata)
        sm.ACTIVA.setup_anndata(data, **setup)
        sm.ACTIVA(data, **init)


@pytest.mark.parametrize(
    "setup",
    [{"categorical_covariate_keys": ["x"]}, {"continuous_covariate_keys": ["x"]}, {"continuous_covariate_keys": ["t"]}],
)
@pytest.mark.parametrize("container", ["AnnData", "MuData"])
def test_a_set_up_that_fails_writes_nothing(adata, setup, container):
    adata.obs["t"] = "text"
    before = list(adata.obs)
    with pytest.raises((KeyError, TypeError), match=f"{next(iter(setup))}"):
        if container == "AnnData":
            sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", **setup)
        else:
            places = dict.fromkeys(("rna_layer", "labels_key", *setup), "rna")
            sm.ACTIVA.setup_mudata(MuData({"rna": adata}), modalities=places, labels_key="cell_type", **setup)
    assert list(adata.obs) == before and not adata.obsm


def test_columns_that_can_be_named_are_not_those_of_scvi_tools(adata):
    before = list(adata.obs)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(KeyError) as raised:
        sm.ACTIVA.setup_anndata(adata, labels_key="x")
    assert raised.value.args[0].endswith(f"Columns: {before}.")


@pytest.mark.parametrize("name", ["gene_likelihood", "n_latent"])
def test_arguments_of_the_model_in_its_set_up(adata, name):
    with pytest.raises(TypeError, match=f"does not take `{name}`: it is an argument of the model, `ACTIVA"):
        sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", **{name: 3})


def test_the_set_up_can_be_viewed():
    """In a process of its own: what scvi-tools does not import itself, others here may have imported."""
    code = (
        "import scmimic as sm\n"
        "adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)\n"
        "sm.ACTIVA.setup_anndata(adata, labels_key='cell_type')\n"
        "sm.ACTIVA(adata, n_latent=2, n_hidden=(8,)).view_anndata_setup()\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'labels_key': 'cell_type'" in shown and "Summary Statistics" in shown


def test_backed_is_refused(adata, tmp_path):
    import anndata as ad

    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(ValueError, match="to_memory"):
        sm.ACTIVA.setup_anndata(backed, labels_key="cell_type")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x.tocsc(),
        lambda x: x.toarray(),
        lambda x: x.astype(np.int64),
        lambda x: x.toarray().astype(np.uint32),
        lambda x: x.astype(np.float64),
    ],
    ids=["csr", "csc", "dense", "int64", "uint32", "float64"],
)
def test_works_with_any_matrix(adata, change):
    adata.X = change(adata.X)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=2, warmup_epochs=1, **QUIET)
    assert model.generate(5, seed=0).X.dtype == adata.X.dtype


def test_label_with_one_cell_gene_without_counts_and_last_batch_of_one(adata):
    adata = adata[:257].copy()
    x = adata.X.toarray()
    x[:, 7] = 0
    adata.X = sp.csr_matrix(x)
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    adata.obs.loc[adata.obs_names[0], "cell_type"] = "lonely"
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=3, warmup_epochs=1, batch_size=128, **QUIET)
    new = model.generate(20, "lonely", seed=0)
    assert np.isfinite(new.X.data).all()
    assert new.n_obs == 20


def test_one_type_alone_has_no_classifier(adata):
    adata.obs["one"] = "T cell"
    sm.ACTIVA.setup_anndata(adata, labels_key="one")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=1, **QUIET)
    assert (model.generate(5, "T cell", seed=0).obs["one"] == "T cell").all()
    sm.ACTINN.setup_anndata(adata, labels_key="one")
    with pytest.raises(ValueError, match="at least two types"):
        sm.ACTINN(adata)


def test_before_training(adata):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    for call in (lambda: model.generate(5), lambda: model.decode(np.zeros((2, 4))), model.classify):
        with pytest.raises(RuntimeError, match="not trained yet"):
            call()


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"max_epochs": 0}, ValueError, "max_epochs"),
        ({"max_epochs": 2, "warmup_epochs": -1}, ValueError, "warmup_epochs"),
        ({"max_epochs": 2, "plan_kwargs": {"learning_rate": 1}}, TypeError, "learning_rate"),
    ],
)
def test_bad_training_settings(adata, kwargs, error, message):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    with pytest.raises(error, match=message):
        model.train(**kwargs, **QUIET)


def reversed_genes(adata):
    return adata[:, ::-1].copy()


def without_a_gene(adata):
    return adata[:, 1:].copy()


GENES = [(reversed_genes, "in another order"), (without_a_gene, "lacks 1 of the 60 genes")]


@pytest.mark.parametrize(("change", "message"), GENES)
def test_other_genes_are_refused(adata, trained, change, message):
    sm.BetaTCVAE.setup_anndata(adata)
    beta = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(8,), gene_likelihood="nb")
    beta.train(1, **QUIET)
    scvi.model.SCVI.setup_anndata(adata)
    plain = scvi.model.SCVI(adata, n_latent=3, n_hidden=8)
    plain.train(1, **QUIET)
    other = change(adata)
    keys = {"group_key": "cell_type", "condition_key": "batch", "target": ("type_1", "batch_1")}
    calls = [
        lambda: trained.get_latent_representation(other),
        lambda: trained.get_normalized_expression(other),
        lambda: trained.classify(other),
        lambda: beta.get_latent_representation(other),
        lambda: sm.MichiGAN.from_representation(plain, **SMALL).get_latent_representation(other),
        lambda: sm.tl.latent_entropy(other, beta, **keys),
        lambda: sm.tl.latent_entropy(other, plain, **keys),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()


def test_loaded_without_data(adata, tmp_path):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    activa = sm.ACTIVA(adata, n_latent=3, n_hidden=(8,))
    activa.train(1, calibrate_margins=False, calibrate_spread=False, calibrate_dispersion=False, **QUIET)
    sm.InfoWGANGP.setup_anndata(adata)
    info = sm.InfoWGANGP(adata, n_latent=2, **SMALL)
    michigan = sm.MichiGAN.from_representation(activa, **SMALL)
    for model in (info, michigan):
        model.train(1, **QUIET)
    for model in (activa, info, michigan):
        name = type(model).__name__
        model.save(tmp_path / name)
        loaded = type(model).load(tmp_path / name)
        with pytest.raises(RuntimeError, match=f"{name} was loaded without its data.*`{name}.load"):
            loaded.get_latent_representation()
        assert loaded.get_latent_representation(adata).shape[0] == adata.n_obs
    with pytest.raises(RuntimeError, match="ACTIVA was loaded without its data"):
        sm.ACTIVA.load(tmp_path / "ACTIVA").classify()


def test_advice_fits_the_model(adata):
    with pytest.raises(TypeError, match=r"not MuData. Of a MuData give the modality"):
        sm.WGANGP.setup_anndata(MuData({"rna": adata.copy()}))
    missing_label(adata)
    with pytest.raises(ValueError, match=r"Remove these cells: `adata = adata\[.*notna\(\)\].copy\(\)`\.$"):
        sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(ValueError, match=r"fillna\('none'\)"):
        sm.InfoWGANGP.setup_anndata(adata, labels_key="cell_type", unlabeled_category="none")


@pytest.mark.parametrize(("argument", "value"), [("seed", -1), ("seed", 1.5), ("batch_size", 0)])
def test_bad_requests(adata, trained, argument, value):
    sm.WGANGP.setup_anndata(adata)
    gan = sm.WGANGP(adata, **SMALL)
    for model in (trained, gan):
        with pytest.raises(ValueError, match=f"`{argument}` must be a whole number at least"):
            model.generate(3, **{argument: value})
        if argument == "seed":
            with pytest.raises(ValueError, match="`seed` must be a whole number"):
                model.decode(np.zeros((2, model.module.n_latent)), seed=value)
