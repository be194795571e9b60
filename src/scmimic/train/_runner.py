"""A train runner that keeps the model when training is interrupted or diverges."""

from __future__ import annotations

import copy
import logging
import signal
import threading
from collections.abc import Mapping

import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from scvi.train import TrainRunner

logger = logging.getLogger(__name__)


class KeepFiniteWeights(Callback):
    """Stop at the first loss that is not finite, with the weights of the last epoch that was.

    The weights are copied once an epoch; the copy lives for the time of the training alone.
    """

    def __init__(self):
        self.diverged = False
        self._state: dict | None = None
        self._epoch = 0

    def on_train_start(self, trainer, plan) -> None:
        """Take the weights that training starts from."""
        self._keep(trainer, plan)

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx) -> None:
        """Look at the loss."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if self._anywhere(trainer, loss is not None and not torch.isfinite(loss)):
            self._restore(trainer, plan)

    def on_train_epoch_end(self, trainer, plan) -> None:
        """Keep the epoch's weights if they are finite."""
        if self.diverged:
            return
        if self._anywhere(trainer, not all(torch.isfinite(p).all() for p in plan.module.parameters())):
            self._restore(trainer, plan)
        else:
            self._keep(trainer, plan)

    @staticmethod
    def _anywhere(trainer, found: bool) -> bool:
        """Whether any process has found it: they stop together, or those that go on would wait for ever."""
        return trainer.strategy.reduce_boolean_decision(found, all=False)

    def _keep(self, trainer, plan) -> None:
        if self._state is None:
            self._state = copy.deepcopy(plan.module.state_dict())
        else:
            for name, value in plan.module.state_dict().items():
                self._state[name].copy_(value)
        self._epoch = trainer.current_epoch

    def _restore(self, trainer, plan) -> None:
        if not self.diverged:
            plan.module.load_state_dict(self._state)
            for optimizer in trainer.optimizers:
                # under an infinite second moment no weight would ever move again
                optimizer.state.clear()
            self.diverged = True
            trainer.should_stop = True
            logger.warning(
                "The loss of epoch %d is not finite. Training stopped; the model keeps the weights of the last finite "
                "epoch. Lower the learning rate (plan_kwargs={'lr': ...}) or check the data for extreme values.",
                trainer.current_epoch,
            )

    def on_train_end(self, trainer, plan) -> None:
        """Free the copy."""
        self._state = None

    def on_exception(self, trainer, plan, exception) -> None:
        """Free the copy after an interrupt too: the model keeps its trainer, and that its callbacks."""
        self._state = None


def n_epochs(history: Mapping[str, pd.DataFrame]) -> int:
    """Epochs that a history spans; some losses are not computed in each, and what callbacks log may go by steps."""
    return 1 + max((int(values.index.max()) for values in history.values() if values.index.name == "epoch"), default=-1)


class KeepingTrainRunner(TrainRunner):
    """Finish what was begun: after an interrupt the model is in eval mode, marked as trained, with its history."""

    def __init__(self, model, training_plan, data_splitter, max_epochs, **kwargs):
        kwargs["callbacks"] = [*(kwargs.pop("callbacks", None) or []), KeepFiniteWeights()]
        super().__init__(model, training_plan, data_splitter, max_epochs, **kwargs)

    def _update_history(self) -> None:
        """Append to the history, also the losses that an earlier run did not have, and number the epochs on."""
        history = self.model.history_
        if not (self.model.is_trained_ and isinstance(history, dict) and self.trainer.is_global_zero):
            super()._update_history()
            return
        new = getattr(self.trainer.logger, "history", None) or {}
        if not history:
            # all earlier runs were interrupted in their first epoch
            history.update(new)
            return
        epochs = n_epochs(history)
        for name, values in new.items():
            if name not in history:
                empty = pd.DataFrame({name: [float("nan")] * epochs})
                empty.index.name = values.index.name
                history[name] = empty
        # scvi-tools counts the rows
        index = {
            name: history[name].index.append(values.index + epochs)
            for name, values in new.items()
            if values.index.name == "epoch"
        }
        super()._update_history()
        for name, epoch in index.items():
            history[name].index = epoch

    def _run_training_core(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
        # Lightning trains modules in the mode in which they are, and an earlier training left them in eval mode
        self.training_plan.train()
        try:
            super()._run_training_core()
        except (KeyboardInterrupt, SystemExit):
            if not self.trainer.interrupted and self.trainer.current_epoch == 0 and self.trainer.global_step == 0:
                raise
            logger.warning(
                "Training was interrupted after %d of %d epochs; the model keeps what it has learned so far.",
                self.trainer.current_epoch,
                self.trainer.max_epochs,
            )
            self.model.train_indices = getattr(self.data_splitter, "train_idx", None)
            self.model.test_indices = getattr(self.data_splitter, "test_idx", None)
            self.model.validation_indices = getattr(self.data_splitter, "val_idx", None)
            self.model.module.eval()
            self.model.is_trained_ = True
            self.model.to_device(self.device)
            self.model.trainer = self.trainer
        finally:
            # Lightning ignores further interrupts from the first one on, and leaves it so
            if in_main_thread:
                signal.signal(signal.SIGINT, handler)
