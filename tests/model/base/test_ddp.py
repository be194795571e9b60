"""Two processes that share the work of one training."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

SCRIPT = """
import os, signal, sys
import numpy as np
import scvi
import scmimic as sm
from lightning.pytorch.callbacks import Callback

scvi.settings.seed = 0
adata = sm.datasets.synthetic_counts(n_obs=240, n_vars=30, seed=0)
# in the batches of one process all cells may be unlabelled
adata.obs["some"] = adata.obs["cell_type"].astype(str).where(np.arange(240) % 2 == 0, "Unknown")
settings = {
    "BetaTCVAE": ({}, {"n_latent": 3, "n_hidden": (16,), "gene_likelihood": "nb"}, {}),
    "ACTINN": ({"labels_key": "some"}, {}, {}),
    "ACTIVA": ({"labels_key": "some"}, {"n_latent": 3, "n_hidden": (16,)}, {"warmup_epochs": 1}),
}
for name, (setup, init, train) in settings.items():
    cls = getattr(sm, name)
    cls.setup_anndata(adata, **setup)
    model = cls(adata, **init)
    weights = lambda: np.concatenate([p.detach().numpy().ravel() for p in model.module.parameters()])
    start = weights()
    model.train(
        3, batch_size=32, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False,
        enable_model_summary=False, **train,
    )
    rank = int(os.environ.get("LOCAL_RANK", 0))
    np.savez(
        f"{sys.argv[1]}/{name}{rank}.npz",
        seen=model.predict(soft=True) if name == "ACTINN" else model.get_latent_representation(),
        steps=model.trainer.global_step,
        world=model.trainer.world_size,
        start=start,
        weights=weights(),
        n_generated=20 if name == "ACTINN" else model.generate(20, seed=1).n_obs,
    )


class Signal(Callback):
    def __init__(self, number, to):
        self.number, self.to = number, to

    def on_train_batch_start(self, trainer, plan, batch, batch_idx):
        if trainer.current_epoch == 2 and batch_idx == 1 and rank == self.to:
            os.kill(os.getpid(), self.number)


signal.signal(signal.SIGINT, signal.default_int_handler)
sm.BetaTCVAE.setup_anndata(adata)
model = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(16,), gene_likelihood="nb")
for name, number, to in (("Ctrl-C", signal.SIGINT, 1), ("SIGTERM", signal.SIGTERM, 0)):
    try:
        model.train(
            100_000, batch_size=32, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False,
            enable_model_summary=False, callbacks=[Signal(number, to)],
        )
    finally:
        np.savez(
            f"{sys.argv[1]}/{name}{rank}.npz",
            epochs=model.trainer.current_epoch,
            interrupted=model.was_interrupted_,
            weights=np.concatenate([p.detach().numpy().ravel() for p in model.module.parameters()]),
            n_generated=model.generate(20, seed=1).n_obs,
        )
"""
# 240 cells in batches of 32 on each of 2 processes, 3 epochs; ACTIVA has three optimisers
STEPS = {"BetaTCVAE": 12, "ACTINN": 12, "ACTIVA": 36}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, folder / "train.py", folder],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 143, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("name", STEPS)
def test_two_processes_train_one_model(folder, name):
    ranks = [np.load(folder / f"{name}{i}.npz") for i in range(2)]
    for rank in ranks:
        assert rank["world"] == 2
        assert rank["steps"] == STEPS[name]
        assert np.abs(rank["weights"] - rank["start"]).max() > 1e-3
        np.testing.assert_allclose(rank["weights"], ranks[0]["weights"], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(rank["seen"], ranks[0]["seen"], rtol=1e-4, atol=1e-5)
        assert rank["n_generated"] == 20


@pytest.mark.parametrize("name", ["Ctrl-C", "SIGTERM"])
def test_a_signal_to_one_process_ends_the_training_of_both_in_order(folder, name):
    """The fixture sees that SIGTERM ends the first process with its status, after its finally-block."""
    ranks = [np.load(folder / f"{name}{i}.npz") for i in range(2)]
    for rank in ranks:
        assert rank["epochs"] == 2
        assert rank["interrupted"]
        np.testing.assert_allclose(rank["weights"], ranks[0]["weights"], rtol=1e-6, atol=1e-7)
        assert rank["n_generated"] == 20
