"""Layers that reuse memory and products, against torch's own linear layer."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from scmimic.nn import WideLinear, recycle_gradients, shared_linear
from scmimic.nn._wide_linear import wide_product


def test_equals_separate_calls():
    torch.manual_seed(0)
    layer = WideLinear(5, 7).double()
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
    layer = WideLinear(3, 2).double()
    inputs = [torch.randn(2, 3).double().requires_grad_() for _ in range(2)]
    own, other = inputs
    # `given` must equal `own`, so the two are moved together
    assert torch.autograd.gradcheck(lambda a, b: shared_linear(layer, a, a, b), (own, other))


def pair():
    torch.manual_seed(0)
    ours = WideLinear(5, 7).double()
    theirs = nn.Linear(5, 7).double()
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(4, 5).double()


def test_wide_layer_is_torchs():
    ours, theirs, x = pair()
    for step in range(3):
        inputs = [(x + step).clone().requires_grad_() for _ in range(2)]
        for layer, value in zip((ours, theirs), inputs, strict=True):
            layer(value).square().sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
        recycle_gradients(ours)
        theirs.zero_grad()
        assert ours.weight.grad is None


def test_memory_is_used_again():
    ours, _, x = pair()
    ours(x).sum().backward()
    place = ours.weight.grad.data_ptr()
    recycle_gradients(ours)
    ours(x).sum().backward()
    assert ours.weight.grad.data_ptr() == place


def test_layer_used_twice_in_one_graph():
    ours, theirs, x = pair()
    ours(x).sum().backward()
    recycle_gradients(ours)
    for layer in (ours, theirs):
        (layer(x).square().sum() + layer(2 * x).sum()).backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_accumulates_over_backward_passes():
    ours, theirs, x = pair()
    ours(x).sum().backward()
    recycle_gradients(ours)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
        layer(x).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_memory_of_a_second_pass_is_used_again():
    ours, theirs, x = pair()
    places = []
    for step in range(3):
        recycle_gradients(ours)
        theirs.zero_grad()
        for layer in (ours, theirs):
            for factor in (1.0, 2.0, 3.0):
                (layer(x) * (factor + step)).square().sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
        places.append((ours.weight.grad.data_ptr(), ours._addend.data_ptr()))
    assert len(set(places)) == 1
    assert places[0][0] != places[0][1]


def test_layer_used_twice_in_a_second_pass():
    ours, theirs, x = pair()
    for _ in range(2):
        recycle_gradients(ours)
        theirs.zero_grad()
        for layer in (ours, theirs):
            layer(x).square().sum().backward()
            (layer(x).square().sum() + layer(2 * x).pow(3).sum()).backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_copies_leave_the_memory_behind():
    ours, _, x = pair()
    ours(x).sum().backward()
    ours(x).sum().backward()
    recycle_gradients(ours)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert other._spare is None and other._addend is None
        torch.testing.assert_close(other(x), ours(x))


@pytest.mark.parametrize("with_bias", [False, True])
# in blocks, but for too few rows, and for results that are hardly wider than high or small
@pytest.mark.parametrize(("rows", "width"), [(64, 4096), (64, 4100), (31, 4096), (2048, 4096), (64, 512)])
def test_wide_product_is_a_product(rows, width, with_bias):
    rng = np.random.default_rng(0)
    a, b, bias = rng.normal(size=(rows, 512)), rng.normal(size=(512, width)), rng.normal(size=width) * with_bias
    tensors = [torch.as_tensor(x) for x in (a, b)]
    found = wide_product(*tensors, torch.as_tensor(bias) if with_bias else None)
    np.testing.assert_allclose(found.numpy(), a @ b + bias, atol=1e-10)
    assert found.is_contiguous()
    memory = torch.full((rows, width), torch.nan).double()
    assert wide_product(*tensors, torch.as_tensor(bias), out=memory) is memory
    np.testing.assert_allclose(memory.numpy(), a @ b + bias, atol=1e-10)


def test_gradients_of_a_wide_layer_are_torchs():
    torch.manual_seed(0)
    for n_in, n_out in ((512, 4096), (4096, 512)):
        ours, theirs = WideLinear(n_in, n_out).double(), nn.Linear(n_in, n_out).double()
        theirs.load_state_dict(ours.state_dict())
        inputs = [torch.linspace(-1, 1, 64 * n_in).double().view(64, n_in).requires_grad_() for _ in range(2)]
        for layer, x in zip((ours, theirs), inputs, strict=True):
            layer(x).square().sum().backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
