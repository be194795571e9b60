import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from scmimic.metrics import _latent_entropy, latent_entropy


def brute_force(codes, mean, variance):
    total = 0.0
    for z in codes:
        densities = [
            multivariate_normal(m, np.diag(v)).logpdf(z) for m, v in zip(mean, np.asarray(variance), strict=True)
        ]
        total += np.logaddexp.reduce(densities) - np.log(len(mean))
    return -total / len(codes)


@pytest.mark.parametrize("chunk", [2**22, 50])
def test_equals_brute_force(monkeypatch, chunk):
    monkeypatch.setattr(_latent_entropy, "_CHUNK_VALUES", chunk)
    rng = np.random.default_rng(0)
    codes, mean = rng.normal(50, 2, (13, 3)), rng.normal(50, 2, (17, 3))
    variance = rng.uniform(0.01, 2, (17, 3))
    assert latent_entropy(codes, mean, variance) == pytest.approx(brute_force(codes, mean, variance), rel=1e-9)


def test_one_gaussian_in_closed_form():
    mean, sd = np.array([[1.0, -2.0]]), np.array([0.5, 3.0])
    codes = mean + sd * np.random.default_rng(0).standard_normal((200_000, 2))
    assert latent_entropy(codes, mean, sd**2) == pytest.approx(norm(scale=sd).entropy().sum(), abs=0.01)
    # a shift by d adds d^2 / (2 variance)
    gain = latent_entropy(codes + [1, 0], mean, sd**2) - latent_entropy(codes, mean, sd**2)
    assert gain == pytest.approx(0.5 / 0.25, abs=0.02)


def test_far_codes_and_narrow_posteriors():
    rng = np.random.default_rng(1)
    mean = 1e3 + rng.normal(size=(30, 2))
    variance = np.full((30, 2), 1e-6)
    assert latent_entropy(mean[:5], mean, variance) == pytest.approx(brute_force(mean[:5], mean, variance), rel=1e-6)
    far = latent_entropy(mean[:5] + 100, mean, variance)
    assert far == pytest.approx(brute_force(mean[:5] + 100, mean, variance), rel=1e-6)


@pytest.mark.parametrize("chunk", [2**22, 50])
def test_own_cell_is_left_out(monkeypatch, chunk):
    monkeypatch.setattr(_latent_entropy, "_CHUNK_VALUES", chunk)
    rng = np.random.default_rng(0)
    codes, mean = rng.normal(50, 2, (13, 3)), rng.normal(50, 2, (13, 3))
    variance = rng.uniform(0.01, 2, (13, 3))
    others = [np.arange(13) != i for i in range(13)]
    expected = np.mean([brute_force(codes[[i]], mean[rows], variance[rows]) for i, rows in enumerate(others)])
    assert latent_entropy(codes, mean, variance, leave_one_out=True) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="two cells or more, not 12 codes for 13 cells"):
        latent_entropy(codes[:12], mean, variance, leave_one_out=True)
    with pytest.raises(ValueError, match="two cells or more"):
        latent_entropy(codes[:1], mean[:1], variance[:1], leave_one_out=True)


@pytest.mark.parametrize("sd", [0.3, 0.05])
@pytest.mark.parametrize("n", [30, 300, 2000])
def test_perfect_predictions_have_the_entropy_of_the_cells(n, sd):
    """Codes drawn as those of the cells are: 0 on average with the own cell left out, far above 0 with it."""
    delta, with_own = [], []
    for seed in range({30: 200, 300: 30, 2000: 12}[n]):
        rng = np.random.default_rng(seed)
        mean, noise = rng.normal(size=(2, n, 10)), sd * rng.normal(size=(2, n, 10))
        codes, predicted = mean + noise
        of_predicted = latent_entropy(predicted, mean[0], np.full(10, sd**2))
        delta.append(of_predicted - latent_entropy(codes, mean[0], np.full(10, sd**2), leave_one_out=True))
        with_own.append(of_predicted - latent_entropy(codes, mean[0], np.full(10, sd**2)))
    error = np.std(delta, ddof=1) / np.sqrt(len(delta))
    assert abs(np.mean(delta)) < 5 * error
    assert np.mean(with_own) > 5 * error


def test_bad_input():
    z = np.zeros((4, 2))
    with pytest.raises(ValueError, match="numbers of columns differ"):
        latent_entropy(z, np.zeros((4, 3)), np.ones(3))
    with pytest.raises(ValueError, match="positive, finite"):
        latent_entropy(z, z, [1, 0])
    with pytest.raises(ValueError, match="NaN"):
        latent_entropy(z + np.nan, z, [1, 1])
    with pytest.raises(ValueError, match="empty"):
        latent_entropy(z[:0], z, [1, 1])
