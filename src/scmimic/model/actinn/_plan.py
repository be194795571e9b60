"""ACTINN's training plan: Adam, weight decay, exponential decay of the learning rate by iterations."""

from __future__ import annotations

from scmimic.model.actinn._module import ACTINNModule
from scmimic.model.base._plan import SharedTrainingPlan, adam, step_decay


class ClassifierTrainingPlan(SharedTrainingPlan):
    """Cross entropy with the published optimiser.

    Parameters
    ----------
    module
        The classifier.
    lr
        Learning rate of Adam.
    weight_decay
        L2 penalty of Adam.
    lr_decay
        Factor of the learning rate every `lr_decay_steps` iterations.
    lr_decay_steps
        See `lr_decay`. None keeps the learning rate constant.
    """

    def __init__(
        self,
        module: ACTINNModule,
        *,
        lr: float = 1e-4,
        weight_decay: float = 0.005,
        lr_decay: float = 0.95,
        lr_decay_steps: int | None = 1000,
    ):
        super().__init__(module, lr=lr, weight_decay=weight_decay, eps=1e-8)
        self.lr_decay = lr_decay
        self.lr_decay_steps = lr_decay_steps

    def configure_optimizers(self) -> dict:
        """Adam and its step-wise schedule."""
        optimizer = adam(self.module.parameters(), lr=self.lr, weight_decay=self.weight_decay, eps=self.eps)
        schedule = step_decay(optimizer, factor=self.lr_decay, every=self.lr_decay_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
