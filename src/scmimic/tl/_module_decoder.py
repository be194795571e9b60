"""Cells of given codes from models of scvi-tools that have no `decode`, such as :class:`scvi.model.SCVI`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from scvi import REGISTRY_KEYS

from scmimic._compat import MODULE_KEYS
from scmimic.cells import cell_names, fingerprint
from scmimic.model.base import library_sizes, weights_sample

_BLOCK = 1024
_NEEDED = {MODULE_KEYS.Z_KEY, MODULE_KEYS.LIBRARY_KEY, MODULE_KEYS.BATCH_INDEX_KEY}
_COVARIATES = {
    REGISTRY_KEYS.CONT_COVS_KEY: "continuous_covariate_keys",
    REGISTRY_KEYS.CAT_COVS_KEY: "categorical_covariate_keys",
    REGISTRY_KEYS.SIZE_FACTOR_KEY: "size_factor_key",
}


def has_module_decoder(model: Any) -> bool:
    """Whether the model's module makes a distribution of cells from codes, library sizes and batches alone."""
    module = getattr(model, "module", None)
    generative = getattr(module, "generative", None)
    if not isinstance(module, torch.nn.Module) or not callable(generative):
        return False
    parameters = inspect.signature(generative).parameters
    required = {name for name, p in parameters.items() if p.default is p.empty}
    return set(parameters) >= _NEEDED and required <= _NEEDED | {MODULE_KEYS.Y_KEY}


def own_random_numbers(model: Any) -> AbstractContextManager[None]:
    """A block after which torch's generators are as they were, on the CPU and where the model is."""
    device = getattr(getattr(model, "module", None), "device", torch.device("cpu"))
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


class ModuleDecoder:
    """`decode` for a trained model of scvi-tools, from the generative part of its module.

    A code says nothing of library size and batch: each takes those of a training cell, drawn at random.
    """

    def __init__(self, model: Any) -> None:
        name = type(model).__name__
        if model.adata is None:
            raise ValueError(f"This {name} was loaded without data, whose totals it needs. Load it with `adata`.")
        if getattr(model, "minified_data_type", None) is not None:
            raise ValueError(f"The data of this {name} are minified; their library sizes are needed.")
        if getattr(model.module, "latent_distribution", "normal") != "normal":
            raise ValueError(f"The codes of this {name} are not normal. Train it with latent_distribution='normal'.")
        args = model.registry_["setup_args"]
        if given := [argument for argument in _COVARIATES.values() if args.get(argument)]:
            raise ValueError(f"This {name} was set up with {given}, of which a code says nothing: it cannot decode.")
        self.model = model
        self.labels_key_, self.batch_key_ = args.get("labels_key"), args.get("batch_key")
        self.label_categories_ = self._categories(REGISTRY_KEYS.LABELS_KEY)
        self.batch_categories_ = self._categories(REGISTRY_KEYS.BATCH_KEY)

    def decode(
        self,
        z: np.ndarray,
        *,
        labels: str | None = None,
        library_size: float | Sequence[float] | None = None,
        transform_batch: str | None = None,
        share_noise: bool = False,
        seed: int,
    ) -> AnnData:
        """Cells as the model's likelihood draws them.

        Parameters
        ----------
        z
            Codes, shape ``(n, n_latent)``.
        labels, transform_batch
            Label and batch of all cells. None: those of the training cells drawn.
        library_size
            Counts per cell, one number or one for each. None: those of the training cells drawn.
        share_noise
            Draw one training cell for all.
        seed
            Same seed, same cells.
        """
        module, n = self.model.module, len(z)
        batch, label = self._registered(REGISTRY_KEYS.BATCH_KEY), self._registered(REGISTRY_KEYS.LABELS_KEY)
        fits = np.ones(len(batch), dtype=bool)
        if transform_batch is not None:
            fits &= batch == _position(transform_batch, self.batch_categories_, "transform_batch")
        if labels is not None:
            # a label that was never seen in the batch takes the library sizes of its other batches
            of_label = label == _position(labels, self.label_categories_, "labels")
            fits = fits & of_label if (fits & of_label).any() else of_label
        source = np.random.default_rng([4, seed]).choice(np.flatnonzero(fits), 1 if share_noise else n)
        source = np.resize(source, n)
        if library_size is None:
            library = self._registered(REGISTRY_KEYS.X_KEY, sum_genes=True)[source]
        else:
            library = library_sizes(library_size, n)
        batch, label = batch[source].astype(np.int64), label[source].astype(np.int64)
        if transform_batch is not None:
            batch[:] = _position(transform_batch, self.batch_categories_, "transform_batch")
        columns = {
            MODULE_KEYS.Z_KEY: np.asarray(z, dtype=np.float32),
            MODULE_KEYS.LIBRARY_KEY: np.log(library).astype(np.float32)[:, None],
            MODULE_KEYS.BATCH_INDEX_KEY: batch[:, None],
            MODULE_KEYS.Y_KEY: label[:, None],
        }
        known = inspect.signature(module.generative).parameters
        tensors = {name: torch.as_tensor(column) for name, column in columns.items() if name in known}
        parts = []
        module.eval()
        with own_random_numbers(self.model), torch.inference_mode():
            torch.manual_seed(seed)
            for start in range(0, n, _BLOCK):
                block = {name: column[start : start + _BLOCK].to(module.device) for name, column in tensors.items()}
                px = module.generative(**block)[MODULE_KEYS.PX_KEY]
                parts.append(sp.csr_matrix(px.sample().cpu().numpy()))
        asked = {"model": type(self.model).__name__, "method": "decode", "seed": seed}
        names = cell_names(n, asked, fingerprint(weights_sample(module), z, library, label, batch))
        obs = pd.DataFrame(index=names)
        return AnnData(sp.vstack(parts, format="csr"), obs=obs, var=pd.DataFrame(index=self.model.adata.var_names))

    def _registered(self, key: str, *, sum_genes: bool = False) -> np.ndarray:
        # labels and batches in the data are those of the model that was set up last
        self.model.adata_manager.validate()
        values = self.model.adata_manager.get_from_registry(key)
        return np.asarray(values.sum(axis=1) if sum_genes else values).ravel()

    def _categories(self, key: str) -> list[str]:
        return [str(name) for name in self.model.adata_manager.get_state_registry(key)["categorical_mapping"]]


def _position(name: str, categories: list[str], argument: str) -> int:
    if str(name) not in categories:
        raise ValueError(f"`{argument}={name!r}` is none of those that the model was trained with: {categories}.")
    return categories.index(str(name))
