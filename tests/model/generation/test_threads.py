"""Blocks of cells by several threads: in their order, whatever their number, and nothing is left running."""

import threading
import time

import numpy as np
import pytest
import torch
from small_models import fit

from scmimic.model.generation._threads import in_threads


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_come_in_order(n_threads, threads):
    threads(n_threads)

    def slow_first(item):
        time.sleep(0.02 * (item % 3 == 0))
        return item, torch.is_inference_mode_enabled(), torch.get_num_threads()

    found = list(in_threads(slow_first, range(20), n_threads))
    assert found == [(item, True, 1) for item in range(20)]
    assert torch.get_num_threads() == n_threads


def test_threads_that_begin_later_are_as_before(threads):
    threads(3)
    list(in_threads(abs, range(4), 2))
    found = []
    late = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    late.start()
    late.join()
    assert found == [3]


def test_no_more_is_made_than_is_taken():
    made = []
    results = in_threads(made.append, range(1000), 2)
    next(results)
    results.close()
    assert len(made) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cells")]


def test_an_error_comes_through():
    def fail(item):
        if item == 5:
            raise ValueError("item 5")
        return item

    results = in_threads(fail, range(100), 2)
    with pytest.raises(ValueError, match="item 5"):
        list(results)


@pytest.mark.parametrize("name", ["ACTIVA", "BetaTCVAE", "WGANGP"])
def test_cells_do_not_depend_on_their_number(name, threads):
    model = fit(name)
    made = []
    for number in (1, 3):
        threads(number)
        made.append(model.generate(700, seed=0))
    assert (made[0].X != made[1].X).nnz == 0
    np.testing.assert_array_equal(made[0].obs["cell_type"], made[1].obs["cell_type"])
