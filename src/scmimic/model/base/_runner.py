"""A train runner that keeps the model when training is interrupted or diverges."""

from __future__ import annotations

import copy
import logging
import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import FrameType
from typing import Any

import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from scmimic import _interrupts
from scmimic._interrupts import CtrlC, Raise, Terminated, held_signals, in_main_thread, plain_interrupts

logger = logging.getLogger(__name__)

DIVERGENCE_ADVICE = (
    "Lower the learning rate (plan_kwargs={'lr': ...}), or check the data for NaN, infinite and extreme values."
)


class ModelCallback(Callback):
    """A callback that is told which model is trained."""

    model: BaseModelClass | None = None
    """The model, from the making of its runner on."""

    def attach(self, model: BaseModelClass) -> None:
        """Take the model that is about to be trained."""
        self.model = model


class KeepFiniteWeights(Callback):
    """Stop at the first loss that is not finite, with the weights of the last epoch that was.

    The weights are copied once an epoch; the copy lives for the time of the training alone.

    Attributes
    ----------
    diverged
        Whether a loss or a weight was not finite.
    n_finite_epochs
        Epochs that ended with finite weights.
    """

    def __init__(self):
        self.diverged = False
        self.n_finite_epochs = 0
        self._state: dict | None = None
        self._first_step: int | None = None

    def on_train_start(self, trainer, plan) -> None:
        """Take the weights that training starts from."""
        self._first_step = trainer.global_step
        self._keep(plan)

    def has_stepped(self, trainer) -> bool:
        """Whether an optimiser has taken a step in this run; a run that resumes counts those of the earlier too."""
        return self._first_step is not None and trainer.global_step > self._first_step

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx) -> None:
        """Look at the loss."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if self._anywhere(trainer, loss is not None and not torch.isfinite(loss)):
            self._restore(trainer, plan)

    def on_train_epoch_end(self, trainer, plan) -> None:
        """Keep the epoch's weights if they are finite."""
        if self.diverged:
            return
        if self._anywhere(trainer, not _is_finite(plan.module)):
            self._restore(trainer, plan)
        else:
            self._keep(plan)
            self.n_finite_epochs += 1

    @staticmethod
    def _anywhere(trainer, found: bool) -> bool:
        """Whether any process has found it: they stop together, or those that go on would wait for ever."""
        return trainer.strategy.reduce_boolean_decision(found, all=False)

    def _keep(self, plan) -> None:
        if self._state is None:
            self._state = copy.deepcopy(plan.module.state_dict())
        else:
            for name, value in plan.module.state_dict().items():
                self._state[name].copy_(value)

    def _restore(self, trainer, plan) -> None:
        if not self.diverged:
            plan.module.load_state_dict(self._state)
            for optimizer in trainer.optimizers:
                # under an infinite second moment no weight would ever move again
                optimizer.state.clear()
            self.diverged = True
            trainer.should_stop = True
            # without a finite epoch the runner raises an error
            if self.n_finite_epochs > 0:
                logger.warning(
                    "The loss of epoch %d is not finite. Training stopped; the model keeps the weights of the last "
                    "finite epoch. %s",
                    trainer.current_epoch,
                    DIVERGENCE_ADVICE,
                )

    def on_train_end(self, trainer, plan) -> None:
        """Free the copy."""
        self._state = None

    def on_exception(self, trainer, plan, exception) -> None:
        """Leave no diverging weights behind an interrupt, and free the copy: it would stay in the trainer."""
        is_kept = isinstance(exception, KeyboardInterrupt | SystemExit)
        if is_kept and self._state is not None and not _is_finite(plan.module):
            self._restore(trainer, plan)
        self._state = None


def _is_finite(module: torch.nn.Module) -> bool:
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())


class EndInOrder(Callback):
    """End a training by SIGTERM once a step is done; one of several processes by Ctrl-C too, and in all of them.

    Lightning's own handler sends the news to the other processes amid their steps, where they wait for gradients, and
    Ctrl-C makes it kill them, of which the first process dies too.

    Attributes
    ----------
    came
        Number of the signal that came; 0: none.
    """

    def __init__(self):
        self.came = 0
        self._handlers: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # handlers are those of a process: a trained model, which holds its trainer and so this, is pickled without
        return vars(self) | {"_handlers": {}}

    def remember_handlers(self) -> None:
        """Look at what is in force before Lightning sets its own."""
        if in_main_thread():
            self._handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_start(self, trainer, plan) -> None:
        """Relieve Lightning's handlers."""
        for number, handler in self._handlers.items():
            is_usual = handler is signal.default_int_handler or isinstance(handler, Raise)
            # of one process Ctrl-C ends the step itself
            if number == signal.SIGTERM or (trainer.world_size > 1 and is_usual):
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = number
        handler = self._handlers[number]
        is_of_user = callable(handler) and handler is not signal.default_int_handler and not isinstance(handler, Raise)
        if is_of_user:
            handler(number, frame)

    def on_train_batch_end(self, trainer, plan, outputs, batch, batch_idx) -> None:
        """End the training if a signal has come to any process."""
        came = self.came
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            came = int(trainer.strategy.reduce(torch.tensor(came, device=device), reduce_op="max"))
        if came:
            raise CtrlC if came == signal.SIGINT else Terminated


