from __future__ import annotations

import numpy as np

from scmimic.baselines import Memoriser


def test_rows_are_training_rows_of_the_label(cells):
    synthetic = Memoriser(cells, labels_key="cell_type").fit().generate(labels={"T": 40, "B": 30}, seed=0)
    known = {
        label: {row.tobytes() for row in cells[cells.obs["cell_type"] == label].X.toarray()} for label in ("T", "B")
    }
    for row, label in zip(synthetic.X.toarray(), synthetic.obs["cell_type"], strict=True):
        assert row.tobytes() in known[label]


def test_none_is_repeated_before_all_were_drawn(cells):
    synthetic = Memoriser(cells, labels_key="cell_type").fit().generate(150, "T", seed=0)
    real = cells[cells.obs["cell_type"] == "T"].X.toarray()
    np.testing.assert_array_equal(np.sort(synthetic.X.toarray().sum(1)), np.sort(real.sum(1)))
