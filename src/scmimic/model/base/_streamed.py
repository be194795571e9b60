"""Training on cells that stay on disk."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData
from lightning.pytorch import LightningDataModule
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from scmimic import _keys
from scmimic._arrays import as_dense, stored_values
from scmimic._progress import progress
from scmimic.cells import Batch, Batches, CellCollection, check_values

Tensors = dict[str, torch.Tensor]

LEAST_BATCH = 3
"""Cells of the least batch: batch norm learns nothing of one."""


class StreamedCells(LightningDataModule):
    """Cells of a collection on disk, as a model trains on them; what a model's ``setup_annbatch`` gives.

    Parameters
    ----------
    collection
        The cells.
    register
        Registers an AnnData, as the ``setup_anndata`` of a model with all its arguments.
    sample_size
        Cells of :attr:`sample`.

    Attributes
    ----------
    registry
        What a model is made with: ``ACTIVA(registry=cells.registry)``.
    sample, manager
        Some cells in memory, drawn at random and registered like all others, and what they are registered with. Start
        values of the networks are theirs; all that generation needs is taken from all cells.
    labels
        Code of the label of each cell.
    batch_size
        Cells of a batch.

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
    >>> cells.n_obs  # doctest: +SKIP
    500
    """

    def __init__(self, collection: CellCollection, register: Callable[..., AnnDataManager], sample_size: int):
        super().__init__()
        self._collection = collection
        shape = (collection.n_obs, len(collection.var))
        # all but the expression is in memory, where scvi-tools numbers it
        without = AnnData(sp.csr_matrix(shape, dtype=np.float32), obs=collection.obs, var=collection.var)
        manager = register(without)
        self.registry: dict[str, Any] = copy.deepcopy(
            {key: value for key, value in manager.registry.items() if key != _keys.FINGERPRINT}
        )
        self._attributes = manager.create_torch_dataset(
            data_and_attributes=[key for key in manager.data_registry if key != REGISTRY_KEYS.X_KEY]
        )
        self.labels = np.asarray(manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel().astype(np.int64)
        self.sample = self._look(collection, sample_size)
        self.manager = register(self.sample, source_registry=self.registry)
        self.batch_size = 128
        self._train = self._validation = slice(0, collection.n_obs)
        self.split()

    @staticmethod
    def _look(collection: CellCollection, size: int) -> AnnData:
        """Look at every value once, and keep some cells."""
        n_obs = collection.n_obs
        rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
        chosen = np.zeros(n_obs, dtype=bool)
        chosen[rng.permutation(n_obs)[:size]] = True
        kept, rows, odd = [], [], False
        with progress(n_obs, "Looking at the cells") as advance:
            for x, index in collection.pieces(slice(0, n_obs)):
                check_values(x, "X of the collection")
                wanted = chosen[index]
                if not odd and (fractional := _fractional(x)) is not None:
                    # one of its kind in the sample, where the checks of counts see it
                    wanted[fractional] = odd = True
                kept.append(x[wanted])
                rows.append(index[wanted])
                advance(len(index))
        x = sp.vstack(kept, format="csr") if sp.issparse(kept[0]) else np.concatenate(kept)
        return AnnData(x, obs=collection.obs.iloc[np.concatenate(rows)].copy(), var=collection.var.copy())

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self._collection.n_obs

    @property
    def n_vars(self) -> int:
        """Number of genes."""
        return len(self._collection.var)

    @property
    def n_train(self) -> int:
        """Number of training cells."""
        return self._train.stop - self._train.start

    @property
    def n_val(self) -> int:
        """Number of validation cells."""
        return self._validation.stop - self._validation.start

    def split(self, train_size: float | None = None, validation_size: float | None = None) -> None:
        """Take the first cells to train on, and those after them to validate on.

        They are a random part of the cells if the collection was written in random order, as it is by default.

        Parameters
        ----------
        train_size
            Fraction to train on; None: what `validation_size` leaves.
        validation_size
            Fraction to validate on; None: what `train_size` leaves.
        """
        if train_size is None:
            train_size = 1 - (validation_size or 0)
        n_train = math.ceil(round(train_size * self.n_obs, 6))
        n_val = self.n_obs - n_train
        if validation_size is not None:
            n_val = min(math.floor(round(validation_size * self.n_obs, 6)), n_val)
        self._train, self._validation = slice(0, n_train), slice(n_train, n_train + n_val)

    def train_dataloader(self) -> Iterable[Tensors]:
        """Training cells, in another random order at each pass; the order is that of torch's seed."""
        rng = np.random.default_rng(int(torch.randint(2**31 - 1, ())))
        batches = self._collection.shuffled(self._train, self.batch_size, rng)
        return _Loader(batches, self._tensors, self.n_train % self.batch_size)

    def val_dataloader(self) -> Iterable[Tensors]:
        """Validation cells, if there are any."""
        if not self.n_val:
            return []
        batches = self._collection.pieces(self._validation, self.batch_size)
        return _Loader(batches, self._tensors, self.n_val % self.batch_size)

    def training_cells(self, cells: np.ndarray | None = None) -> Iterator[Tensors]:
        """The training cells, or these of them, in their order."""
        if cells is None:
            return map(self._tensors, self._collection.pieces(self._train))
        return map(self._tensors, self._collection.at(np.sort(cells)))

    def check_fits(self, registry: Mapping[str, Any], name: str) -> None:
        """Refuse a model that was made for other cells.

        Parameters
        ----------
        registry
            Registration of the model.
        name
            What the model is called.
        """
        if _described(registry) != _described(self.registry):
            raise ValueError(
                f"The cells of `datamodule` have other genes, types or covariates than those that this {name} was "
                f"made for. Make it for them: `{name}(registry=datamodule.registry)`."
            )

    def _tensors(self, batch: Batch) -> Tensors:
        """What a model of scvi-tools reads of some cells."""
        found = {REGISTRY_KEYS.X_KEY: as_dense(batch.x).astype(np.float32, copy=False)}
        found |= self._attributes[batch.rows]
        return {key: torch.as_tensor(values) for key, values in found.items()}


class _Loader:
    """Batches as tensors, without one that is too small for batch norm."""

    def __init__(self, batches: Batches, tensors: Callable[[Batch], Tensors], last: int):
        self._batches, self._tensors, self._is_short = batches, tensors, 0 < last < LEAST_BATCH

    def __len__(self) -> int:
        return len(self._batches) - self._is_short

    def __iter__(self) -> Iterator[Tensors]:
        return map(self._tensors, islice(self._batches, len(self)))


def _fractional(x: Any) -> int | None:
    """The first row with a value that is no whole number; None where there is none."""
    values = stored_values(x)
    where = np.flatnonzero(values.ravel() % 1)
    if not len(where):
        return None
    return int(np.searchsorted(x.indptr, where[0], side="right") - 1 if sp.issparse(x) else where[0] // x.shape[1])


def _described(registry: Mapping[str, Any]) -> list[Any]:
    """Names of the genes, and of the values of each column, as a registration has them."""
    states = {key: entry["state_registry"] for key, entry in registry["field_registries"].items()}
    genes = list(map(str, states[REGISTRY_KEYS.X_KEY]["column_names"]))
    named = {
        key: sorted((name, str(np.asarray(value).tolist())) for name, value in state.items() if "mapping" in name)
        for key, state in states.items()
        if key != REGISTRY_KEYS.X_KEY
    }
    return [genes, {key: names for key, names in named.items() if names}]