def n_epochs(history: Mapping[str, pd.DataFrame]) -> int:
    """Epochs that a history spans; some losses are not computed in each, and what callbacks log may go by steps."""
    return 1 + max((int(values.index.max()) for values in history.values() if values.index.name == "epoch"), default=-1)


class KeepingTrainRunner(TrainRunner):
    """Finish what was begun: after an interrupt the model is in eval mode, marked as trained, with its history.

    Where nothing was learned, because no step was taken or no epoch ended with finite weights, an error says so; who
    calls the runner takes the model back to what it was.

    Attributes
    ----------
    has_learned
        Whether the model now is what this training has made of it.
    ended_by
        The KeyboardInterrupt or SystemExit that ended the training early.
    """

    def __init__(self, model, training_plan, data_splitter, max_epochs, **kwargs):
        self._keeper, self._ending = KeepFiniteWeights(), EndInOrder()
        kwargs["callbacks"] = [*(kwargs.pop("callbacks", None) or []), self._keeper, self._ending]
        for callback in kwargs["callbacks"]:
            if isinstance(callback, ModelCallback):
                callback.attach(model)
        super().__init__(model, training_plan, data_splitter, max_epochs, **kwargs)
        self.has_learned = False
        self.ended_by: KeyboardInterrupt | SystemExit | None = None

    def __call__(self) -> KeyboardInterrupt | SystemExit | None:
        """Train, and give what ended the training early."""
        super().__call__()
        return self.ended_by

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
        # Lightning trains modules in the mode in which they are, and an earlier training left them in eval mode
        self.training_plan.train()
        try:
            # a second Ctrl-C must not get between what was learned and its place in the model
            with held_signals() as released:
                self.ended_by = self._fit(released)
                self._check_learned()
                self._hand_over()
                self.has_learned, self.model._before = True, None
        except (KeyboardInterrupt, SystemExit) as error:
            if not self.has_learned:
                raise
            self.ended_by, self.model.was_interrupted_ = error, True

    def _hand_over(self) -> None:
        """Give the model what it has learned."""
        model = self.model
        if self.ended_by is not None:
            _interrupts.logger.warning(
                "Training was interrupted after %d of %d epochs; the model keeps what it has learned so far.",
                self.trainer.current_epoch,
                self.trainer.max_epochs,
            )
        self._update_history()
        # the splitter has them only after the fit
        model.train_indices = getattr(self.data_splitter, "train_idx", None)
        model.test_indices = getattr(self.data_splitter, "test_idx", None)
        model.validation_indices = getattr(self.data_splitter, "val_idx", None)
        model.module.eval()
        model.is_trained_ = True
        model.was_interrupted_ = self.ended_by is not None
        model.to_device(self.device)
        model.trainer = self.trainer
        model._after_training(self.training_plan)

    def _fit(self, released: Callable[[], AbstractContextManager[None]]) -> KeyboardInterrupt | SystemExit | None:
        """Fit, and give what ended it early, unless that is an error."""
        early = None
        try:
            # until the first step Lightning hears of SIGTERM itself
            with released(), plain_interrupts(taken=lambda: self.trainer.received_sigterm):
                self._ending.remember_handlers()
                self.trainer.fit(self.training_plan, self.data_splitter, ckpt_path=self.ckpt_path)
        except (KeyboardInterrupt, SystemExit) as error:
            early = error
        except BaseException as error:
            if self._ending.came == signal.SIGTERM:
                raise Terminated from error
            raise
        if early is None and (self.trainer.received_sigterm or self._ending.came == signal.SIGTERM):
            early = Terminated()
        if isinstance(early, Terminated) and not self.trainer.is_global_zero:
            # Lightning kills the first process where another one ends with any other status
            return SystemExit(0)
        return early

    def _check_learned(self) -> None:
        """Raise where the model is none the wiser."""
        diverged_at_once = self._keeper.diverged and self._keeper.n_finite_epochs == 0
        if self._keeper.has_stepped(self.trainer) and not diverged_at_once:
            return
        if self.ended_by is not None:
            raise self.ended_by
        name = type(self.model).__name__
        if diverged_at_once:
            raise RuntimeError(
                f"The training of {name} has failed: its loss is not finite in the very first epoch. The model stays "
                f"what it was before. {DIVERGENCE_ADVICE}"
            )
        raise ValueError(f"{name} was not trained, for there was no batch to train on: {self._why_no_batch()}")

    def _why_no_batch(self) -> str:
        trainer, splitter = self.trainer, self.data_splitter
        if trainer.limit_train_batches == 0:
            return "`limit_train_batches` is 0. Leave it out."
        if trainer.num_training_batches == 0:
            return (
                f"with `drop_last` the {splitter.n_train} training cells do not fill a batch of "
                f"{splitter.data_loader_kwargs['batch_size']}. Lower `batch_size`, or leave `drop_last` out."
            )
        return (
            f"Lightning ended the run before its first step. Look at what bounds it, such as `max_steps` "
            f"({trainer.max_steps}), `max_time` or the epoch of a checkpoint (`ckpt_path`)."
        )
