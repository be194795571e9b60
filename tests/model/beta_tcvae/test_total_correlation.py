import math
import pickle

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from scmimic.model.beta_tcvae._total_correlation import log_density_with_posteriors
from scmimic.module import AggregateDensity, PosteriorMemory, decompose_kl, kl_standard_normal, log_weights


def total_correlation(z, mean, log_var, weights):
    log_q, log_q_each = AggregateDensity()(z, mean, log_var, weights)
    return decompose_kl(z, mean[: len(z)], log_var[: len(z)], log_q, log_q_each).total_correlation


def gaussian_codes(n, correlation, std, seed=0):
    """Posteriors whose aggregate is a normal with this correlation between its two dimensions, and their samples."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    second = correlation * noise[:, 0] + math.sqrt(1 - correlation**2) * noise[:, 1]
    mean = torch.stack([noise[:, 0], second], 1)
    log_var = torch.full_like(mean, 2 * math.log(std))
    return mean + std * torch.randn(mean.shape, generator=generator, dtype=torch.float64), mean, log_var


def exact(correlation, std):
    """Total correlation of that aggregate."""
    return -0.5 * math.log(1 - (correlation / (1 + std**2)) ** 2)


def brute_force(z, mean, log_var, weights):
    n, d = z.shape
    log_q, each = np.zeros(n), np.zeros((n, d))
    for i in range(n):
        joint, single = 0.0, np.zeros(d)
        for k in range(len(mean)):
            densities = [
                math.exp(Normal(mean[k, j], (0.5 * log_var[k, j]).exp()).log_prob(z[i, j]).item()) for j in range(d)
            ]
            share = math.exp(weights[i, k])
            joint += share * math.prod(densities)
            single += share * np.array(densities)
        log_q[i], each[i] = math.log(joint), np.log(single)
    return log_q, each


@pytest.mark.parametrize("estimator", ["mss", "mws"])
def test_equals_the_double_loop(estimator):
    torch.manual_seed(0)
    mean, log_var = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 3, dtype=torch.float64)
    z = mean[:6] + (0.5 * log_var[:6]).exp() * torch.randn(6, 3, dtype=torch.float64)
    weights = log_weights(6, 9, 50, estimator).double()
    expected = brute_force(z, mean, log_var, weights)
    for function in (AggregateDensity(), log_density_with_posteriors):
        for ours, loop in zip(function(z, mean, log_var, weights), expected, strict=True):
            np.testing.assert_allclose(ours, loop, rtol=1e-10)


def test_gradient_equals_autograds_for_the_sample():
    torch.manual_seed(0)
    mean, log_var = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, 4, dtype=torch.float64)
    z = (mean[:8] + 0.3).requires_grad_()
    weights = log_weights(8, 20, 100).double()
    aggregate = AggregateDensity()
    gradients = []
    for function in (aggregate, log_density_with_posteriors):
        log_q, each = function(z, mean, log_var, weights)
        gradients.append(torch.autograd.grad((log_q * torch.arange(8)).sum() - each.square().sum(), z)[0])
    torch.testing.assert_close(*gradients)
    # the arrays of one call are those of the next
    first = aggregate.arrays(z, (4, 8, 20))[0].data_ptr()
    aggregate(z, mean, log_var, weights)
    assert aggregate.arrays(z, (4, 8, 20))[0].data_ptr() == first
    assert pickle.loads(pickle.dumps(aggregate))._spare is None


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_terms_of_a_gaussian(correlation):
    std = 0.5
    z, mean, log_var = gaussian_codes(6000, correlation, std)
    terms = []
    for i in range(0, 5120, 128):
        means, log_vars = torch.roll(mean, -i, 0)[:1152], torch.roll(log_var, -i, 0)[:1152]
        log_q = AggregateDensity()(z[i : i + 128], means, log_vars, log_weights(128, 1152, 6000).double())
        terms.append(torch.stack(decompose_kl(z[i : i + 128], means[:128], log_vars[:128], *log_q)))
    found = torch.stack(terms).mean(0)
    variance = 1 + std**2
    information = 0.5 * math.log(variance**2 - correlation**2) - 2 * math.log(std)
    dimension_wise = variance - 1 - math.log(variance)
    expected = [information, exact(correlation, std), dimension_wise]
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_gradient_through_samples_is_that_of_the_exact_value():
    correlation, std = torch.tensor(0.8, dtype=torch.float64, requires_grad=True), 0.5
    generator = torch.Generator().manual_seed(0)
    gradients = []
    for _ in range(10):
        u, v, *e = torch.randn(4, 2000, generator=generator, dtype=torch.float64)
        mean = torch.stack([u, correlation * u + (1 - correlation**2).sqrt() * v], 1)
        z = mean + std * torch.stack(e, 1)
        log_var = torch.full_like(mean, 2 * math.log(std))
        value = total_correlation(z[:500], mean, log_var, log_weights(500, 2000, 10**9).double())
        gradients.append(torch.autograd.grad(value, correlation)[0].item())
    step = 1e-4
    slope = (exact(0.8 + step, std) - exact(0.8 - step, std)) / (2 * step)
    assert np.mean(gradients) == pytest.approx(slope, rel=0.1)


def paper_weights(n_batch, n_obs):
    """Chen et al., appendix C.2: one of the other cells stands for what the sample's own leaves over."""
    m = n_batch - 1
    weights = np.full((n_batch, n_batch), 1 / m)
    np.fill_diagonal(weights, 1 / n_obs)
    rows = np.arange(n_batch)
    weights[rows, (rows + 1) % n_batch] = (n_obs - m) / (n_obs * m)
    return torch.as_tensor(weights).log()


