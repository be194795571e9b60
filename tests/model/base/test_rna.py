"""scvi-tools' RNA-seq methods on our models: units, genes of a MuData, size factors."""

import inspect

import numpy as np
import pytest
import scvi
from mudata import MuData

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_latent": 4, "n_hidden": (32, 16)}


@pytest.fixture
def modalities(adata):
    """Two modalities, the expression second; types and batches in it."""
    mdata = MuData({"prot": adata[:, :5].copy(), "rna": adata.copy()})
    mdata["prot"].var_names = [f"protein_{i}" for i in range(5)]
    mdata.update()
    mdata.obs["kind"] = adata.obs["cell_type"].astype(str).to_numpy()
    return mdata


def on_mudata(model_class, mdata, **train):
    modality = {"rna_layer": "rna", "labels_key": "rna", "batch_key": "rna"}
    model_class.setup_mudata(mdata, modalities=modality, labels_key="cell_type", batch_key="batch")
    model = model_class(mdata, gene_likelihood="nb", **SMALL)
    model.train(2, **train, **QUIET)
    return model


def on_counts(model_class, adata, max_epochs=2, setup=None, **init):
    model_class.setup_anndata(adata, **(setup or {}))
    model = model_class(adata, **SMALL, **init)
    model.train(max_epochs, **QUIET)
    return model


@pytest.mark.parametrize("model_class", [sm.BetaTCVAE, sm.ACTIVA])
def test_genes_of_a_mudata(modalities, model_class, tmp_path):
    model = on_mudata(model_class, modalities)
    genes = list(modalities["rna"].var_names)
    model.save(tmp_path / "m", overwrite=True)
    for known in (model, model_class.load(tmp_path / "m", adata=modalities)):
        frame = known.get_normalized_expression()
        assert list(frame.columns) == genes
        assert list(frame.index) == list(modalities.obs_names)
        np.testing.assert_allclose(frame.sum(axis=1), 1, rtol=1e-4)
        scvi.settings.seed = 0
        some = known.get_normalized_expression(indices=[3, 5], gene_list=[genes[7], genes[2]])
        assert list(some.columns) == [genes[2], genes[7]]
        assert list(some.index) == list(modalities.obs_names[[3, 5]])
        scvi.settings.seed = 0
        array = known.get_normalized_expression(indices=[3, 5], return_numpy=True)
        np.testing.assert_array_equal(some, array[:, [2, 7]])
        samples = known.get_normalized_expression(indices=[3, 5], n_samples=4, return_mean=False)
        assert samples.shape == (4, 2, 60)
        effects = known.differential_expression(groupby="kind", group1="type_0", mode="change", silent=True)
        assert sorted(effects.index) == sorted(genes)
        rank = sm.tl.rank_latent_genes(modalities, known, n_genes=60, copy=True).uns["rank_latent_genes"]
        assert set(rank["names"]["Z1"]) == set(genes)
    with pytest.raises(ValueError, match="MuData"):
        model.get_feature_correlation_matrix()


@pytest.mark.parametrize("gene_likelihood", ["normal", "nb", "zinb", "poisson"])
def test_fold_changes_are_those_of_the_cells(learned, gene_likelihood):
    adata = sm.datasets.synthetic_counts(n_obs=600, n_vars=60, n_labels=2, seed=0)
    counts = adata.X.toarray()
    adata.layers["log"] = adata.X.log1p()
    setup = {"layer": "log"} if gene_likelihood == "normal" else {}
    model = on_counts(sm.BetaTCVAE, adata, 30, setup, beta=0.0, gene_likelihood=gene_likelihood)
    effects = model.differential_expression(
        groupby="cell_type", group1="type_0", group2="type_1", mode="change", silent=True
    )
    groups = [counts[adata.obs["cell_type"] == name] for name in ("type_0", "type_1")]
    if gene_likelihood == "normal":
        truth = np.subtract(*(np.log1p(x).mean(0) for x in groups)) / np.log(2)
        # both sides are in the same units, so that not only the order can be compared
        excess = np.abs(effects["lfc_mean"]).max() - np.abs(truth).max()
        learned("excess of the largest fold change", excess, below=1)
    else:
        truth = np.subtract(*(np.log2((x / x.sum(1, keepdims=True)).mean(0) + 1e-4) for x in groups))
    found = effects["lfc_mean"].loc[adata.var_names]
    learned("correlation of fold changes", np.corrcoef(found, truth)[0, 1], above=0.9)


def test_what_a_likelihood_cannot_say(adata):
    adata.layers["log"] = adata.X.log1p()
    normal = on_counts(sm.BetaTCVAE, adata, setup={"layer": "log"})
    with pytest.raises(ValueError, match="leave `library_size` out"):
        normal.get_normalized_expression(library_size=1e4)
    poisson = on_counts(sm.BetaTCVAE, adata, gene_likelihood="poisson")
    for model in (normal, poisson):
        for ask in (
            model.get_likelihood_parameters,
            model.get_feature_correlation_matrix,
            lambda model=model: model.get_normalized_expression(weights="importance", n_samples_overall=10),
            lambda model=model: model.differential_expression(groupby="cell_type", weights="importance"),
        ):
            with pytest.raises(ValueError, match="'nb' or 'zinb'"):
                ask()
    zinb = on_counts(sm.BetaTCVAE, adata, gene_likelihood="zinb", library="observed")
    assert set(zinb.get_likelihood_parameters(indices=range(5))) == {"mean", "dropout", "dispersions"}
    assert zinb.get_feature_correlation_matrix(indices=range(20)).shape == (60, 60)
    totals = np.asarray(adata.X.sum(1))
    np.testing.assert_allclose(zinb.get_latent_library_size(give_mean=False), totals, rtol=1e-4)
    with pytest.raises(RuntimeError, match="posterior distribution for the library size"):
        zinb.get_latent_library_size()


