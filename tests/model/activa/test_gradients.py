"""The one-sweep gradients against a plain reference that plays each player's loss by itself, in float64."""

import copy

import numpy as np
import pytest
import torch
from learning import SEED
from scvi import REGISTRY_KEYS

from scmimic.module import ACTIVAModule, cell_type_loss, hinge, kl_standard_normal
from scmimic.nn import ACTINNClassifier, fake_cells
from scmimic.train import GameWeights, introspective_gradients

N, GENES, LATENT = 12, 20, 4


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(gene_likelihood):
    torch.manual_seed(SEED)
    module = ACTIVAModule(
        GENES,
        n_labels=3,
        n_batch=2,
        n_latent=LATENT,
        n_hidden=(16, 8),
        gene_likelihood=gene_likelihood,
        dispersion="gene-label",
        classifier=ACTINNClassifier(GENES, 3).requires_grad_(False),
    ).train()
    x = torch.poisson(torch.rand(N, GENES) * 10)
    tensors = {
        REGISTRY_KEYS.X_KEY: x,
        REGISTRY_KEYS.BATCH_KEY: torch.randint(2, (N, 1)),
        REGISTRY_KEYS.LABELS_KEY: torch.randint(3, (N, 1)),
    }
    return module, tensors


def play(module, tensors):
    """All forward passes of the game, in the order in which random numbers are drawn."""
    x, labels = (tensors[key] for key in (REGISTRY_KEYS.X_KEY, REGISTRY_KEYS.LABELS_KEY))
    batch = module.covariates(tensors)
    torch.manual_seed(1)
    mean, log_var = module.encoder(x, batch)
    z = mean + (0.5 * log_var).exp() * torch.randn_like(mean)
    library = module.log_library(x)
    px = module.decode(z, library, batch, labels)
    l_ct = cell_type_loss(module.classifier(x).detach(), module.classifier(module.expected(px))).mean()
    with fake_cells(module.decoder, "running"):
        prior = module.decode(torch.randn_like(mean), library, batch, labels)
    fakes = [module.fake(px), module.fake(prior)]
    kl, reconstruction = kl_standard_normal(mean, log_var), module.reconstruction_loss(x, px).mean()
    return x, batch, kl, reconstruction, l_ct, fakes


def encoder_loss(module, tensors, w, statistics):
    x, batch, kl, rec, l_ct, fakes = play(module, tensors)
    loss = kl.mean() + w.alpha2 * (rec + l_ct)
    for fake in fakes:
        with fake_cells(module.encoder, statistics):
            loss = loss + w.alpha1 * hinge(kl_standard_normal(*module.encoder(fake.detach(), batch)), w.m)
    return loss


def generator_loss(module, tensors, w, statistics):
    x, batch, _, rec, l_ct, fakes = play(module, tensors)
    loss = w.alpha2 * (rec + l_ct)
    for fake in fakes:
        with fake_cells(module.encoder, statistics):
            loss = loss + w.alpha1 * kl_standard_normal(*module.encoder(fake, batch)).mean()
    return loss


def between_the_fakes(module, tensors, statistics):
    """A hinge constant between the KL of reconstructed and of generated cells: one penalty is on, one off."""
    torch.manual_seed(1)
    terms = introspective_gradients(
        copy.deepcopy(module), tensors, GameWeights(0.7, 0.3, 0.0), fake_statistics=statistics
    )
    low, high = sorted([terms["kl_reconstructed"].item(), terms["kl_generated"].item()])
    assert high - low > 1e-6
    return (low + high) / 2


