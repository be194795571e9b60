"""scvi-tools' search for hyperparameters, where Ray is installed (extra ``autotune``)."""

import numpy as np
import pytest

import scmimic as sm

ray = pytest.importorskip("ray")
pytest.importorskip("scib_metrics")

# of `model_params` and `train_params`, and the losses on validation cells that are compared
TRIED = {
    "ACTIVA": ({"n_hidden": (16,)}, {"warmup_epochs": 1}, "elbo_validation"),
    "BetaTCVAE": ({"n_hidden": (16,)}, {}, "elbo_validation"),
    "WGANGP": ({"n_hidden_generator": (8,), "n_hidden_critic": (8,)}, {}, "wasserstein_validation"),
}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.parametrize("name", TRIED)
def test_trials_differ_in_what_is_searched(adata, tmp_path, name):
    from ray import tune
    from scvi import autotune

    model, train, metric = TRIED[name]
    cls = getattr(sm, name)
    cls.setup_anndata(adata, labels_key="cell_type")
    experiment = autotune.run_autotune(
        cls,
        adata,
        metrics=metric,
        mode="min",
        search_space={
            "model_params": {"n_latent": tune.grid_search([3, 5]), **model},
            "train_params": {"max_epochs": 2, "train_size": 0.8, **train},
        },
        num_samples=1,
        scheduler="fifo",
        searcher="random",
        seed=1,
        resources={"cpu": 1},
        logging_dir=str(tmp_path),
        ignore_reinit_error=True,
    )
    results = experiment.result_grid
    assert results.num_errors == 0
    assert [result.config["model_params"]["n_latent"] for result in results] == [3, 5]
    found = [result.metrics[metric] for result in results]
    assert np.isfinite(found).all() and found[0] != found[1]
