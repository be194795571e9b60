"""Probabilistic PCA (Tipping & Bishop 1999, J. R. Stat. Soc. B 61, 611-622): the linear latent variable model.

Equations (4) to (8) and (12). MichiGAN's program deviates from them in three places: its posterior mean lacks the noise
variance, its posterior variance holds the square of it, and it decodes with the variance in the place of the standard
deviation. None of that is kept.

Deviation: variances have the denominator n - 1, as in scikit-learn's PCA, which gives the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import COUNT, FLAG, LAYER, ORDERED, SEED, SEED_OR_NONE, check_rows
from scmimic._arrays import Matrix, as_matrix, fit_pca, stored_values
from scmimic.cells import (
    ANNDATA,
    assemble,
    check_units,
    expression_space,
    fingerprint,
    layer_names,
    matrix_fingerprint,
    same_values,
    where_is,
)


class PPCA:
    r"""Probabilistic PCA with its analytic posterior: the reference for disentangled representations.

    A cell is :math:`x = W z + \mu + \epsilon` with :math:`z \sim N(0, I)` and :math:`\epsilon \sim N(0, \sigma^2 I)`.
    With the leading eigenvalues :math:`\lambda_i` and eigenvectors :math:`u_i` of the covariance, the maximum of the
    likelihood has :math:`W = U (\Lambda - \sigma^2)^{1/2}` and as :math:`\sigma^2` the mean of the other eigenvalues.
    The posterior of :math:`z_i` is normal with

    .. math:: m_i = \frac{\sqrt{\lambda_i - \sigma^2}}{\lambda_i} u_i^T (x - \mu), \quad v_i = \sigma^2 / \lambda_i,

    the same variance for all cells. The means are principal components in another scale, so that PPCA differs from PCA
    in nothing but the posterior, from which the mutual information gap of the paper is taken.

    Parameters
    ----------
    adata
        Cells to learn from, in the space where PCA makes sense: log-normalised expression, or log1p counts where
        library size is to be seen. Never changed.
    n_latent
        Number of latent dimensions; 10 as in the paper. At most one less than the smaller number of cells or genes.
    layer
        Layer with the expression. Default: ``adata.X``.

    Raises
    ------
    KeyError
        If `layer` is not there.
    ValueError
        If values are missing, or `n_latent` is too large.

    See Also
    --------
    scmimic.model.BetaTCVAE : Not linear.
    scmimic.model.MichiGAN : Realistic cells from any codes.

    Notes
    -----
    After :meth:`fit`: ``components_`` (latents x genes, orthonormal), ``eigenvalues_``, ``noise_variance_`` and
    ``mean_``.

    Examples
    --------
    >>> import numpy as np
    >>> import scanpy as sc
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200)
    >>> sc.pp.log1p(adata)
    >>> model = sm.baselines.PPCA(adata, n_latent=5).fit()
    >>> adata.obsm["X_ppca"], adata.obsm["ppca_var"] = model.get_latent_representation(return_dist=True)
    >>> adata.obsm["X_ppca"].shape
    (200, 5)
    """

    def __init__(self, adata: AnnData, *, n_latent: int = 10, layer: str | None = None) -> None:
        ANNDATA.check(adata=adata)
        COUNT.check(n_latent=n_latent)
        LAYER.check(layer=layer)
        limit = min(adata.shape) - 1
        if n_latent > limit:
            raise ValueError(
                f"`n_latent` must be from 1 to {limit} for {adata.n_obs} x {adata.n_vars}, got {n_latent}."
            )
        self.adata, self.n_latent, self.layer = adata, n_latent, layer
        x = self._values(adata)
        self._space, self._fingerprint = expression_space(x, layer), matrix_fingerprint(x)
        self.is_fitted = False

    def __repr__(self) -> str:
        layer = "" if self.layer is None else f", layer {self.layer!r}"
        fitted = "fitted" if self.is_fitted else "not fitted"
        return (
            f"PPCA: {self.adata.n_obs} cells x {self.adata.n_vars} genes, {self.n_latent} dimensions{layer}, {fitted}"
        )

    def fit(self, seed: int = 0) -> Self:
        """Find the axes and the noise variance of largest likelihood.

        Parameters
        ----------
        seed
            Seed of the start of the eigenvalue solver; the result does not depend on it but for rounding.

        Returns
        -------
        The model itself.

        Raises
        ------
        ValueError
            If the cells vary in fewer than `n_latent` directions, or changed since the model was made.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.baselines.PPCA(adata, n_latent=3).fit()
        PPCA: 60 cells x 20 genes, 3 dimensions, fitted
        """
        SEED.check(seed=seed)
        pca = fit_pca(self._own_values().astype(np.float64, copy=False), self.n_latent, seed=seed)
        self.components_, self.eigenvalues_ = pca.components_, pca.explained_variance_
        self.noise_variance_, self.mean_ = float(pca.noise_variance_), np.asarray(pca.mean_).ravel()
        if not self.eigenvalues_[-1] > max(self.noise_variance_, 0) * (1 + 1e-9):
            n = int((self.eigenvalues_ > self.noise_variance_ * (1 + 1e-9)).sum())
            raise ValueError(f"Only {n} directions vary by more than the noise: set `n_latent` to {n} or less.")
        if not self.noise_variance_ > 0:
            raise ValueError(
                f"{self.n_latent} dimensions explain the cells without noise, so that there is no posterior: lower "
                "`n_latent`."
            )
        self.is_fitted = True
        return self

    @property
    def loadings(self) -> np.ndarray:
        """The matrix W, genes x latent dimensions."""
        self._check_fitted()
        return self.components_.T * np.sqrt(self.eigenvalues_ - self.noise_variance_)

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        *,
        return_dist: bool = False,
        seed: int | None = None,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Posterior of the latent codes.

        Parameters
        ----------
        adata
            Cells with the genes of the training cells, in the same space. Default: the training cells.
        indices
            Rows to take.
        give_mean
            Return the posterior mean; a draw from the posterior otherwise.
        return_dist
            Return mean and variance, both cells x latents.
        seed
            Seed of the draw.

        Returns
        -------
        Array of cells x latents, or two with `return_dist`.

        Raises
        ------
        RuntimeError
            If called before :meth:`fit`.
        ValueError
            If genes or units differ from those of the training cells, these changed, or values are missing.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.baselines.PPCA(adata, n_latent=3).fit().get_latent_representation().shape
        (60, 3)
        """
        ANNDATA.or_none.check(adata=adata)
        ORDERED.check(indices=indices)
        FLAG.check(give_mean=give_mean, return_dist=return_dist)
        SEED_OR_NONE.check(seed=seed)
        self._check_fitted()
        cells = self.adata if adata is None else adata
        if not cells.var_names.equals(self.adata.var_names):
            raise ValueError("The cells must have the genes of the training cells in the same order.")
        x = self._own_values() if cells is self.adata else self._values(cells)
        # cells that were decoded with noise hold negative values too
        if cells is not self.adata and stored_values(x).min(initial=0) >= 0:
            check_units(x, self._space)
        if indices is not None:
            x = x[check_rows("indices", indices, x.shape[0])]
        scores = np.asarray(x @ self.components_.T) - self.mean_ @ self.components_.T
        mean = scores * np.sqrt(self.eigenvalues_ - self.noise_variance_) / self.eigenvalues_
        variance = self.noise_variance_ / self.eigenvalues_
        if return_dist:
            return mean, np.tile(variance, (len(mean), 1))
        if give_mean:
            return mean
        return mean + np.sqrt(variance) * np.random.default_rng(seed).standard_normal(mean.shape)

    def decode(self, z: Any, *, noise: bool = True, seed: int | None = None) -> AnnData:
        """Cells from given latent codes.

        Parameters
        ----------
        z
            Codes x latents.
        noise
            Add the noise of the model, of variance ``noise_variance_`` in each gene; the mean alone otherwise.
        seed
            Seed of the noise. None: a fresh one, which is kept in ``.uns``.

        Returns
        -------
        AnnData with the expression in the space of the training layer (negative values included), the training
        ``.var``, and the codes in ``.obsm["X_ppca"]``.

        Raises
        ------
        RuntimeError
            If called before :meth:`fit`.
        ValueError
            If the codes have another number of dimensions, or values are missing.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> model = sm.baselines.PPCA(adata, n_latent=3).fit()
        >>> model.decode(model.get_latent_representation()[:2]).shape
        (2, 20)
        """
        FLAG.check(noise=noise)
        SEED_OR_NONE.check(seed=seed)
        self._check_fitted()
        z = np.asarray(as_matrix(z, "z", dtype=np.float64))
        if z.shape[1] != self.n_latent:
            raise ValueError(f"`z` has {z.shape[1]} dimensions, the model {self.n_latent}.")
        seed = int(np.random.default_rng().integers(2**31)) if seed is None and noise else seed
        x = z @ self.loadings.T + self.mean_
        if noise:
            x += np.sqrt(self.noise_variance_) * np.random.default_rng(seed).standard_normal(x.shape)
        name = type(self).__name__
        return assemble(
            x,
            self.adata.var,
            model_name=name,
            parameters={"n_latent": self.n_latent, "layer": self.layer, "noise": noise},
            seed=seed,
            source=fingerprint(z, self.mean_),
            obsm={_keys.latent(name): z},
            dtype=np.float32,
        )

    def _own_values(self) -> Matrix:
        x = self._values(self.adata)
        if not same_values(matrix_fingerprint(x), self._fingerprint):
            raise ValueError(
                f"The values of `{where_is(self.layer)}` changed since this {type(self).__name__} was made. Undo the "
                "change, or make a new model."
            )
        return x

    def _values(self, adata: AnnData) -> Matrix:
        if self.layer is not None and self.layer not in adata.layers:
            raise KeyError(f"layer {self.layer!r} is not in adata.layers, which holds {layer_names(adata)}.")
        name = ".X" if self.layer is None else f".layers[{self.layer!r}]"
        return as_matrix(adata.X if self.layer is None else adata.layers[self.layer], name)

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise RuntimeError(f"{type(self).__name__} is not fitted: call .fit() first.")
