"""Several short trainings, of which the one is trained to the end that agrees best with the others.

Duan et al. (2020) Unsupervised model selection for variational disentangled representation learning. ICLR.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import Callback

from scmimic._interrupts import terminable
from scmimic._random import as_seed, seeded
from scmimic.metrics import unsupervised_disentanglement_ranking
from scmimic.model.base._runner import n_epochs
from scmimic.model.base._training import ModelState

if TYPE_CHECKING:
    from scmimic.model.beta_tcvae._model import BetaTCVAE

logger = logging.getLogger(__name__)

# what keeps all that it has seen is for the training that goes to the end
_OF_ONE_TRAINING = ("callbacks", "logger")


class StopAfter(Callback):
    """End a training after some of the epochs that its schedules are made for.

    Parameters
    ----------
    n_epochs
        Number of epochs.
    """

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs

    def on_train_epoch_end(self, trainer, plan) -> None:
        """Count the epoch."""
        if trainer.current_epoch + 1 >= self.n_epochs:
            trainer.should_stop = True


def check_restarts(model: BetaTCVAE, n_restarts: int, devices: Any, trainer_kwargs: Mapping[str, Any]) -> None:
    """Refuse restarts of what cannot start anew, and numbers of them that cannot be ranked."""
    if n_restarts == 1:
        return
    if n_restarts == 2:
        raise ValueError("`n_restarts=2`: two trainings agree with each other equally well. Give 1, or at least 3.")
    if model.is_trained:
        raise ValueError(
            "`n_restarts` is for a model that is not trained yet, since each restart begins anew. Leave it out to "
            "train this one on, or make a new model."
        )
    if trainer_kwargs.get("ckpt_path") is not None:
        raise ValueError("`n_restarts` and `ckpt_path` exclude each other: each restart begins anew.")
    several = len(devices) > 1 if isinstance(devices, list | tuple) else devices not in ("auto", 1, "1", 0, "0")
    if several or trainer_kwargs.get("strategy", "auto") != "auto":
        raise ValueError("`n_restarts` takes one process: leave `strategy` out, and give one device.")


class Restarts:
    """Trainings of one model from several seeds, and the choice among them.

    Parameters
    ----------
    model
        A model that is not trained.
    n_epochs
        Epochs of each restart.
    train
        Trains the model: to the end, unless its callbacks stop it.
    **trainer_kwargs
        Passed to `train`.
    """

    def __init__(self, model: BetaTCVAE, n_epochs: int, train: Callable[..., None], **trainer_kwargs: Any):
        self.model, self.n_epochs = model, n_epochs
        self._train, self._trainer_kwargs = train, trainer_kwargs
        self._before, self._attributes = ModelState(model), dict(vars(model))
        self._done: list[_Done] = []

    def run(self, n_restarts: int) -> None:
        """Train from `n_restarts` seeds, and from the best of them to the end.

        The seeds come from torch's generator. An interrupt keeps the best of the restarts that are done, or the last
        training once it is longer than they are. After an error the model is what it was before.
        """
        seeds = np.random.SeedSequence(as_seed(None)).generate_state(n_restarts).tolist()
        short = {name: value for name, value in self._trainer_kwargs.items() if name not in _OF_ONE_TRAINING}
        try:
            # loaders of cells draw random numbers too
            with terminable(), seeded(seeds[0]):
                for seed in seeds:
                    logger.info("Restart %d of %d, from seed %d.", len(self._done) + 1, n_restarts, seed)
                    if not self._from(seed, callbacks=[StopAfter(self.n_epochs)], **short):
                        break
                    self._done.append(_Done(seed, dict(vars(self.model)), *self._codes()))
                else:
                    scores = self._scores()
                    best = self._done[scores.argmax()].seed
                    logger.info("Restart scores %s: seed %d goes on.", np.round(scores, 3).tolist(), best)
                    self._from(best, **self._trainer_kwargs)
            self._settle()
        except (KeyboardInterrupt, SystemExit) as error:
            if not (self._done or self.model.is_trained):
                self._before.restore(self.model)
                raise
            self.model.was_interrupted_ = True
            self._settle()
            if isinstance(error, SystemExit):
                raise
        except BaseException:
            self._before.restore(self.model)
            raise

    def _from(self, seed: int, **trainer_kwargs: Any) -> bool:
        """Train as a new model does under this seed; whether it was left to end."""
        self.model.__dict__.clear()
        self.model.__dict__.update(self._attributes)
        with seeded(seed):
            module = self.model._make_module()
            module.start_as(self._attributes["module"])
            self.model.module = module.to(self.model.device)
            self._train(**trainer_kwargs)
        return not self.model.was_interrupted_

    def _codes(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of the posteriors of all cells in memory, trained on or not; on disk, of the training's."""
        if self.model.adata is None:
            posterior = self.model._trained_cells()
            return posterior.mean, posterior.std**2
        return self.model.get_latent_representation(return_dist=True)

    def _scores(self) -> np.ndarray:
        if len(self._done) == 1:
            return np.full(1, np.nan)
        means, variances = zip(*((done.mean, done.variance) for done in self._done), strict=True)
        return unsupervised_disentanglement_ranking(means, variances)

    def _settle(self) -> None:
        """Leave the best training in the model, and a record of all restarts."""
        model = self.model
        if not self._done:
            return
        scores, interrupted = self._scores(), model.was_interrupted_
        best = self._done[int(np.argmax(scores))]
        trained = n_epochs(model.history_) if model.is_trained and isinstance(model.history_, dict) else 0
        if interrupted and trained < self.n_epochs:
            model.__dict__.clear()
            model.__dict__.update(best.attributes)
            model.was_interrupted_ = True
            logger.warning("The model is the restart from seed %d, which is done.", best.seed)
        seeds = [done.seed for done in self._done]
        model.restarts_ = pd.DataFrame({"seed": seeds, "score": scores, "chosen": [s == best.seed for s in seeds]})


@dataclass(frozen=True)
class _Done:
    """A restart that is done."""

    seed: int
    attributes: dict[str, Any]
    mean: np.ndarray
    variance: np.ndarray
