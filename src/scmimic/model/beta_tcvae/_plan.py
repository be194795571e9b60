"""The training plan of VAE, beta-VAE and beta-TCVAE."""

from __future__ import annotations

import torch

from scmimic.model.base._plan import SharedTrainingPlan, adam, cosine_tail, linear_warmup
from scmimic.model.beta_tcvae._module import BetaTCVAEModule
from scmimic.model.beta_tcvae._total_correlation import PosteriorMemory
from scmimic.nn import recycle_gradients


class BetaTCVAETrainingPlan(SharedTrainingPlan):
    """Adam, a warm-up of beta, and a memory of the posteriors of recent steps.

    Parameters
    ----------
    module
        The networks.
    memory_size
        Posteriors of how many recently seen cells stand beside the batch in the estimate of the total correlation; no
        more than half of the training cells. 0: the batch alone, as the paper.
    n_epochs_beta_warmup
        Epochs over which beta rises from zero. 0: none, as the paper.
    n_epochs_kl_warmup
        Epochs over which the KL's weight rises from zero. 0: none, as the paper.
    lr
        Learning rate.
    lr_dispersion_factor
        How many times faster the noise or dispersion of the genes learns. It is one number per gene and gets a small
        gradient.
    lr_final_factor
        The learning rate falls to this fraction along a cosine over the last `lr_decay_fraction` of the run; 1 keeps it
        constant, as the paper.
    lr_decay_fraction
        See `lr_final_factor`.
    betas, eps, weight_decay
        Adam's.
    """

    def __init__(
        self,
        module: BetaTCVAEModule,
        *,
        memory_size: int = 1024,
        n_epochs_beta_warmup: float = 0,
        n_epochs_kl_warmup: int = 0,
        lr: float = 1e-3,
        lr_dispersion_factor: float = 10.0,
        lr_final_factor: float = 0.02,
        lr_decay_fraction: float = 0.5,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            module,
            lr=lr,
            eps=eps,
            weight_decay=weight_decay,
            n_epochs_kl_warmup=n_epochs_kl_warmup or None,
            max_kl_weight=module.kl_weight,
        )
        self.memory_size = memory_size
        self.n_epochs_beta_warmup = n_epochs_beta_warmup
        self.lr_dispersion_factor = lr_dispersion_factor
        self.lr_final_factor = lr_final_factor
        self.lr_decay_fraction = lr_decay_fraction
        self.betas = betas
        self._memory: PosteriorMemory | None = None

    @property
    def beta_weight(self) -> float:
        """Share of beta at this step."""
        done = self.current_epoch + self.trainer.fit_loop.batch_idx / max(self.trainer.num_training_batches, 1)
        return linear_warmup(done, self.n_epochs_beta_warmup)

    def configure_optimizers(self) -> dict:
        """Adam for the networks and, faster, for the noise of the genes."""
        groups = [
            {"params": [*self.module.encoder.parameters(), *self.module.generator_parameters()], "lr": self.lr},
            {"params": self.module.dispersion_parameters(), "lr": self.lr * self.lr_dispersion_factor},
        ]
        optimizer = adam(
            [group for group in groups if group["params"]],
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor),
        }

    def _lr_factor(self, epoch: int) -> float:
        total = max(self.trainer.max_epochs or 1, 1)
        return cosine_tail(epoch, total, final_factor=self.lr_final_factor, fraction=self.lr_decay_fraction)

    def optimizer_zero_grad(self, epoch, batch_idx, optimizer) -> None:
        """Clear the gradients; the wide layers keep their memory."""
        recycle_gradients(self.module)

    def on_train_start(self) -> None:
        """Start with an empty memory."""
        # more would hold cells twice, once with an old posterior
        self._memory = PosteriorMemory(min(self.memory_size, (self.n_obs_training or 0) // 2))

    def forward(self, *args, **kwargs):
        """One pass; a training batch enters the memory."""
        outputs = super().forward(*args, **kwargs)
        if self.training and self._memory is not None:
            self._memory.push(outputs[0]["qz_mean"], outputs[0]["qz_log_var"])
        return outputs

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """The module's loss with this step's beta and memory."""
        memory = None if self._memory is None else self._memory.read()
        self.loss_kwargs.update(beta_weight=self.beta_weight, memory=memory)
        return super().training_step(batch, batch_idx)
