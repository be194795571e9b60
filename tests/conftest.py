import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # workers that have as many threads as there are cores wait for each other
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import learning
import matplotlib
import pytest
import scvi

import scmimic as sm

matplotlib.use("Agg")
if learning.OFF:
    learning.stop_optimisers()


def pytest_collection_modifyitems(config, items):
    if learning.RECORD is not None:
        others = [item for item in items if "learned" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]


@pytest.fixture(autouse=True)
def seed():
    # scvi-tools lengthens this variable by a flag with each seed, until no process can be started with it
    os.environ.pop("XLA_FLAGS", None)
    scvi.settings.seed = learning.SEED


@pytest.fixture
def caplog(caplog):
    """pytest's own, of these packages alone: others speak whenever Python collects what an earlier test left."""
    with caplog.filtering(lambda record: record.name.partition(".")[0] in {"scmimic", "scvi", "lightning"}):
        yield caplog


@pytest.fixture
def learned(request):
    """Assert what a training has learned; see `learning`."""
    return learning.Learned(request.node.nodeid)


@pytest.fixture
def adata():
    """300 cells of 60 genes, three types, two batches, raw counts."""
    return sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)


@pytest.fixture(scope="session")
def trained():
    """A small trained ACTIVA on counts, with types and batches; tests must not change it."""
    scvi.settings.seed = learning.SEED
    data = sm.datasets.synthetic_counts(n_obs=300, n_vars=60, n_labels=3, n_batches=2, seed=0)
    sm.ACTIVA.setup_anndata(data, labels_key="cell_type", batch_key="batch")
    model = sm.ACTIVA(data, n_latent=8, n_hidden=(32, 16))
    model.train(max_epochs=80, warmup_epochs=60, enable_progress_bar=False)
    return model
