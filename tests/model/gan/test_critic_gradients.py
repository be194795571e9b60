"""The written-out gradients against automatic differentiation's double backward pass, and against closed forms."""

import pytest
import torch
from torch import nn

from scmimic.nn import Critic
from scmimic.train import critic_gradients, generator_gradient

N, GENES = 7, 20
CONDITIONS = {
    "none": (0, "projection"),
    "projection": (3, "projection"),
    "concat": (3, "concat"),
    "inner_product": (None, "inner_product"),
}


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def make(kind="none", slope=0.2, n_hidden=(16, 8, 5), **options):
    n_condition, conditioning = CONDITIONS[kind]
    n_condition = n_hidden[-1] if n_condition is None else n_condition
    sizes = {"n_condition": n_condition, "conditioning": conditioning, "negative_slope": slope}
    critic = Critic(GENES, n_hidden, **sizes, **options)
    condition = torch.randn(N, n_condition) if n_condition else None
    return critic, torch.rand(N, GENES), torch.rand(N, GENES), condition


def reference_loss(critic, real, fake, condition, epsilon, weight, feature_loss):
    mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed, condition).sum(), mixed, create_graph=True)
    penalty = (gradient.norm(dim=1) - 1).square().mean()
    loss = critic(fake, condition).mean() - critic(real, condition).mean() + weight * penalty
    return loss + feature_loss(critic.hidden(real, condition), critic.hidden(fake, condition)), penalty


def gradients(*modules):
    return [p.grad.clone() for module in modules for p in module.parameters()]


