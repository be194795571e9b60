import numpy as np
import pytest

from scmimic.train import softadapt_weights

# losses and weights published with the SoftAdapt program, which takes the slope at the oldest value
LOSSES = [[1, 2, 3, 4, 5], [150, 100, 50, 10, 0.1], [1500, 1000, 500, 100, 1]]


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("original", [0.99343, 0.0065666, 3.9e-22]),
        ("normalized", [0.3221, 0.3251, 0.3528]),
        ("loss-weighted", [0.87978, 0.12022, 7.1e-20]),
    ],
)
def test_published_values(variant, expected):
    weights = softadapt_weights(LOSSES, variant=variant, slope_at="oldest")
    np.testing.assert_allclose(weights, expected, rtol=1e-2 if variant != "normalized" else 2e-4)
    # the slopes at the newest value are others
    assert np.abs(softadapt_weights(LOSSES, variant=variant) - expected).max() > 1e-4


@pytest.mark.parametrize("variant", ["normalized", "normalized-absolute"])
def test_normalized_is_free_of_units(variant):
    a = softadapt_weights(LOSSES, variant=variant)
    b = softadapt_weights((np.array(LOSSES) * 1e3).tolist(), variant=variant)
    np.testing.assert_allclose(a, b)
    assert a.sum() == pytest.approx(1)


def test_a_signed_sum_turns_the_order_of_falling_losses_round():
    """Slopes -2 and -1: over their sum 2/3 and 1/3, over the sum of absolute values -2/3 and -1/3."""
    falling, rising = [[10, 8], [10, 9]], [[0, 2], [0, 1]]
    ratio = {
        (variant, beta): float(np.divide(*softadapt_weights(falling, beta=beta, variant=variant)))
        for variant in ("normalized", "normalized-absolute")
        for beta in (1.0, -1.0)
    }
    assert ratio["normalized", 1.0] == pytest.approx(np.exp(1 / 3))
    assert ratio["normalized-absolute", 1.0] == pytest.approx(np.exp(-1 / 3))
    assert ratio["normalized", -1.0] == pytest.approx(np.exp(-1 / 3))
    same = [softadapt_weights(rising, beta=1.0, variant=variant) for variant in ("normalized", "normalized-absolute")]
    np.testing.assert_allclose(*same)
    # slopes that cancel
    np.testing.assert_allclose(softadapt_weights([[0, 1], [1, 0]], variant="normalized"), [1, 0])


def test_slope_is_exact_on_quartics():
    t = np.arange(5.0)
    coefficients = np.array([0.3, -1.0, 2.0, 0.5, 4.0])
    values = np.polyval(coefficients, t)
    slope = np.polyval(np.polyder(coefficients), t)
    for where, expected in (("newest", slope[-1]), ("oldest", slope[0])):
        weights = softadapt_weights([values, np.zeros(5)], beta=1e-3, slope_at=where)
        assert np.log(weights[0] / weights[1]) == pytest.approx(1e-3 * expected)


def test_slowest_falling_loss_gains():
    weights = softadapt_weights([[10, 8, 6, 4, 2], [10, 10, 10, 10, 10]])
    assert weights[1] > weights[0]


def test_steep_losses_overflow_nothing():
    weights = softadapt_weights([[1e6, 9e5, 5e5], [1e6, 1e6, 2e6], [3.0, 2.0, 1.0]])
    np.testing.assert_allclose(weights, [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("losses", [[[1.0]], [[1.0], [2.0]], [1.0, 2.0]])
def test_too_short(losses):
    with pytest.raises(ValueError, match="at least two values"):
        softadapt_weights(losses)


@pytest.mark.parametrize(
    "wrong", [{"variant": "other"}, {"slope_at": "middle"}, {"slope_at": None}, {"beta": "0.1"}, {"beta": np.nan}]
)
def test_unknown_settings(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be"):
        softadapt_weights(LOSSES, **wrong)
