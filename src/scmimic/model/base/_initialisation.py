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
from scmimic.nn import Encoder, GeneProjection, GeneScale, MeanDecoder

if TYPE_CHECKING:
    from scmimic.model.base._registration import RegisteredModel


_BLOCK = 4096
# more cells do not move the leading components
_PCA_CELLS = 20_000
_FIRST_COMPONENT_STD = 3.0
# of the largest standard deviation; components that vary less are rounding errors
_SMALLEST_SHARE = 1e-6


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
    input_map = module.encoder.input_map
    if module.standardize and isinstance(input_map, GeneScale):
        input_map.set(*torch.as_tensor(moments))
    if module.standardize and module.decoder.standard is not None:
        module.decoder.standard.set(*torch.as_tensor(moments))
    if isinstance(input_map, GeneProjection):
        sample = _sample(x, module.is_count, log_factor)
        components = principal_components(sample, moments, len(input_map.bias))
        input_map.set(*map(torch.as_tensor, components))
        if module.decoder.output_map is not None:
            start_at_components(module.encoder, module.decoder, module.n_latent, sample, moments, components)


def start_at_components(
    encoder: Encoder,
    decoder: MeanDecoder,
    n_latent: int,
    sample: np.ndarray | sp.spmatrix,
    moments: np.ndarray,
    components: tuple[np.ndarray, np.ndarray],
) -> None:
    """Let the decoder write principal components, and codes begin as the leading ones, of variance 1.

    Parameters
    ----------
    encoder, decoder
        Networks with a linear path.
    n_latent
        Size of the latent space.
    sample
        Cells, transformed as the encoder reads them.
    moments
        Mean and standard deviation by which genes are standardised.
    components
        Map from transformed genes to principal components, weight and bias; latents beyond them begin at 0.
    """
    weight, bias = components
    assert decoder.standard is not None
    assert decoder.output_map is not None
    # what no component holds, such as the mean of genes that are not standardised, the decoder has from here
    decoder.standard.set(*torch.as_tensor(moments))
    axes = weight * moments[1]
    length = np.linalg.norm(axes, axis=1, keepdims=True)
    decoder.output_map.set(torch.as_tensor(axes / length))
    weight, bias, length = (values[:n_latent] for values in (weight, bias, length[:, 0]))
    codes = sample @ weight.T + bias
    mean, std = codes.mean(axis=0), codes.std(axis=0)
    inverse = np.divide(1, std, out=np.zeros_like(std), where=std > _SMALLEST_SHARE * std.max(initial=0))
    encoder.start_linear_path(torch.as_tensor(np.diag(inverse)), torch.as_tensor(-mean * inverse))
    decoder.start_linear_path(torch.as_tensor(np.diag(std / length)))


def write_covariate_statistics(model: RegisteredModel) -> None:
    """Write mean and standard deviation of the continuous covariates into the module, if there are any."""
    if REGISTRY_KEYS.CONT_COVS_KEY in model.adata_manager.data_registry:
        numbers = np.asarray(model.adata_manager.get_from_registry(REGISTRY_KEYS.CONT_COVS_KEY), dtype=np.float64)
        model.module.design.set(torch.as_tensor(numbers.mean(axis=0)), torch.as_tensor(numbers.std(axis=0)))


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
    sample: np.ndarray | sp.spmatrix, moments: np.ndarray, n_comps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Map from the transformed genes to the principal components of the standardised ones: weight and bias.

    Parameters
    ----------
    sample
        Cells, transformed as the encoder reads them.
    moments
        Mean and standard deviation of every gene.
    n_comps
        Number of components; fewer come back where the cells allow fewer.
    """
    mean, inverse = moments[0], 1 / moments[1]
    standard = sample @ sp.diags(inverse) if sp.issparse(sample) else sample * inverse
    n_comps = min(n_comps, min(sample.shape) - 1)
    if n_comps < 1:
        return np.zeros((0, sample.shape[1])), np.zeros(0)
    pca = PCA(n_comps, svd_solver="arpack", random_state=0).fit(standard)
    # on the scale of the first component; whitened, the noise of the last ones would drown the rest
    weight = pca.components_ * inverse / np.sqrt(max(pca.explained_variance_[0], 1e-12)) * _FIRST_COMPONENT_STD
    return weight, -weight @ mean


def _sample(x: np.ndarray | sp.spmatrix, log1p: bool, log_factor: np.ndarray | None) -> np.ndarray | sp.spmatrix:
    """As many cells as show the leading components, as the encoder reads them."""
    rows = np.sort(np.random.default_rng(0).permutation(x.shape[0])[:_PCA_CELLS])
    return _transform(x[rows], log1p, None if log_factor is None else log_factor[rows])


def _transform(x: np.ndarray | sp.spmatrix, log1p: bool, log_factor: np.ndarray | None) -> np.ndarray | sp.spmatrix:
    """Cells as the encoder reads them."""
    x = canonical(x.astype(np.float64))
    if log_factor is not None:
        factor = np.exp(log_factor)
        x = sp.diags(factor) @ x if sp.issparse(x) else factor[:, None] * x
    if log1p:
        x = x.log1p() if sp.issparse(x) else np.log1p(x)
    return x
