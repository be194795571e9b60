"""The paper's likelihood: shape of the losses that the authors' program shows."""

import numpy as np
import pytest
import scanpy as sc
import scvi

import scmimic as sm


@pytest.fixture(scope="module")
def runs():
    data = sm.datasets.synthetic_counts(n_obs=512, n_vars=200, n_labels=4, seed=0)
    data.layers["norm"] = sc.pp.normalize_total(data, target_sum=20_000, inplace=False)["X"]
    sm.ACTIVA.setup_anndata(data, layer="norm", labels_key="cell_type")
    histories = {}
    for head in ("relu_bn", "linear"):
        scvi.settings.seed = 0
        model = sm.ACTIVA(data, gene_likelihood="normal", n_hidden=(128, 64), encoder_head=head)
        model.train(max_epochs=40, warmup_epochs=20, batch_size=64, enable_progress_bar=False)
        histories[head] = {k: v.to_numpy(dtype=float).ravel() for k, v in model.history.items()}
    return histories


def test_reconstruction_dominates_and_falls(runs):
    """At 20,000 per cell and without a logarithm, the squared error exceeds the KL by orders of magnitude."""
    for history in runs.values():
        rec, kl = history["reconstruction_loss_train"], history["kl_local_train"]
        assert rec[-1] < rec[0]
        assert rec[-1] > 100 * kl[-1]


def test_normalised_heads_hold_the_kl(runs):
    """Batch norm on the heads pins the batch KL of 128 dimensions near 105 nats; linear heads leave it free."""
    pinned = runs["relu_bn"]["kl_local_train"][10:]
    assert 85 < pinned.mean() < 150
    assert np.ptp(pinned) < 0.35 * pinned.mean()
    assert np.ptp(runs["linear"]["kl_local_train"]) > np.ptp(pinned)


def test_fakes_are_driven_up_towards_m(runs):
    """The encoder pushes the KL of synthetic cells from below towards m = 110."""
    for history in runs.values():
        generated = history["kl_generated_train"]
        assert history["m_train"][-1] == 110
        assert generated[0] < 110
        assert abs(generated[-5:].mean() - 110) < abs(generated[0] - 110)
