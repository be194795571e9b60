import numpy as np
import pytest
import scipy.sparse as sp
import torch

from scmimic.datasets import synthetic_counts
from scmimic.model import _count_units
from scmimic.model._count_units import (
    ExpressionSpace,
    convert,
    count_units,
    counts_of_logarithms,
    expression_space,
    round_at_random,
    scale_to,
)


@pytest.fixture
def counts():
    return synthetic_counts(n_obs=200, n_vars=80, seed=0).X


def scaled(counts, target):
    x = counts.toarray().astype(np.float64)
    return (x * (target / x.sum(1, keepdims=True))).astype(np.float32)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("units", ["counts", "linear", "log1p"])
def test_units_and_library_sizes_are_found(counts, units, dense):
    x = {"counts": counts.toarray(), "linear": scaled(counts, 20_000), "log1p": np.log1p(scaled(counts, 1e4))}[units]
    found = count_units(x if dense else sp.csr_matrix(x))
    assert found.units == units
    total = np.asarray(counts.sum(1)).ravel()
    single = np.where(counts.toarray() == 0, np.inf, counts.toarray()).min(1) == 1
    assert single.mean() > 0.9
    np.testing.assert_allclose(found.library_size[single], total[single])


@pytest.mark.parametrize("units", ["counts", "linear", "log1p"])
def test_blocks_of_cells_are_looked_at_as_one(counts, units, monkeypatch):
    x = sp.csr_matrix(
        {"counts": counts.toarray(), "linear": scaled(counts, 20_000), "log1p": np.log1p(scaled(counts, 1e4))}[units]
    )
    whole = count_units(x)
    monkeypatch.setattr(_count_units, "_BLOCK", 7)
    for given in (x, x.tocsc(), x.toarray()):
        found = count_units(given)
        assert found.units == whole.units == units
        np.testing.assert_array_equal(found.library_size, whole.library_size)
    # counts in the first block alone
    x[50:] *= 1.37
    assert count_units(x).units != "counts"


def test_the_matrix_stays_as_it_is(counts):
    x = counts.astype(np.float32)
    x.data[::3] = 0
    before = x.copy()
    assert count_units(x).units == "counts"
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(x, name), getattr(before, name))


def test_other_values_are_left_alone():
    rng = np.random.default_rng(0)
    found = count_units(rng.gamma(1.0, size=(50, 20)))
    assert found.units is None
    assert np.isnan(found.library_size).all()
    assert count_units(np.log2(1 + rng.poisson(2.0, (50, 20)) + 0.3)).units is None


def test_rounding_keeps_means_and_totals():
    torch.manual_seed(0)
    rate = scale_to(torch.rand(1, 30) * 3, torch.tensor([[100.0]]))
    assert float(rate.sum()) == pytest.approx(100)
    made = round_at_random(rate.expand(4000, -1))
    assert torch.equal(made, made.round())
    torch.testing.assert_close(made.mean(0), rate.squeeze(0), rtol=0.02, atol=0.03)
    assert ((made - rate).abs() < 1).all()


def test_counts_of_normalised_counts_are_the_counts(counts):
    x = torch.as_tensor(scaled(counts, 1e4), dtype=torch.float64)
    total = torch.as_tensor(np.asarray(counts.sum(1)), dtype=torch.float64)
    difference = round_at_random(scale_to(x, total)) - torch.as_tensor(counts.toarray())
    assert (difference == 0).double().mean() > 0.99


def test_counts_of_logarithms_keep_the_mean_logarithm_and_the_total():
    torch.manual_seed(0)
    x = (torch.rand(3, 200, dtype=torch.float64) * 5 - 1).clamp_min(0)
    total = torch.tensor([[90.0], [400.0], [5000.0]], dtype=torch.float64)
    mean = counts_of_logarithms(x, total)
    torch.testing.assert_close(mean.sum(1, keepdim=True), total, rtol=1e-4, atol=0)
    assert ((mean == 0) == (x == 0)).all()
    for i in range(3):
        # what one count is worth, from the values between none and one, whose expected count is x / log1p(unit)
        low = (mean[i] > 0) & (mean[i] < 1)
        unit = torch.expm1(x[i][low] / mean[i][low]).mean()
        drawn = torch.log1p(round_at_random(mean[i].expand(4000, -1)) * unit)
        error = drawn.std(0) / 4000**0.5
        assert ((drawn.mean(0) - x[i]).abs() <= 5 * error + 1e-6).all()


def test_counts_of_logarithms_of_counts_are_the_counts(counts):
    x = torch.as_tensor(np.log1p(scaled(counts, 1e4)), dtype=torch.float64)
    total = torch.as_tensor(np.asarray(counts.sum(1)), dtype=torch.float64)
    made = counts_of_logarithms(x, total)
    np.testing.assert_allclose(made.numpy(), counts.toarray(), rtol=1e-6, atol=1e-3)


def test_empty_cell_stays_empty():
    assert scale_to(torch.zeros(2, 3), torch.ones(2, 1)).sum() == 0
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    made = counts_of_logarithms(x, torch.tensor([[5.0], [7.0]]))
    assert made[0].sum() == 0
    assert float(made[1].sum()) == pytest.approx(7, rel=1e-3)


@pytest.fixture
def layers():
    """Counts; shares of 500 and of 1,000 per cell, and their log1p."""
    counts = np.random.default_rng(0).poisson(2, size=(50, 20)).astype(np.float32)
    share = counts / counts.sum(1, keepdims=True)
    return {"counts": counts, "linear": 500 * share, "thousand": 1000 * share, "log": np.log1p(500 * share)}


def test_space_of_a_layer(layers):
    spaces = {name: expression_space(x, name) for name, x in layers.items()}
    assert {name: space.units for name, space in spaces.items()} == {
        "counts": "counts",
        "linear": "linear",
        "thousand": "linear",
        "log": "log1p",
    }
    assert spaces["log"].total == pytest.approx(500, rel=1e-4)
    assert spaces["thousand"].total == pytest.approx(1000, rel=1e-4)
    # a part of the genes has no common total
    assert expression_space(layers["linear"][:, :5], None).total is None


@pytest.mark.parametrize("dense", [True, False])
def test_exact_ways_between_spaces(layers, dense):
    for have in layers:
        for want in layers:
            x = layers[have] if dense else sp.csr_matrix(layers[have])
            ways = (expression_space(layers[name], name) for name in (have, want))
            if want == "counts" and have != "counts":
                with pytest.raises(ValueError, match="`as_counts=True`"):
                    convert(x, *ways)
                continue
            found = convert(x, *ways)
            np.testing.assert_allclose(found if dense else found.toarray(), layers[want], rtol=1e-3)


def test_no_way_without_a_total_or_units(layers):
    have, whole = expression_space(layers["counts"], None), layers["linear"]
    with pytest.raises(ValueError, match="no total common"):
        convert(layers["counts"], have, expression_space(whole[:, :5], "part"))
    unknown = ExpressionSpace("odd", None)
    with pytest.raises(ValueError, match="values of unknown units"):
        convert(whole, unknown, expression_space(whole, "linear"))
    assert convert(whole, unknown, unknown) is whole
