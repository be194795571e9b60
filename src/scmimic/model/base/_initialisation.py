"""What a model knows of its data before it learns: library sizes, scales of genes, the types' average profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
import torch
from scvi import REGISTRY_KEYS
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from scmimic._arrays import canonical
from scmimic.model.base._vae_module import SMALLEST_SIZE
from scmimic.nn import GeneProjection

if TYPE_CHECKING:
    from scmimic.model.base._registration import RegisteredModel


_BLOCK = 4096
# more cells do not move the leading components
_PCA_CELLS = 20_000
_FIRST_COMPONENT_STD = 3.0


def start_from_data(model: RegisteredModel, x: np.ndarray | sp.spmatrix, label_baseline: float = 0.0) -> None:
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
    decoder = model.module.decoder
    write_library_statistics(model, x)
    if decoder.label_baseline is not None:
        profiles = label_profiles(x, model._label_array(), decoder.label_baseline.shape[0])
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


def start_mean_decoder(model: RegisteredModel, x: np.ndarray | sp.spmatrix) -> None:
    """Write library statistics, scales of genes and mean log expression into a model with a MeanDecoder.

    Parameters
    ----------
    model
        A model whose ``module`` is a :class:`~scmimic.module.BetaTCVAEModule`, with its AnnData registered.
    x
        The registered expression, cells x genes.
    """
    module = model.module
    log_size = write_library_statistics(model, x)
    log_factor = None
    if module.is_count:
        average = np.asarray(x.mean(axis=0), dtype=np.float64).ravel()
        module.decoder.start_at(torch.as_tensor(np.log(average + 0.5 / x.shape[0]), dtype=torch.float32))
        if module.library == "observed":
            log_factor = module.decoder.log_library_mean.item() - log_size
    moments = gene_moments(x, module.is_count, log_factor)
    if not module.standardize:
        moments[1] = 1.0
    if isinstance(module.encoder.input_map, GeneProjection):
        weight, bias = principal_components(x, module.is_count, log_factor, moments, len(module.encoder.input_map.bias))
        module.encoder.input_map.set(torch.as_tensor(weight), torch.as_tensor(bias))
    elif module.standardize:
        module.encoder.input_map.set(*torch.as_tensor(moments))
    if module.standardize and module.decoder.standard is not None:
        module.decoder.standard.set(*torch.as_tensor(moments))


def write_library_statistics(model: RegisteredModel, x: np.ndarray | sp.spmatrix) -> np.ndarray:
    """Write what is known of library sizes into the module, and return the log of each cell's.

    That is the counts that a size factor stands for, and mean and standard deviation of the log library size.
    """
    module, manager = model.module, model.adata_manager
    size = np.asarray(x.sum(axis=1), dtype=np.float64).ravel()
    if REGISTRY_KEYS.SIZE_FACTOR_KEY in manager.data_registry:
        factors = np.asarray(manager.get_from_registry(REGISTRY_KEYS.SIZE_FACTOR_KEY), dtype=np.float64).ravel()
        module.log_counts_per_size_factor.fill_(float(np.log(max(size.sum(), SMALLEST_SIZE) / factors.sum())))
        size = factors
    log_size = np.log(np.maximum(size, np.finfo(float).tiny)) + module.log_counts_per_size_factor.item()
    log_size = np.maximum(log_size, np.log(SMALLEST_SIZE))
    module.decoder.log_library_mean.fill_(float(log_size.mean()))
    module.decoder.log_library_std.fill_(float(max(log_size.std(), 1e-3)))
    return log_size


def gene_moments(x: np.ndarray | sp.spmatrix, log1p: bool, log_factor: np.ndarray | None = None) -> np.ndarray:
    """Mean and standard deviation of every gene, ``(2, n_genes)``, from blocks of cells.

    No standard deviation is smaller than a tenth of that of the most variable tenth of the genes.

    Parameters
    ----------
    x
        Cells x genes.
    log1p
        Of log(1 + x).
    log_factor
        Log of a factor per cell, by which counts are multiplied first.
    """
    scaler = StandardScaler(with_mean=not sp.issparse(x))
    for start in range(0, x.shape[0], _BLOCK):
        rows = slice(start, start + _BLOCK)
        scaler.partial_fit(_transform(x[rows], log1p, None if log_factor is None else log_factor[rows]))
    # a gene of one cell in thousands would become the network's largest input by far
    return np.stack([scaler.mean_, np.maximum(scaler.scale_, 0.1 * np.quantile(scaler.scale_, 0.9))])


def principal_components(
    x: np.ndarray | sp.spmatrix,
    log1p: bool,
    log_factor: np.ndarray | None,
    moments: np.ndarray,
    n_comps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Map from the transformed genes to the principal components of the standardised ones: weight and bias.

    Parameters
    ----------
    x, log1p, log_factor
        As in :func:`gene_moments`.
    moments
        Mean and standard deviation of every gene.
    n_comps
        Number of components; fewer come back where the cells allow fewer.
    """
    rows = np.sort(np.random.default_rng(0).permutation(x.shape[0])[:_PCA_CELLS])
    sample = _transform(x[rows], log1p, None if log_factor is None else log_factor[rows])
    mean, inverse = moments[0], 1 / moments[1]
    sample = sample @ sp.diags(inverse) if sp.issparse(sample) else sample * inverse
    n_comps = min(n_comps, min(sample.shape) - 1)
    if n_comps < 1:
        return np.zeros((0, x.shape[1])), np.zeros(0)
    pca = PCA(n_comps, svd_solver="arpack", random_state=0).fit(sample)
    # on the scale of the first component; whitened, the noise of the last ones would drown the rest
    weight = pca.components_ * inverse / np.sqrt(max(pca.explained_variance_[0], 1e-12)) * _FIRST_COMPONENT_STD
    return weight, -weight @ mean


def _transform(x: np.ndarray | sp.spmatrix, log1p: bool, log_factor: np.ndarray | None) -> np.ndarray | sp.spmatrix:
    """Cells as the encoder reads them."""
    x = canonical(x.astype(np.float64))
    if log_factor is not None:
        factor = np.exp(log_factor)
        x = sp.diags(factor) @ x if sp.issparse(x) else factor[:, None] * x
    if log1p:
        x = x.log1p() if sp.issparse(x) else np.log1p(x)
    return x