@pytest.mark.parametrize("kind", CONDITIONS)
@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("n_hidden", [(16, 8, 5), (12,)])
def test_critic_step(kind, slope, n_hidden):
    critic, real, fake, condition = make(kind, slope, n_hidden)
    head, epsilon = nn.Linear(n_hidden[-1], 2), torch.rand(N, 1)

    def feature_loss(of_real, of_fake):
        return head(of_fake).square().sum() + (head(of_real) ** 3).sum()

    ours = []
    # twice, so that memory that is used again and gradients that pile up would show
    for cells in ((fake, real), (real, fake)):
        for parameter in (*critic.head_parameters(), *head.parameters()):
            parameter.grad = None
        terms = critic_gradients(
            critic, *cells, condition, epsilon=epsilon, penalty_weight=7.0, feature_loss=feature_loss
        )
        ours = gradients(critic, head)
    critic.zero_grad()
    head.zero_grad()
    loss, penalty = reference_loss(critic, real, fake, condition, epsilon, 7.0, feature_loss)
    loss.backward()
    for a, b in zip(ours, gradients(critic, head), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(terms["critic_loss"], loss.detach())
    torch.testing.assert_close(terms["gradient_penalty"], penalty.detach())
    wasserstein = critic(real, condition).mean() - critic(fake, condition).mean()
    torch.testing.assert_close(terms["wasserstein"], wasserstein.detach())


def normalised_hidden(critic, x, condition, slopes):
    """The last hidden layer, each before it normalised by the batch; written out."""
    for i, (layer, norm, slope) in enumerate(zip(critic.layers, critic.norms, slopes, strict=True)):
        x = x @ layer.weight.t() + layer.bias
        if i == 0 and critic.join is not None:
            x = x + condition @ critic.join.weight.t()
        x = (x - x.mean(0)) / (((x - x.mean(0)) ** 2).mean(0) + 1e-5).sqrt() * norm.weight + norm.bias
        x = torch.where(x > 0, x, slope * x)
    return x


@pytest.mark.parametrize("kind", CONDITIONS)
def test_steps_with_batch_norm(kind):
    """Real, fake and mixed cells are each normalised as a batch of their own, and the penalty goes through that."""
    critic, real, fake, condition = make(kind, use_batch_norm=True, last_slope=0.0)
    for norm in critic.norms:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    head, epsilon = nn.Linear(5, 2), torch.rand(N, 1)

    def score(x):
        h = normalised_hidden(critic, x, condition, (0.2, 0.2, 0.0))
        read = critic.score(h).squeeze(1)
        if kind == "inner_product":
            read = read + (condition * h).sum(1)
        return h, read if critic.embedding is None else read + (critic.embedding(condition) * h).sum(1)

    def feature_loss(of_real, of_fake):
        return head(of_fake).square().sum() + (0 if of_real is None else (head(of_real) ** 3).sum())

    for cells in ((fake, real), (real, fake)):
        for parameter in (*critic.head_parameters(), *head.parameters()):
            parameter.grad = None
        terms = critic_gradients(
            critic, *cells, condition, epsilon=epsilon, penalty_weight=7.0, feature_loss=feature_loss
        )
    ours = gradients(critic, head)
    critic.zero_grad()
    head.zero_grad()
    mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    (gradient,) = torch.autograd.grad(score(mixed)[1].sum(), mixed, create_graph=True)
    penalty = (gradient.square().sum(1).sqrt() - 1).square().mean()
    (h_real, d_real), (h_fake, d_fake) = score(real), score(fake)
    loss = d_fake.mean() - d_real.mean() + 7 * penalty + feature_loss(h_real, h_fake)
    loss.backward()
    for a, b in zip(ours, gradients(critic, head), strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(terms["critic_loss"], loss.detach())
    torch.testing.assert_close(terms["gradient_penalty"], penalty.detach())
    torch.testing.assert_close(terms["gradient_norm"], gradient.norm(dim=1).mean().detach())
    torch.testing.assert_close(terms["wasserstein"], (d_real.mean() - d_fake.mean()).detach())

    critic.zero_grad(), head.zero_grad()
    before = {name: value.clone() for name, value in critic.state_dict().items()}
    made, of_fake = generator_gradient(critic, fake, condition, feature_loss=feature_loss)
    assert all(p.grad is None for p in (*critic.parameters(), *head.parameters()))
    # a synthetic batch leaves no trace
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())
    cells = fake.clone().requires_grad_()
    h, d = score(cells)
    loss = feature_loss(None, h) - d.mean()
    loss.backward()
    torch.testing.assert_close(of_fake, cells.grad)
    torch.testing.assert_close(made, loss.detach())


def test_running_statistics_are_those_of_real_cells():
    critic, real, fake, _ = make(n_hidden=(16,), use_batch_norm=True)
    critic_gradients(critic, real, fake)
    pre = critic.layers[0](real).detach()
    torch.testing.assert_close(critic.norms[0].running_mean, 0.1 * pre.mean(0))
    torch.testing.assert_close(critic.norms[0].running_var, 0.9 + 0.1 * pre.var(0))
    # in eval mode they normalise, but where each batch is to have its own
    critic.eval()
    expected = (normalised_hidden(critic, fake, None, (0.2,)) @ critic.score.weight.t()).squeeze(1) + critic.score.bias
    with critic.batch_statistics():
        torch.testing.assert_close(critic(fake), expected)
    assert (critic(fake) - expected).abs().max() > 1e-3
    assert not critic.norms[0].training
    torch.testing.assert_close(critic.norms[0].running_mean, 0.1 * pre.mean(0))


def test_penalty_with_batch_norm_is_one_for_the_batch():
    """The scores of a linear critic with batch norm have the same sum whatever the cells are: nothing is bounded."""
    critic, real, fake, _ = make(slope=1.0, use_batch_norm=True)
    terms = critic_gradients(critic, real, fake, penalty_weight=5.0)
    assert float(terms["gradient_penalty"]) == pytest.approx(1)
    # though every cell's own score has a slope
    one = real[:1].clone().requires_grad_()
    (own,) = torch.autograd.grad(critic(torch.cat([one, real[1:]]))[0], one)
    assert own.norm() > 0.01


@pytest.mark.parametrize("kind", CONDITIONS)
def test_steps_with_dropout(kind):
    """Each cell has the same dropped units in its score and in its penalty; those of real and fake cells differ."""
    critic, real, fake, condition = make(kind, dropout_rate=0.4)
    epsilon = torch.rand(N, 1)
    torch.manual_seed(1)
    critic_gradients(critic, real, fake, condition, epsilon=epsilon)
    ours = gradients(critic)
    critic.zero_grad()
    mixed = (epsilon * real + (1 - epsilon) * fake).requires_grad_()
    together = None if condition is None else condition.repeat(3, 1)
    torch.manual_seed(1)
    d_real, d_fake, d_mixed = critic(torch.cat([real, fake, mixed]), together).chunk(3)
    (gradient,) = torch.autograd.grad(d_mixed.sum(), mixed, create_graph=True)
    (d_fake.mean() - d_real.mean() + 10 * (gradient.norm(dim=1) - 1).square().mean()).backward()
    for a, b in zip(ours, gradients(critic), strict=True):
        torch.testing.assert_close(a, b)

    cells = fake.clone().requires_grad_()
    torch.manual_seed(2)
    _, of_fake = generator_gradient(critic, fake, condition)
    torch.manual_seed(2)
    (-critic(cells, condition).mean()).backward()
    torch.testing.assert_close(of_fake, cells.grad)
    # no unit is dropped when the critic is asked
    assert torch.equal(critic.eval()(fake, condition), critic(fake, condition))


def test_penalty_of_a_linear_critic():
    """With slope 1 the critic is x -> (w W2 W1).x + c, whose gradient is the same everywhere."""
    critic, real, fake, _ = make(slope=1.0, n_hidden=(16, 8))
    w = critic.score.weight @ critic.layers[1].weight @ critic.layers[0].weight
    norm = w.norm()
    terms = critic_gradients(critic, real, fake)
    torch.testing.assert_close(terms["gradient_penalty"], (norm - 1).square().detach())
    expected = w.squeeze(0) @ (fake.mean(0) - real.mean(0)) + 10 * (norm - 1).square()
    torch.testing.assert_close(terms["critic_loss"], expected.detach())
    # d/d score of 10 (|w| - 1)^2, by the chain rule through |w|
    below = critic.layers[1].weight @ critic.layers[0].weight
    of_penalty = 20 * (norm - 1) / norm * (w @ below.t())
    h = critic.hidden(torch.cat([real, fake]))
    of_score = h[N:].mean(0) - h[:N].mean(0)
    torch.testing.assert_close(critic.score.weight.grad, (of_penalty + of_score).detach())


def test_critic_without_a_slope():
    """Where the critic is flat, as after dead units, the penalty is (0 - 1)^2 and no gradient is lost to 0 / 0."""
    critic, real, fake, _ = make(slope=0.0)
    with torch.no_grad():
        critic.layers[-1].weight.zero_()
        critic.layers[-1].bias.fill_(1)
    terms = critic_gradients(critic, real, fake)
    assert float(terms["gradient_penalty"]) == pytest.approx(1)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(critic))


