"""What every model's ``train`` shares."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule
from scvi import settings
from scvi.dataloaders import DataSplitter

from scmimic._compat import use_distributed_sampler
from scmimic.train import KeepingTrainRunner


class PlanTrainingMixin:
    """Build splitter, plan and runner, and run them."""

    _data_splitter_cls = DataSplitter
    _train_runner_cls = KeepingTrainRunner

    def _run_training(self, **settings: Any) -> None:
        """Train; `settings` are those of :meth:`_training_runner`."""
        runner = self._training_runner(**settings)
        runner()
        self._after_training(runner.training_plan)

    def _training_runner(
        self,
        *,
        max_epochs: int,
        accelerator: str,
        devices: int | list[int] | str,
        train_size: float | None,
        validation_size: float | None,
        shuffle_set_split: bool,
        load_sparse_tensor: bool,
        batch_size: int | None,
        early_stopping: bool,
        datasplitter_kwargs: Mapping[str, Any] | None,
        plan_kwargs: Mapping[str, Any],
        trainer_kwargs: Mapping[str, Any],
    ) -> KeepingTrainRunner:
        """Check what was asked for; nothing of the model changes before the runner is called."""
        if isinstance(max_epochs, bool) or int(max_epochs) != max_epochs or max_epochs < 1:
            raise ValueError(f"`max_epochs` must be a whole number of at least 1, not {max_epochs!r}.")
        check_plan_kwargs(self._training_plan_cls, plan_kwargs)
        trainer_kwargs = dict(trainer_kwargs)
        splitter = self._data_splitter_cls(
            self.adata_manager,
            train_size=train_size,
            validation_size=validation_size,
            batch_size=batch_size or settings.batch_size,
            shuffle_set_split=shuffle_set_split,
            distributed_sampler=use_distributed_sampler(trainer_kwargs.get("strategy")),
            load_sparse_tensor=load_sparse_tensor,
            **(datasplitter_kwargs or {}),
        )
        trainer_kwargs.setdefault("early_stopping", early_stopping)
        return self._train_runner_cls(
            self,
            training_plan=self._training_plan_cls(self.module, **plan_kwargs),
            data_splitter=splitter,
            max_epochs=int(max_epochs),
            accelerator=accelerator,
            devices=devices,
            **trainer_kwargs,
        )

    def _after_training(self, plan: LightningModule) -> None:
        """What a model does once its training has ended, by itself or by an interrupt."""


def check_plan_kwargs(plan_cls: type, plan_kwargs: Mapping[str, Any]) -> None:
    """Reject misspelt settings: scvi-tools would pass them on to the loss and ignore them."""
    known = [
        name
        for name, parameter in inspect.signature(plan_cls.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(plan_kwargs) - set(known))
    if unknown:
        raise TypeError(f"`plan_kwargs` does not know {unknown}. {plan_cls.__name__} takes {known}.")
