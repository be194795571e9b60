import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import scvi
import torch
from learning import SEED
from lightning.pytorch.callbacks import Callback
from mudata import MuData

import scmimic as sm
from scmimic.model.beta_tcvae._model import default_epochs

QUIET = {"enable_progress_bar": False}
SMALL = {"n_latent": 4, "n_hidden": (32, 16)}


@pytest.fixture
def logged(adata):
    adata.layers["log"] = adata.X.log1p()
    return adata


def fit(adata, setup=None, train=None, **init):
    sm.BetaTCVAE.setup_anndata(adata, **({"layer": "log"} if setup is None else setup))
    model = sm.BetaTCVAE(adata, **{**SMALL, **init})
    model.train(**{"max_epochs": 4, **(train or {})}, **QUIET)
    return model


def last(model, name):
    return model.history[name].to_numpy(dtype=float)[-1, 0]


@pytest.fixture(scope="module")
def model():
    """Trained on counts with types; tests must not change it."""
    scvi.settings.seed = SEED
    data = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)
    sm.BetaTCVAE.setup_anndata(data, labels_key="cell_type")
    model = sm.BetaTCVAE(data, beta=5, gene_likelihood="nb", library="observed", **SMALL)
    model.train(30, plan_kwargs={"lr": 5e-3}, **QUIET)
    return model


@pytest.mark.parametrize("library", ["latent", "observed"])
@pytest.mark.parametrize("gene_likelihood", ["normal", "nb", "zinb", "poisson"])
def test_every_likelihood(logged, gene_likelihood, library):
    setup = {
        "layer": "log" if gene_likelihood == "normal" else None,
        "labels_key": "cell_type",
        "batch_key": "batch",
    }
    noise = "gene" if gene_likelihood == "normal" and library == "observed" else "unit"
    model = fit(logged, setup, gene_likelihood=gene_likelihood, library=library, noise=noise)
    for name in ("elbo", "mutual_information", "total_correlation", "dimension_wise_kl", "kl_local"):
        assert np.isfinite(last(model, f"{name}_train")), name
    assert model.get_latent_representation().shape == (300, 4)
    expression = model.get_normalized_expression(indices=range(7))
    assert (expression.to_numpy() >= 0).all()
    if gene_likelihood != "normal":
        np.testing.assert_allclose(expression.sum(axis=1), 1, rtol=1e-4)
    sample = model.posterior_predictive_sample(indices=range(7), n_samples=2)
    assert sample.shape == (7, 60, 2)
    assert sample.todense().min() >= 0
    assert np.isfinite(float(model.get_elbo()))
    # at least the ELBO, but for the error of two estimates
    assert model.get_marginal_ll(n_mc_samples=30) > float(model.get_elbo()) - 4
    new = model.generate(20, seed=0)
    assert (new.X.data > 0).all()
    assert ((new.X.data == np.rint(new.X.data)).all()) == (gene_likelihood != "normal")


def test_marginal_likelihood_equals_quadrature(logged):
    model = fit(logged, gene_likelihood="normal", n_latent=1)
    ours = model.get_marginal_ll(n_mc_samples=300, n_mc_samples_per_pass=100, return_mean=False)
    module, grid = model.module, torch.linspace(-6, 6, 2001)[:, None]
    x = torch.as_tensor(logged.layers["log"][:5].toarray())
    with torch.no_grad():
        px = module.decode(grid, torch.zeros(2001, 1))
        log_px = torch.stack([px.log_prob(cell).sum(-1) for cell in x])
        log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid[:, 0])
        exact = torch.logsumexp(log_px + log_prior, 1) + np.log(12 / 2000)
    np.testing.assert_allclose(np.asarray(ours)[:5], exact, atol=0.3)


def test_loss_is_vae_plus_beta_times_total_correlation(logged):
    sm.BetaTCVAE.setup_anndata(logged, layer="log")
    model = sm.BetaTCVAE(logged, beta=7.0, kl_weight=3.0, **SMALL)
    model.module.train()
    tensors = {"X": torch.as_tensor(logged.layers["log"][:50].toarray()), "batch": torch.zeros(50, 1)}
    inference, generative, plain = model.module(tensors)
    assert plain.extra_metrics == {}
    expected = plain.reconstruction_loss["reconstruction_loss"].mean() + 3 * plain.kl_local["kl_local"].mean()
    assert plain.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    full = model.module.loss(tensors, inference, generative, n_obs=300)
    penalty = 7 * full.extra_metrics["total_correlation"]
    assert full.loss.item() == pytest.approx((expected + penalty).item(), rel=1e-5)
    half = model.module.loss(tensors, inference, generative, n_obs=300, beta_weight=0.5)
    assert half.loss.item() == pytest.approx((expected + penalty / 2).item(), rel=1e-5)