def test_every_cell_has_its_own_share():
    """Shares of 0 and 1 put the penalty on fake and on real cells, row by row."""
    critic, real, fake, _ = make()
    epsilon = (torch.arange(N) % 2).double().unsqueeze(1)
    mixed = torch.where(epsilon == 1, real, fake).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).sum(), mixed)
    expected = (gradient.norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(critic_gradients(critic, real, fake, epsilon=epsilon)["gradient_penalty"], expected)
    drawn = {float(critic_gradients(critic, real, fake)["gradient_penalty"]) for _ in range(3)}
    assert len(drawn) == 3


@pytest.mark.parametrize("kind", CONDITIONS)
def test_generator_step(kind):
    critic, _, fake, condition = make(kind)
    head = nn.Linear(5, 2)

    def feature_loss(_, of_fake):
        return head(of_fake).square().sum()

    ours_loss, ours = generator_gradient(critic, fake, condition, feature_loss=feature_loss)
    assert all(p.grad is None for p in (*critic.parameters(), *head.parameters()))
    cells = fake.clone().requires_grad_()
    loss = -critic(cells, condition).mean() + feature_loss(None, critic.hidden(cells, condition))
    loss.backward()
    torch.testing.assert_close(ours, cells.grad)
    torch.testing.assert_close(ours_loss, loss.detach())


def test_shares_are_drawn_cell_by_cell():
    """Of many cells that are all alike, the mean penalty is that of a uniform share: every draw gives it."""
    critic, real, fake, _ = make(slope=0.0)
    with torch.no_grad():
        critic.layers[0].weight.mul_(10)
    n = 20_000
    cells = real[:1].repeat(n, 1), -fake[:1].repeat(n, 1)
    shares = ((torch.arange(n) + 0.5) / n).unsqueeze(1)
    expected = float(critic_gradients(critic, *cells, epsilon=shares)["gradient_penalty"])
    # one share for a whole batch would give anything between these
    alone = [
        float(critic_gradients(critic, *cells, epsilon=shares[[i]])["gradient_penalty"]) for i in range(0, n, 2000)
    ]
    assert min(alone) < 0.9 * expected < 1.1 * expected < max(alone)
    for _ in range(3):
        found = critic_gradients(critic, *cells)["gradient_penalty"]
        assert float(found) == pytest.approx(expected, rel=0.02)
