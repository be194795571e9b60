import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import Lasso

from scmimic.metrics import unsupervised_disentanglement_ranking as ranking


@pytest.fixture(scope="module")
def codes():
    """Uncorrelated columns of mean 0: their rank correlations and lasso weights have closed forms."""
    return np.stack(np.meshgrid(*[np.arange(-3.0, 4.0)] * 3), axis=-1).reshape(-1, 3)


@pytest.mark.parametrize("agreement", ["spearman", "lasso"])
def test_order_and_sign_do_not_matter(codes, agreement):
    found = ranking([codes, -codes[:, [2, 0, 1]], 5 * codes[:, ::-1]], agreement=agreement)
    # the penalty of 0.1 is taken from the weight of 1
    np.testing.assert_allclose(found, 1 if agreement == "spearman" else 0.9)


def test_what_is_monotone_does_not_matter(codes):
    np.testing.assert_allclose(ranking([codes, np.exp(codes)]), 1)


def test_a_turn_costs_half(codes):
    """By 45 degrees: each of two dimensions is correlated with two by c, and c^2 / 2c remains."""
    z = codes[:, :2]
    turned = z @ np.array([[1, -1], [1, 1]])
    c = spearmanr(z[:, 0], turned[:, 0]).statistic
    np.testing.assert_allclose(ranking([z, turned]), c / 2)
    # weights of variables of variance 1, less the penalty
    np.testing.assert_allclose(ranking([z, turned], agreement="lasso"), (np.sqrt(0.5) - 0.1) / 2, rtol=1e-5)


def test_a_dimension_in_two_places(codes):
    """One dimension against two copies of it: 1/2 for the one, 1 for each copy."""
    z = codes[:, :1]
    np.testing.assert_allclose(ranking([z, z[:, [0, 0]]]), (0.5 + 1 + 1) / 3)


@pytest.mark.parametrize("agreement", ["spearman", "lasso"])
def test_equals_the_formula_written_out(agreement):
    rng = np.random.default_rng(0)
    z = [rng.normal(size=(200, d)) @ rng.normal(size=(d, d)) for d in (3, 4, 2, 3)]
    z = [np.column_stack([x, z[0][:, 0] + 0.3 * rng.normal(size=200)]) for x in z]
    found = ranking(z, agreement=agreement, return_pairs=True)
    for i in range(4):
        for j in range(4):
            if i == j:
                assert np.isnan(found.pairs[i, j])
                continue
            a, b = ((x - x.mean(0)) / x.std(0) for x in (z[i], z[j]))
            if agreement == "spearman":
                r = np.abs([[spearmanr(p, q).statistic for q in b.T] for p in a.T])
            else:
                there = np.abs([Lasso(alpha=0.1).fit(a, q).coef_ for q in b.T]).T
                back = np.abs([Lasso(alpha=0.1).fit(b, p).coef_ for p in a.T])
                r = (there + back) / 2
            total = sum(max(row) ** 2 / sum(row) for row in r if sum(row))
            total += sum(max(column) ** 2 / sum(column) for column in r.T if sum(column))
            assert found.pairs[i, j] == pytest.approx(total / sum(r.shape), rel=1e-6)
        assert found.scores[i] == pytest.approx(np.median(np.delete(found.pairs[i], i)))


def test_vanished_dimensions_are_left_out(codes):
    """A dimension at the prior has a posterior of variance 1 and, for its mean, noise."""
    noise = 0.05 * np.random.default_rng(0).normal(size=(len(codes), 3))
    z, other = np.column_stack([codes, noise]), np.column_stack([noise, codes])
    variances = [np.where(np.arange(6) < 3, 0.1, 1), np.where(np.arange(6) < 3, 1, 0.1)]
    found = ranking([z, other], variances, return_pairs=True)
    np.testing.assert_allclose(found.scores, 1)
    np.testing.assert_array_equal(found.informative, [[True] * 3 + [False] * 3, [False] * 3 + [True] * 3])
    assert ranking([z, other])[0] < 0.9
    # KL of N(0, 1 + d) from N(0, 1) is (d - log(1 + d)) / 2
    at = (0.2 - np.log(1.2)) / 2
    flat = [np.column_stack([codes[:, 0], 1e-6 * codes[:, 1]])] * 2
    for min_kl, counted in ((0.99 * at, 2), (1.01 * at, 1)):
        found = ranking(flat, [[0.1, 1.2]] * 2, min_kl=min_kl, return_pairs=True)
        assert found.informative[0].sum() == counted


def test_nothing_informative_agrees_with_nothing(codes):
    for agreement in ("spearman", "lasso"):
        found = ranking([codes, codes, 0 * codes, 0 * codes], agreement=agreement, return_pairs=True)
        assert found.pairs[2, 0] == found.pairs[2, 3] == 0
        assert (found.scores[:2] < found.pairs[0, 1]).all() or found.scores[0] == 0


def test_the_odd_one_out_is_last():
    rng = np.random.default_rng(1)
    z = rng.normal(size=(500, 4))
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    trainings = [z + 0.1 * rng.normal(size=z.shape) for _ in range(3)]
    found = ranking([*trainings, z @ turn])
    assert found.argmin() == 3
    assert found[:3].min() > 0.8 > found[3]


@pytest.mark.parametrize(
    ("latents", "variances", "error", "message"),
    [
        ([np.eye(3)], None, ValueError, "`latents` must be a list of at least 2"),
        ([np.eye(3), np.eye(4)], None, ValueError, r"same cells in every training, but their numbers are \[3, 4\]"),
        ([np.eye(3), [[np.nan]] * 3], None, ValueError, r"`latents\[1\]` holds 3 NaN"),
        ({"a": np.eye(3), "b": np.eye(3)}, None, TypeError, "`latents`"),
        ([np.eye(3), np.eye(3)], [np.ones(3)], ValueError, "`variances`"),
        ([np.eye(3), np.eye(3)], [np.ones(3), -np.ones(3)], ValueError, "positive"),
        ([np.eye(3), np.eye(3)], [np.ones(3), np.ones(2)], ValueError, "shape of `latent`"),
    ],
)
def test_bad_input(latents, variances, error, message):
    with pytest.raises(error, match=message):
        ranking(latents, variances)


@pytest.mark.parametrize("wrong", [{"agreement": "pearson"}, {"min_kl": -1}, {"return_pairs": 1}])
def test_bad_settings(wrong):
    with pytest.raises(ValueError, match=f"`{next(iter(wrong))}`"):
        ranking([np.eye(3), np.eye(3)], **wrong)
