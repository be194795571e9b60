"""What training plans share: means over the processes of one training (strategy "ddp"), Adam, schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from scvi.module.base import LossOutput
from scvi.train import TrainingPlan


class SharedTrainingPlan(TrainingPlan):
    """A plan whose numbers are means over all processes.

    Lightning averages the gradients of plans with one optimiser. Plans that step by themselves call :meth:`descend`
    and :meth:`average_gradients`, since it expects every parameter in every backward pass.
    """

    def compute_and_log_metrics(self, loss_output: LossOutput, metrics: dict, mode: str) -> None:
        """Log the ELBO's parts and the further terms."""
        super().compute_and_log_metrics(replace(loss_output, extra_metrics={}), metrics, mode)
        # scvi-tools logs in inference mode, whose tensors Lightning cannot average over processes in place
        for name, value in loss_output.extra_metrics.items():
            self.log(
                f"{name}_{mode}",
                value,
                on_step=False,
                on_epoch=True,
                batch_size=loss_output.n_obs_minibatch,
                sync_dist=self.use_sync_dist,
            )

    def descend(self, loss: torch.Tensor) -> None:
        """Write the gradients of this process's own cells."""
        if self.trainer.world_size == 1:
            self.manual_backward(loss)
        else:
            loss.backward()

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes; all of them must call this together."""
        if self.trainer.world_size == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        mean = self.trainer.strategy.reduce(torch.cat([g.flatten() for g in gradients]), reduce_op="mean")
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def on_train_end(self) -> None:
        """Average the running statistics too: each process has those of the cells that it saw itself."""
        if self.trainer.world_size > 1:
            for buffer in self.module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(self.trainer.strategy.reduce(buffer.clone(), reduce_op="mean"))


def adam(parameters: Iterable, **settings) -> torch.optim.Adam:
    """Adam, in one fused pass over memory where the device has it.

    At the papers' widths and all genes the update is bound by memory, and an unfused one costs as much as a matrix
    product of the step.
    """
    groups = list(parameters)
    first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
    return torch.optim.Adam(groups, fused=first.device.type in ("cpu", "cuda"), **settings)


def cosine_tail(epoch: float, n_epochs: int, *, final_factor: float, fraction: float) -> float:
    """Factor of a learning rate: 1, then along a cosine to `final_factor` over the last `fraction` of the run."""
    start = (1 - fraction) * n_epochs
    if final_factor >= 1 or epoch <= start:
        return 1.0
    progress = min((epoch - start) / max(n_epochs - start, 1e-9), 1.0)
    return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(progress * math.pi))


def step_decay(
    optimizer: torch.optim.Optimizer, *, factor: float, every: int | None
) -> torch.optim.lr_scheduler.StepLR:
    """Multiply the learning rate by `factor` every so many steps; None keeps it constant."""
    return torch.optim.lr_scheduler.StepLR(optimizer, every or 1, 1.0 if every is None else factor)


def linear_warmup(progress: float, length: float) -> float:
    """Weight that rises from 0 to 1 while `progress` goes from 0 to `length`; 1 without a length."""
    return 1.0 if length <= 0 else min(progress / length, 1.0)
