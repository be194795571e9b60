"""Experiments whose parts the workers of a Dask cluster take: the tables of one process."""

import os
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scmimic as sm
from scmimic.tl import _workers

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """Of a cluster of two processes, which come again where they are killed."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**settings) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def adata():
    return sm.datasets.synthetic_counts(n_obs=300, n_vars=40, n_batches=2)


def same(ours, theirs):
    pd.testing.assert_frame_equal(ours.drop(columns="seconds"), theirs.drop(columns="seconds"))


def test_results_come_in_the_order_of_the_parts(client):
    def work(shared, wait, name):
        import time

        time.sleep(wait)
        return shared + name

    given = [("a", [(0.3, "1"), (0, "2")]), ("b", [(0, "3")])]
    for where in (None, client):
        assert list(_workers.results(work, given, where)) == ["a1", "a2", "b3"]


def test_a_killed_worker_loses_nothing(client, tmp_path):
    def work(folder, number):
        mark = Path(folder) / f"{number}"
        if number == 1 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    assert list(_workers.results(work, [(str(tmp_path), [(i,) for i in range(4)])], client)) == [0, 1, 2, 3]
    assert (tmp_path / "1").exists()


def test_trials_of_a_rare_type(client, adata):
    class Few:
        """Makes copies; with five cells it refuses."""

        def __init__(self, train):
            self.x = train[train.obs["cell_type"] == "type_1"].copy()
            if self.x.n_obs < 7:
                raise ValueError("too few")

        def generate(self, n, label, seed):
            return self.x[np.random.default_rng(seed).integers(self.x.n_obs, size=n)].copy()

    asked = {
        "labels_key": "cell_type",
        "label": "type_1",
        "fractions": [0.2, 0.1],
        "seeds": [0, 1],
        "generators": {"few": lambda train, labels_key, layer, seed: Few(train)},
        "methods": ["class weights", "few"],
        "n_synthetic": 30,
        "n_trees": 20,
    }
    here = sm.tl.rare_augmentation(adata, **asked)
    there = sm.tl.rare_augmentation(adata, **asked, client=client)
    same(here, there)
    assert set(here["error"]) == {"", "ValueError: too few"}
    pd.testing.assert_frame_equal(adata.uns["rare_augmentation"]["results"], there)


def test_classifiers_of_a_rare_type(client, adata):
    asked = {"labels_key": "cell_type", "label": "type_1", "fractions": [0.2], "seeds": [0, 1]}
    asked |= {"methods": ["logistic regression", "ACTINN"], "train_kwargs": {"max_epochs": 2}}
    same(sm.tl.rare_classification(adata, **asked), sm.tl.rare_classification(adata, **asked, client=client))


def test_held_out_combinations(client, adata):
    def fit(train, seed):
        import scvi

        scvi.settings.seed = seed
        sm.ACTIVA.setup_anndata(train, labels_key="cell_type")
        model = sm.ACTIVA(train, n_latent=4, n_hidden=(16,))
        model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
        return model

    asked = {"group_key": "cell_type", "condition_key": "batch", "fit": fit, "n_trees": 20, "seeds": [0, 1]}
    asked["targets"] = [("type_0", "batch_1"), ("type_1", "batch_1")]
    here = sm.tl.holdout_arithmetic(adata, **asked)
    there = sm.tl.holdout_arithmetic(adata, **asked, client=client)
    same(here, there)
    assert len(there) == 2 * 2 * 6


def test_a_mistake_of_a_fit_comes_back_and_the_rest_is_left(client, adata):
    def fit(train, seed):
        raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        sm.tl.holdout_arithmetic(adata, group_key="cell_type", condition_key="batch", fit=fit, client=client)


@pytest.mark.parametrize("client", ["tcp://10.0.0.1:8786", object(), distributed.Client])
def test_what_is_no_client_is_named(adata, client):
    with pytest.raises(TypeError, match="`client` must be a client of a Dask cluster"):
        sm.tl.rare_classification(adata, labels_key="cell_type", label="type_1", client=client)
