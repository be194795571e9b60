"""The paper's likelihood: shape of the losses that the authors' program shows."""

import numpy as np
import pytest
import scanpy as sc
import scvi
from learning import SEED

import scmimic as sm


@pytest.fixture(scope="module")
def runs():
    data = sm.datasets.synthetic_counts(n_obs=512, n_vars=200, n_labels=4, seed=0)
    data.layers["norm"] = sc.pp.normalize_total(data, target_sum=20_000, inplace=False)["X"]
    sm.ACTIVA.setup_anndata(data, layer="norm", labels_key="cell_type")
    histories = {}
    for head in ("relu_bn", "linear"):
        scvi.settings.seed = SEED
        model = sm.ACTIVA(data, gene_likelihood="normal", n_hidden=(128, 64), encoder_head=head)
        model.train(max_epochs=60, warmup_epochs=20, batch_size=64, enable_progress_bar=False)
        histories[head] = {k: v.to_numpy(dtype=float).ravel() for k, v in model.history.items()}
    return histories


def test_reconstruction_dominates_and_falls(runs, learned):
    """At 20,000 per cell and without a logarithm, the squared error exceeds the KL by orders of magnitude."""
    for head, history in runs.items():
        rec, kl = history["reconstruction_loss_train"], history["kl_local_train"]
        learned(f"last reconstruction loss over the first, {head}", rec[-1] / rec[0], below=1, off=1)
        learned(f"reconstruction loss over the KL, {head}", rec[-1] / kl[-1], above=100, off=1)


def test_normalised_heads_hold_the_kl(runs, learned):
    """Batch norm on the heads pins the batch KL of 128 dimensions near 105 nats; linear heads leave it free."""
    pinned = runs["relu_bn"]["kl_local_train"][10:]
    free = runs["linear"]["kl_local_train"]
    learned("KL", pinned.mean(), above=85, below=150)
    learned("range of the KL over its mean", np.ptp(pinned) / pinned.mean(), below=0.35)
    learned("range of the KL, pinned over free", np.ptp(pinned) / np.ptp(free), below=1, off=1)


def test_fakes_are_driven_up_towards_m(runs, learned):
    """The encoder pushes the KL of synthetic cells towards m = 110; the linear head's from far below."""
    for head, limit in {"relu_bn": 35, "linear": 50}.items():
        generated = runs[head]["kl_generated_train"]
        assert runs[head]["m_train"][-1] == 110
        learned(f"distance of the fakes' KL to m at last, {head}", abs(generated[-5:].mean() - 110), below=limit)
    learned("the fakes' KL at first, linear", runs["linear"]["kl_generated_train"][0], below=100)