def test_weights():
    ours = log_weights(8, 8, 1000).double().exp()
    np.testing.assert_allclose(ours.sum(1), 1, rtol=1e-6)
    theirs = paper_weights(8, 1000).exp()
    np.testing.assert_allclose(theirs.sum(1), 1)
    np.testing.assert_allclose(ours.diagonal(), theirs.diagonal(), rtol=1e-6)
    # with all cells in hand there is nothing to estimate
    np.testing.assert_allclose(log_weights(3, 10, 10).exp(), 0.1, rtol=1e-6)
    assert log_weights(1, 1, 1).item() == 0
    with pytest.raises(ValueError, match="'mss' or 'mws'"):
        log_weights(2, 2, 2, "exact")


def test_reference_values():
    """10 independent dimensions, 6,000 cells, batches of 128, posteriors of width 0.3: the values of the literature's
    programs where they are right."""
    torch.manual_seed(0)
    n_obs, std = 6000, 0.3
    mean = math.sqrt(1 - std**2) * torch.randn(n_obs, 10, dtype=torch.float64)
    log_var = torch.full_like(mean, 2 * math.log(std))
    z = mean + std * torch.randn_like(mean)
    uniform = torch.full((128, n_obs), -math.log(n_obs), dtype=torch.float64)
    plug_in = np.mean(
        [
            total_correlation(z[i : i + 128], torch.roll(mean, -i, 0), torch.roll(log_var, -i, 0), uniform)
            for i in range(0, 1024, 128)
        ]
    )
    estimates = {}
    for name, weights in (
        ("mss", log_weights(128, 128, n_obs)),
        ("paper", paper_weights(128, n_obs)),
        ("mws", log_weights(128, 128, n_obs, "mws")),
    ):
        batches = (slice(i, i + 128) for i in range(0, 5120, 128))
        estimates[name] = np.mean([total_correlation(z[b], mean[b], log_var[b], weights.double()) for b in batches])
    assert plug_in == pytest.approx(3.54, abs=0.2)
    assert estimates["mss"] == pytest.approx(3.49, abs=0.15)
    assert estimates["paper"] == pytest.approx(estimates["mss"], abs=0.02)
    assert estimates["mws"] == pytest.approx(85.2, abs=0.3)


def test_terms_add_up_to_the_kl():
    torch.manual_seed(0)
    mean, log_var = torch.randn(1000, 3, dtype=torch.float64), torch.randn(1000, 3, dtype=torch.float64) - 1
    z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    weights = log_weights(1000, 1000, 1000).double()
    terms = decompose_kl(z, mean, log_var, *AggregateDensity()(z, mean, log_var, weights))
    assert sum(terms).item() == pytest.approx(kl_standard_normal(mean, log_var).mean().item(), rel=0.03)
    assert terms.mutual_information < math.log(1000)


def test_memory_is_a_ring():
    memory = PosteriorMemory(5)
    assert memory.read() is None
    rows = torch.arange(14.0).reshape(7, 2)
    memory.push(rows[:3], -rows[:3])
    assert len(memory) == 3
    memory.push(rows[3:], -rows[3:])
    mean, log_var = memory.read()
    assert sorted(mean[:, 0].tolist()) == rows[2:, 0].tolist()
    torch.testing.assert_close(mean, -log_var)
    memory.push(rows, rows)
    assert sorted(memory.read()[0][:, 0].tolist()) == rows[2:, 0].tolist()
    none = PosteriorMemory(0)
    none.push(rows, rows)
    assert none.read() is None


def test_memory_has_no_gradient():
    memory = PosteriorMemory(4)
    mean = torch.zeros(2, 3, requires_grad=True)
    memory.push(mean, mean)
    assert not memory.read()[0].requires_grad
