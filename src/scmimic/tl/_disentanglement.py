"""How well the dimensions of a representation keep known factors apart (MichiGAN, sections 2.4 and 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import COLUMNS, COUNT_OR_NONE, KEY, NON_NEGATIVE, SEED, SEVERAL, THREADS
from scmimic._keys import OVERALL
from scmimic.cells import ANNDATA
from scmimic.metrics import (
    FactorScores,
    dci,
    factor_vae_score,
    latent_matching_score,
    sap_score,
    spearman_correlation,
)
from scmimic.metrics.parts import (
    Estimator,
    as_factors,
    as_latent,
    as_variance,
    gap,
    information_matrix,
    mean_scores,
    modularity_of,
)

if TYPE_CHECKING:
    from anndata import AnnData


def disentanglement(
    adata: AnnData,
    *,
    use_rep: str,
    factors: str | Sequence[str],
    use_var: str | None = None,
    n_bins: int = 20,
    factor_bins: int = 4,
    min_std: float = 0.05,
    max_cells: int | None = 12_000,
    seed: int = 0,
    n_jobs: int = 1,
    key_added: str = _keys.DISENTANGLEMENT,
) -> pd.DataFrame:
    """Measure how well the dimensions of a representation keep known factors apart.

    Every metric of disentanglement in :mod:`scmimic.metrics`, and what each dimension has to do with each factor. All
    lie between 0 and 1, higher is better. Put PCA beside every result: on simulated cells it scores well.

    Parameters
    ----------
    adata
        Cells with a representation and known factors of variation.
    use_rep
        Key of `adata.obsm` with the representation, such as the latent means of a model.
    factors
        Columns of `adata.obs`, at least one. Text and categories are levels; an ordered category counts as a number.
        Numbers are levels too where there are at most 20 distinct ones, and are cut into `factor_bins` classes
        otherwise, except where a correlation needs no classes.
    use_var
        Key of `adata.obsm` with the variances of the posteriors whose means `use_rep` holds, for the mutual
        information gap of the paper.
    n_bins
        Bins of equal width of a dimension, for `mig_histogram` and `modularity`; 20 as is the custom.
    factor_bins
        Classes of equal numbers of cells for a continuous factor; quartiles as in the paper.
    min_std
        Dimensions of smaller standard deviation have no vote in `factor_vae`. The default is meant for latents with a
        standard normal prior; set 0 for a representation of small scale.
    max_cells
        Largest number of cells for `mig_posterior` and DCI, drawn at random; `None` uses all.
    seed
        Seed of everything random.
    n_jobs
        Threads of the forests; `-1` for all cores.
    key_added
        Key in `adata.uns`.

    Returns
    -------
    DataFrame with the columns `metric`, `factor` (`"overall"`, or a column of `adata.obs`) and `value`. The metrics:

    `mig_posterior`, `mig_histogram`, `mig_knn`
        Mutual information gap from the posterior (with `use_var`), from a histogram and from nearest neighbours:
        :func:`~scmimic.metrics.mutual_information_gap`. Never compare one with the other.
    `factor_vae`
        :func:`~scmimic.metrics.factor_vae_score`; by chance 1 / number of factors.
    `spearman_gap`
        :func:`~scmimic.metrics.spearman_gap`.
    `dci_disentanglement`, `dci_completeness`, `dci_informativeness`
        :func:`~scmimic.metrics.dci`.
    `sap`
        :func:`~scmimic.metrics.sap_score`.
    `modularity`
        :func:`~scmimic.metrics.modularity`, where there are two factors or more.
    `lms_smi`, `lms_spn`, `lms_asc`
        :func:`~scmimic.metrics.latent_matching_score`.

    Also writes to `adata`:

    `adata.uns['disentanglement' | key_added]` : dict
        `'results'`: the table; `'latents'` and `'factors'`: the names (of dimensions those of a table in `adata.obsm`,
        `Z1`, `Z2`, ... of an array); `'spearman'`, `'mutual_information'` (histogram), `'mutual_information_posterior'`
        (with `use_var`) and `'importance'` (of the forests of DCI): arrays of latent dimensions x factors; `'params'`:
        the arguments.

    Raises
    ------
    KeyError
        If `use_rep`, `use_var` or a factor is not there.
    ValueError
        If no factor is named, or one is missing for some cells, constant, or called "overall"; or if the
        representation holds NaN or the variances do not fit it.

    See Also
    --------
    scmimic.pl.disentanglement : Draws it.
    scmimic.tl.rank_latent_genes : Genes behind a latent dimension.
    scmimic.metrics.mutual_information_gap : One of its scores, for arrays.
    scmimic.metrics.unsupervised_disentanglement_ranking : A score that needs no factors.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=300)
    >>> sc.pp.log1p(adata)
    >>> sc.pp.pca(adata, n_comps=5)
    >>> table = sm.tl.disentanglement(adata, use_rep="X_pca", factors=["cell_type", "library_size"])
    >>> table.query("metric == 'mig_histogram'")["factor"].tolist()
    ['overall', 'cell_type', 'library_size']
    """
    ANNDATA.check(adata=adata)
    KEY.check(use_rep=use_rep, key_added=key_added)
    COLUMNS.check(factors=factors)
    KEY.or_none.check(use_var=use_var)
    SEVERAL.check(n_bins=n_bins, factor_bins=factor_bins)
    NON_NEGATIVE.check(min_std=min_std)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    names = [factors] if isinstance(factors, str) else list(factors)
    values = {name: _factor_values(adata, name) for name in names}
    latent, latents = _representation(adata, use_rep, "use_rep")
    variance = None if use_var is None else as_variance(_representation(adata, use_var, "use_var")[0], latent)
    known = as_factors(values, len(latent), factor_bins=factor_bins)

    estimators: tuple[Estimator, ...] = ("histogram", "knn")
    if variance is not None:
        estimators = ("posterior", *estimators)
    estimates: dict[Estimator, np.ndarray] = {}
    rows: list[tuple[str, str, float]] = []
    for estimator in estimators:
        estimates[estimator] = information_matrix(
            latent, known, variance=variance, estimator=estimator, n_bins=n_bins, max_cells=max_cells, seed=seed
        )
        rows += _rows(f"mig_{estimator}", mean_scores(known, gap(estimates[estimator])))
    votes = factor_vae_score(
        latent, values, min_std=min_std, factor_bins=factor_bins, seed=seed, return_per_factor=True
    )
    rows += _rows("factor_vae", votes)
    spearman = spearman_correlation(latent, values)
    rows += _rows("spearman_gap", mean_scores(known, gap(np.abs(spearman))))
    forests = dci(latent, values, factor_bins=factor_bins, max_cells=max_cells, seed=seed, n_jobs=n_jobs)
    rows.append(("dci_disentanglement", OVERALL, forests.disentanglement))
    rows += _rows("dci_completeness", FactorScores(forests.completeness, forests.completeness_per_factor))
    rows += _rows("dci_informativeness", FactorScores(forests.informativeness, forests.informativeness_per_factor))
    rows += _rows("sap", sap_score(latent, values, return_per_factor=True))
    if len(known) > 1:
        rows.append(("modularity", OVERALL, modularity_of(estimates["histogram"])))
    for similarity in ("smi", "spn", "asc"):
        score = latent_matching_score(latent, values, similarity=similarity, factor_bins=factor_bins, seed=seed)
        rows.append((f"lms_{similarity}", OVERALL, score))
    table = pd.DataFrame(rows, columns=["metric", "factor", "value"])

    params: dict[str, Any] = {
        "use_rep": use_rep,
        "factors": np.array(names, dtype=str),
        "n_bins": n_bins,
        "factor_bins": factor_bins,
        "min_std": min_std,
        "seed": seed,
    }
    optional = {"use_var": use_var, "max_cells": max_cells}
    params |= {name: value for name, value in optional.items() if value is not None}
    record: dict[str, Any] = {
        "results": table.copy(),
        "latents": np.array(latents, dtype=str),
        "factors": np.array(names, dtype=str),
        "spearman": spearman,
        "mutual_information": estimates["histogram"],
        "importance": forests.importance,
        "params": params,
    }
    if variance is not None:
        record["mutual_information_posterior"] = estimates["posterior"]
    adata.uns[key_added] = record
    return table


def _rows(metric: str, scores: FactorScores) -> list[tuple[str, str, float]]:
    return [(metric, OVERALL, scores.score), *((metric, name, value) for name, value in scores.per_factor.items())]


def _factor_values(adata: AnnData, name: str) -> np.ndarray:
    """Values of a factor: numbers where they have an order, text otherwise."""
    if name not in adata.obs:
        raise KeyError(f"The factor {name!r} is not in `adata.obs`; its columns are {list(adata.obs.columns)}.")
    if name == OVERALL:
        raise ValueError(f"A factor cannot be called {OVERALL!r}, the name of the mean over all of them: rename it.")
    column: pd.Series = adata.obs[name]
    if column.isna().any():
        raise ValueError(
            f"`adata.obs[{name!r}]` is missing for {int(column.isna().sum())} cells. Drop them: "
            f"`adata = adata[adata.obs[{name!r}].notna()].copy()`."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy() if column.cat.ordered else column.astype(str).to_numpy(dtype=str)
    if pd.api.types.is_bool_dtype(column) or not pd.api.types.is_numeric_dtype(column):
        return column.astype(str).to_numpy(dtype=str)
    return column.to_numpy()


def _representation(adata: AnnData, key: str, argument: str) -> tuple[np.ndarray, list[str]]:
    """Array in `.obsm`, and the names of its columns."""
    if key not in adata.obsm:
        raise KeyError(f"`{argument}={key!r}` is not in `adata.obsm`; there are {list(adata.obsm)}.")
    values = adata.obsm[key]
    latent = as_latent(values.to_numpy() if isinstance(values, pd.DataFrame) else values, f"adata.obsm[{key!r}]")
    if isinstance(values, pd.DataFrame):
        return latent, [str(column) for column in values.columns]
    return latent, _keys.latent_names(latent.shape[1])
