"""The dispersion that reproduces zeros, against closed forms and on a model."""

from types import SimpleNamespace

import numpy as np
import pytest
import scvi
import torch
from learning import SEED
from scipy.stats import nbinom
from scvi import REGISTRY_KEYS
from scvi.distributions import NegativeBinomial, ZeroInflatedNegativeBinomial

import scmimic as sm
from scmimic._compat import MODULE_KEYS
from scmimic.model.base._likelihoods import zero_probability
from scmimic.model.generation.calibration._dispersion import (
    LOG_STEPS,
    interpolate,
    match_zeros,
    pool_dispersion,
    step_reaching,
)


def test_zero_probability_is_scipys():
    mu, theta = torch.tensor([[0.1, 3.0]]), torch.tensor([[0.5, 7.0]])
    px = NegativeBinomial(mu=mu, theta=theta)
    for step in (0.0, 1.5):
        t = theta.numpy() * np.exp(step)
        np.testing.assert_allclose(zero_probability(px, step), nbinom.pmf(0, t, t / (t + mu.numpy())), rtol=1e-5)
    inflated = ZeroInflatedNegativeBinomial(mu=mu, theta=theta, zi_logits=torch.zeros(1, 2))
    torch.testing.assert_close(zero_probability(inflated), 0.5 + 0.5 * zero_probability(px))


def test_crossing():
    steps = torch.tensor([0.0, 1.0, 3.0])
    falling = torch.tensor([10.0, 8.0, 7.0]).repeat(5, 1).T
    target = torch.tensor([12.0, 10.0, 9.0, 7.5, 1.0])
    torch.testing.assert_close(step_reaching(falling, target, steps), torch.tensor([0.0, 0.0, 0.5, 2.0, 3.0]))


@pytest.mark.parametrize("dispersion", ["gene", "gene-label"])
@pytest.mark.parametrize("gene_likelihood", ["nb", "zinb"])
def test_inflated_dispersion_is_lowered_and_no_other(learned, dispersion, gene_likelihood):
    scvi.settings.seed = SEED
    adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=40, seed=0)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,), gene_likelihood=gene_likelihood, dispersion=dispersion)
    model.train(max_epochs=30, warmup_epochs=30, calibrate_dispersion=False, enable_progress_bar=False)
    with torch.no_grad():
        model.module.px_r[:, :20] -= 4.0
    before = model.module.px_r.detach().clone()
    observed = (adata.X.toarray() == 0).mean(0)

    def excess():
        cells = model.generate(3000, seed=0)
        return ((cells.X.toarray() == 0).mean(0) - observed)[:20].mean()

    first = excess()
    match_zeros(model.module, model._training_batches())
    after = model.module.px_r.detach()
    learned("excess of zeros before", first, above=0.05)
    # a short training leaves more extra zeros than the data have, which no dispersion can take back
    limit = 0.25 if gene_likelihood == "nb" else 0.5
    learned("excess of zeros after over that before", abs(excess()) / first, below=limit, off=1)
    learned("change of the log dispersion", (after[:, :20] - before[:, :20]).mean(), above=1, off=0)
    assert (after >= before).all()


def test_at():
    steps = torch.tensor([0.0, 1.0, 3.0])
    values = torch.tensor([10.0, 8.0, 7.0]).repeat(4, 1).T
    where = torch.tensor([0.0, 0.5, 2.0, 3.0])
    torch.testing.assert_close(interpolate(values, where, steps), torch.tensor([10.0, 9.0, 7.5, 7.0]))


def cells_with_zeros(mu, theta, n=20_000):
    """Cells with as many zeros in each gene as these negative binomials have."""
    zeros = n * nbinom.pmf(0, theta, theta / (theta + mu))
    return (np.arange(n)[:, None] >= zeros.round()).astype(np.float32)


def of_negative_binomials(mu, log_theta, rows):
    """A module whose cells have the mean of their gene, and the inverse dispersion of their row and gene."""
    module = SimpleNamespace(px_r=torch.nn.Parameter(torch.as_tensor(log_theta, dtype=torch.float32)), device="cpu")

    def generative(labels):
        theta = module.px_r.exp()[labels.squeeze(-1) if rows > 1 else torch.zeros(len(labels), dtype=torch.long)]
        return {MODULE_KEYS.PX_KEY: NegativeBinomial(mu=torch.as_tensor(mu).float().expand_as(theta), theta=theta)}

    module._get_inference_input = lambda tensors: {"x": tensors[REGISTRY_KEYS.X_KEY]}
    module.inference = lambda x: {}
    module._get_generative_input = lambda tensors, inference: {"labels": tensors[REGISTRY_KEYS.LABELS_KEY]}
    module.generative = generative
    return module


def batches(x, labels, size=3000):
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        yield {REGISTRY_KEYS.X_KEY: torch.as_tensor(x[part]), REGISTRY_KEYS.LABELS_KEY: torch.as_tensor(labels[part])}


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("step", LOG_STEPS[1:-2])
def test_the_dispersion_that_zeros_come_from_is_found(rows, step):
    """Cells of negative binomials that are `step` less dispersed than the module's."""
    mu, log_theta = np.array([0.5, 1.0, 2.5]), np.array([[-1.5, -0.5, 0.2], [-1.0, 0.5, -0.3]])[:rows]
    true = log_theta + np.array([[step], [0.0]])[:rows]
    x = np.concatenate([cells_with_zeros(mu, np.exp(row)) for row in true])
    labels = np.repeat(np.arange(rows), 20_000)[:, None]
    module = of_negative_binomials(mu, log_theta, rows)
    match_zeros(module, batches(x, labels))
    # zeros are whole numbers of cells
    np.testing.assert_allclose(module.px_r.detach(), true, atol=0.05 * (1 + step))