@pytest.mark.parametrize("gene_likelihood", ["normal", "nb", "zinb", "poisson"])
@pytest.mark.parametrize("statistics", ["batch", "running"])
@pytest.mark.parametrize("m", [0.0, 1e3, None], ids=["hinges closed", "hinges open", "one hinge open"])
def test_one_sweep_equals_two_passes(gene_likelihood, statistics, m):
    module, tensors = make(gene_likelihood)
    if m is None:
        m = between_the_fakes(module, tensors, statistics)
    w = GameWeights(alpha1=0.7, alpha2=0.3, m=m)
    first, second = copy.deepcopy(module), copy.deepcopy(module)
    loss_e = encoder_loss(first, tensors, w, statistics)
    loss_e.backward()
    loss_g = generator_loss(second, tensors, w, statistics)
    loss_g.backward()

    torch.manual_seed(1)
    terms = introspective_gradients(module, tensors, w, fake_statistics=statistics)

    assert not any(term.requires_grad for term in terms.values())
    torch.testing.assert_close(terms["loss_encoder"], loss_e.detach())
    torch.testing.assert_close(terms["loss_generator"], loss_g.detach())
    for (name, ours), reference in zip(module.encoder.named_parameters(), first.encoder.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, reference.grad, msg=f"encoder {name}")
    ours = module.generator_parameters() + module.dispersion_parameters()
    reference = second.generator_parameters() + second.dispersion_parameters()
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("gene_likelihood", ["normal", "nb", "zinb", "poisson"])
def test_adversarial_gradient_reaches_generator(gene_likelihood):
    module, tensors = make(gene_likelihood)
    torch.manual_seed(1)
    introspective_gradients(module, tensors, GameWeights(alpha1=1.0, alpha2=0.0, m=0.0))
    assert max(p.grad.abs().max() for p in module.generator_parameters() if p.grad is not None) > 0


def test_running_statistics_are_those_of_real_cells():
    module, tensors = make("normal")
    reference = copy.deepcopy(module)
    torch.manual_seed(1)
    introspective_gradients(module, tensors, GameWeights(1.0, 0.5, 1e3), fake_statistics="batch")
    reference.encoder(tensors[REGISTRY_KEYS.X_KEY], reference.covariates(tensors))
    for a, b in zip(module.encoder.buffers(), reference.encoder.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def kl_of(module, tensors, n=20):
    """Mean KL of real and of generated cells, over draws, without learning."""
    total = torch.zeros(2)
    for i in range(n):
        torch.manual_seed(100 + i)
        terms = introspective_gradients(copy.deepcopy(module), tensors, GameWeights(1.0, 0.0, 0.0))
        total += torch.stack([terms["kl_real"], terms["kl_generated"]])
    return (total / n).tolist()


def learn(module, tensors, parameters, m):
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    torch.manual_seed(SEED + 2)
    for _ in range(200):
        module.zero_grad()
        introspective_gradients(module, tensors, GameWeights(alpha1=1.0, alpha2=0.0, m=m))
        optimizer.step()


@pytest.mark.parametrize("gene_likelihood", ["normal", "nb", "zinb", "poisson"])
def test_encoder_learns_to_tell_fakes(learned, gene_likelihood):
    """Against a generator that does not move, the KL of fakes rises above that of real cells."""
    module, tensors = make(gene_likelihood)
    real, fake = kl_of(module, tensors)
    learn(module, tensors, list(module.encoder.parameters()), m=50.0)
    real_after, fake_after = kl_of(module, tensors)
    gain = np.log(fake_after / fake) - np.log(real_after / real)
    # twentyfold is enough: some runs go on to a million
    learned("gain of the log KL of fakes over that of real cells, up to 3", min(gain, 3), above=0.5, off=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_step_of_the_generator_fools_the_encoder(seed):
    """Along its gradient the KL of fakes falls, by the step times the squared norm; counts have no such derivative."""
    module, tensors = make("normal")

    def kl(of):
        torch.manual_seed(seed)
        terms = introspective_gradients(of, tensors, GameWeights(alpha1=1.0, alpha2=0.0, m=0.0))
        return terms["kl_reconstructed"] + terms["kl_generated"]

    moved, before = copy.deepcopy(module), kl(module)
    gradients = [parameter.grad for parameter in module.generator_parameters()]
    expected = -0.01 * before
    step = -expected / sum(gradient.square().sum() for gradient in gradients)
    with torch.no_grad():
        for parameter, gradient in zip(moved.generator_parameters(), gradients, strict=True):
            parameter -= step * gradient
    # the batch norm's running statistics, by which generated cells are made, follow the step without a derivative
    torch.testing.assert_close(kl(moved) - before, expected, rtol=0.3, atol=0)
