"""Steps, averages and settings of the GANs' plan."""

import copy
from types import SimpleNamespace

import pytest
import torch

from scmimic.module import GANModule
from scmimic.train import WassersteinTrainingPlan


def plan(**kwargs):
    torch.manual_seed(0)
    module = GANModule(6, n_latent=3, n_hidden_generator=(4,), n_hidden_critic=(5,))
    made = WassersteinTrainingPlan(module, **kwargs)
    optimizers, _ = made.configure_optimizers()
    made.optimizers = lambda: optimizers
    made.trainer = SimpleNamespace(optimizers=optimizers)
    return made


def batch(seed):
    return {"X": torch.rand(8, 6, generator=torch.Generator().manual_seed(seed))}


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_average_of_the_weights(decay):
    """Each step keeps a share of the average: (1 + t) / (10 + t) at first, `decay` at most."""
    made = plan(n_critic=1, average_decay=decay, lr=0.01)
    expected = copy.deepcopy(list(made.module.average.parameters()))
    for t in range(1, 6):
        made.training_step(batch(t), t)
        keep = min(decay, (1 + t) / (10 + t))
        for mine, weight in zip(expected, made.module.generator.parameters(), strict=True):
            mine.data = keep * mine.data + (1 - keep) * weight.data
    for mine, found in zip(expected, made.module.average.parameters(), strict=True):
        torch.testing.assert_close(found.data, mine.data)


def test_steps_are_counted():
    made = plan(n_critic=3)
    for i in range(7):
        made.training_step(batch(i), i)
    state = made.state()
    assert (state["critic_steps"], state["generator_steps"]) == (7, 2)
    assert len(made._terms["critic_loss"]) == 7
    assert len(made._terms["generator_loss"]) == 2


def test_learning_rate_falls_to_a_tenth():
    made = plan(n_critic=1, lr=0.01, lr_decay_steps=4)
    rates = []
    for i in range(5):
        made.training_step(batch(i), i)
        rates.append([group["lr"] for optimizer in made.optimizers() for group in optimizer.param_groups])
    torch.testing.assert_close(torch.tensor(rates), torch.tensor([[0.01 * 0.1 ** (i / 4)] * 2 for i in range(5)]))


@pytest.mark.parametrize("horizon", [0.0, 1.0])
def test_critic_sees_the_generator_ahead(horizon):
    """The critic's fakes are of weights extrapolated by the horizon; without one, of the weights themselves."""
    made = plan(n_critic=1, prediction=horizon, lr=0.01)
    before = [weight.detach().clone() for weight in made.module.generator.parameters()]
    made.training_step(batch(0), 0)
    seen = []
    run = made.module.run
    made.module.run = lambda generator, draw: (
        seen.append([w.detach().clone() for w in generator.parameters()]) or run(generator, draw)
    )
    after = [weight.detach().clone() for weight in made.module.generator.parameters()]
    made.training_step(batch(1), 1)
    for old, new, found in zip(before, after, seen[0], strict=True):
        torch.testing.assert_close(found, new + horizon * (new - old))


def test_optimisers_get_their_settings():
    made = plan(lr=0.1, betas=(0.3, 0.4), eps=0.5, weight_decay=0.6, amsgrad=True)
    for optimizer in made.optimizers():
        (group,) = optimizer.param_groups
        assert [group[name] for name in ("lr", "betas", "eps", "weight_decay", "amsgrad")] == [
            0.1,
            (0.3, 0.4),
            0.5,
            0.6,
            True,
        ]


def test_a_loss_that_is_not_finite_is_seen():
    """The generator's too, though its value is no part of the loss that is returned."""
    made = plan(n_critic=1)
    made._generator_step = lambda *args: torch.tensor(float("inf"))
    assert not torch.isfinite(made.training_step(batch(0), 0)["loss"])
