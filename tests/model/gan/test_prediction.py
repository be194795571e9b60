"""The prediction method on the saddle min_x max_y x y, whose only stationary point is the origin."""

import pytest
import torch

from scmimic.train import Prediction


def distance(optimizer, horizon, steps=2000, **settings):
    """Squared distance to the saddle point, which starts at 1.25, after alternating steps of both players."""
    x, y = (torch.nn.Parameter(torch.tensor([value])) for value in (1.0, 0.5))
    of_x, of_y = optimizer([x], **settings), optimizer([y], **settings)
    prediction = Prediction([x], horizon=horizon)
    for _ in range(steps):
        x.grad = y.detach().clone()
        prediction.remember()
        of_x.step()
        prediction.predict()
        y.grad = -prediction.predicted[0].clone()
        of_y.step()
    return float((x**2 + y**2).detach())


def test_gradient_descent_circles_without_and_converges_with():
    assert distance(torch.optim.SGD, 0, lr=0.1) > 0.5
    assert distance(torch.optim.SGD, 1, lr=0.1) < 1e-6


def test_adam_without_momentum_stays_away_without_and_converges_with():
    settings = {"lr": 0.1, "betas": (0.0, 0.999)}
    assert distance(torch.optim.Adam, 0, **settings) > 0.1
    assert distance(torch.optim.Adam, 1, **settings) < 1e-6


def test_adam_with_momentum_diverges_and_needs_a_longer_horizon():
    settings = {"lr": 0.1, "betas": (0.5, 0.999)}
    assert distance(torch.optim.Adam, 0, **settings) > 10
    assert distance(torch.optim.Adam, 4, **settings) < 0.5


@pytest.mark.parametrize("horizon", [0.0, 1.0, 2.5])
def test_arithmetic(horizon):
    torch.manual_seed(0)
    theta = [torch.nn.Parameter(torch.randn(3)), torch.nn.Parameter(torch.randn(2, 2))]
    held = [torch.empty(3), torch.empty(2, 2)]
    prediction = Prediction(theta, held, horizon=horizon)
    before = [p.detach().clone() for p in theta]
    prediction.remember()
    with torch.no_grad():
        for p in theta:
            p += torch.randn_like(p)
    prediction.predict()
    for old, new, got in zip(before, theta, held, strict=True):
        torch.testing.assert_close(got, (new + horizon * (new - old)).detach())
