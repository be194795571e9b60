"""scvi-tools' RNA-seq methods, for log expression and for MuData as well."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import RNASeqMixin

from scmimic._arguments import (
    COLUMN,
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    NON_NEGATIVE,
    ORDERED,
    POSITIVE,
    PROBABILITY,
    SETTINGS,
    Choice,
    check_keywords,
    check_rows,
    parameter_names,
)
from scmimic._compat import de_core, scrna_raw_counts_properties
from scmimic._progress import progress
from scmimic.cells import Values, as_list

# Of the weights, the codes and their distributions come from the expression itself.
_EXPRESSION_KEYWORDS = set(
    parameter_names(RNASeqMixin.get_normalized_expression, RNASeqMixin.get_importance_weights)
).difference(("self", "qz", "px", "zs"))


class RNAMixin(RNASeqMixin):
    """:class:`scvi.model.base.RNASeqMixin` that knows which genes of a MuData the model has, and which units."""

    def get_normalized_expression(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        transform_batch: Values | None = None,
        gene_list: Sequence[str] | None = None,
        library_size: float | Literal["latent"] = 1,
        n_samples: int = 1,
        n_samples_overall: int | None = None,
        weights: Literal["uniform", "importance"] | None = None,
        batch_size: int | None = None,
        return_mean: bool = True,
        return_numpy: bool | None = None,
        silent: bool = True,
        **kwargs,
    ) -> np.ndarray | pd.DataFrame:
        """Expression that the decoder gives to the cells' codes.

        Parameters
        ----------
        adata
            Cells; None: the training data.
        indices
            Rows of them; None: all.
        transform_batch
            Batch, or batches to average over, to decode into; None: each cell's own.
        gene_list
            Genes to return, in the order of the data; None: all.
        library_size
            Total that a cell's genes sum to with a count likelihood. ``"latent"``: the expected counts themselves.
            With ``"normal"`` there is nothing to scale: leave it at 1.
        n_samples, n_samples_overall
            Samples of each cell's code, and samples in all.
        weights
            ``"importance"`` weights the samples by their likelihood; ``"nb"`` and ``"zinb"`` only.
        batch_size
            Cells per pass.
        return_mean
            Return the mean of a cell's samples.
        return_numpy
            Return an array instead of a DataFrame.
        silent
            Show no progress bar of `transform_batch`.
        **kwargs
            Further arguments of :meth:`scvi.model.base.RNASeqMixin.get_normalized_expression`.

        Returns
        -------
        DataFrame, cells x genes, or an array of it or, without averaging, of samples x cells x genes. They are
        shares of the cell's total times `library_size` for count likelihoods, else log expression in the units of the
        training layer, not below 0.

        Raises
        ------
        ValueError
            If another `library_size`, or importance weights, are asked of a likelihood that has none.
        KeyError
            If the model has not every gene of `gene_list`.
        TypeError
            If there is no such argument.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.get_normalized_expression(library_size=1e4).shape
        (60, 20)
        """
        ORDERED.check(indices=indices, transform_batch=transform_batch, gene_list=gene_list)
        if library_size != "latent":
            POSITIVE.check(library_size=library_size)
        COUNT.check(n_samples=n_samples)
        COUNT_OR_NONE.check(n_samples_overall=n_samples_overall, batch_size=batch_size)
        Choice(("uniform", "importance"), optional=True).check(weights=weights)
        FLAG.check(return_mean=return_mean, silent=silent)
        FLAG.or_none.check(return_numpy=return_numpy)
        # scvi-tools takes any other keyword for a setting of the weights, and says nothing where there are none
        check_keywords(kwargs, _EXPRESSION_KEYWORDS, what="`get_normalized_expression`")
        if not self.module.is_count and library_size not in (1, "latent"):
            raise ValueError(
                "`library_size` scales the proportions of count likelihoods. Expression of gene_likelihood='normal' is "
                "in the units of the training layer: leave `library_size` out."
            )
        if weights == "importance":
            self._check_has_dispersion("weights='importance'")
        genes = self.var_.index
        if gene_list is not None and (missing := [gene for gene in gene_list if gene not in genes]):
            raise KeyError(f"The model has no genes {missing[:5]}, which `gene_list` names.")
        data = self.adata if adata is None else adata
        full = partial(
            super().get_normalized_expression,
            adata,
            indices,
            self._batch_names(transform_batch),
            library_size=library_size,
            n_samples=n_samples,
            n_samples_overall=n_samples_overall,
            weights=weights,
            batch_size=batch_size,
            return_mean=return_mean,
            silent=silent,
            **kwargs,
        )
        if not isinstance(data, MuData):
            return full(gene_list=gene_list, return_numpy=return_numpy)
        kept = np.ones(len(genes), dtype=bool) if gene_list is None else genes.isin(gene_list)
        values = full(return_numpy=True)[..., kept]
        if return_numpy or values.ndim > 2:
            return values
        names = data.obs_names if indices is None else data.obs_names[indices]
        return pd.DataFrame(values, columns=genes[kept], index=names)

    def differential_expression(
        self,
        adata: AnnData | MuData | None = None,
        groupby: str | None = None,
        group1: Sequence[str] | None = None,
        group2: str | None = None,
        idx1: Sequence[int] | Sequence[bool] | str | None = None,
        idx2: Sequence[int] | Sequence[bool] | str | None = None,
        mode: Literal["vanilla", "change"] = "vanilla",
        delta: float = 0.25,
        batch_size: int | None = None,
        all_stats: bool = True,
        batch_correction: bool = False,
        batchid1: Sequence[str] | None = None,
        batchid2: Sequence[str] | None = None,
        fdr_target: float = 0.05,
        silent: bool = False,
        weights: Literal["uniform", "importance"] | None = "uniform",
        filter_outlier_cells: bool = False,
        importance_weighting_kwargs: dict | None = None,
        **kwargs,
    ) -> pd.DataFrame:
        """Differential expression between groups of cells, from samples of what the decoder gives to their codes.

        Parameters
        ----------
        adata
            Cells; None: the training data.
        groupby
            Column of ``.obs`` (of a MuData: of ``mdata.obs``) with the groups.
        group1, group2
            Groups to compare; without `group2` the rest, without `group1` each group in turn.
        idx1, idx2
            Rows, masks or queries of ``.obs`` in place of groups.
        mode
            ``"vanilla"`` or ``"change"``, which has log2 fold changes and false discovery rates.
        delta
            ``"change"``: fold changes within ``[-delta, delta]`` are none.
        batch_size, all_stats, batch_correction, batchid1, batchid2, fdr_target
            As in :meth:`scvi.model.SCVI.differential_expression`.
        silent
            Do not show the time where it takes over two seconds.
        weights
            ``"importance"``: ``"nb"`` and ``"zinb"`` only.
        filter_outlier_cells
            As there.
        importance_weighting_kwargs, **kwargs
            As there. ``change_fn`` is, with ``"normal"``, the difference of natural logs over log(2): the log2 fold
            change of expression that was log1p'd, where 1 is added to each side.

        Returns
        -------
        DataFrame with a row per gene and comparison.

        Raises
        ------
        ValueError
            If importance weights are asked of a likelihood that has none.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> table = model.differential_expression(groupby="cell_type", group1="type_0", group2="type_1", silent=True)
        >>> len(table)
        20
        """
        COLUMN.or_none.check(groupby=groupby)
        ORDERED.check(group1=group1, batchid1=batchid1, batchid2=batchid2)
        Choice(("vanilla", "change")).check(mode=mode)
        NON_NEGATIVE.check(delta=delta)
        COUNT_OR_NONE.check(batch_size=batch_size)
        PROBABILITY.check(fdr_target=fdr_target)
        FLAG.check(all_stats=all_stats, batch_correction=batch_correction, silent=silent)
        FLAG.check(filter_outlier_cells=filter_outlier_cells)
        Choice(("uniform", "importance"), optional=True).check(weights=weights)
        SETTINGS.or_none.check(importance_weighting_kwargs=importance_weighting_kwargs)
        if weights == "importance":
            self._check_has_dispersion("weights='importance'")
        if not self.module.is_count:
            kwargs.setdefault("change_fn", _change_of_logs)
        adata = self._validate_anndata(adata)
        for name, rows in (("idx1", idx1), ("idx2", idx2)):
            if not isinstance(rows, str):
                check_rows(name, rows, adata.n_obs)
        expression = partial(
            self.get_normalized_expression,
            return_numpy=True,
            n_samples=1,
            batch_size=batch_size,
            weights=weights,
            **(importance_weighting_kwargs or {}),
        )
        # its own bar is there at once, and stays
        with progress(None, "Comparing expression", silent=silent):
            return de_core(
                self.get_anndata_manager(adata, required=True),
                expression,
                self.get_latent_representation if filter_outlier_cells else None,
                groupby,
                group1,
                group2,
                idx1,
                idx2,
                all_stats,
                scrna_raw_counts_properties,
                self.var_.index,
                mode,
                batchid1,
                batchid2,
                delta,
                batch_correction,
                fdr_target,
                True,
                **kwargs,
            )

    def get_likelihood_parameters(
        self,
        adata: AnnData | MuData | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 1,
        give_mean: bool = False,
        batch_size: int | None = None,
        **kwargs,
    ) -> dict[str, np.ndarray]:
        """Parameters of the negative binomial of each cell and gene.

        Parameters
        ----------
        adata
            Cells; None: the training data.
        indices
            Rows of them; None: all.
        n_samples, give_mean
            Samples of each cell's code, and whether their mean is returned.
        batch_size
            Cells per pass.
        **kwargs
            As in :meth:`scvi.model.SCVI.get_likelihood_parameters`.

        Returns
        -------
        dict of arrays, cells x genes, ``"mean"``, ``"dispersions"`` and, with ``"zinb"``, ``"dropout"``, the
        probability of an extra zero.

        Raises
        ------
        ValueError
            If the likelihood is none of these.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> sorted(model.get_likelihood_parameters())
        ['dispersions', 'mean']
        """
        ORDERED.check(indices=indices)
        COUNT.check(n_samples=n_samples)
        FLAG.check(give_mean=give_mean)
        COUNT_OR_NONE.check(batch_size=batch_size)
        self._check_has_dispersion("`get_likelihood_parameters`")
        return super().get_likelihood_parameters(adata, indices, n_samples, give_mean, batch_size, **kwargs)

    def get_feature_correlation_matrix(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        n_samples: int = 10,
        batch_size: int = 64,
        rna_size_factor: int = 1000,
        transform_batch: Values | None = None,
        correlation_type: Literal["spearman", "pearson"] = "spearman",
        silent: bool = True,
    ) -> pd.DataFrame:
        """Correlation of genes over cells that are drawn for the cells' codes, without a Poisson's noise.

        Parameters
        ----------
        adata
            Cells; None: the training data.
        indices
            Rows of them; None: all.
        n_samples
            Draws per cell.
        batch_size
            Cells per pass.
        rna_size_factor
            Total counts that the cells are drawn for.
        transform_batch
            Batch, or batches to average over, to decode into; None: each cell's own.
        correlation_type
            Of ranks, ``"spearman"``, or of values, ``"pearson"``.
        silent
            Show no progress bar of `transform_batch`.

        Returns
        -------
        DataFrame, genes x genes.

        Raises
        ------
        ValueError
            If the likelihood has no dispersion, or the data are a MuData.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.get_feature_correlation_matrix(n_samples=2).shape
        (20, 20)
        """
        ORDERED.check(indices=indices, transform_batch=transform_batch)
        COUNT.check(n_samples=n_samples, batch_size=batch_size, rna_size_factor=rna_size_factor)
        Choice(("spearman", "pearson")).check(correlation_type=correlation_type)
        FLAG.check(silent=silent)
        self._check_has_dispersion("`get_feature_correlation_matrix`")
        if isinstance(self.adata if adata is None else adata, MuData):
            raise ValueError(
                "`get_feature_correlation_matrix` does not take a MuData. Correlate the cells of "
                "`posterior_predictive_sample` instead."
            )
        return super().get_feature_correlation_matrix(
            adata,
            indices,
            n_samples,
            batch_size,
            rna_size_factor,
            transform_batch=self._batch_names(transform_batch),
            correlation_type=correlation_type,
            silent=silent,
        )

    def _batch_names(self, batches: Values | None) -> Values | list[str | None] | None:
        """Batches as scvi-tools knows them, whatever their type."""
        if batches is None or self.batch_categories_ is None:
            return batches
        codes = [self._batch_code(batch) for batch in as_list(batches)]
        return [None if code is None else self.batch_categories_[code] for code in codes]

    def _check_has_dispersion(self, what: str) -> None:
        if not self.module.has_dispersion:
            likelihood = self.module.gene_likelihood
            raise ValueError(f"{what} needs gene_likelihood='nb' or 'zinb', this model has {likelihood!r}.")


def _change_of_logs(first: np.ndarray, second: np.ndarray, pseudocounts: float) -> np.ndarray:
    """Log2 fold change of expression in natural logs; scvi-tools gives three arguments."""
    return (first - second) / np.log(2)