def correlated_factors(n=500):
    """Two factors, and log expression whose genes read a mixture of them each."""
    rng = np.random.default_rng(0)
    factors = rng.uniform(-1, 1, (n, 2))
    loadings = rng.normal(size=(2, 30))
    x = np.log1p(np.exp(factors @ loadings + 1)) + 0.05 * rng.normal(size=(n, 30))
    return factors, sm.datasets.synthetic_counts(n_obs=n, n_vars=30), np.maximum(x, 0).astype(np.float32)


def test_beta_lowers_total_correlation(learned):
    _, data, x = correlated_factors()
    data.layers["log"] = x
    values = {}
    for beta in (0.0, 30.0):
        scvi.settings.seed = SEED
        model = fit(
            data, train={"max_epochs": 40, "batch_size": 64, "plan_kwargs": {"memory_size": 128}}, beta=beta, n_latent=3
        )
        z = model.posterior_.mean + model.posterior_.std * np.random.default_rng(0).normal(size=(500, 3))
        estimated = model.history["total_correlation_train"].to_numpy(dtype=float)[-10:].mean()
        values[beta] = -0.5 * np.linalg.slogdet(np.corrcoef(z.T))[1], estimated
    learned("Gaussian total correlation, beta 30 over 0", values[30.0][0] / values[0.0][0], below=1, off=1)
    learned("estimated total correlation, beta 30 over 0", values[30.0][1] / values[0.0][1], below=0.8, off=1)


def test_kl_weight_lowers_the_kl(logged, learned):
    kls = [last(fit(logged, beta=0, kl_weight=w, train={"max_epochs": 25}), "kl_local_train") for w in (1.0, 20.0)]
    learned("KL, weight 20 over 1", kls[1] / kls[0], below=0.5, off=1)


def test_library_size_is_in_the_code_or_not(adata, learned):
    depth = np.log(np.asarray(adata.X.sum(1)).ravel())

    def explained(library):
        scvi.settings.seed = SEED
        z = fit(
            adata, {}, {"max_epochs": 40, "plan_kwargs": {"lr": 2e-2}}, beta=0, gene_likelihood="nb", library=library
        )
        z = np.c_[np.ones(300), z.posterior_.mean]
        fitted = z @ np.linalg.lstsq(z, depth, rcond=None)[0]
        return np.corrcoef(fitted, depth)[0, 1] ** 2

    latent, observed = explained("latent"), explained("observed")
    learned("share of the depth that the code explains, observed less latent", observed - latent, below=-0.25, off=0)


def test_asked_library_size(adata, model):
    new = model.generate(200, library_size=5000, seed=0)
    assert np.asarray(new.X.sum(1)).mean() == pytest.approx(5000, rel=0.05)
    latent = fit(adata, {}, gene_likelihood="nb")
    with pytest.raises(ValueError, match="library='observed'"):
        latent.generate(5, library_size=5000)


def test_types_are_generated_though_not_trained_on(model, learned):
    new = model.generate(labels={"type_1": 7, "type_0": 3}, seed=0)
    assert new.obs["cell_type"].value_counts().to_dict() == {"type_1": 7, "type_0": 3, "type_2": 0}
    decoded = model.decode(model.get_latent_representation()[:20], seed=0)
    right = (decoded.obs["cell_type"].to_numpy() == model.adata.obs["cell_type"].to_numpy()[:20]).mean()
    learned("accuracy of the nearest codes", right, above=0.9, off=1 / 3)


def test_expected_expression(model):
    z = model.get_latent_representation()
    ours = model.expected_expression(z, library_size=1000)
    assert ours.shape == (300, 60)
    np.testing.assert_allclose(ours.sum(1), 1000, rtol=1e-3)
    np.testing.assert_allclose(ours, model.expected_expression(z, library_size=1000, batch_size=7), rtol=1e-3)
    many = np.mean([model.decode(z, library_size=1000, seed=s).X.toarray().mean(0) for s in range(5)], axis=0)
    assert np.corrcoef(many, ours.mean(0))[0, 1] > 0.99
    with pytest.raises(ValueError, match="shape"):
        model.expected_expression(z[:, :2])


