from __future__ import annotations

import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from learning import SEED

from scmimic.baselines import ScDesigner

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def two_types() -> ad.AnnData:
    """Two types with means of their own; in the first, two genes share a hidden factor."""
    rng = np.random.default_rng(0)
    mean = np.full((600, 8), 10.0)
    mean[:300, :4], mean[300:, 4:] = 20.0, 40.0
    mean[:300, :2] *= rng.gamma(2, 0.5, (300, 1))
    obs = pd.DataFrame({"k": ["low"] * 300 + ["high"] * 300}, index=[f"c{i}" for i in range(600)])
    return ad.AnnData(sp.csr_matrix(rng.poisson(mean).astype(np.float32)), obs=obs)


@pytest.fixture(scope="module")
def generator(two_types):
    pytest.importorskip("scdesigner")
    return ScDesigner(two_types, labels_key="k").fit(seed=SEED + 1)


def test_means_and_correlations_are_those_of_the_type(generator, two_types, learned):
    synthetic = generator.generate(labels={"high": 400, "low": 300}, seed=0)
    x = synthetic.X.toarray()
    np.testing.assert_array_equal(x, np.rint(x))
    assert synthetic.obs["k"].value_counts().to_dict() == {"high": 400, "low": 300}
    for label, part in (("high", x[:400]), ("low", x[400:])):
        real = two_types[two_types.obs["k"] == label].X.toarray()
        learned(f"largest relative error of a mean, {label}", np.abs(part.mean(0) / real.mean(0) - 1).max(), below=0.2)
    one, none = (np.corrcoef(part[:, :2].T)[0, 1] for part in (x[400:], x[:400]))
    learned("correlation where there is one", one, above=0.4)
    learned("correlation where there is none, less", none - one, below=-0.4, off=0)


def test_same_seed_same_cells_and_global_state_is_left_alone(generator):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    a, b, c = (generator.generate(20, seed=s).X.toarray() for s in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()
    torch.testing.assert_close(torch.rand(3), expected)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_without_labels(two_types):
    pytest.importorskip("scdesigner")
    synthetic = ScDesigner(two_types, labels_key=None, max_epochs=2).fit().generate(30, seed=0)
    assert synthetic.shape == (30, 8)
    assert list(synthetic.var_names) == list(two_types.var_names)


def test_missing_library_is_named(two_types, monkeypatch):
    monkeypatch.setitem(sys.modules, "scdesigner.simulators", None)
    with pytest.raises(ImportError, match="ScDesigner needs scdesigner"):
        ScDesigner(two_types, labels_key="k").fit()


def test_bad_input(two_types):
    empty = two_types.copy()
    empty.X[0] = 0
    with pytest.raises(ValueError, match="1 cells of `adata.X` have no counts"):
        ScDesigner(empty, labels_key="k")
    with pytest.raises(ValueError, match="max_epochs"):
        ScDesigner(two_types, labels_key="k", max_epochs=0)
