"""Draws without repeats before their turn, and seeds that leave nothing changed."""

import numpy as np
import scvi
import torch

from scmimic._random import as_seed, draw_members, seeded


def test_members_are_drawn_evenly():
    drawn = draw_members(np.arange(10, 17), 17, np.random.default_rng(0))
    values, times = np.unique(drawn, return_counts=True)
    assert list(values) == list(range(10, 17))
    assert set(times) == {2, 3}


def test_a_seed_holds_within_the_block_alone():
    def draws():
        return torch.rand(3).tolist(), scvi.settings.seed

    before = scvi.settings.seed
    torch.manual_seed(1)
    expected = draws()
    torch.manual_seed(1)
    with seeded(7):
        inside = draws()
    assert draws() == expected
    with seeded(7):
        assert draws() == inside
    assert inside[1] == 7
    assert inside[0] != expected[0]
    assert scvi.settings.seed == before


def test_a_seed_that_is_left_out_is_torchs():
    assert as_seed(5) == 5
    torch.manual_seed(3)
    first = as_seed(None)
    assert first != as_seed(None)
    torch.manual_seed(3)
    assert as_seed(None) == first
