import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from scmimic.module import BetaTCVAEModule

N_OBS = 500


def posteriors(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator), 0.5 * torch.randn(n, 3, generator=generator) - 1


def double_loop(z, mean, log_var, others):
    """Chen et al., appendix C.2: a sample's own posterior counts once in all cells, the rest share what is left."""
    means, stds = (torch.cat(pair).double() for pair in zip((mean, (0.5 * log_var).exp()), others, strict=True))
    terms = []
    for i in range(len(z)):
        joint, each = 0.0, np.zeros(z.shape[1])
        for k in range(len(means)):
            share = 1 / N_OBS if k == i else (N_OBS - 1) / N_OBS / (len(means) - 1)
            density = norm.pdf(z[i], means[k], stds[k])
            joint, each = joint + share * math.prod(density), each + share * density
        own = norm.logpdf(z[i], mean[i], (0.5 * log_var[i]).exp()).sum()
        product = np.log(each).sum()
        terms.append([own - math.log(joint), math.log(joint) - product, product - norm.logpdf(z[i]).sum()])
    return np.mean(terms, axis=0)


@pytest.mark.parametrize("posterior_gradients", [False, True])
@pytest.mark.parametrize("n_memory", [0, 7])
def test_terms_equal_the_double_loop(posterior_gradients, n_memory):
    """A sample's own posterior is the one of the batch, wherever the remembered ones stand."""
    module = BetaTCVAEModule(4, n_latent=3, n_hidden=(4,), n_comps=None, posterior_gradients=posterior_gradients)
    (mean, log_var), memory = posteriors(5, 0), posteriors(n_memory, 1)
    z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=torch.Generator().manual_seed(2))
    found = module.decompose(z, mean, log_var, N_OBS, memory if n_memory else None)
    expected = double_loop(z, mean, log_var, (memory[0], (0.5 * memory[1]).exp()))
    np.testing.assert_allclose([float(term) for term in found], expected, rtol=1e-4)
