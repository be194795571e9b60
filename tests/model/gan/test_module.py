import math

import pytest
import torch
from scipy import stats

from scmimic.module import COUNTS_TARGET_SUM, Draw, GANModule, InfoGANModule, MichiGANModule, drawn_log_counts


@pytest.mark.parametrize("rate", [0.05, 0.7, 3.0])
def test_slope_is_that_of_the_expected_value(rate):
    """d/dr E log1p(c k) for a Poisson count k of rate r, by differences of the exact expectation."""
    torch.manual_seed(0)
    # a second gene with nearly all of the total keeps the scaling factor at one value
    total = 1e6
    rates = torch.tensor([[rate, total]], dtype=torch.float64).repeat(40_000, 1).requires_grad_()
    values = drawn_log_counts(rates)
    values[:, 0].sum().backward()
    factor = COUNTS_TARGET_SUM / (total + rate)

    def expected(r):
        return sum(stats.poisson.pmf(k, r) * math.log1p(factor * k) for k in range(60))

    found = float(rates.grad[:, 0].mean())
    assert found == pytest.approx((expected(rate + 1e-4) - expected(rate - 1e-4)) / 2e-4, rel=0.02)
    assert float(values[:, 0].detach().mean()) == pytest.approx(expected(rate), rel=0.05)


def test_without_gradient_the_same_values():
    rates = torch.rand(5, 8) * 4
    torch.manual_seed(0)
    plain = drawn_log_counts(rates)
    torch.manual_seed(0)
    torch.testing.assert_close(drawn_log_counts(rates.clone().requires_grad_()).detach(), plain)


def info_module(weight, proportions):
    """Two normal codes and three categories; the head multiplies the critic's five hidden units by `weight`."""
    module = InfoGANModule(4, n_latent=2, n_labels=3, n_hidden_generator=(4,), n_hidden_critic=(5,))
    module.label_proportions.copy_(proportions)
    with torch.no_grad():
        module.code_head.weight.copy_(weight)
        module.code_head.bias.zero_()
    return module


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_bound_of_the_mutual_information_in_closed_form(noise):
    """Codes seen through noise, and categories through a channel that errs, both read by the best head."""
    torch.manual_seed(0)
    n, p = 200_000, torch.tensor([0.5, 0.3, 0.2])
    channel = torch.tensor([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.05, 0.15, 0.8]])
    z, labels = torch.randn(n, 2), torch.multinomial(p, n, replacement=True)
    seen = torch.multinomial(channel[labels], 1).squeeze(1)
    hidden = torch.cat([z + noise * torch.randn(n, 2), torch.nn.functional.one_hot(seen, 3).float()], dim=1)
    joint = p[:, None] * channel
    weight = torch.zeros(5, 5)
    # the posterior mean of a code, and the log posterior of a category but for a constant
    weight[:2, :2] = torch.eye(2) / (1 + noise**2)
    weight[2:, 2:] = joint.log()
    found = info_module(weight, p).mutual_information(hidden, Draw(z, torch.empty(n, 0), labels))
    # Q has unit variance: its residual noise^2 / (1 + noise^2) leaves 1/2 less half of that
    of_codes = 2 * 0.5 / (1 + noise**2)
    of_category = (joint * (joint / (p[:, None] * joint.sum(0))).log()).sum().item()
    assert found.item() == pytest.approx(of_codes + of_category, abs=0.01)
    # a bound: below the information of the Gaussian channel
    assert of_codes < 2 * 0.5 * math.log(1 + 1 / noise**2)


def test_a_head_that_knows_nothing():
    torch.manual_seed(0)
    n, p = 200_000, torch.tensor([0.5, 0.3, 0.2])
    draw = Draw(torch.randn(n, 2), torch.empty(n, 0), torch.multinomial(p, n, replacement=True))
    module = info_module(torch.zeros(5, 5), p)
    with torch.no_grad():
        module.code_head.bias[2:] = p.log()
    assert module.mutual_information(torch.randn(n, 5), draw).item() == pytest.approx(0, abs=0.02)


def test_codes_have_the_variance_that_is_registered():
    """A code's width is the root of its variance, and the critic is told the code in units of its spread."""
    module = MichiGANModule(4, n_latent=2, n_noise=3, n_hidden_generator=(4,), n_hidden_critic=(5,))
    module.code_mean.copy_(torch.tensor([1.0, -2.0]))
    module.code_std.copy_(torch.tensor([2.0, 0.5]))
    n = 100_000
    mean, var = torch.tensor([3.0, -1.0]), torch.tensor([16.0, 0.09])
    torch.manual_seed(0)
    draw = module.draw({"X": torch.zeros(n, 4), "code": mean.expand(n, 2), "code_var": var.expand(n, 2)})
    torch.testing.assert_close(draw.z.mean(0), mean, rtol=0.02, atol=0)
    torch.testing.assert_close(draw.z.var(0), var, rtol=0.03, atol=0)
    torch.testing.assert_close(draw.noise.std(0), torch.ones(3), rtol=0.03, atol=0)
    told = (draw.z - torch.tensor([1.0, -2.0])) / torch.tensor([2.0, 0.5])
    torch.testing.assert_close(module.condition(draw), told)
    torch.testing.assert_close(module.generator_input(draw), torch.cat([told, draw.noise], dim=1))


