"""ACTINN: automated identification of cell types (Ma and Pellegrini 2020), the conditioner of ACTIVA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from lightning.pytorch import LightningModule
from scvi import REGISTRY_KEYS

from scmimic import _keys
from scmimic._arguments import (
    COLUMN,
    COUNT_OR_NONE,
    FLAG,
    NON_NEGATIVE,
    ORDERED,
    Choice,
    check_arguments,
    check_rows,
    check_widths,
    shown,
)
from scmimic.cells import ANNDATA, Value
from scmimic.model.actinn._module import ACTINNModule
from scmimic.model.actinn._plan import ClassifierTrainingPlan
from scmimic.model.base._fields import anndata_fields, register
from scmimic.model.base._model import CellModel
from scmimic.model.base._streamed import StreamedCells
from scmimic.nn import ACTINNClassifier

_KINDS = {"filter_genes": FLAG, "input_transform": Choice(("log2", "none"))}


class ACTINN(CellModel):
    """Cell-type classifier of three small layers (ACTINN).

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata`: counts, or any non-negative linear expression. Values are scaled to
        10,000 per cell and log2(1 + x) inside, so that training and query data need the same genes but no common depth.
    n_hidden
        Widths of the hidden layers; 100, 50 and 25 as published.
    class_weights
        ``"balanced"`` weighs each type by the inverse of its frequency, which helps rare types; a dict gives a weight
        for every type. None (default, as published) weighs every cell alike.
    filter_genes
        Use only the genes within the 1st to 99th percentile of total expression, and among these within the same
        percentiles of the coefficient of variation, as the original program does; the others enter as zero. Off by
        default: the highest percentile holds strong markers.
    input_transform
        ``"log2"`` as published, or ``"none"`` for values that are to be used as they are.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    See Also
    --------
    scmimic.model.ACTIVA : Generates cells of the types that it classifies.
    scmimic.metrics.label_agreement : Do classifiers take generated cells for their type?

    Notes
    -----
    Weights start Xavier-uniform with biases of 0.01, as in the authors' PyTorch program; the original TensorFlow
    program has zero biases.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTINN(adata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.predict().shape
    (200,)
    """

    _module_cls = ACTINNModule
    _training_plan_cls = ClassifierTrainingPlan
    _takes_any_scale = True

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        n_hidden: Sequence[int] = (100, 50, 25),
        class_weights: Literal["balanced"] | dict[str, float] | None = None,
        filter_genes: bool = False,
        input_transform: Literal["log2", "none"] = "log2",
        registry: dict[str, Any] | None = None,
    ):
        check_arguments(locals(), _KINDS)
        n_hidden = check_widths("n_hidden", n_hidden)
        super().__init__(adata, registry)
        self._remember_registration()
        n_labels = len(self.label_categories_)
        if n_labels < 2:
            raise ValueError(
                f"A classifier needs at least two types, but `adata.obs[{self.labels_key_!r}]` holds "
                f"{self.label_categories_} besides unlabelled cells."
            )
        n_input = self.summary_stats.n_vars
        network = ACTINNClassifier(n_input, n_labels, n_hidden=n_hidden, input_transform=input_transform)
        network.uses_all_genes = not filter_genes
        self._weights_of = class_weights
        self.module = self._module_cls(network, None if class_weights is None else torch.ones(n_labels))
        if adata is not None:
            self._start()
        self._model_summary_string = f"ACTINN classifier: {n_input} genes, hidden layers {tuple(n_hidden)}"
        self.init_params_ = self._get_init_params(locals())

    def _start(self) -> None:
        if not self.module.classifier.uses_all_genes:
            self.module.classifier.gene_mask.copy_(torch.as_tensor(expressed_genes(self._expression())))
        if (weights := self._class_weights(self._weights_of)) is not None:
            self.module.class_weights.copy_(weights)

    def _class_weights(self, class_weights) -> torch.Tensor | None:
        if class_weights is None:
            return None
        codes = self._label_array() if self._stream is None else self._stream.labels
        counts = np.bincount(codes, minlength=len(self.label_categories_))[: len(self.label_categories_)]
        if not isinstance(class_weights, Mapping):
            if not isinstance(class_weights, str) or class_weights != "balanced":
                raise ValueError(f"`class_weights` must be 'balanced', a dict or None, not {shown(class_weights)}.")
            return torch.as_tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
        labels = self._labels
        assert labels is not None
        weights = {labels.code(value): float(weight) for value, weight in class_weights.items()}
        missing = [value for code, value in enumerate(labels.values) if code not in weights]
        if missing:
            raise ValueError(f"`class_weights` has no weight for {missing}.")
        for weight in class_weights.values():
            NON_NEGATIVE.check(class_weights=weight)
        return torch.tensor([weights[code] for code in range(len(labels.values))])

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        labels_key: str,
        unlabeled_category: Value | None = _keys.UNLABELED,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x genes: counts, or any non-negative linear expression (not log-transformed).
        layer
            Layer that holds the expression; None: ``adata.X``.
        labels_key
            Column of ``adata.obs`` with the type of each cell: text, numbers, truth values or categories of these.
        unlabeled_category
            Value in that column that means "no type known"; these cells are not trained on. None: all are types.
        **kwargs
            Passed on by scvi-tools when it transfers a registration.

        Raises
        ------
        KeyError
            If the layer or the column does not exist.
        ValueError
            If values are NaN or negative, labels are missing, of several kinds or all unknown, or gene names repeat.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        COLUMN.check(labels_key=labels_key)
        field_list = anndata_fields(adata, layer=layer, labels_key=labels_key, unlabeled_category=unlabeled_category)
        register(cls, adata, field_list, setup_method_args, **kwargs)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 1.0,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int = 128,
        early_stopping: bool = False,
        datasplitter_kwargs: dict | None = None,
        plan_kwargs: dict | None = None,
        datamodule: StreamedCells | None = None,
        **trainer_kwargs,
    ) -> None:
        """Train the classifier.

        Parameters
        ----------
        max_epochs
            Passes over the data. None: 50 as published, or as many more as 2,000 steps need: with the published
            learning rate of 1e-4, 50 epochs of a few thousand cells end long before the loss is flat.
        accelerator, devices
            As in scvi-tools.
        train_size
            Fraction of cells to train on. All by default: the published program keeps none back.
        validation_size
            Fraction of cells to validate on.
        shuffle_set_split
            Shuffle before splitting.
        load_sparse_tensor
            Move sparse tensors to the device.
        batch_size
            Cells per step.
        early_stopping
            Stop when the monitored metric no longer falls; needs validation cells.
        datasplitter_kwargs
            Passed to :class:`scvi.dataloaders.DataSplitter`.
        plan_kwargs
            Passed to :class:`scmimic.train.ClassifierTrainingPlan`: ``lr``, ``weight_decay``, ``lr_decay``,
            ``lr_decay_steps``.
        datamodule
            Cells on disk to train on, as ``setup_annbatch`` gives them; None: those that the model was made with, in
            memory. `shuffle_set_split` and `load_sparse_tensor` then say nothing.
        **trainer_kwargs
            Passed to :class:`scvi.train.Trainer`, such as ``strategy="ddp"``.

        Raises
        ------
        ValueError
            If an argument is out of range, or there is no batch to train on.
        TypeError
            If an argument is of another kind, or `plan_kwargs` holds an unknown setting.
        RuntimeError
            If nothing finite was learned. As after any other error, the model is what it was before.

        Notes
        -----
        Ctrl-C ends the training and keeps what was learned; ``was_interrupted_`` tells. SIGTERM does too, and then
        ends the process by `SystemExit`. A loss that is not finite ends the training with the weights of the last good
        epoch. See the user guide on trainings that end early.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTINN(adata, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.is_trained
        True
        """
        self._check_training(locals())
        if max_epochs is None:
            steps_per_epoch = max((datamodule or self.adata).n_obs // batch_size, 1)
            max_epochs = max(50, -(-2000 // steps_per_epoch))
        if early_stopping:
            trainer_kwargs.setdefault("early_stopping_monitor", "validation_loss")
        self._train(
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            load_sparse_tensor=load_sparse_tensor,
            batch_size=batch_size,
            early_stopping=early_stopping,
            datasplitter_kwargs=datasplitter_kwargs,
            plan_kwargs=plan_kwargs,
            datamodule=datamodule,
            **trainer_kwargs,
        )

    @torch.inference_mode()
    def _after_training(self, plan: LightningModule) -> None:
        cells = next(iter(self._training_batches()))[REGISTRY_KEYS.X_KEY][:512].to(self.device)
        self._check_useful("the probabilities that it gives to types", self.module.classifier(cells).softmax(-1))

    @torch.inference_mode()
    def predict(
        self,
        adata: AnnData | None = None,
        *,
        indices: Sequence[int] | None = None,
        soft: bool = False,
        batch_size: int | None = None,
    ) -> pd.Series | pd.DataFrame:
        """Predict the type of each cell.

        Parameters
        ----------
        adata
            Data with the training genes in the training order; it needs no labels. None: the training data.
        indices
            Cells to predict; None: all.
        soft
            Return the probability of every type instead of the most probable one.
        batch_size
            Cells per pass.

        Returns
        -------
        Series of types in the type of the training column, or DataFrame of probabilities (cells x types), indexed by
        ``obs_names``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the genes or the units differ, or the training data changed.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTINN.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTINN(adata, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.predict(adata).shape
        (60,)
        >>> model.predict(adata, soft=True).shape
        (60, 3)
        """
        ANNDATA.or_none.check(adata=adata)
        ORDERED.check(indices=indices)
        FLAG.check(soft=soft)
        COUNT_OR_NONE.check(batch_size=batch_size)
        self._check_trained()
        data = self._expression_data() if adata is None else adata
        return classify_cells(self, data, indices=indices, soft=soft, batch_size=batch_size)


def expressed_genes(x) -> np.ndarray:
    """Genes within the 1st to 99th percentile of total expression, then of the coefficient of variation.

    Parameters
    ----------
    x
        Cells x genes; scaled to 10,000 per cell and log2(1 + x) here.

    Returns
    -------
    Boolean mask of shape ``(n_genes,)``.
    """
    x = sp.csr_matrix(x, dtype=np.float64)
    totals = np.asarray(x.sum(1)).ravel()
    x = sp.diags(1e4 / np.maximum(totals, 1e-8)) @ x
    x.data = np.log2(1 + x.data)
    total = np.asarray(x.sum(0)).ravel()
    keep = (total >= np.percentile(total, 1)) & (total <= np.percentile(total, 99))
    mean = total / x.shape[0]
    square = np.asarray(x.multiply(x).sum(0)).ravel() / x.shape[0]
    cv = np.sqrt(np.maximum(square - mean**2, 0)) / np.maximum(mean, 1e-12)
    low, high = np.percentile(cv[keep], [1, 99])
    return keep & (cv >= low) & (cv <= high)


def classify_cells(
    model, data: AnnData, *, indices: Sequence[int] | None, soft: bool, batch_size: int | None
) -> pd.Series | pd.DataFrame:
    """Run ``model.module.classifier`` over cells, chunk by chunk; shared by ACTINN and ACTIVA."""
    classifier = model.module.classifier
    scales = isinstance(classifier, ACTINNClassifier) and classifier.input_transform == "log2"
    x = model._query_matrix(data, any_scale=scales)
    rows = check_rows("indices", indices, data.n_obs)
    model.module.eval()
    batches = model._dense_batches(x, rows, batch_size or 1024)
    parts = [classifier(cells).softmax(-1).cpu().numpy() for cells in batches]
    probability = np.concatenate(parts) if parts else np.empty((0, len(model.label_categories_)), np.float32)
    names = data.obs_names[rows]
    if soft:
        return pd.DataFrame(probability, index=names, columns=pd.Index(list(model._labels.values)))
    return model._labels.restore(probability.argmax(1), names)
