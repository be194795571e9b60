"""The memory and the settings of BetaTCVAE's plan."""

from types import SimpleNamespace

import torch

from scmimic.module import BetaTCVAEModule, PosteriorMemory
from scmimic.train import BetaTCVAETrainingPlan


def plan(**kwargs):
    module = BetaTCVAEModule(4, n_latent=3, n_hidden=(4,), n_comps=None, gene_likelihood="nb")
    return BetaTCVAETrainingPlan(module, **kwargs)


def test_training_batches_enter_the_memory():
    made = plan()
    made._memory = PosteriorMemory(8)
    torch.manual_seed(0)
    tensors = {"X": torch.poisson(torch.rand(5, 4) * 5), "batch": torch.zeros(5, 1)}
    made.eval()
    made(tensors)
    assert made._memory.read() is None
    made.train()
    inference, _, _ = made(tensors)
    mean, log_var = made._memory.read()
    torch.testing.assert_close(mean, inference["qz_mean"].detach())
    torch.testing.assert_close(log_var, inference["qz_log_var"].detach())
    made(tensors)
    assert len(made._memory) == 8


def test_optimiser_gets_its_settings():
    made = plan(lr=0.1, betas=(0.3, 0.4), eps=0.5, weight_decay=0.6, lr_dispersion_factor=3.0)
    made.trainer = SimpleNamespace(max_epochs=1)
    groups = made.configure_optimizers()["optimizer"].param_groups
    assert [(g["betas"], g["eps"], g["weight_decay"]) for g in groups] == [((0.3, 0.4), 0.5, 0.6)] * 2
    torch.testing.assert_close(torch.tensor([g["lr"] for g in groups]), torch.tensor([0.1, 0.3]))
