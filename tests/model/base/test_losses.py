import pytest
import torch
from torch.distributions import Normal, kl_divergence

from scmimic.module import cell_type_loss, hinge, kl_standard_normal, squared_error


def test_kl_is_torchs():
    mean, log_var = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(kl_standard_normal(mean, log_var), expected)


def test_squared_error_by_hand():
    x, y = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [0.0, 3.0]])
    assert squared_error(x, y).tolist() == [2.5, 4.5]
    assert cell_type_loss(x, y).tolist() == [2.5, 4.5]


@pytest.mark.parametrize(("m", "expected"), [(1.0, 0.0), (2.0, 0.0), (5.0, 3.0)])
def test_hinge_on_batch_mean(m, expected):
    assert hinge(torch.tensor([1.0, 3.0]), m).item() == expected
