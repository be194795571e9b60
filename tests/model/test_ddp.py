"""Two processes that share the work of one training."""

import os
import subprocess
import sys
import textwrap

import numpy as np

SCRIPT = """
import os, sys
import numpy as np
import scvi
import scmimic as sm

scvi.settings.seed = 0
adata = sm.datasets.synthetic_counts(n_obs=240, n_vars=30, seed=0)
sm.BetaTCVAE.setup_anndata(adata)
model = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(16,), gene_likelihood="nb")
model.train(
    3, batch_size=32, accelerator="cpu", devices=2, strategy="ddp", enable_progress_bar=False,
    enable_model_summary=False,
)
rank = int(os.environ.get("LOCAL_RANK", 0))
np.savez(
    f"{sys.argv[1]}/rank{rank}.npz",
    latent=model.get_latent_representation(),
    steps=model.trainer.global_step,
    world=model.trainer.world_size,
    weights=np.concatenate([p.detach().numpy().ravel() for p in model.module.parameters()]),
    n_generated=model.generate(20, seed=1).n_obs,
)
"""


def test_two_processes_train_one_model(tmp_path):
    (tmp_path / "train.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, tmp_path / "train.py", tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [np.load(tmp_path / f"rank{i}.npz") for i in range(2)]
    for rank in ranks:
        assert rank["world"] == 2
        # 240 cells in batches of 32 on each of 2 processes, 3 epochs
        assert rank["steps"] == 12
        np.testing.assert_allclose(rank["weights"], ranks[0]["weights"], rtol=1e-6, atol=1e-7)
        # each process has running means of the cells that it saw itself
        np.testing.assert_allclose(rank["latent"], ranks[0]["latent"], atol=0.1)
        assert rank["n_generated"] == 20
