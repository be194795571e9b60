import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import torch
from lightning.pytorch.callbacks import Callback
from mudata import MuData

import scmimic as sm

QUIET = {"enable_progress_bar": False}
SMALL = {"n_latent": 6, "n_hidden": (32, 16)}


def fit(adata, setup=None, train=None, **init):
    sm.ACTIVA.setup_anndata(adata, **(setup or {"labels_key": "cell_type"}))
    model = sm.ACTIVA(adata, **{**SMALL, **init})
    model.train(**{"max_epochs": 6, "warmup_epochs": 3, **(train or {})}, **QUIET)
    return model


def normalised(adata):
    adata.layers["norm"] = sc.pp.normalize_total(adata, target_sum=1_000, inplace=False)["X"]
    return adata


@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb", "poisson", "normal"])
@pytest.mark.parametrize("dispersion", ["gene", "gene-label"])
def test_every_likelihood(adata, gene_likelihood, dispersion):
    layer = "norm" if gene_likelihood == "normal" else None
    setup = {"labels_key": "cell_type", "batch_key": "batch", "layer": layer}
    model = fit(normalised(adata), setup, gene_likelihood=gene_likelihood, dispersion=dispersion)
    for name in (
        "elbo_train",
        "kl_real_train",
        "kl_reconstructed_train",
        "kl_generated_train",
        "cell_type_loss_train",
        "classifier_loss_train",
        "loss_generator_train",
    ):
        assert np.isfinite(model.history[name].to_numpy(dtype=float)[-1]).all(), name
    assert model.get_latent_representation().shape == (300, 6)
    expression = model.get_normalized_expression(indices=range(7))
    assert expression.shape == (7, 60)
    assert (expression.to_numpy() >= 0).all()
    if gene_likelihood != "normal":
        np.testing.assert_allclose(expression.sum(axis=1), 1, rtol=1e-4)
    assert model.posterior_predictive_sample(indices=range(7), n_samples=2).shape == (7, 60, 2)
    assert np.isfinite(float(model.get_elbo()))
    new = model.generate(20, seed=0)
    assert (new.X.data > 0).all()
    assert ((new.X.data == np.rint(new.X.data)).all()) == (gene_likelihood != "normal")


def test_latent_separates_types(trained, learned):
    from sklearn.neighbors import KNeighborsClassifier

    z = trained.get_latent_representation()
    types = trained.adata.obs["cell_type"]
    score = KNeighborsClassifier(5).fit(z[::2], types[::2]).score(z[1::2], types[1::2])
    learned("accuracy of neighbours", score, above=0.9)


def test_means_and_zeros_of_genes_are_learned(trained, learned):
    real = trained.adata.X.toarray()
    new = trained.generate(2000, seed=0).X.toarray()
    correlation = np.corrcoef(np.log1p(real.mean(0)), np.log1p(new.mean(0)))[0, 1]
    learned("correlation of log means", correlation, above=0.996)
    learned("error of the share of zeros", abs((real == 0).mean() - (new == 0).mean()), below=0.01)


def test_game_starts_after_warmup(adata):
    model = fit(adata, train={"max_epochs": 5, "warmup_epochs": 3})
    played = model.history["kl_generated_train"].to_numpy(dtype=float).ravel()
    assert len(played[np.isfinite(played)]) == 2


def test_m_of_the_paper_and_from_the_warmup(adata, learned):
    model = fit(adata, train={"plan_kwargs": {"m": None}})
    assert model.history["m_train"].to_numpy(dtype=float)[-1, 0] == pytest.approx(110 * 6 / 128)
    model = fit(adata, train={"plan_kwargs": {"m": "auto", "m_factor": 8.0}})
    kl = model.history["kl_local_train"].to_numpy(dtype=float)[2, 0]
    found = model.history["m_train"].to_numpy(dtype=float)[-1, 0]
    error, of_the_paper = (abs(value / (8 * kl) - 1) for value in (found, 110 * 6 / 128))
    learned("relative error of m", error, below=0.1, off=of_the_paper)


def test_softadapt_changes_the_run(adata):
    plain = fit(adata, train={"max_epochs": 12, "warmup_epochs": 1})
    torch.manual_seed(0)
    adapted = fit(
        adata,
        train={"max_epochs": 12, "warmup_epochs": 1, "plan_kwargs": {"softadapt": "normalized", "softadapt_every": 2}},
    )
    a, b = (m.history["elbo_train"].to_numpy(dtype=float).ravel()[-1] for m in (plain, adapted))
    assert a != b