def test_unit_noise_and_no_standardising_are_the_papers_loss(logged):
    sm.BetaTCVAE.setup_anndata(logged, layer="log")
    model = sm.BetaTCVAE(logged, beta=0, standardize=False, n_comps=None, **SMALL)
    assert model.module.px_r is None
    assert model.module.encoder.input_map is None
    tensors = {"X": torch.as_tensor(logged.layers["log"][:50].toarray()), "batch": torch.zeros(50, 1)}
    _, generative, loss = model.module(tensors)
    squares = 0.5 * (tensors["X"] - generative["px"].loc).square().sum(1) + 60 * 0.5 * np.log(2 * np.pi)
    torch.testing.assert_close(loss.reconstruction_loss["reconstruction_loss"], squares)
    assert model.module.decoder.standard.std.unique().item() == 1


def floored_std(x):
    return np.maximum(x.std(0), 0.1 * np.quantile(x.std(0), 0.9))


def test_genes_are_standardised(adata):
    sm.BetaTCVAE.setup_anndata(adata)
    module = sm.BetaTCVAE(adata, gene_likelihood="nb", n_comps=None, **SMALL).module
    x = np.log1p(adata.X.toarray())
    np.testing.assert_allclose(module.encoder.input_map.mean, x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(module.encoder.input_map.std, floored_std(x), rtol=1e-4)
    np.testing.assert_allclose(module.decoder.mean.bias.detach().exp(), adata.X.mean(0).A1, atol=0.01)


@pytest.mark.parametrize("sparse", [True, False])
def test_encoder_reads_principal_components(adata, sparse):
    from sklearn.decomposition import PCA

    if not sparse:
        adata.X = adata.X.toarray()
    sm.BetaTCVAE.setup_anndata(adata)
    module = sm.BetaTCVAE(adata, gene_likelihood="nb", library="observed", n_comps=5, **SMALL).module
    counts = np.asarray(adata.X.toarray() if sparse else adata.X, dtype=np.float64)
    size = counts.sum(1, keepdims=True)
    x = np.log1p(counts / size * np.exp(np.log(size).mean()))
    expected = PCA(5, svd_solver="full").fit_transform((x - x.mean(0)) / floored_std(x))
    expected *= 3 / expected[:, 0].std()
    with torch.no_grad():
        counts = torch.as_tensor(counts, dtype=torch.float32)
        ours = module.encoder.input_map(torch.log1p(module.encoder_input(counts, module.log_library(counts))))
    np.testing.assert_allclose(np.abs(ours.numpy()), np.abs(expected), rtol=0.01, atol=0.01)


def beginning(adata, layer=None, **init):
    """Codes of all cells and what is decoded from them, before training."""
    sm.BetaTCVAE.setup_anndata(adata, layer=layer)
    module = sm.BetaTCVAE(adata, **SMALL | init).module.eval()
    x = adata.X if layer is None else adata.layers[layer]
    x = torch.as_tensor(x.toarray())
    with torch.no_grad():
        library = module.log_library(x)
        codes, _ = module.encoder(module.encoder_input(x, library))
        return codes.numpy().astype(float), module.decode(codes, library).mean.numpy(), module


@pytest.mark.parametrize("init", [{}, {"standardize": False}, {"n_comps": 2}, {"noise": "gene"}])
def test_training_begins_as_principal_components(logged, init):
    from sklearn.decomposition import PCA

    scvi.settings.seed = 0
    init = {"start": "pca"} | init
    codes, decoded, module = beginning(logged, "log", **init)
    scvi.settings.seed = 1
    np.testing.assert_array_equal(beginning(logged, "log", **init)[0], codes)
    x = logged.layers["log"].toarray().astype(np.float64)
    std = floored_std(x) if init.get("standardize", True) else 1
    k = init.get("n_comps", 4)
    pca = PCA(k, svd_solver="full")
    expected = pca.fit_transform((x - x.mean(0)) / std)
    np.testing.assert_allclose(np.abs(codes[:, :k]), np.abs(expected / expected.std(0)), rtol=0.01, atol=0.01)
    assert not codes[:, k:].any()
    np.testing.assert_allclose(decoded, x.mean(0) + std * pca.inverse_transform(expected) - std * pca.mean_, atol=0.01)
    # hidden layers and paths learn
    assert module.decoder.mean.weight.shape == (init.get("n_comps", 50), 32 + 4)


def test_components_are_written_and_learned_from(logged, learned):
    model = fit(logged, start="pca", n_comps=6, beta=0, train={"max_epochs": 20, "plan_kwargs": {"lr": 5e-3}})
    with torch.no_grad():
        decoded = model.module.decode(torch.as_tensor(model.posterior_.mean), None).loc.numpy()
    x = logged.layers["log"].toarray()
    assert np.linalg.matrix_rank((decoded - x.mean(0)) / floored_std(x), tol=1e-3) == 6
    elbo = model.history["elbo_train"].to_numpy(dtype=float)[:, 0]
    learned("negative ELBO, last over first epoch", elbo[-1] / elbo[0], below=0.97, off=1)


def test_random_start(logged):
    _, _, module = beginning(logged, "log")
    assert module.encoder.linear is None
    assert module.decoder.mean.weight.shape == (60, 32)
    assert module.encoder.head.weight.all()
    for init in ({"gene_likelihood": "nb"}, {"n_comps": None}):
        with pytest.raises(ValueError, match="`start='pca'` is for"):
            beginning(logged, start="pca", **init)


@pytest.mark.parametrize("start", ["pca", "random"])
def test_split_decoder_adds_up(logged, start):
    model = fit(logged, start=start, split_aggregation="sum", train={"plan_kwargs": {"lr": 1e-2}})
    z, module = torch.randn(1, 4), model.module
    rows = torch.cat([z, torch.zeros(1, 4), torch.diag(z[0])])
    with torch.no_grad():
        at, none, *alone = module.decode(rows, None).loc
    torch.testing.assert_close(at - none, sum(one - none for one in alone), atol=1e-4, rtol=1e-4)
    # and is no linear map
    with torch.no_grad():
        double = module.decode(2 * rows[:1], None).loc[0]
    assert (double - none - 2 * (at - none)).abs().max() > 1e-3


def test_split_decoder_adds_rates_up(adata):
    """The log of the mean exponential, under the exponential, is a mean of rates."""
    module = fit(adata, {}, gene_likelihood="nb", split_aggregation="logsumexp").module
    z = torch.randn(1, 4)
    rows = torch.cat([z, torch.zeros(1, 4), torch.diag(z[0])])
    with torch.no_grad():
        at, none, *alone = module.expected(module.decode(rows, None))
    torch.testing.assert_close(at - none, sum(one - none for one in alone), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("split_aggregation", ["sum", "logsumexp"])
def test_split_decoders_do_what_others_do(adata, split_aggregation, tmp_path):
    logged = adata
    logged.layers["log"] = adata.X.log1p()
    codes, decoded, _ = beginning(logged, "log", start="pca", split_aggregation=split_aggregation)
    plain = beginning(logged, "log", start="pca")
    # at the beginning nothing but the linear path speaks, which is a sum of latents
    np.testing.assert_allclose(decoded, plain[1], atol=1e-4)
    assert decoded.std() > 0.1
    setup = {"batch_key": "batch", "labels_key": "cell_type"}
    model = fit(adata, setup, gene_likelihood="zinb", library="observed", split_aggregation=split_aggregation)
    assert model.generate(20, "type_1", seed=0).n_obs == 20
    assert model.posterior_predictive_sample(indices=range(7), n_samples=2).shape == (7, 60, 2)
    model.save(tmp_path / "m")
    loaded = sm.BetaTCVAE.load(tmp_path / "m", allow_pickle=False)
    assert (loaded.generate(20, seed=0).X != model.generate(20, seed=0).X).nnz == 0
    assert loaded.module.decoder.split_aggregation == split_aggregation


def test_fewer_cells_than_components(adata):
    small = adata[:20].copy()
    sm.BetaTCVAE.setup_anndata(small)
    model = sm.BetaTCVAE(small, gene_likelihood="nb", **SMALL)
    assert model.module.encoder.input_map.weight.shape == (50, 60)
    assert not model.module.encoder.input_map.weight[19:].any()
    model.train(1, **QUIET)
    assert np.isfinite(model.get_latent_representation()).all()


def test_beta_warms_up(logged):
    class Watch(Callback):
        weights = []

        def on_train_batch_start(self, trainer, plan, batch, batch_idx):
            self.weights.append(plan.beta_weight)

    fit(logged, train={"plan_kwargs": {"n_epochs_beta_warmup": 2}, "callbacks": [Watch()]})
    np.testing.assert_allclose(Watch.weights[:7], [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert set(Watch.weights[7:]) == {1.0}


def test_the_kl_warms_up(logged):
    class Watch(Callback):
        weights = []

        def on_train_epoch_start(self, trainer, plan):
            self.weights.append(plan.kl_weight)

    fit(logged, kl_weight=2.0, train={"plan_kwargs": {"n_epochs_kl_warmup": 2}, "callbacks": [Watch()]})
    np.testing.assert_allclose(Watch.weights, [0, 1, 2, 2])


@pytest.mark.parametrize(("memory_size", "held"), [(0, 0), (100, 100), (10**6, 150)])
def test_memory(logged, memory_size, held):
    class Watch(Callback):
        def on_train_end(self, trainer, plan):
            Watch.n = len(plan._memory)

    fit(logged, train={"plan_kwargs": {"memory_size": memory_size}, "callbacks": [Watch()]})
    assert Watch.n == held


def test_weighted_sampling_carries_a_constant(logged, learned):
    stratified, weighted = (last(fit(logged, estimator=name), "total_correlation_train") for name in ("mss", "mws"))
    # log q(z) lacks log(cells) once, the sum over latents once for each of the four
    learned("relative error of the constant", abs((weighted - stratified) / (3 * np.log(300)) - 1), below=0.1, off=1)


@pytest.mark.parametrize("through", [False, True])
def test_gradient_of_the_posteriors(logged, through):
    sm.BetaTCVAE.setup_anndata(logged, layer="log")
    module = sm.BetaTCVAE(logged, posterior_gradients=through, **SMALL).module
    mean, log_var, z = torch.randn(3, 16, 4).unbind()
    value = module.decompose(z, mean.requires_grad_(), log_var, 300).total_correlation
    assert value.requires_grad == through
    if through:
        assert torch.autograd.grad(value, mean)[0].abs().sum() > 0


def test_dropout(logged):
    sm.BetaTCVAE.setup_anndata(logged, layer="log")

    def rates(**init):
        modules = sm.BetaTCVAE(logged, **SMALL, **init).module.modules()
        return [module.p for module in modules if isinstance(module, torch.nn.Dropout)]

    assert not rates()
    assert rates(dropout_rate=0.2) == [0.2] * 4


def test_vanished_latents_are_told(logged, learned, caplog):
    model = fit(logged, beta=0, kl_weight=1000.0, train={"max_epochs": 12, "plan_kwargs": {"lr": 1e-2}})
    activity = model.latent_activity()
    assert list(activity.index) == ["Z1", "Z2", "Z3", "Z4"]
    assert not activity["active"].any()
    learned("largest KL of a vanished latent", activity["kl"].max(), below=0.01)
    assert "4 of 4 latents have vanished: Z1, Z2, Z3, Z4." in caplog.text
    active = fit(logged, beta=0, train={"max_epochs": 15, "plan_kwargs": {"lr": 1e-2}}).latent_activity()
    learned("active latents", active["active"].sum(), above=0.5, off=0)
    assert (active["kl"] >= 0).all()


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "m")
    loaded = sm.BetaTCVAE.load(tmp_path / "m", adata=model.adata)
    np.testing.assert_allclose(loaded.get_latent_representation(), model.get_latent_representation(), atol=1e-5)
    bare = sm.BetaTCVAE.load(tmp_path / "m")
    assert (bare.generate(30, seed=1).X != model.generate(30, seed=1).X).nnz == 0
    assert bare.latent_activity().equals(model.latent_activity())


def test_new_cells(model):
    query = model.adata[:50].copy()
    z = model.get_latent_representation(query)
    np.testing.assert_allclose(z, model.get_latent_representation()[:50], rtol=1e-3, atol=1e-4)
    mean, var = model.get_latent_representation(query, return_dist=True)
    np.testing.assert_allclose(mean, z, rtol=1e-3, atol=1e-4)
    assert (var > 0).all()


def test_mudata(adata):
    mdata = MuData({"rna": adata, "prot": adata[:, :5].copy()})
    sm.BetaTCVAE.setup_mudata(mdata, modalities={"rna_layer": "rna"})
    model = sm.BetaTCVAE(mdata, gene_likelihood="nb", **SMALL)
    model.train(2, **QUIET)
    assert list(model.generate(10, seed=0).var_names) == list(adata.var_names)


def test_same_seed_same_model(logged):
    latents = []
    for _ in range(2):
        scvi.settings.seed = 3
        latents.append(fit(logged).get_latent_representation())
    assert np.array_equal(*latents)


def test_interrupt_keeps_the_model(logged):
    class Interrupt(Callback):
        def on_train_epoch_end(self, trainer, plan):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    model = fit(logged, train={"max_epochs": 50, "callbacks": [Interrupt()]})
    assert model.is_trained
    assert model.generate(5, seed=0).n_obs == 5
    model.train(2, **QUIET)
    assert model.latent_activity().shape == (4, 3)


def test_validation(logged):
    model = fit(logged, train={"train_size": 0.8, "check_val_every_n_epoch": 1})
    assert np.isfinite(last(model, "total_correlation_validation"))
    assert len(model.posterior_) == 240


def test_constant_gene_and_empty_cell(logged):
    x = logged.layers["log"].tolil()
    x[:, 0] = 0
    x[0, :] = 0
    logged.layers["log"] = sp.csr_matrix(x)
    model = fit(logged)
    assert np.isfinite(last(model, "elbo_train"))
    assert np.isfinite(model.get_latent_representation()).all()


def test_default_length_of_the_run():
    assert [default_epochs(n, 128) for n in (100, 10_000, 10**6)] == [400, 52, 20]


def test_raw_counts_as_log_expression(logged):
    sm.BetaTCVAE.setup_anndata(logged)
    with pytest.warns(UserWarning, match="expects log expression"):
        sm.BetaTCVAE(logged, **SMALL)
    sm.BetaTCVAE.setup_anndata(logged, layer="log")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sm.BetaTCVAE(logged, **SMALL)


def test_bad_arguments(adata):
    sm.BetaTCVAE.setup_anndata(adata)
    for wrong in (
        {"gene_likelihood": "gauss"},
        {"noise": "cell"},
        {"library": "none"},
        {"estimator": "exact"},
        {"beta": -1},
        {"kl_weight": float("nan")},
        {"n_comps": 0},
        {"n_comps": 2.5},
        {"n_latent": 0},
        {"n_latent": 2.5},
        {"beta": None},
        {"dropout_rate": 1},
        {"dropout_rate": -0.1},
        {"n_hidden": ()},
        {"n_hidden": 16},
        {"n_hidden": (16, 0)},
        {"gene_likelihood": "nb", "noise": "gene"},
    ):
        with pytest.raises(ValueError, match=list(wrong)[-1]):
            sm.BetaTCVAE(adata, **wrong)
    model = sm.BetaTCVAE(adata, **SMALL)
    with pytest.raises(TypeError, match="bank"):
        model.train(1, plan_kwargs={"bank": 3}, **QUIET)
    for wrong in (
        {"memory_size": -1},
        {"memory_size": 1.5},
        {"lr": 0},
        {"lr_decay_fraction": 3},
        {"lr_final_factor": -1},
        {"n_epochs_kl_warmup": -1},
        {"n_epochs_beta_warmup": float("nan")},
        {"weight_decay": -1},
    ):
        with pytest.raises(ValueError, match=f"`{list(wrong)[0]}` must be"):
            model.train(1, plan_kwargs=wrong, **QUIET)
    for batch_size in (0, 2.5, None):
        with pytest.raises(ValueError, match="`batch_size` must be"):
            model.train(batch_size=batch_size, **QUIET)
    assert not model.is_trained
    with pytest.raises(RuntimeError, match="not trained"):
        model.latent_activity()
    adata.obs["size"] = 1.0
    sm.BetaTCVAE.setup_anndata(adata, size_factor_key="size")
    with pytest.raises(ValueError, match="size_factor_key"):
        sm.BetaTCVAE(adata)
    adata.X = adata.X * 0.5
    sm.BetaTCVAE.setup_anndata(adata)
    with pytest.raises(ValueError, match="raw counts"):
        sm.BetaTCVAE(adata, gene_likelihood="nb")
