import numpy as np
import pytest

from scmimic.metrics import modularity
from scmimic.metrics._modularity import modularity_of


def test_by_hand():
    information = np.array([[0.8, 0.4, 0.0], [0.0, 0.0, 0.5], [0.01, 0.02, 0.01]])
    # 1 - 0.4^2 / (0.8^2 * 2) and 1; the third dimension knows nothing
    assert modularity_of(information) == pytest.approx((1 - 0.125 + 1) / 2)
    assert modularity_of(information, 0.6) == pytest.approx(1 - 0.125)
    assert modularity_of(np.full((2, 3), 0.4)) == 0
    assert modularity_of(np.zeros((2, 3)), 0) == 0


def test_constructed(codes, factors):
    assert modularity(codes["perfect"], factors) > 0.99
    assert modularity(codes["duplicated"], factors) > 0.99
    assert modularity(codes["noise"], factors) == 0
    assert modularity(codes["rotated"], factors) < 0.9
    # one dimension for two factors
    mixed = np.column_stack([2 * codes["perfect"][:, 0] + codes["perfect"][:, 1]])
    assert modularity(mixed, {name: factors[name] for name in ("batch", "path")}) == pytest.approx(0, abs=0.01)


def test_one_factor_is_too_few(codes):
    with pytest.raises(ValueError, match="at least two"):
        modularity(codes["perfect"], codes["perfect"][:, 0])


def test_numbers_are_read_by_their_quarters(codes, factors):
    quarter = (4 * factors["library"].argsort().argsort() / 3000).astype(int).astype(str)
    latent = codes["rotated"]
    assert modularity(latent, factors) == pytest.approx(modularity(latent, factors | {"library": quarter}))
