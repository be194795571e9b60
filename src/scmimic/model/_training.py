"""What every model's ``train`` shares."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from lightning.pytorch import LightningModule
from scvi.dataloaders import DataSplitter

from scmimic._arguments import COUNT, NATURAL, NON_NEGATIVE, POSITIVE, SHARE, PairRange, Range, check_ranges
from scmimic._compat import use_distributed_sampler
from scmimic.train import KeepingTrainRunner

# Settings of all training plans; a name means the same in each that has it.
_PLAN = {
    **dict.fromkeys(("lr", "eps", "lr_dispersion_factor", "lr_classifier", "softadapt_beta", "m_factor"), POSITIVE),
    **dict.fromkeys(("weight_decay", "weight_decay_classifier", "alpha1", "alpha2", "alpha_cell_type"), NON_NEGATIVE),
    **dict.fromkeys(("kl_weight", "gradient_penalty", "prediction", "mutual_information_weight"), NON_NEGATIVE),
    **dict.fromkeys(("lr_final_factor", "lr_decay_fraction"), Range(0, 1)),
    **dict.fromkeys(("memory_size", "n_epochs_kl_warmup"), NATURAL),
    **dict.fromkeys(("n_critic", "softadapt_every"), COUNT),
    "n_epochs_beta_warmup": NON_NEGATIVE,
    "average_decay": SHARE,
    "betas": PairRange(0, 1, open_high=True),
    "lr_decay_steps": replace(POSITIVE, optional=True),
}


class PlanTrainingMixin:
    """Build splitter, plan and runner, and run them."""

    _data_splitter_cls = DataSplitter
    _train_runner_cls = KeepingTrainRunner

    def _training_cells(self, batch_size: int) -> int:
        """Number of cells that the model was made with; the first thing that `train` asks for."""
        check_ranges({"batch_size": batch_size}, {"batch_size": COUNT})
        if self.adata is None:
            raise RuntimeError(
                f"This {type(self).__name__} was loaded without its data and cannot train. Load it with them: "
                f"`{type(self).__name__}.load(path, adata=adata)`."
            )
        # the labels that scvi-tools keeps in the data are those of the model that was set up last
        self.adata_manager.validate()
        return self.adata.n_obs

    def _run_training(self, arguments: Mapping[str, Any], **changes: Any) -> None:
        """Train; the arguments are those of :meth:`_training_runner`."""
        runner = self._training_runner(arguments, **changes)
        runner()
        self._after_training(runner.training_plan)

    def _training_runner(self, arguments: Mapping[str, Any], **changes: Any) -> KeepingTrainRunner:
        """Check what was asked for; nothing of the model changes before the runner is called.

        Parameters
        ----------
        arguments
            The local variables of ``train``, with the arguments that all models share among them.
        **changes
            What stands in the place of some of them.
        """
        asked = SimpleNamespace(**{**arguments, **changes})
        if isinstance(asked.max_epochs, bool) or int(asked.max_epochs) != asked.max_epochs or asked.max_epochs < 1:
            raise ValueError(f"`max_epochs` must be a whole number of at least 1, not {asked.max_epochs!r}.")
        self._training_cells(asked.batch_size)
        plan_kwargs = asked.plan_kwargs or {}
        check_plan_kwargs(self._training_plan_cls, plan_kwargs)
        check_ranges(plan_kwargs, _PLAN)
        # of models whose plan goes on where the last one ended
        state = {"state": asked.state} if hasattr(asked, "state") else {}
        trainer_kwargs = dict(asked.trainer_kwargs)
        splitter = self._data_splitter_cls(
            self.adata_manager,
            train_size=asked.train_size,
            validation_size=asked.validation_size,
            batch_size=asked.batch_size,
            shuffle_set_split=asked.shuffle_set_split,
            distributed_sampler=use_distributed_sampler(trainer_kwargs.get("strategy")),
            load_sparse_tensor=asked.load_sparse_tensor,
            **(asked.datasplitter_kwargs or {}),
        )
        trainer_kwargs.setdefault("early_stopping", asked.early_stopping)
        return self._train_runner_cls(
            self,
            training_plan=self._training_plan_cls(self.module, **plan_kwargs, **state),
            data_splitter=splitter,
            max_epochs=int(asked.max_epochs),
            accelerator=asked.accelerator,
            devices=asked.devices,
            **trainer_kwargs,
        )

    def _after_training(self, plan: LightningModule) -> None:
        """What a model does once its training has ended, by itself or by an interrupt."""


def check_plan_kwargs(plan_cls: type, plan_kwargs: Mapping[str, Any]) -> None:
    """Reject misspelt settings: scvi-tools would pass them on to the loss and ignore them."""
    known = [
        name
        for name, parameter in inspect.signature(plan_cls.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "state"
    ]
    unknown = sorted(set(plan_kwargs) - set(known))
    if unknown:
        raise TypeError(f"`plan_kwargs` does not know {unknown}. {plan_cls.__name__} takes {known}.")
