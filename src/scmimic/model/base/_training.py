"""What every model's ``train`` shares."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from scvi.dataloaders import AnnDataLoader, DataSplitter
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin
from scvi.train import Trainer as ScviTrainer
from torch.utils.data import DataLoader

from scmimic import _interrupts
from scmimic._arguments import (
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    NATURAL,
    NON_NEGATIVE,
    POSITIVE,
    SETTINGS,
    SHARE,
    Choice,
    Kind,
    PairRange,
    Range,
    check_arguments,
    check_keywords,
)
from scmimic._interrupts import interrupted_part, terminable
from scmimic._noise import without_noise
from scmimic.model.base._registration import RegisteredModel
from scmimic.model.base._runner import DIVERGENCE_ADVICE, KeepingTrainRunner

SINGLE = (None, 32, "32", "32-true")
"""What Lightning calls single precision, and mixed with half precision."""
MIXED = ("16-mixed", "bf16-mixed", "bf16", "16", 16)


@dataclass(frozen=True)
class _Devices(Kind):
    """Devices as Lightning counts them: how many, which, or what it finds."""

    def fits(self, value: Any) -> bool:
        """Whether it is a number, text, or a list of numbers."""
        listed = isinstance(value, list | tuple) and all(isinstance(one, int) for one in value)
        return isinstance(value, str | int) and not isinstance(value, bool) or listed

    def within(self, value: Any) -> bool:
        """Whether it is at least one device; -1 are all."""
        return bool(value) and (not isinstance(value, int) or value >= -1)

    def describe(self) -> str:
        """A number or a list of devices."""
        return "'auto', a number of devices (-1: all), or a list of them"


@dataclass(frozen=True)
class _Hinge(Range):
    """Numbers, and "auto"."""

    def within(self, value: Any) -> bool:
        """Whether it is a number or "auto"."""
        return (isinstance(value, str) and value == "auto") or super().within(value)

    def describe(self) -> str:
        """A number or the word."""
        return f"{super().describe()}, 'auto'"


# Arguments of every `train`; a name means the same in each that has it.
_TRAIN = {
    "max_epochs": COUNT_OR_NONE,
    "warmup_epochs": NATURAL.or_none,
    "batch_size": COUNT,
    "accelerator": Choice(("auto", "gpu", *AcceleratorRegistry.available_accelerators())),
    "devices": _Devices(),
    "train_size": Range(0, 1, open_low=True, optional=True),
    "validation_size": SHARE.or_none,
    **dict.fromkeys(("shuffle_set_split", "load_sparse_tensor", "early_stopping"), FLAG),
    **dict.fromkeys(("calibrate_dispersion", "calibrate_spread", "calibrate_margins"), FLAG),
    **dict.fromkeys(("datasplitter_kwargs", "plan_kwargs"), SETTINGS.or_none),
}
# Settings of all training plans, likewise.
_PLAN = {
    **dict.fromkeys(("lr", "eps", "lr_dispersion_factor", "lr_classifier", "softadapt_beta", "m_factor"), POSITIVE),
    **dict.fromkeys(("weight_decay", "weight_decay_classifier", "batch_decay"), NON_NEGATIVE),
    **dict.fromkeys(
        ("covariate_decay", "alpha1", "alpha2", "alpha_cell_type"),
        NON_NEGATIVE,
    ),
    **dict.fromkeys(("kl_weight", "gradient_penalty", "prediction", "mutual_information_weight"), NON_NEGATIVE),
    **dict.fromkeys(("lr_final_factor", "lr_decay_fraction"), Range(0, 1)),
    **dict.fromkeys(("memory_size", "n_epochs_kl_warmup", "n_epochs_warmup"), NATURAL),
    **dict.fromkeys(("n_critic", "softadapt_every"), COUNT),
    "n_epochs_beta_warmup": NON_NEGATIVE,
    "n_epochs_classifier": NATURAL.or_none,
    "average_decay": SHARE,
    **dict.fromkeys(("lr_decay", "lr_decay_classifier"), Range(0, 1, open_low=True)),
    "betas": PairRange(0, 1, open_high=True),
    "lr_decay_steps": POSITIVE.or_none,
    "lr_decay_steps_classifier": COUNT_OR_NONE,
    "m": _Hinge(0, optional=True),
    "amsgrad": FLAG,
    "fake_statistics": Choice(("running", "batch")),
    "softadapt": Choice(("original", "normalized", "normalized-absolute", "loss-weighted"), optional=True),
    "softadapt_slope_at": Choice(("newest", "oldest")),
}

# Larger counts have no place in the integers that are made of them.
_MAX_COUNT = 2**31


class TrainableModel(UnsupervisedTrainingMixin, RegisteredModel):
    """A model that scvi-tools trains, by a runner of its own; see :class:`KeepingTrainRunner`."""

    _train_runner_cls = KeepingTrainRunner
    # in others the networks stay so after the training, and what comes to them later does not fit
    _precisions: ClassVar[tuple] = (*SINGLE, *MIXED)
    # of the class, so that models whose files do not say have them too
    was_interrupted_: bool = False
    """Whether Ctrl-C or SIGTERM ended the last training."""
    interrupted_source_: str | None = None
    """Class of what the model was made on (a classifier, a representation), where its training was interrupted."""
    # what a training goes back to if it fails; None as soon as it has learned
    _before: ModelState | None = None

    @property
    def summary_string(self) -> str:
        """What the model is, and whether it is trained to the end."""
        summary, part = super().summary_string, interrupted_part(self)
        if self.was_interrupted_:
            return f"{summary}, interrupted before the end"
        return summary if part is None else f"{summary}\nMade on: {part} whose training was interrupted"

    def _check_trained(self, has_cells: bool = True) -> None:
        """Refuse what only a trained model can do; `has_cells` says whether it has what it keeps of its cells."""
        if not (self.is_trained and has_cells):
            raise RuntimeError(f"This {type(self).__name__} is not trained yet. Call `model.train()` first.")

    def _check_training(self, arguments: Mapping[str, Any], **kinds: Kind) -> None:
        """Refuse what no training can be made of, before anything is computed from it.

        Parameters
        ----------
        arguments
            The local variables of ``train``, as it begins.
        **kinds
            What arguments must be that are others here than in the models' other ``train``.
        """
        check_arguments(arguments, _TRAIN | kinds)
        self._check_has_cells()
        asked = SimpleNamespace(**arguments)
        if None not in (asked.train_size, asked.validation_size) and asked.train_size + asked.validation_size > 1:
            raise ValueError(
                f"`train_size` and `validation_size` must add up to 1 at most: {asked.train_size} and "
                f"{asked.validation_size}."
            )
        check_plan_kwargs(self._training_plan_cls, asked.plan_kwargs or {})
        self._check_passed_on(asked.datasplitter_kwargs or {}, asked.trainer_kwargs, list(arguments))
        if (precision := asked.trainer_kwargs.get("precision")) not in self._precisions:
            mixed = " or mixed" if MIXED[0] in self._precisions else ""
            raise ValueError(
                f"A {type(self).__name__} trains in single{mixed} precision: leave `precision={precision!r}` out."
            )

    def _check_passed_on(
        self, datasplitter_kwargs: Mapping[str, Any], trainer_kwargs: Mapping[str, Any], of_train: Sequence[str]
    ) -> None:
        """Refuse keywords that neither ``train``, whose `of_train` are these, nor what it passes them to knows."""
        of_splitter = (DataSplitter, AnnDataLoader, DataLoader)
        here = "it is an argument of `train` itself"
        check_keywords(
            datasplitter_kwargs,
            [name for name in _parameters(*of_splitter) if name not in of_train],
            what="`datasplitter_kwargs`",
            hints=dict.fromkeys(of_train, here),
        )
        in_plan = {name: f"write `plan_kwargs={{{name!r}: ...}}`" for name in _plan_parameters(self._training_plan_cls)}
        in_splitter = {name: f"write `datasplitter_kwargs={{{name!r}: ...}}`" for name in ("drop_last", "num_workers")}
        check_keywords(
            trainer_kwargs,
            [*of_train, *_parameters(ScviTrainer, Trainer), "trainer_config", "ckpt_path"],
            what=f"`{type(self).__name__}.train`",
            hints=in_plan | in_splitter | {"learning_rate": "write `plan_kwargs={'lr': ...}`"},
        )

    def _check_has_cells(self) -> None:
        """The cells that the model was made with are there, and as they were."""
        if self.adata is None:
            raise RuntimeError(
                f"This {type(self).__name__} was loaded without its data and cannot train. Load it with them: "
                f"`{type(self).__name__}.load(path, adata=adata)`."
            )
        self._check_unchanged(strict=True)
        # the labels that scvi-tools keeps in the data are those of the model that was set up last
        self.adata_manager.validate()

    def _train(
        self,
        *,
        max_epochs: int,
        keep: Mapping[str, Any] | None = None,
        finish: Callable[[], None] | None = None,
        **arguments: Any,
    ) -> None:
        """Train as scvi-tools does; a training that fails, or ends before its first step, leaves the model as it was.

        Parameters
        ----------
        max_epochs
            Passes over the data.
        keep
            Attributes that the model gets with the training.
        finish
            What is done with the trained model at last; SIGTERM leaves it out.
        **arguments
            The further ones of :meth:`scvi.model.base.UnsupervisedTrainingMixin.train`.
        """
        self._before = ModelState(self)
        self.__dict__.update(keep or {})
        try:
            with terminable(), without_noise():
                # the runner gives what ended the training early
                ended_by = super().train(max_epochs=int(max_epochs), **arguments)
                if isinstance(ended_by, SystemExit):
                    raise ended_by
                if finish is not None:
                    with self._after_learning():
                        finish()
        except BaseException:
            if self._before is not None:
                self._before.restore(self)
            raise
        finally:
            self._before = None

    @contextmanager
    def _after_learning(self) -> Iterator[None]:
        """What a model does once it has learned; an interrupt ends it, and leaves what was learned."""
        try:
            with terminable():
                yield
        except KeyboardInterrupt:
            self.was_interrupted_ = True
            _interrupts.logger.warning(
                "Interrupted after the training itself: the model keeps what it has learned, without what was still to "
                "be done with it, such as its calibration."
            )
        except SystemExit:
            self.was_interrupted_ = True
            raise

    def _after_training(self, plan: LightningModule) -> None:
        """What belongs to the weights and is set with them, also after an interrupt."""

    def _check_useful(self, what: str, values: torch.Tensor, *, is_count: bool = False) -> None:
        """Reject weights that are finite, but of no use: what comes of them is not, or has no place in a count."""
        if torch.isfinite(values).all() and not (is_count and (values >= _MAX_COUNT).any()):
            return
        raise RuntimeError(
            f"The training of {type(self).__name__} has failed: {what} are not finite or beyond all bounds. The model "
            f"stays what it was before. {DIVERGENCE_ADVICE}"
        )


class ModelState:
    """All that a training changes in a model, to go back to it.

    Parameters
    ----------
    model
        The model. Its weights are copied to the CPU's memory.
    """

    def __init__(self, model: BaseModelClass):
        self._attributes = dict(vars(model))
        self._history = model.history_
        self._epochs = dict(self._history) if isinstance(self._history, dict) else None
        self._device = model.device
        self._tensors = {name: value.detach().to("cpu", copy=True) for name, value in _tensors(model.module)}
        self._trained = {name: value.requires_grad for name, value in model.module.named_parameters()}
        self._settings = [(part, _settings(part)) for part in model.module.modules()]

    @torch.no_grad()
    def restore(self, model: BaseModelClass) -> None:
        """Make the model what it was."""
        vars(model).clear()
        vars(model).update(self._attributes)
        if self._epochs is not None:
            # trainings write to the history in place
            self._history.clear()
            self._history.update(self._epochs)
        for part, settings in self._settings:
            for name in _settings(part).keys() - settings.keys():
                delattr(part, name)
            vars(part).update(settings)
        for name, value in model.module.named_parameters():
            value.requires_grad_(self._trained[name])
            value.grad = None
        model.to_device(self._device)
        for name, value in _tensors(model.module):
            value.copy_(self._tensors[name])
        if torch.cuda.is_available():
            # where memory ran out, the next attempt finds it free
            torch.cuda.empty_cache()


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())


def _settings(part: torch.nn.Module) -> dict[str, Any]:
    # its tensors and parts stand under private names
    return {name: value for name, value in vars(part).items() if not name.startswith("_")}


def check_plan_kwargs(plan_cls: type, plan_kwargs: Mapping[str, Any]) -> None:
    """Reject settings out of range, and misspelt ones: scvi-tools would pass them on to the loss and ignore them."""
    hints = {"learning_rate": "`lr` is meant"}
    check_keywords(plan_kwargs, _plan_parameters(plan_cls), what="`plan_kwargs`", hints=hints)
    check_arguments(plan_kwargs, _PLAN)


def _plan_parameters(plan_cls: type) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(plan_cls).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "state"
    ]


def _parameters(*classes: type) -> list[str]:
    """Names of all arguments of these constructors."""
    of_classes = (inspect.signature(cls).parameters.values() for cls in classes)
    named = [p.name for parameters in of_classes for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return list(dict.fromkeys(named))