def test_single_genes_pay_for_the_excess_of_their_type_alone():
    """A gene with too many zeros, one with too few: as many are taken as the two have too many together."""
    mu, log_theta, step = np.array([2.0, 2.0]), np.array([[-1.0, -1.0]]), 2.0
    x = cells_with_zeros(mu, np.exp(log_theta[0] + [step, -0.4]))
    module = of_negative_binomials(mu, log_theta, 1)
    match_zeros(module, batches(x, np.zeros((20_000, 1), dtype=int)))
    theta = np.exp(log_theta[0])
    excess = 20_000 * nbinom.pmf(0, theta, theta / (theta + mu)) - (x == 0).sum(0)
    assert excess[0] > 0 > excess[1]
    np.testing.assert_allclose(module.px_r.detach() - log_theta, [[step * excess.sum() / excess[0], 0]], atol=0.05)


def test_the_last_step_is_poisson_in_all_but_name():
    assert list(LOG_STEPS) == sorted(set(LOG_STEPS))
    assert LOG_STEPS[0] == 0
    mu, theta = torch.tensor([0.5, 3.0]), torch.tensor([0.5, 0.5])
    zero = zero_probability(NegativeBinomial(mu=mu, theta=theta), LOG_STEPS[-1])
    torch.testing.assert_close(zero, (-mu).exp(), rtol=0.03, atol=0)


def test_poisson_is_the_limit():
    """Zeros that even a Poisson cannot avoid end at the last step, not in an error."""
    steps = torch.tensor([0.0, 6.0])
    assert step_reaching(torch.tensor([[5.0], [4.0]]), torch.tensor([0.0]), steps).item() == 6.0


def test_no_excess_no_change(learned):
    """Single genes have an excess by chance; where the type as a whole has none, nothing is lowered."""
    scvi.settings.seed = SEED
    adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=40, seed=0)
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    model.train(max_epochs=20, warmup_epochs=20, calibrate_dispersion=False, enable_progress_bar=False)
    with torch.no_grad():
        model.module.px_r[:] = 9.0
        model.module.px_r[:, 0] = 3.0
    before = model.module.px_r.detach().clone()
    observed = (adata.X.toarray() == 0).mean()
    excess = (model.generate(3000, seed=0).X.toarray() == 0).mean() - observed
    match_zeros(model.module, model._training_batches())
    learned("excess of zeros", excess, below=0, off=0)
    torch.testing.assert_close(model.module.px_r.detach(), before, rtol=0, atol=0)


def test_pooling_is_a_weighted_mean():
    """By hand: a gene that 2 of 3 cells of the first label express, and 1 of 2 of the second."""
    module = SimpleNamespace(px_r=torch.nn.Parameter(torch.tensor([[4.0, 7.0], [-2.0, 9.0], [3.0, 3.0]])))
    batches = [
        {
            REGISTRY_KEYS.X_KEY: torch.tensor([[5.0, 0.0], [0.0, 0.0]]),
            REGISTRY_KEYS.LABELS_KEY: torch.tensor([[0], [0]]),
        },
        {
            REGISTRY_KEYS.X_KEY: torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]),
            REGISTRY_KEYS.LABELS_KEY: torch.tensor([[0], [1], [1]]),
        },
    ]
    pool_dispersion(module, batches, prior_cells=10)
    average = (2 * 4 + 1 * -2) / 3
    first = [(2 * 4 + 10 * average) / 12, (1 * -2 + 10 * average) / 11, average]
    torch.testing.assert_close(module.px_r.detach(), torch.tensor([first, [7.0, 9.0, 3.0]]).T)
    one = SimpleNamespace(px_r=torch.nn.Parameter(torch.tensor([[4.0, 7.0]])))
    pool_dispersion(one, batches)
    torch.testing.assert_close(one.px_r.detach(), torch.tensor([[4.0, 7.0]]))


def test_a_type_of_ten_cells_gets_no_bursts(learned):
    """Genes that ten cells happen not to express are generated as calmly as in the other types."""
    scvi.settings.seed = SEED
    adata = sm.datasets.synthetic_counts(n_obs=600, n_vars=60, seed=0)
    rare = np.flatnonzero(adata.obs["cell_type"] == "type_1")
    adata = adata[np.r_[rare[:10], np.flatnonzero(adata.obs["cell_type"] != "type_1")]].copy()
    spread = {}
    for calibrate in (False, True):
        scvi.settings.seed = SEED
        sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
        model.train(max_epochs=60, warmup_epochs=60, calibrate_dispersion=calibrate, enable_progress_bar=False)
        row = model.label_categories_.index("type_1")
        others = [i for i in range(len(model.label_categories_)) if i != row]
        px_r = model.module.px_r.detach()
        spread[calibrate] = (px_r[row] - px_r[others].mean(0)).abs().mean().item()
    learned("distance of dispersions, pooled over not", spread[True] / spread[False], below=0.5, off=1)