def test_own_classifier(adata):
    network = torch.nn.Linear(60, 3)
    model = fit(adata, classifier=network)
    assert model.module.classifier is not network
    assert torch.equal(model.module.classifier.weight, network.weight)
    with pytest.raises(ValueError, match="3 logits"):
        sm.ACTIVA(adata, classifier=torch.nn.Linear(60, 5))


def test_classifier_is_checked(adata):
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    actinn = sm.ACTINN(adata)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(ValueError, match="not trained"):
        sm.ACTIVA(adata, classifier=actinn)
    actinn.train(max_epochs=1, **QUIET)
    other = adata.copy()
    other.obs["cell_type"] = other.obs["cell_type"].cat.rename_categories(lambda name: f"x{name}")
    sm.ACTIVA.setup_anndata(other, labels_key="cell_type")
    with pytest.raises(ValueError, match="knows the types"):
        sm.ACTIVA(other, classifier=actinn)


def test_given_classifier_stays_as_it_is(adata):
    sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    actinn = sm.ACTINN(adata)
    actinn.train(max_epochs=1, **QUIET)
    model = fit(adata, classifier=actinn)
    for a, b in zip(model.module.classifier.parameters(), actinn.module.classifier.parameters(), strict=True):
        assert torch.equal(a, b)
    trained_on = fit(adata, classifier=actinn, train={"plan_kwargs": {"n_epochs_classifier": 6}})
    ours = next(trained_on.module.classifier.parameters())
    assert not torch.equal(ours, next(actinn.module.classifier.parameters()))


def test_interrupt_keeps_the_model(adata):
    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, plan):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    model = fit(adata, train={"max_epochs": 50, "callbacks": [Interrupt()]})
    assert model.is_trained
    assert len(model.history["elbo_train"]) in (2, 3)
    assert model.generate(5, seed=0).n_obs == 5
    model.train(max_epochs=2, **QUIET)
    assert len(model.history["elbo_train"]) in (4, 5)


def test_refused_training_leaves_the_model_alone(adata):
    model = fit(adata, train={"calibrate_margins": False})
    dispersion, posterior = model.module.px_r.detach().clone(), model.posterior_
    with pytest.raises(TypeError, match="learning_rate"):
        model.train(1, plan_kwargs={"learning_rate": 1.0}, **QUIET)
    assert torch.equal(model.module.px_r, dispersion)
    assert model.posterior_ is posterior


def test_nan_keeps_the_last_good_weights(adata):
    class Poison(Callback):
        def on_train_batch_start(self, trainer, plan, batch, batch_idx):
            if trainer.current_epoch == 2:
                with torch.no_grad():
                    next(plan.module.decoder.parameters()).fill_(float("nan"))

    model = fit(adata, train={"max_epochs": 50, "callbacks": [Poison()]})
    assert len(model.history["elbo_train"]) <= 4
    assert all(torch.isfinite(p).all() for p in model.module.parameters())
    assert model.generate(5, seed=0).n_obs == 5


def test_training_goes_on_with_all_of_the_history(adata):
    model = fit(adata, train={"max_epochs": 2, "warmup_epochs": 2})
    assert "kl_generated_train" not in model.history
    model.train(max_epochs=3, warmup_epochs=0, **QUIET)
    assert len(model.history["elbo_train"]) == 5
    played = model.history["kl_generated_train"].to_numpy(dtype=float).ravel()
    assert np.isnan(played[:2]).all()
    assert np.isfinite(played[2:]).all()


def test_validation(adata):
    model = fit(adata, train={"train_size": 0.8, "early_stopping": True, "early_stopping_patience": 2})
    assert "elbo_validation" in model.history
    assert len(model.posterior_) == 240


def test_same_seed_same_model(adata):
    import scvi

    cells = []
    for _ in range(2):
        scvi.settings.seed = 11
        cells.append(fit(adata).generate(20, seed=0).X.toarray())
    assert np.array_equal(*cells)


