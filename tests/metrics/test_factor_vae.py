import numpy as np
import pytest

from scmimic.metrics import factor_vae_score


def vote_by_vote(latent, factors, n, n_cells, seed):
    """The definition as it reads, with a plain loop."""
    rng = np.random.default_rng(seed)
    sd, votes = latent.std(axis=0), []
    for _ in range(n):
        k = rng.integers(factors.shape[1])
        level = rng.choice(np.unique(factors[:, k]))
        cells = rng.choice(np.flatnonzero(factors[:, k] == level), n_cells)
        votes.append((k, np.argmin((latent[cells] / sd).var(axis=0))))
    half = len(votes) // 2
    table = np.zeros((latent.shape[1], factors.shape[1]))
    for k, d in votes[:half]:
        table[d, k] += 1
    return np.mean([table[d].argmax() == k for k, d in votes[half:]])


def test_agrees_with_the_plain_loop():
    rng = np.random.default_rng(0)
    factors = rng.integers(3, size=(500, 3))
    latent = factors @ rng.normal(size=(3, 3)) + 0.7 * rng.normal(size=(500, 3))
    expected = vote_by_vote(latent, factors, 3000, 8, 1)
    assert 0.4 < expected < 0.9
    assert factor_vae_score(latent, factors, n_cells=8) == pytest.approx(expected, abs=0.04)


def test_constructed(codes, factors):
    perfect = factor_vae_score(codes["perfect"], factors, return_per_factor=True)
    assert perfect.score == 1
    assert perfect.per_factor == dict.fromkeys(factors, 1.0)
    assert factor_vae_score(codes["duplicated"], factors) == 1
    assert factor_vae_score(codes["noise"], factors) == pytest.approx(0.25, abs=0.05)


def test_the_authors_argmax_is_blind(codes, factors):
    # a perfect representation: little more than chance, which is why Table 1 of the paper stays below one half
    assert factor_vae_score(codes["perfect"], factors, vote="michigan_argmax") < 0.4


def test_collapsed_dimensions_have_no_vote(codes, factors):
    collapsed = 0.01 * np.random.default_rng(0).normal(size=(3000, 2))
    # first and in between: a vote must be counted for the dimension that got it
    latent = np.column_stack([collapsed[:, 0], codes["perfect"][:, :2], collapsed[:, 1], codes["perfect"][:, 2:]])
    same = factor_vae_score(codes["perfect"], factors, seed=3)
    assert factor_vae_score(latent, factors, seed=3) == same
    assert factor_vae_score(collapsed, factors) == 0
    assert factor_vae_score(collapsed, factors, min_std=0) == pytest.approx(0.25, abs=0.05)
    assert factor_vae_score(np.zeros((3000, 2)), factors, min_std=0) == 0


def test_where_all_dimensions_collapsed_every_score_is_zero(codes, factors):
    scores = factor_vae_score(0.01 * codes["noise"], factors, return_per_factor=True)
    assert scores.score == 0
    assert scores.per_factor == dict.fromkeys(factors, 0)


def test_a_constant_dimension_never_wins(codes, factors):
    latent = np.column_stack([np.ones(3000), codes["perfect"]])
    assert factor_vae_score(latent, factors, min_std=0) == 1


def test_chunks_and_seed(monkeypatch, codes, factors):
    first = factor_vae_score(codes["rotated"], factors, seed=1, n_train=500, n_test=500)
    assert factor_vae_score(codes["rotated"], factors, seed=1, n_train=500, n_test=500) == first
    assert factor_vae_score(codes["rotated"], factors, seed=2, n_train=500, n_test=500) != first
    monkeypatch.setattr("scmimic.metrics._factor_vae._CHUNK_VALUES", 10_000)
    assert factor_vae_score(codes["perfect"], factors) == 1


def test_bad_input(codes, factors):
    with pytest.raises(ValueError, match="`vote` must be"):
        factor_vae_score(codes["perfect"], factors, vote="argmax")
    with pytest.raises(ValueError, match="`n_cells` must be"):
        factor_vae_score(codes["perfect"], factors, n_cells=1)