@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb"])
def test_importance_weights(adata, gene_likelihood):
    model = on_counts(sm.BetaTCVAE, adata, gene_likelihood=gene_likelihood)
    samples = model.get_normalized_expression(
        indices=np.arange(20), weights="importance", n_samples_overall=50, return_numpy=True
    )
    assert samples.shape == (50, 60)
    np.testing.assert_allclose(samples.sum(1), 1, rtol=1e-4)


@pytest.mark.parametrize("unit", [1.0, 3.0, 1e-3])
@pytest.mark.parametrize("model_class", [sm.BetaTCVAE, sm.ACTIVA])
def test_size_factors_in_any_unit(adata, model_class, unit):
    totals = np.asarray(adata.X.sum(1)).ravel()
    factor = np.random.default_rng(0).uniform(0.8, 1.25, adata.n_obs) * totals
    adata.obs["size"] = factor * unit
    init = {"gene_likelihood": "nb"} | ({"library": "observed"} if model_class is sm.BetaTCVAE else {})
    model = on_counts(model_class, adata, 20, {"labels_key": "cell_type", "size_factor_key": "size"}, **init)
    library = np.exp(model.posterior_.log_library)
    np.testing.assert_allclose(library, factor * totals.sum() / factor.sum(), rtol=1e-3)
    cells = model.generate(300, seed=0, match_margins=False)
    assert np.asarray(cells.X.sum(1)).mean() == pytest.approx(totals.mean(), rel=0.1)
    cells = model.generate(100, library_size=1000, seed=0)
    assert np.asarray(cells.X.sum(1)).mean() == pytest.approx(1000, rel=0.1)


def test_prior_without_a_classifier(adata):
    model = on_counts(sm.BetaTCVAE, adata, setup={"labels_key": "cell_type"}, gene_likelihood="nb")
    cells = model.generate(50, method="prior", seed=0)
    nearest = model.posterior_.nearest_labels(cells.obsm["X_betatcvae"], 3)
    assert cells.obs["cell_type"].cat.codes.tolist() == nearest.tolist()
    with pytest.raises(ValueError, match="no classifier"):
        model.generate(50, "type_0", method="prior")
    with pytest.raises(ValueError, match="an ACTIVA with a count likelihood"):
        model.generate(5, match_margins=True)


@pytest.mark.parametrize("model_class", [sm.BetaTCVAE, sm.ACTIVA, sm.ACTINN])
def test_no_training_without_data(adata, model_class, tmp_path):
    model_class.setup_anndata(adata, labels_key="cell_type")
    model = model_class(adata)
    model.train(1, **QUIET)
    model.save(tmp_path / "m")
    with pytest.raises(RuntimeError, match="has no data and cannot train"):
        model_class.load(tmp_path / "m").train(1)
    with pytest.raises(RuntimeError, match="has no data and cannot train"):
        model_class.load(tmp_path / "m").train()


@pytest.mark.parametrize("name", ["get_normalized_expression", "get_feature_correlation_matrix", "save", "load"])
def test_arguments_stand_where_scvi_tools_has_them(name):
    def of(model_class):
        parameters = inspect.signature(getattr(model_class, name)).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    ours, theirs = of(sm.ACTIVA), of(scvi.model.SCVI)
    assert ours == theirs[: len(ours)]
    passed_on = {"dataloader", "data_loader_kwargs", "datamodule", "allowed_classes_names_list"}
    assert {p for p, _, _ in theirs[len(ours) :]} <= passed_on


def test_misspelt_arguments_of_load_are_named(adata, tmp_path):
    on_counts(sm.ACTIVA, adata).save(tmp_path / "m")
    with pytest.raises(TypeError, match=r"`ACTIVA.load` does not take `acelerator`: is `accelerator` meant"):
        sm.ACTIVA.load(tmp_path / "m", acelerator="cpu")
    assert sm.ACTIVA.load(tmp_path / "m", None, "cpu", "auto", None).device.type == "cpu"


def test_genes_that_the_model_has_not_are_named(adata):
    model = on_counts(sm.ACTIVA, adata)
    genes = adata.var_names[[4, 2]]
    for given in (list(genes), genes, genes.to_numpy()):
        assert list(model.get_normalized_expression(gene_list=given).columns) == list(genes[::-1])
    with pytest.raises(KeyError, match=r"no genes \['CD3D'\], which `gene_list` names"):
        model.get_normalized_expression(gene_list=["CD3D", *genes])


def test_misspelt_arguments_are_not_taken_for_settings_of_the_weights(adata):
    model = on_counts(sm.ACTIVA, adata)
    with pytest.raises(TypeError, match="does not take `batchsize`: is `batch_size` meant"):
        model.get_normalized_expression(batchsize=3)
    some = {"indices": np.array([0, 1]), "return_numpy": True, "weights": "importance", "n_samples_overall": 4}
    values = model.get_normalized_expression(**some, max_cells=2, n_mc_samples=2, n_mc_samples_per_pass=2)
    assert values.shape == (4, 60)


def test_correlations_by_batch_and_of_values(adata):
    model = on_counts(sm.ACTIVA, adata, setup={"batch_key": "batch"})
    batches = [model.batch_categories_[0]]
    found = {}
    for kind in ("spearman", "pearson"):
        scvi.settings.seed = 0
        found[kind] = model.get_feature_correlation_matrix(None, range(30), 2, 64, 1000, batches, kind)
    assert found["spearman"].shape == (60, 60)
    assert np.abs(found["spearman"] - found["pearson"]).max(axis=None) > 1e-3
    with pytest.raises(ValueError, match="`correlation_type`"):
        model.get_feature_correlation_matrix(correlation_type="kendall")
