import math

import pytest
import torch
from torch import nn

from scmimic.nn import (
    ACTINNClassifier,
    CountDecoder,
    CovariateDesign,
    DenseStack,
    Encoder,
    ExpressionDecoder,
    RealBatchNorm1d,
    WideLinear,
    fake_cells,
)


def test_stack_order_is_linear_relu_norm():
    layers = DenseStack(5, (4, 3)).layers
    assert [type(layer) for layer in layers] == [WideLinear, nn.ReLU, RealBatchNorm1d] * 2


def test_norm_equals_torchs_on_real_cells():
    ours, torchs = RealBatchNorm1d(3), nn.BatchNorm1d(3)
    for _ in range(3):
        x = torch.randn(8, 3) * 2 + 1
        torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


def test_fake_statistics():
    norm = RealBatchNorm1d(3)
    norm(torch.randn(64, 3))
    before = norm.running_mean.clone(), norm.running_var.clone()
    shifted = torch.randn(64, 3) + 5
    with fake_cells(norm, "batch"):
        assert norm(shifted).mean().abs() < 1e-5
    with fake_cells(norm, "running"):
        visible = norm(shifted)
    assert visible.mean() > 3
    torch.testing.assert_close(visible, norm.eval()(shifted))
    assert torch.equal(before[0], norm.running_mean)
    assert torch.equal(before[1], norm.running_var)
    assert norm.fake_statistics is None


def test_a_unit_that_hardly_any_cell_activates_does_not_explode():
    """A cell counts in eval mode as it did in training at most, whose batches have 128 cells."""
    norm = RealBatchNorm1d(1)
    for _ in range(500):
        norm(torch.zeros(128, 1))
    batch = torch.zeros(128, 1)
    batch[7] = 2.0
    shown = norm(batch)[7].item()
    for _ in range(500):
        norm(torch.zeros(128, 1))
    norm.eval()
    assert norm.running_var.item() < 1e-5
    assert norm(batch)[7].item() == pytest.approx(shown, rel=1e-3)
    assert norm(-batch)[7].item() == pytest.approx(-shown, rel=1e-3)


def test_what_is_within_reach_is_normalised_as_torch_does():
    torch.manual_seed(0)
    ours, torchs = RealBatchNorm1d(4), nn.BatchNorm1d(4)
    x = torch.randn(256, 4) * torch.tensor([0.1, 1.0, 5.0, 20.0]) + 3
    with torch.no_grad():
        for norm in (ours, torchs):
            norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
            norm.bias.copy_(torch.tensor([0.0, 1.0, 2.0, -1.0]))
            norm(x)
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(x))


def test_batch_of_one_cell():
    stack = DenseStack(5, (4,)).train()
    stack(torch.randn(16, 5))
    assert torch.isfinite(stack(torch.randn(1, 5))).all()


def test_covariates_are_read():
    stack = DenseStack(5, (4,), n_covariates=3).eval()
    x, one, other = torch.randn(2, 5), torch.zeros(2, 2), torch.zeros(2, 1)
    base = stack(x, one, other)
    assert not torch.allclose(base, stack(x, one + 1, other))
    assert not torch.allclose(base, stack(x, one, other + 1))
    torch.testing.assert_close(stack(x, None, torch.cat([one, other], 1)), base)
    torch.testing.assert_close(stack(x.expand(7, 2, 5), one, other)[3], base)
    # a network that is told nothing does not read them
    alone = DenseStack(5, (4,)).eval()
    torch.testing.assert_close(alone(x, one), alone(x))


def test_a_design_is_one_hot_and_standardised():
    design = CovariateDesign(3, (1, 2), 1)
    design.set(torch.tensor([10.0]), torch.tensor([2.0]))
    batch, categories, numbers = (
        torch.tensor([[2], [0]]),
        torch.tensor([[0, 1], [0, 0]]),
        torch.tensor([[14.0], [10.0]]),
    )
    expected = [[0, 0, 1, 0, 1, 2], [1, 0, 0, 1, 0, 0]]
    assert design.n_columns == 6
    torch.testing.assert_close(design(batch, categories, numbers), torch.tensor(expected, dtype=torch.float32))
    assert CovariateDesign(1, (1,))(torch.zeros(2, 1), torch.zeros(2, 1)) is None
    # a covariate that does not vary is not divided by 0
    design.set(torch.tensor([10.0]), torch.tensor([0.0]))
    assert torch.isfinite(design(batch, categories, numbers)).all()


def test_actinn_initialisation():
    network = ACTINNClassifier(50, 4)
    linear = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in linear] == [100, 50, 25, 4]
    for layer in linear:
        assert torch.allclose(layer.bias, torch.tensor(0.01))
        assert layer.weight.abs().max() <= math.sqrt(6 / (layer.in_features + layer.out_features))


def test_actinn_ignores_depth_and_masked_genes():
    mask = torch.ones(6)
    mask[0] = 0
    x = torch.rand(3, 6)
    plain = ACTINNClassifier(6, 2)
    torch.testing.assert_close(plain(x), plain(7 * x))
    masked = ACTINNClassifier(6, 2, gene_mask=mask, input_transform="none")
    other = x.clone()
    other[:, 0] += 5
    torch.testing.assert_close(masked(x), masked(other))


def test_decoders():
    z = torch.randn(4, 3)
    cells = ExpressionDecoder(3, 10, (8,), threshold=0.1).eval()(z)
    assert ((cells == 0) | (cells > 0.1)).all()
    decoder = CountDecoder(3, 10, (8,), zero_inflation=True).eval()
    scale, logits = decoder(z, torch.zeros(4, 1))
    torch.testing.assert_close(scale.sum(-1), torch.ones(4))
    assert logits.shape == (4, 10)
    deeper, _ = decoder(z, torch.ones(4, 1))
    assert not torch.allclose(scale, deeper)


def test_encoder_head():
    x = torch.rand(32, 10)
    mean, log_var = Encoder(10, 4, (8,), head="relu_bn")(x)
    # ReLU and batch norm fix mean 0 and variance 1 of every output over the batch
    assert mean.mean(0).abs().max() < 1e-4
    with pytest.raises(ValueError, match="encoder_head"):
        Encoder(10, 4, (8,), head="other")