@pytest.mark.parametrize("output", ["relu", "linear", "library", "counts"])
def test_the_start_is_the_average_cell(output):
    """Whatever the noise: the last layer's weights are set to zero, so that its bias alone speaks."""
    module = GANModule(4, n_latent=2, n_hidden_generator=(3,), n_hidden_critic=(5,), output=output)
    mean, profile = torch.tensor([0.5, 1.5, 3.0, 0.0]), torch.tensor([0.1, 0.3, 0.6, 0.0])
    module.start_from(mean, profile, scale=2.0)
    for generator in (module.generator, module.average):
        torch.nn.init.zeros_(generator.output.weight)
    tensors = {"X": torch.poisson(torch.full((6, 4), 5.0))}
    draw = module.draw(tensors)
    total = tensors["X"].sum(1, keepdim=True)
    expected = total * profile if output == "counts" else mean.expand(6, 4)
    torch.testing.assert_close(module.decode(draw), expected, rtol=1e-4, atol=1e-4)
    if output != "counts":
        torch.testing.assert_close(module.run(module.generator, draw) * 2, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("log_counts", [True, False])
def test_cells_as_the_networks_see_them(log_counts):
    module = GANModule(4, n_hidden_generator=(3,), n_hidden_critic=(5,), log_counts=log_counts)
    module.scale.fill_(2.5)
    x = torch.poisson(torch.full((6, 4), 5.0)) + 1
    seen = (1e4 * x / x.sum(1, keepdim=True)).log1p() if log_counts else x
    torch.testing.assert_close(module.prepare(x), seen / 2.5)


@pytest.mark.parametrize("n_labels", [0, 1, 3])
@pytest.mark.parametrize("conditioning", ["projection", "concat", "batch_norm"])
def test_what_networks_are_told(n_labels, conditioning):
    sizes = {"n_latent": 2, "n_noise": 5, "n_hidden_generator": (3,), "n_hidden_critic": (5,)}
    module = GANModule(4, n_labels=n_labels, conditioning=conditioning, **sizes)
    labels = torch.arange(6) % max(n_labels, 1)
    draw = module.draw({"X": torch.ones(6, 4), "labels": labels[:, None]})
    told = torch.nn.functional.one_hot(labels, n_labels).float() if n_labels else None
    joined = [told] if n_labels and conditioning != "batch_norm" else []
    torch.testing.assert_close(module.generator_input(draw), torch.cat([draw.z, draw.noise, *joined], dim=1))
    assert module.run(module.generator, draw).shape == (6, 4)
    condition = module.condition(draw)
    assert condition is None if told is None else torch.equal(condition, told)
    for parameter in module.critic.parameters():
        torch.nn.init.normal_(parameter)
    scores = module.critic(torch.ones(6, 4), condition).flatten()
    # cells alike in all but their label
    assert len(scores.detach().unique()) == max(n_labels, 1)


@pytest.mark.parametrize("supervised", [True, False])
def test_labelled_cells_teach_the_categories(supervised):
    """Minus the bound, and with registered labels the cross entropy of the real cells that have one."""
    torch.manual_seed(0)
    sizes = {"n_hidden_generator": (4,), "n_hidden_critic": (5,)}
    module = InfoGANModule(4, n_latent=2, n_labels=3, supervised=supervised, **sizes)
    module.mutual_information_weight = 0.7
    tensors = {"X": torch.ones(6, 4), "labels": torch.tensor([[0], [3], [2], [1], [3], [2]])}
    draw, real, fake = module.draw(tensors), torch.randn(6, 5), torch.randn(6, 5)
    loss, logged = module.feature_losses(draw, tensors)
    bound = module.mutual_information(fake, draw)
    known = [0, 2, 3, 5]
    logits = module.code_head(real)[known, 2:]
    entropy = -logits.log_softmax(1)[torch.arange(4), [0, 2, 1, 2]].mean()
    torch.testing.assert_close(loss(real, fake), 0.7 * (entropy - bound if supervised else -bound))
    torch.testing.assert_close(logged["mutual_information"], bound.detach())
    assert ("label_loss" in logged) == supervised
    # the generator's step sees no real cells
    torch.testing.assert_close(loss(None, fake), -0.7 * bound)
