"""How real a model's cells are, looked at while it is trained (figure S4 of the MichiGAN paper)."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from scvi.model.base import BaseModelClass

from scmimic._arguments import COUNT, SEED, THREADS, Range
from scmimic._arrays import Matrix, as_matrix, prepare_expression, sample_rows
from scmimic.metrics import inception_score, random_forest_error
from scmimic.model.base._generative import GenerativeModel
from scmimic.model.base._runner import ModelCallback

logger = logging.getLogger(__name__)

# The folds of the forest need some cells each.
_FEWEST = 20
# Training cells that lend their codes, labels and library sizes; encoding all of a large data set would cost an epoch.
_MAX_SOURCES = 10_000


class RealismCallback(ModelCallback):
    """Random-forest error and inception score every few epochs, in ``history`` (MichiGAN, figure S4).

    For ``train(callbacks=[...])`` of any model that generates. The cells are made by a copy of the networks, and no
    random number of the training is used: weights, batch norm statistics and losses are those of a training without it.

    Parameters
    ----------
    every_n_epochs
        Epochs between two looks; the last epoch is one in any case.
    n_cells
        Generated cells, and real ones to compare them with, at most. With 1,000 the error has a standard deviation of
        1.1 % by chance; the paper takes 3,000.
    n_trees
        Trees of each forest. 100 are enough to see a course; the paper's program takes 1,000, and so do
        :func:`scmimic.metrics.random_forest_error` and :func:`scmimic.metrics.inception_score`.
    seed
        Seed of the cells drawn and generated and of the forests, the same at each look, so that the curves change with
        the weights alone.
    n_jobs
        Threads of the forests.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    **What is compared.** Real cells are those of the validation set (``train_size`` below 1), and the history has
    ``random_forest_error_validation`` and ``inception_score_validation``. A training without one has
    ``random_forest_error_train`` and ``inception_score_train``: real cells are then drawn from the training cells, and
    a model that copies them looks real. Counts and scaled counts are scaled to 10,000 per cell and log1p'd, other
    values are compared as they are. The inception score needs two labels or more among the real cells; cells without a
    label are left out. :func:`scmimic.pl.training` draws both.

    **What is generated.** Cells of all types in the proportions of the training data, as ``generate(n_cells)`` gives
    them after training: autoencoders draw codes from the posteriors of training cells (10,000 of them at most), GANs
    from N(0, I), a :class:`~scmimic.model.MichiGAN` from the codes of training cells, by the averaged generator with
    statistics of its own. Dispersion, spread and margins are not calibrated, which only happens at the end of
    a training: its cells can be better than the last point of the curve.

    **What it costs.** For each look one copy of the networks, which is freed again, and the time of two forests: for
    1,000 cells of 1,000 genes some five seconds of one core, whatever the number of training cells.

    Examples
    --------
    >>> import scmimic as sm
    >>> from scmimic.train import RealismCallback
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTIVA(adata, n_latent=8, n_hidden=(32,))
    >>> look = RealismCallback(every_n_epochs=2, n_trees=20)
    >>> model.train(max_epochs=4, train_size=0.7, callbacks=[look], enable_progress_bar=False)
    >>> list(model.history["random_forest_error_validation"].index)
    [1, 3]
    """

    def __init__(
        self, *, every_n_epochs: int = 10, n_cells: int = 1000, n_trees: int = 100, seed: int = 0, n_jobs: int = 1
    ):
        COUNT.check(every_n_epochs=every_n_epochs, n_trees=n_trees)
        Range(_FEWEST, whole=True).check(n_cells=n_cells)
        SEED.check(seed=seed)
        THREADS.check(n_jobs=n_jobs)
        super().__init__()
        self.every_n_epochs, self.n_cells, self.seed = every_n_epochs, n_cells, seed
        self.n_trees, self.n_jobs = n_trees, n_jobs
        self._forget()

    def attach(self, model: BaseModelClass) -> None:
        """Take the model, if it generates."""
        if not isinstance(model, GenerativeModel):
            raise TypeError(f"A RealismCallback looks at generated cells, and {type(model).__name__} makes none.")
        super().attach(model)

    def _forget(self) -> None:
        self.model: GenerativeModel | None = None
        self._real: Matrix | None = None
        self._labels: np.ndarray | None = None
        self._sources = np.empty(0, dtype=np.int64)
        self._which = ""

    def on_train_start(self, trainer: Trainer, plan: LightningModule) -> None:
        """Draw the real cells, and those that lend their codes."""
        if self.model is None:
            raise RuntimeError("A RealismCallback is for `train(callbacks=[...])` of a model of scmimic.")
        if self.model.adata is None:
            raise ValueError("A RealismCallback compares cells in memory: leave it out of a training on `datamodule`.")
        rng = np.random.default_rng(self.seed)
        splitter: Any = trainer.datamodule  # type: ignore[attr-defined]
        parts = (splitter.train_idx, splitter.val_idx)
        train, validation = (np.sort(np.asarray(rows, dtype=np.int64)) for rows in parts)
        labels = self._labels_of_cells()
        known = np.ones(self.model.adata.n_obs, dtype=bool) if labels is None else labels >= 0
        self._which = "validation" if len(validation) else "train"
        held_out = validation[known[validation]] if len(validation) else train[known[train]]
        if len(held_out) < _FEWEST:
            kind = f"{'validation' if len(validation) else 'training'} cells{'' if labels is None else ' with a label'}"
            way_out = (
                "give a larger `validation_size`, or train without validation cells, when training cells are compared."
                if len(validation)
                else "leave it out."
            )
            raise ValueError(
                f"There are {len(held_out)} {kind}, and a RealismCallback needs {_FEWEST} or more: {way_out}"
            )
        rows = held_out[sample_rows(len(held_out), self.n_cells, rng)]
        self._sources = train[sample_rows(len(train), _MAX_SOURCES, rng)]
        self._real = self._comparable(self.model._expression()[rows], "the real cells")
        self._labels = None if labels is None or len(np.unique(labels[rows])) < 2 else labels[rows]
        if self._which == "train":
            logger.info(
                "There are no validation cells: generated cells are compared with training cells, and a model that "
                "copies these looks real. Train with `train_size` below 1 to compare them with cells held out."
            )
        if labels is not None and self._labels is None:
            logger.info("There is no inception score: all real cells that are compared have the same label.")

    def on_train_epoch_end(self, trainer: Trainer, plan: LightningModule) -> None:
        """Look at the cells of the present weights, where the epoch is one to look at."""
        epoch = trainer.current_epoch + 1
        if trainer.is_global_zero and (epoch % self.every_n_epochs == 0 or epoch == trainer.max_epochs):
            for name, value in self._look().items():
                plan.log(f"{name}_{self._which}", value, on_step=False, on_epoch=True, rank_zero_only=True)

    def teardown(self, trainer: Trainer, plan: LightningModule, stage: str) -> None:
        """Keep neither model nor cells."""
        self._forget()

    def on_exception(self, trainer: Trainer, plan: LightningModule, exception: BaseException) -> None:
        """Keep neither model nor cells."""
        self._forget()

    def _labels_of_cells(self) -> np.ndarray | None:
        """Codes of the registered labels, -1 for cells without one; None where there are no labels."""
        model = self.model
        assert model is not None
        # categories that a model has made itself are no labels of the cells
        if model.registry_["setup_args"].get("labels_key") is None or not model.label_categories_:
            return None
        labels = model._label_array()
        return np.where(labels < len(model.label_categories_), labels, -1)

    def _comparable(self, x: Any, name: str) -> Matrix:
        """Expression in the space in which cells are compared."""
        assert self.model is not None
        x = as_matrix(x, name, dtype=np.float32)
        if self.model.expression_space_.units not in ("counts", "linear"):
            return x
        # a generator without bounds may make a little less than nothing
        x = np.maximum(x, 0) if isinstance(x, np.ndarray) else x.maximum(0)
        return prepare_expression(x, name, True, 1e4)

    def _look(self) -> dict[str, float]:
        """The measures of the present weights; none where these make no cells."""
        with isolate_rng():
            try:
                cells = self._cells()
            except RuntimeError as reason:
                logger.warning("The realism of this epoch's cells is not known. %s", reason)
                return {}
            error = random_forest_error(
                self._real, cells, n_cells=None, n_trees=self.n_trees, seed=self.seed, n_jobs=self.n_jobs
            )
            if self._labels is None:
                return {"random_forest_error": error}
            score = inception_score(
                self._real, self._labels, cells, n_cells=None, n_trees=self.n_trees, seed=self.seed, n_jobs=self.n_jobs
            )
        return {"random_forest_error": error, "inception_score": score}

    def _cells(self) -> Matrix:
        """Cells of a copy of the model, which has all that the training goes on with to itself."""
        assert self.model is not None
        shadow = copy.copy(self.model)
        module = self.model.module
        # gradients are as large as the networks, and of no use here
        without = {id(p.grad): None for p in module.parameters() if p.grad is not None}
        shadow.module = copy.deepcopy(module, without).eval()
        shadow.train_indices_, shadow.is_trained_ = self._sources, True
        with torch.no_grad():
            shadow._prepare_generation()
        return self._comparable(shadow.generate(self.n_cells, seed=self.seed).X, "the generated cells")
