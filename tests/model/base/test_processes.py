"""What several processes do together, with the other process written by hand."""

from types import SimpleNamespace

import torch

from scmimic.module import BetaTCVAEModule
from scmimic.train import BetaTCVAETrainingPlan


def plan(world_size, other=None):
    made = BetaTCVAETrainingPlan(BetaTCVAEModule(4, n_latent=2, n_hidden=(4,), n_comps=None))
    strategy = SimpleNamespace(reduce=lambda value, reduce_op: {"mean": (value + other) / 2}[reduce_op])
    made.trainer = SimpleNamespace(world_size=world_size, strategy=strategy)
    return made


def test_gradients_become_means_over_the_processes():
    """A network that one process did not use has a gradient of zero there."""
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (2,), (4,))]
    parameters[0].grad, parameters[2].grad = torch.arange(6.0).reshape(2, 3), torch.ones(4)
    plan(2, other=torch.full((12,), 10.0)).average_gradients(parameters)
    torch.testing.assert_close(parameters[0].grad, (torch.arange(6.0).reshape(2, 3) + 10) / 2)
    torch.testing.assert_close(parameters[1].grad, torch.full((2,), 5.0))
    torch.testing.assert_close(parameters[2].grad, torch.full((4,), 5.5))


def test_one_process_keeps_its_gradients():
    parameter, unused = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    plan(1).average_gradients([parameter, unused])
    torch.testing.assert_close(parameter.grad, torch.ones(2))
    assert unused.grad is None
