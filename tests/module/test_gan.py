import math

import pytest
import torch
from scipy import stats

from scmimic.module import COUNTS_TARGET_SUM, drawn_log_counts


@pytest.mark.parametrize("rate", [0.05, 0.7, 3.0])
def test_slope_is_that_of_the_expected_value(rate):
    """d/dr E log1p(c k) for a Poisson count k of rate r, by differences of the exact expectation."""
    torch.manual_seed(0)
    # a second gene with nearly all of the total keeps the scaling factor at one value
    total = 1e6
    rates = torch.tensor([[rate, total]], dtype=torch.float64).repeat(40_000, 1).requires_grad_()
    values = drawn_log_counts(rates)
    values[:, 0].sum().backward()
    factor = COUNTS_TARGET_SUM / (total + rate)

    def expected(r):
        return sum(stats.poisson.pmf(k, r) * math.log1p(factor * k) for k in range(60))

    found = float(rates.grad[:, 0].mean())
    assert found == pytest.approx((expected(rate + 1e-4) - expected(rate - 1e-4)) / 2e-4, rel=0.02)
    assert float(values[:, 0].mean()) == pytest.approx(expected(rate), rel=0.05)


def test_without_gradient_the_same_values():
    rates = torch.rand(5, 8) * 4
    torch.manual_seed(0)
    plain = drawn_log_counts(rates)
    torch.manual_seed(0)
    torch.testing.assert_close(drawn_log_counts(rates.clone().requires_grad_()).detach(), plain)
