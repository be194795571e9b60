"""The shared product against separate calls of the layer."""

import torch
from torch import nn

from scmimic.nn import shared_linear


def test_equals_separate_calls():
    torch.manual_seed(0)
    layer = nn.Linear(5, 7).double()
    own, other = torch.randn(4, 5).double(), torch.randn(3, 5).double()
    targets = [torch.randn(n, 7).double() for n in (4, 4, 3)]

    def run(apply):
        layer.zero_grad()
        inputs = [own.clone().requires_grad_(), own.clone().requires_grad_(), other.clone().requires_grad_()]
        outputs = apply(*inputs)
        # the readers differ: a quadratic, a weighted and a cubic loss
        loss = (
            (outputs[0] - targets[0]).square().sum()
            + (outputs[1] * targets[1]).sum()
            + (outputs[2] ** 3 * targets[2]).sum()
        )
        loss.backward()
        return [*outputs, *(x.grad for x in inputs), layer.weight.grad.clone(), layer.bias.grad.clone()]

    ours = run(lambda *x: shared_linear(layer, *x))
    reference = run(lambda *x: tuple(layer(part) for part in x))
    for a, b in zip(ours, reference, strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2).double()
    inputs = [torch.randn(2, 3).double().requires_grad_() for _ in range(2)]
    own, other = inputs
    # `given` must equal `own`, so the two are moved together
    assert torch.autograd.gradcheck(lambda a, b: shared_linear(layer, a, a, b), (own, other))