def test_mudata(adata, tmp_path):
    mdata = MuData({"rna": adata, "prot": adata[:, :5].copy()})
    mdata.obs["kind"] = adata.obs["cell_type"].astype(str).to_numpy()
    sm.ACTIVA.setup_mudata(mdata, modalities={"rna_layer": "rna"}, labels_key="kind")
    model = sm.ACTIVA(mdata, **SMALL)
    model.train(max_epochs=2, warmup_epochs=1, **QUIET)
    new = model.generate(10, seed=0)
    assert list(new.var_names) == list(adata.var_names)
    assert set(new.obs["kind"]) <= set(mdata.obs["kind"])
    assert len(model.classify()) == 300
    model.save(tmp_path / "m")
    loaded = sm.ACTIVA.load(tmp_path / "m", adata=mdata)
    assert (loaded.generate(10, seed=0).X != new.X).nnz == 0
    with pytest.raises(TypeError, match="trained on a MuData.*modality 'rna'"):
        sm.ACTIVA.load(tmp_path / "m", adata=adata)
    with pytest.raises(KeyError, match="modality"):
        sm.ACTIVA.setup_mudata(mdata, modalities={"rna_layer": "x"})


def test_query_data(trained):
    query = trained.adata[:50].copy()
    z = trained.get_latent_representation(query)
    np.testing.assert_allclose(z, trained.get_latent_representation()[:50], rtol=1e-4, atol=1e-5)
    query.X = sp.csr_matrix(query.X * -1)
    with pytest.raises(ValueError, match="negative"):
        trained.classify(query)


def test_threshold(adata):
    model = fit(
        normalised(adata), {"labels_key": "cell_type", "layer": "norm"}, gene_likelihood="normal", output_threshold=2.0
    )
    new = model.generate(20, seed=0)
    assert new.X.data.size == 0 or new.X.data.min() > 2.0


@pytest.mark.parametrize(
    ("gene_likelihood", "n_obs", "epochs"),
    [
        *[("nb", 100, 150), ("nb", 280, 150), ("nb", 400, 100), ("nb", 420, 105), ("nb", 800, 200), ("nb", 1600, 400)],
        *[("nb", 12_800, 120), ("normal", 100, 610)],
    ],
)
def test_default_length_of_the_run(gene_likelihood, n_obs, epochs):
    from scmimic.model.activa._presets import COUNTS, PAPER

    preset = PAPER if gene_likelihood == "normal" else COUNTS
    assert preset.epochs(n_obs, 128) == epochs


def test_frozen_classifier_judges_in_eval_mode(adata):
    class Watch(Callback):
        modes = []

        def on_train_batch_start(self, trainer, plan, batch, batch_idx):
            self.modes.append(plan.module.classifier.training)

    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(60, 3))
    fit(adata, classifier=network, train={"callbacks": [Watch()]})
    assert not any(Watch.modes)
    fit(adata, train={"callbacks": [Watch()], "plan_kwargs": {"n_epochs_classifier": 6}})
    assert Watch.modes[-1]


@pytest.mark.parametrize("gene_likelihood", ["poisson", "nb", "zinb"])
def test_a_proportion_of_zero_under_a_count_is_no_infinite_loss(adata, gene_likelihood):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    module = sm.ACTIVA(adata, n_latent=4, n_hidden=(8,), gene_likelihood=gene_likelihood).module
    scale = torch.tensor([[0.0, 1.0]], requires_grad=True)
    if module.px_r is not None:
        module.px_r = torch.nn.Parameter(module.px_r[:, :2].detach())
    logits, label = (torch.zeros(1, 2), torch.zeros(1, 1)) if gene_likelihood == "zinb" else (None, torch.zeros(1, 1))
    px = module.count_likelihood(100 * scale, scale, logits, label)
    loss = -px.log_prob(torch.tensor([[3.0, 97.0]])).sum()
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(scale.grad).all()


@pytest.mark.parametrize(
    "wrong", [{"n_latent": 0}, {"n_latent": 2.5}, {"n_hidden": ()}, {"n_hidden": 16}, {"dropout_rate": 1}]
)
def test_sizes_out_of_range(adata, wrong):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    with pytest.raises(ValueError, match=f"`{list(wrong)[0]}` (must|is empty)"):
        sm.ACTIVA(adata, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: -1} for name in ("lr", "alpha1", "kl_weight", "lr_decay_steps_classifier")),
        *({"lr_decay_classifier": value} for value in (0, 1.5, None)),
        {"softadapt_every": 0},
        {"softadapt_slope_at": "middle"},
        {"softadapt_slope_at": None},
    ],
)
def test_settings_out_of_range(adata, wrong):
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, **SMALL)
    with pytest.raises(ValueError, match=f"`{list(wrong)[0]}` must be"):
        model.train(1, plan_kwargs=wrong, **QUIET)
    assert not model.is_trained
