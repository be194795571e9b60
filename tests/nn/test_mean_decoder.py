import numpy as np
import pytest
import torch

from scmimic.nn import DenseStack, Encoder, GeneProjection, GeneScale, MeanDecoder, RealBatchNorm1d, WideLinear


def test_order_of_michigan():
    layers = DenseStack(5, (4, 3), norm_first=True, negative_slope=0.2, dropout_rate=0.1).layers
    assert [type(layer) for layer in layers] == [
        WideLinear,
        RealBatchNorm1d,
        torch.nn.LeakyReLU,
        torch.nn.Dropout,
    ] * 2
    assert layers[2].negative_slope == 0.2


def test_scale_there_and_back():
    scale = GeneScale(3)
    x = torch.randn(5, 3)
    torch.testing.assert_close(scale(x), x)
    scale.set(torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 1, 0.5]))
    torch.testing.assert_close(scale(x), (x - torch.tensor([1.0, 2, 3])) / torch.tensor([2.0, 1, 0.5]))
    torch.testing.assert_close(scale.invert(scale(x)), x)


def test_encoder_reads_its_projection():
    encoder = Encoder(6, 2, (4,), n_comps=3, log1p=True).eval()
    weight = torch.randn(2, 6)
    encoder.input_map.set(weight, torch.tensor([1.0, 2.0]))
    x = torch.rand(5, 6)
    expected = torch.cat([torch.log1p(x) @ weight.t() + torch.tensor([1.0, 2.0]), torch.zeros(5, 1)], 1)
    torch.testing.assert_close(encoder.input_map(torch.log1p(x)), expected)
    assert encoder.stack.layers[0].in_features == 3
    assert not list(GeneProjection(4, 2).parameters())


@pytest.mark.parametrize("link", ["identity", "exp", "softmax"])
def test_links(link):
    decoder = MeanDecoder(2, 4, (8,), link=link, zero_inflation=link != "identity").eval()
    z = torch.randn(5, 2)
    output = decoder.mean(decoder.hidden(z))
    mean, zeros = decoder(z)
    if link == "identity":
        assert zeros is None
        decoder.standard.set(torch.full((4,), 3.0), torch.full((4,), 2.0))
        torch.testing.assert_close(decoder(z)[0], 3 + 2 * output)
    elif link == "exp":
        torch.testing.assert_close(mean, output.exp())
        torch.testing.assert_close(decoder.finish([torch.full((1, 4), 1e6)])[0].isfinite().all(), torch.tensor(True))
    else:
        torch.testing.assert_close(mean.sum(1), torch.ones(5))
        assert zeros.shape == (5, 4)


def test_start_and_library():
    decoder = MeanDecoder(2, 4, (8,), link="softmax", library_covariate=True).eval()
    log_mean = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    decoder.start_at(log_mean)
    np.testing.assert_allclose(decoder.mean.bias.detach(), log_mean)
    z = torch.randn(3, 2)
    assert not torch.allclose(decoder(z, torch.zeros(3, 1))[0], decoder(z, torch.ones(3, 1))[0])
    # without hidden layers the decoder is linear
    linear = MeanDecoder(2, 4, (), link="identity")
    torch.testing.assert_close(linear(2 * z)[0] - linear(z)[0], linear(z)[0] - linear(0 * z)[0])
