"""The weights by which the generator reads covariates decay, and no others."""

import scvi
import torch

import scmimic as sm


def trained(of_batch, of_covariates, lr=1e-12):
    """Weights before and after a training of two batches and a dose, whose learning rate moves nothing."""
    scvi.settings.seed = 0
    adata = sm.datasets.synthetic_counts(n_obs=128, n_vars=20, n_batches=2, seed=0)
    adata.obs["dose"] = torch.arange(128).numpy() % 3
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", batch_key="batch", continuous_covariate_keys=["dose"])
    model = sm.ACTIVA(adata, n_latent=3, n_hidden=(8,))
    weight = model.module.decoder.stack.layers[0].weight
    before = weight.detach().clone()
    plan = {"batch_decay": of_batch / lr, "covariate_decay": of_covariates / lr, "lr": lr, "lr_final_factor": 1.0}
    model.train(3, warmup_epochs=2, batch_size=64, plan_kwargs=plan, calibrate_margins=False, enable_progress_bar=False)
    return before, weight.detach()


def test_they_shrink_by_the_learning_rate_times_the_decay():
    # three epochs of two steps; the columns are code, batches, dose and library size
    before, after = trained(0.1, 0.2)
    expected = before.clone()
    expected[:, 3:5] *= 0.9**6
    expected[:, 5] *= 0.8**6
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)
    before, after = trained(0.0, 0.0)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-6)
