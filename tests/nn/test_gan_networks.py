import pytest
import torch
from torch import nn
from torch.nn import functional as F

from scmimic.nn import Critic, ExpressionGenerator
from scmimic.train import critic_gradients


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def one_hot(labels, n):
    return F.one_hot(labels, n).float()


def test_projection_on_labels_is_one_linear_head_per_label():
    critic = Critic(6, (8, 4), n_condition=3)
    x, labels = torch.randn(5, 6), torch.tensor([0, 1, 2, 1, 0])
    heads = critic.score.weight + critic.embedding.weight.t()
    expected = (critic.hidden(x) * heads[labels]).sum(1) + critic.score.bias
    torch.testing.assert_close(critic(x, one_hot(labels, 3)), expected)


def test_concat_is_a_critic_of_the_joined_vector():
    critic = Critic(6, (8, 4), n_condition=3, conditioning="concat")
    plain = Critic(9, (8, 4))
    state = critic.state_dict()
    state["layers.0.weight"] = torch.cat([state["layers.0.weight"], state.pop("join.weight")], dim=1)
    plain.load_state_dict(state)
    x, condition = torch.randn(5, 6), torch.randn(5, 3)
    torch.testing.assert_close(critic(x, condition), plain(torch.cat([x, condition], dim=1)))


def test_inner_product_is_a_projection_on_the_condition_itself():
    critic = Critic(6, (8, 4), n_condition=4, conditioning="inner_product")
    x, condition = torch.randn(5, 6), torch.randn(5, 4)
    h = critic.hidden(x)
    torch.testing.assert_close(critic(x, condition), critic.score(h).squeeze(1) + (h * condition).sum(1))
    with pytest.raises(ValueError, match="as wide as the last hidden layer: 3, not 4"):
        Critic(6, (8, 4), n_condition=3, conditioning="inner_product")


@pytest.mark.parametrize("made", [Critic(6, (8, 4), last_slope=0.0), ExpressionGenerator(6, 9, (8, 4), last_slope=0.0)])
def test_last_hidden_layer_may_have_a_slope_of_its_own(made):
    made.eval()
    h = made.hidden(torch.randn(50, 6))
    assert h.min() == 0 and (h == 0).any()
    made.slopes = (0.2, 0.2)
    assert made.hidden(torch.randn(50, 6)).min() < 0


@pytest.mark.parametrize(("conditioning", "n_condition"), [("projection", 0), ("projection", 1), ("concat", 1)])
def test_critic_learns_the_conditional_distance(learned, conditioning, n_condition):
    """Real cells lie at c u, fake ones at -c u, c = 1 or -1: alike but for the condition, under which they are 4 apart.

    A critic of slope s is worth s W - lambda (s - 1)^2, so the best has s = 1 + W / (2 lambda) and the estimate s W.
    """
    critic = Critic(2, (32, 32), n_condition=n_condition, conditioning=conditioning)
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3, betas=(0.5, 0.9))
    distances = []
    for _ in range(400):
        c = torch.randint(2, (64, 1)) * 2.0 - 1
        real, fake = (sign * c * torch.tensor([[1.2, 1.6]]) + 0.1 * torch.randn(64, 2) for sign in (1, -1))
        optimizer.zero_grad()
        terms = critic_gradients(critic, real, fake, c if n_condition else None, penalty_weight=10)
        optimizer.step()
        distances.append(float(terms["wasserstein"]))
    found = sum(distances[-50:]) / 50
    best = 4.0 * (1 + 4.0 / 20)
    # without the condition there is nothing to learn
    expected, off = (best, 0.0) if n_condition else (0.0, best)
    learned("error of the distance", abs(found - expected), below=0.3, off=abs(off - expected))


def test_library_output_has_one_total():
    generator = ExpressionGenerator(4, 10, (8,), output="library")
    generator.total.fill_(20_000)
    x = generator(torch.randn(6, 4))
    assert (x >= 0).all()
    torch.testing.assert_close(x.sum(1), torch.full((6,), 20_000.0))


def test_outputs():
    z = torch.randn(50, 4)
    assert (ExpressionGenerator(4, 10, (8,), output="relu")(z) >= 0).all()
    assert (ExpressionGenerator(4, 10, (8,), output="linear")(z) < 0).any()
    with pytest.raises(ValueError, match="`output`"):
        ExpressionGenerator(4, 10, (8,), output="softplus")


def test_conditional_batch_norm_starts_as_plain_and_learns_per_label():
    generator = ExpressionGenerator(4, 10, (8,), n_labels=3)
    z, labels = torch.randn(12, 4), torch.arange(12) % 3
    torch.testing.assert_close(generator(z, labels), generator(z, labels.roll(1)))
    with torch.no_grad():
        generator.norms[0].offset.weight[1] += 1
    changed = (generator.hidden(z, labels) != generator.hidden(z, torch.zeros_like(labels))).any(1)
    assert changed.tolist() == (labels == 1).tolist()


def test_refreshed_statistics_are_those_of_the_cells():
    generator = ExpressionGenerator(4, 10, (8, 6), dropout_rate=0.5).eval()
    z = torch.randn(500, 4)
    generator.refresh_statistics(z)
    assert not generator.training
    h = generator.layers[0](z)
    norm = generator.norms[0].norm
    torch.testing.assert_close(norm.running_mean, h.mean(0).detach())
    torch.testing.assert_close(norm.running_var, h.var(0).detach())
    plain = nn.functional.batch_norm(h, None, None, norm.weight, norm.bias, training=True)
    # var with n - 1 in the running statistics, n in the batch's own
    torch.testing.assert_close(norm(h), plain, rtol=1e-2, atol=1e-2)


def test_batch_of_one():
    assert torch.isfinite(ExpressionGenerator(4, 10, (8,))(torch.randn(1, 4))).all()
