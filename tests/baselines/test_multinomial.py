from __future__ import annotations

import numpy as np

from scmimic.baselines import Multinomial


def test_profile_is_the_share_of_each_gene(cells):
    generator = Multinomial(cells, labels_key="cell_type").fit()
    for code, label in enumerate(generator.categories):
        totals = cells[cells.obs["cell_type"] == label].X.toarray().sum(0)
        np.testing.assert_allclose(generator.profile_[code], totals / totals.sum())


def test_total_counts_are_observed_ones(cells):
    synthetic = Multinomial(cells, labels_key="cell_type").fit().generate(200, "B", seed=0)
    real = cells[cells.obs["cell_type"] == "B"].X.toarray().sum(1)
    assert set(synthetic.X.toarray().sum(1)) <= set(real)


def test_noise_is_that_of_a_multinomial(cells):
    generator = Multinomial(cells, labels_key="cell_type").fit()
    fake = generator.generate(5000, "T", seed=0).X.toarray()
    expected = fake.sum(1, keepdims=True) * generator.profile_[generator.categories.index("T")]
    variance = (expected * (1 - expected / fake.sum(1, keepdims=True))).sum(0)
    np.testing.assert_allclose(((fake - expected) ** 2).sum(0) / variance, 1, atol=0.12)
