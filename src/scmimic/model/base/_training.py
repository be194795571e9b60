"""What every model's ``train`` shares."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from anndata import AnnData
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.accelerators import AcceleratorRegistry
from scvi.data import AnnDataManager
from scvi.dataloaders import AnnDataLoader, DataSplitter
from scvi.model.base import BaseModelClass, UnsupervisedTrainingMixin
from scvi.train import SaveCheckpoint
from scvi.train import Trainer as ScviTrainer
from torch.utils.data import DataLoader

from scmimic import _interrupts, _keys
from scmimic._arguments import (
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    NATURAL,
    NON_NEGATIVE,
    PATH,
    POSITIVE,
    SETTINGS,
    SHARE,
    Choice,
    Instance,
    Kind,
    Listed,
    PairRange,
    Range,
    check_arguments,
    check_keywords,
    parameter_names,
)
from scmimic._compat import manager_of
from scmimic._interrupts import interrupted_part, terminable
from scmimic._noise import without_noise
from scmimic.cells import CellCollection, Value, as_list, build_collection, need_annbatch
from scmimic.model.base._fields import KINDS
from scmimic.model.base._registration import RegisteredModel
from scmimic.model.base._runner import DIVERGENCE_ADVICE, KeepingTrainRunner
from scmimic.model.base._streamed import StreamedCells

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
class _Device(Range):
    """A device by its number, or the one that Lightning finds."""

    def fits(self, value: Any) -> bool:
        """Whether it is a number or text."""
        return isinstance(value, str) or super().fits(value)

    def within(self, value: Any) -> bool:
        """Whether it is a number, also as text, or "auto"."""
        return value == "auto" or value.isdecimal() if isinstance(value, str) else super().within(value)

    def describe(self) -> str:
        """A number or the word."""
        return "'auto' or the number of a device"


@dataclass(frozen=True)
class _Hinge(Range):
    """Numbers, and "auto"."""

    def within(self, value: Any) -> bool:
        """Whether it is a number or "auto"."""
        return (isinstance(value, str) and value == "auto") or super().within(value)

    def describe(self) -> str:
        """A number or the word."""
        return f"{super().describe()}, 'auto'"


@dataclass(frozen=True)
class _Size(Range):
    """Numbers of cells, and sizes in bytes as text."""

    def fits(self, value: Any) -> bool:
        """Whether it is a number or text."""
        return isinstance(value, str) or super().fits(value)

    def within(self, value: Any) -> bool:
        """Whether it is a positive number, or a number with a unit."""
        if isinstance(value, str):
            return re.fullmatch(r"\d+(\.\d+)? ?[kMGT]?i?B", value) is not None
        return super().within(value)

    def describe(self) -> str:
        """A number or a size."""
        return "a whole number of cells or a size such as '2GB'"


ACCELERATOR = Choice(("auto", "gpu", *AcceleratorRegistry.available_accelerators()))
DEVICE = _Device(0, whole=True)
# Arguments of every `train`; a name means the same in each that has it.
_TRAIN = {
    "max_epochs": COUNT_OR_NONE,
    "warmup_epochs": NATURAL.or_none,
    "batch_size": COUNT,
    "datamodule": Instance(types=(StreamedCells,), optional=True),
    "accelerator": ACCELERATOR,
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

# What of `setup_annbatch` is an argument of `setup_anndata` too.
_REGISTERED = (
    "labels_key",
    "unlabeled_category",
    "batch_key",
    "size_factor_key",
    "categorical_covariate_keys",
    "continuous_covariate_keys",
)
_COLLECTION = {
    **KINDS,
    "collection_path": PATH,
    "paths": Listed(PATH, alone=True, optional=True),
    **dict.fromkeys(("rebuild", "shuffle"), FLAG),
    "sample_size": COUNT,
    "dataset_size": _Size(1, whole=True),
}

# With these scvi-tools and Lightning go through the validation cells.
_VALIDATING = (
    "early_stopping",
    "check_val_every_n_epoch",
    "learning_rate_monitor",
    "enable_checkpointing",
    "fast_dev_run",
    "callbacks",
)

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
    # the cells on disk that a training is on, for its time
    _stream: StreamedCells | None = None
    # what a training goes back to if it fails; None as soon as it has learned
    _before: ModelState | None = None

    @property
    def summary_string(self) -> str:
        """What the model is, whether it is trained to the end, and what it was set up with."""
        summary, part = super().summary_string, interrupted_part(self)
        if self.was_interrupted_:
            summary += ", interrupted before the end"
        elif part is not None:
            summary += f"\nMade on: {part} whose training was interrupted"
        return f"{summary}\nData: {self._data_summary}"

    def __repr__(self) -> str:
        # scvi-tools prints it and returns nothing, so that models in a list, or in a text, do not show
        return self.summary_string

    @classmethod
    def setup_annbatch(
        cls,
        collection_path: str | os.PathLike,
        paths: Sequence[str | os.PathLike] | None = None,
        *,
        layer: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: Value | None = _keys.UNLABELED,
        batch_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        rebuild: bool = False,
        shuffle: bool = True,
        dataset_size: int | str = "200MB",
        sample_size: int = 20_000,
    ) -> StreamedCells:
        """Register cells that stay on disk, for a training that streams them (ACTIVA, ACTINN and BetaTCVAE).

        The cells of one or more files are written once to a collection of annbatch, sharded zarr, from which trainings
        read them in pieces. Every value is looked at once. Needs Python 3.12 or newer and the extra
        ``annbatch``.

        Parameters
        ----------
        collection_path
            The collection, a ``.zarr``: what `paths` are written to, or one that is there.
        paths
            The ``.h5ad`` and ``.zarr`` with the cells, all of the same genes. None: the collection is there.
        layer
            Layer of `paths` with the expression; None: ``X``. A collection holds one.
        labels_key, unlabeled_category, batch_key, size_factor_key
            Columns of ``.obs``, as in ``setup_anndata``; those that it does not have are refused.
        categorical_covariate_keys, continuous_covariate_keys
            As in ``setup_anndata``.
        rebuild
            Write the collection anew where there is one.
        shuffle
            Write the cells in random order, that of scvi-tools' seed. Without it batches are mixed of pieces of 256
            cells, and validation cells are the last of the files.
        dataset_size
            What is shuffled at once while the collection is written: a number of cells, or a size. Several times as
            much is held in memory.
        sample_size
            Cells that are held in memory, from which the networks' start values are taken.

        Returns
        -------
        StreamedCells
            What a model is made and trained with; :class:`scmimic.train.StreamedCells`.

        Raises
        ------
        ImportError
            If annbatch is not installed.
        KeyError
            If a file lacks the layer, or the cells lack a column.
        TypeError
            If the model does not train on cells on disk, or has no such argument in ``setup_anndata``.
        ValueError
            If genes of the files differ, values are NaN or negative, expression is stored by gene, or a collection is
            there and `paths` are given without `rebuild`.
        OSError
            If a file is missing, or nothing can be written.

        Examples
        --------
        >>> import tempfile
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=500, n_vars=20, seed=0)
        >>> folder = tempfile.mkdtemp()
        >>> adata.write_h5ad(f"{folder}/cells.h5ad")
        >>> cells = sm.ACTIVA.setup_annbatch(
        ...     f"{folder}/cells.zarr", [f"{folder}/cells.h5ad"], labels_key="cell_type"
        ... )  # doctest: +SKIP
        >>> model = sm.ACTIVA(registry=cells.registry, n_latent=2, n_hidden=(8,))  # doctest: +SKIP
        >>> model.train(datamodule=cells, max_epochs=2, enable_progress_bar=False)  # doctest: +SKIP
        >>> model.generate(5, seed=0).n_obs  # doctest: +SKIP
        5
        """
        check_arguments(locals(), _COLLECTION)
        name, given = cls.__name__, dict(locals())
        known = inspect.signature(cls.setup_anndata).parameters
        if "datamodule" not in inspect.signature(cls.train).parameters:
            raise TypeError(f"{name} trains on cells in memory alone: `{name}.setup_anndata(adata, ...)`.")
        settings = {key: given[key] for key in _REGISTERED if key in known}
        if further := [key for key in _REGISTERED if key not in known and given[key] not in (None, _keys.UNLABELED)]:
            raise TypeError(f"`{name}.setup_anndata` has no {further}, and so there is none here: leave it out.")
        need_annbatch(f"`{name}.setup_annbatch`")
        if paths is None and rebuild:
            raise ValueError("`rebuild=True` needs the files that the collection is made of: `paths=[...]`.")

        def register(adata: AnnData, **transfer: Any) -> AnnDataManager:
            cls.setup_anndata(adata, **settings, **transfer)
            return manager_of(cls, adata)

        with without_noise():
            if paths is not None:
                build_collection(
                    collection_path,
                    as_list(paths),
                    layer=layer,
                    overwrite=rebuild,
                    shuffle=shuffle,
                    dataset_size=dataset_size,
                    rng=np.random.default_rng(int(torch.randint(2**31 - 1, ()))),
                )
            return StreamedCells(CellCollection(collection_path), register, sample_size)

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
        asked = SimpleNamespace(**arguments)
        datamodule = arguments.get("datamodule")
        if datamodule is None:
            self._check_has_cells()
        else:
            self._check_streams(datamodule, asked)
        if None not in (asked.train_size, asked.validation_size) and asked.train_size + asked.validation_size > 1:
            raise ValueError(
                f"`train_size` and `validation_size` must add up to 1 at most: {asked.train_size} and "
                f"{asked.validation_size}."
            )
        check_plan_kwargs(self._training_plan_cls, asked.plan_kwargs or {})
        of_train = [name for name in arguments if name not in ("self", "trainer_kwargs")]
        self._check_passed_on(asked.datasplitter_kwargs or {}, asked.trainer_kwargs, of_train)
        _check_validation(asked)
        if (precision := asked.trainer_kwargs.get("precision")) not in self._precisions:
            mixed = " or mixed" if MIXED[0] in self._precisions else ""
            raise ValueError(
                f"{type(self).__name__} trains in single{mixed} precision: leave `precision={precision!r}` out."
            )

    def _check_passed_on(
        self, datasplitter_kwargs: Mapping[str, Any], trainer_kwargs: Mapping[str, Any], of_train: Sequence[str]
    ) -> None:
        """Refuse keywords that neither ``train``, whose `of_train` are these, nor what it passes them to knows."""
        of_splitter = (DataSplitter, AnnDataLoader, DataLoader)
        here = "it is an argument of `train` itself"
        check_keywords(
            datasplitter_kwargs,
            [name for name in parameter_names(*of_splitter) if name not in of_train],
            what="`datasplitter_kwargs`",
            hints=dict.fromkeys(of_train, here),
        )
        in_plan = {name: f"write `plan_kwargs={{{name!r}: ...}}`" for name in _plan_parameters(self._training_plan_cls)}
        in_plan["plan_config"] = "write `plan_kwargs={...}`"
        in_splitter = {name: f"write `datasplitter_kwargs={{{name!r}: ...}}`" for name in ("drop_last", "num_workers")}
        check_keywords(
            trainer_kwargs,
            dict.fromkeys([*of_train, *parameter_names(ScviTrainer, Trainer), "trainer_config", "ckpt_path"]),
            what=f"`{type(self).__name__}.train`",
            hints=in_plan | in_splitter | {"learning_rate": "write `plan_kwargs={'lr': ...}`"},
        )

    def _check_has_cells(self) -> None:
        """The cells that the model was made with are there, and as they were."""
        if self.adata is None:
            raise RuntimeError(
                f"This {type(self).__name__} has no data and cannot train. Load it with them: "
                f"`{type(self).__name__}.load(path, adata=adata)`; or, if they are those that `setup_annbatch` gave, "
                "name them: `train(datamodule=...)`."
            )
        self._check_unchanged(strict=True)
        # the labels that scvi-tools keeps in the data are those of the model that was set up last
        self.adata_manager.validate()

    def _check_streams(self, cells: StreamedCells, asked: SimpleNamespace) -> None:
        """Refuse cells on disk that are not those of the model, and what is for cells in memory alone."""
        name = type(self).__name__
        if self.adata is not None:
            raise ValueError(
                f"This {name} was made with cells in memory, on which it trains: leave `datamodule` out, or make it "
                f"without: `{name}(registry=datamodule.registry)`."
            )
        cells.check_fits(self.registry_, name)
        if asked.datasplitter_kwargs:
            raise ValueError("`datasplitter_kwargs` are for cells in memory: leave them out with `datamodule`.")
        several = asked.devices not in ("auto", 1, "1") and np.size(asked.devices) > 1 or asked.devices in (-1, "-1")
        count = str(asked.devices)
        if several or (count.isdigit() and int(count) > 1) or asked.trainer_kwargs.get("strategy", "auto") != "auto":
            raise ValueError(
                "Cells on disk are streamed to one process: with `datamodule`, leave `strategy` out and give one "
                "device."
            )

    def _start(self) -> None:
        """Take what the networks start from out of the registered cells."""

    def _train(
        self,
        *,
        max_epochs: int,
        datamodule: StreamedCells | None = None,
        keep: Mapping[str, Any] | None = None,
        finish: Callable[[], None] | None = None,
        **arguments: Any,
    ) -> None:
        """Train as scvi-tools does; a training that fails, or ends before its first step, leaves the model as it was.

        Parameters
        ----------
        max_epochs
            Passes over the data.
        datamodule
            Cells on disk; None: those in memory.
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
                if datamodule is not None:
                    self._take_stream(datamodule, arguments)
                # the runner gives what ended the training early
                ended_by = super().train(max_epochs=int(max_epochs), datamodule=datamodule, **arguments)
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
            self._before = self._stream = self._datamodule = None

    def _take_stream(self, cells: StreamedCells, arguments: Mapping[str, Any]) -> None:
        """Train on cells on disk; networks that have learned nothing yet start from some of them."""
        self._stream = cells
        cells.batch_size = arguments["batch_size"]
        cells.split(arguments["train_size"], arguments["validation_size"])
        if not self.is_trained:
            with self._holding(cells):
                self._remember_registration()
                self._start()

    @contextmanager
    def _holding(self, cells: StreamedCells) -> Iterator[None]:
        """Have the sample for the model's data."""
        self._adata, self._adata_manager = cells.sample, cells.manager
        try:
            yield
        finally:
            self._adata = self._adata_manager = None

    def _training_batches(self, cells: np.ndarray | None = None) -> Iterable[dict[str, Any]]:
        """The cells trained on, or these of them, in their order."""
        if self._stream is not None:
            return self._stream.training_cells(cells)
        indices = None if self.train_indices_ is None else np.sort(self.train_indices_)
        if cells is not None:
            indices = cells if indices is None else indices[cells]
        return self._make_data_loader(self.adata, indices=indices, batch_size=1024)

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


def _check_validation(asked: SimpleNamespace) -> None:
    """Refuse what looks at validation cells where there are none; they are all trained on unless it is said."""
    is_streamed = getattr(asked, "datamodule", None) is not None
    all_trained = asked.train_size == 1 or (is_streamed and asked.train_size is None and not asked.validation_size)
    if not all_trained and asked.validation_size != 0 or "external_indexing" in (asked.datasplitter_kwargs or {}):
        return
    callbacks = asked.trainer_kwargs.get("callbacks")
    callbacks = callbacks if isinstance(callbacks, Sequence) else [callbacks]
    settings = {
        **asked.trainer_kwargs,
        "early_stopping": asked.early_stopping,
        "callbacks": [type(one).__name__ for one in callbacks if isinstance(one, SaveCheckpoint)],
    }
    if name := next((name for name in _VALIDATING if settings.get(name)), None):
        raise ValueError(
            f"`{name}={settings[name]!r}` needs validation cells, and there are none: "
            f"`train_size={asked.train_size!r}`, `validation_size={asked.validation_size!r}`. Leave some out of the "
            "training, `train_size=0.9`."
        )


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
