from __future__ import annotations

import numpy as np

from scmimic.baselines import Bootstrap, Memoriser


def test_rows_are_training_rows_of_the_label(cells):
    synthetic = Bootstrap(cells, labels_key="cell_type").fit().generate(labels={"T": 40, "B": 30}, seed=0)
    known = {
        label: {row.tobytes() for row in cells[cells.obs["cell_type"] == label].X.toarray()} for label in ("T", "B")
    }
    for row, label in zip(synthetic.X.toarray(), synthetic.obs["cell_type"], strict=True):
        assert row.tobytes() in known[label]


def test_drawn_with_replacement(cells):
    n = 150
    distinct = []
    for seed in range(40):
        x = Bootstrap(cells, labels_key="cell_type").fit().generate(n, "T", seed=seed).X.toarray()
        distinct.append(len(np.unique(x, axis=0)))
    # of n cells, 1 - (1 - 1/n)^n are drawn at least once; the standard deviation of their number is about 4.5
    expected = n * (1 - (1 - 1 / n) ** n)
    assert abs(np.mean(distinct) - expected) < 3 * 4.5 / np.sqrt(40)
    memorised = Memoriser(cells, labels_key="cell_type").fit().generate(n, "T", seed=0).X.toarray()
    assert len(np.unique(memorised, axis=0)) == n


def test_same_seed_same_cells(cells):
    generator = Bootstrap(cells, labels_key=None).fit()
    a, b, c = (generator.generate(60, seed=seed).X.toarray() for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
