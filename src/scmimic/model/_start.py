"""What a count model knows of its data before it learns: library sizes and the types' average profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS

if TYPE_CHECKING:
    from scvi.model.base import BaseModelClass


def start_from_data(model: BaseModelClass, x: np.ndarray | sp.spmatrix, label_baseline: float = 0.0) -> None:
    """Write the library statistics and, where it has one, the label baseline into the model's count decoder.

    Parameters
    ----------
    model
        A model whose ``module.decoder`` is a :class:`~scmimic.nn.CountDecoder`, with its AnnData registered.
    x
        The registered counts, cells x genes.
    label_baseline
        Share of the log ratio of a label's profile to that of all cells.
    """
    manager, decoder = model.adata_manager, model.module.decoder
    if REGISTRY_KEYS.SIZE_FACTOR_KEY in manager.data_registry:
        size = np.asarray(manager.get_from_registry(REGISTRY_KEYS.SIZE_FACTOR_KEY), dtype=np.float64).ravel()
    else:
        size = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
    log_size = np.log(size)
    decoder.log_library_mean.fill_(float(log_size.mean()))
    decoder.log_library_std.fill_(float(max(log_size.std(), 1e-3)))
    if decoder.label_baseline is not None:
        labels = manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY).ravel().astype(np.int64)
        profiles = label_profiles(x, labels, decoder.label_baseline.shape[0])
        decoder.label_baseline.copy_(torch.as_tensor(label_baseline * np.log(profiles / profiles.mean(0))))


def label_profiles(x: np.ndarray | sp.spmatrix, labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Share of each gene in the counts of each label, ``(n_labels, n_genes)``; every share is positive.

    Each label is given one further cell of median size with the average profile of all cells, so that genes which a
    label happens to lack keep a small share, and a label without cells has the average profile.
    """
    x = sp.csr_matrix(x) if sp.issparse(x) else x
    members = sp.csr_matrix((np.ones(len(labels)), (labels, np.arange(len(labels)))), shape=(n_labels, len(labels)))
    counts = members @ x
    counts = np.asarray(counts.toarray() if sp.issparse(counts) else counts, dtype=np.float64)
    average = counts.sum(0) + 0.5
    average /= average.sum()
    one_cell = float(np.median(np.asarray(x.sum(axis=1))))
    return (counts + one_cell * average) / (counts.sum(1, keepdims=True) + one_cell)
