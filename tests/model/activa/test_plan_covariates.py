"""The weights by which the generator reads covariates decay, and no others."""

import scvi
import torch

import scmimic as sm


def trained(decay, lr=1e-12):
    """A model of two batches whose learning rate moves nothing."""
    scvi.settings.seed = 0
    adata = sm.datasets.synthetic_counts(n_obs=128, n_vars=20, n_batches=2, seed=0)
    adata.obs["dose"] = torch.arange(128).numpy() % 3
    keys = {"batch_key": "batch", "continuous_covariate_keys": ["dose"]}
    sm.ACTIVA.setup_anndata(adata, labels_key="cell_type", **keys)
    model = sm.ACTIVA(adata, n_latent=3, n_hidden=(8,))
    before = {name: value.clone() for name, value in model.module.named_parameters()}
    plan = {"lr": lr, "covariate_decay": decay, "lr_final_factor": 1.0, "lr_classifier": lr}
    model.train(3, warmup_epochs=2, batch_size=64, plan_kwargs=plan, enable_progress_bar=False,
                calibrate_margins=False, calibrate_dispersion=False)  # fmt: skip
    return before, dict(model.module.named_parameters())


def test_they_shrink_by_the_learning_rate_times_the_decay():
    name = "decoder.stack.layers.0.weight"
    before, after = trained(decay=0.1e12)
    # code, batch one-hot and dose, library size: three epochs of two steps, each less by a tenth
    expected = before[name].clone()
    expected[:, 3:6] *= 0.9**6
    torch.testing.assert_close(after[name], expected, rtol=1e-4, atol=1e-6)
    before, after = trained(decay=0.0)
    torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-6)
