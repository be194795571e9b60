"""InfoGAN with the Wasserstein loss, and ssInfoGAN where labels are registered (MichiGAN paper, appendix A.1).

Chen et al. (2016) InfoGAN: interpretable representation learning by information maximizing generative adversarial nets.
Spurr, Aksan, Hilliges (2017) Guiding InfoGAN with semi-supervision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from anndata import AnnData
from lightning.pytorch import LightningModule

from scmimic import _keys
from scmimic._arguments import COUNT_OR_NONE, FLAG, NATURAL, ORDERED, check_rows
from scmimic.cells import ANNDATA, ObsColumn, Value
from scmimic.model.base._fields import anndata_fields, register
from scmimic.model.gan._base import GenerativeGAN
from scmimic.model.gan._module import InfoGANModule
from scmimic.model.gan._presets import Preset

# Generated cells that show how well the codes are found again.
_CALIBRATION_CELLS = 2000


class InfoWGANGP(GenerativeGAN):
    """WGAN-GP that keeps a code in its cells (InfoWGAN-GP); semi-supervised where labels are registered (ssInfoGAN).

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata`.
    n_latent
        Number of normal codes, 10 as the paper.
    n_noise
        Size of further noise.
    n_categories
        Number of categories of a categorical code, all of the same frequency (0: none). With registered labels the
        categories are the labels, in their frequencies, and this must be 0.
    gene_likelihood
        ``"normal"`` only: the critic compares cells as they are.
    preset, n_hidden_generator, n_hidden_critic, output, dropout_rate, dropout_rate_critic, use_batch_norm_critic
        As for :class:`~scmimic.model.WGANGP`.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    See Also
    --------
    scmimic.model.WGANGP : Without codes.
    scmimic.model.MichiGAN : On the codes of a trained representation.
    scmimic.model.BetaTCVAE : A latent space of independent dimensions.

    Notes
    -----
    The codes are found again by a head on the critic's last hidden layer, with unit variance. Its bound of the mutual
    information is in ``history["mutual_information_train"]``: 0 where nothing is known of the codes, at most 1/2 nat
    for each normal code, and the entropy of the category.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.InfoWGANGP.setup_anndata(adata)
    >>> model = sm.InfoWGANGP(adata, n_latent=4, n_noise=8, n_hidden_generator=(16, 32), n_hidden_critic=(32, 16))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.get_latent_representation().shape
    (200, 4)
    """

    _module_cls = InfoGANModule

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        n_latent: int = 10,
        n_noise: int = 118,
        n_categories: int = 0,
        gene_likelihood: Literal["normal"] = "normal",
        preset: Preset = "michigan",
        n_hidden_generator: Sequence[int] | None = None,
        n_hidden_critic: Sequence[int] | None = None,
        output: Literal["relu", "linear", "library", "counts"] | None = None,
        dropout_rate: float | None = None,
        dropout_rate_critic: float | None = None,
        use_batch_norm_critic: bool | None = None,
        registry: dict[str, Any] | None = None,
    ):
        self._check_likelihood(gene_likelihood)
        NATURAL.check(n_categories=n_categories)
        super().__init__(adata, registry)
        self._remember_registration()
        supervised = self.label_categories_ is not None
        if supervised and n_categories:
            raise ValueError("`n_categories` must be 0 where labels are registered: the labels are the categories.")
        if not supervised and n_categories:
            self.labels_key_ = _keys.OBS_CATEGORY
            self._set_column("label", ObsColumn.named(self.labels_key_, [f"category_{i}" for i in range(n_categories)]))
        output = self._set_up_networks(
            preset,
            n_hidden_generator,
            n_hidden_critic,
            output,
            n_latent=n_latent,
            n_noise=n_noise,
            n_labels=len(self.label_categories_ or []),
            supervised=supervised,
            dropout_rate=dropout_rate,
            dropout_rate_critic=dropout_rate_critic,
            use_batch_norm_critic=use_batch_norm_critic,
        )
        if adata is not None and supervised:
            known = np.bincount(self._label_array(), minlength=self.module.n_labels)[: self.module.n_labels]
            self.module.label_proportions.copy_(torch.as_tensor(known / known.sum()))
        self.init_params_ = self._get_init_params(locals())

    def _label_array(self) -> np.ndarray:
        if self.module.supervised:
            return super()._label_array()
        # categories that are no labels come up equally often, whatever the training cells
        return np.arange(self.adata.n_obs) % max(self.module.n_labels, 1)

    def _after_training(self, plan: LightningModule) -> None:
        super()._after_training(plan)
        cells = self.generate(_CALIBRATION_CELLS, seed=0)
        asked = torch.as_tensor(cells.obsm[_keys.latent(type(self).__name__)], device=self.device)
        # in the units of the training layer, which a generator that has learned little need not show
        shown = torch.as_tensor(self._codes_shown_by(cells.X), device=self.device)
        self._check_useful("the codes that it finds in cells", shown)
        self.module.calibrate(asked, shown)

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: Value | None = _keys.UNLABELED,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x genes: any non-negative expression.
        layer
            Layer that holds the expression; None: ``adata.X``.
        labels_key
            Column of ``adata.obs`` with the type of each cell, for all cells or some. None: no supervision.
        unlabeled_category
            Value in that column that means "no type known". None: all are types.
        **kwargs
            Passed on by scvi-tools when it transfers a registration.

        Raises
        ------
        KeyError
            If the layer or the column does not exist.
        ValueError
            If values are NaN or negative, labels are missing, of several kinds or all unknown, gene names repeat, or
            `adata` is a view or backed.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.InfoWGANGP.setup_anndata(adata)
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        field_list = anndata_fields(adata, layer=layer, labels_key=labels_key, unlabeled_category=unlabeled_category)
        register(cls, adata, field_list, setup_method_args, **kwargs)

    @torch.inference_mode()
    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The normal codes that the critic's head sees in cells.

        Parameters
        ----------
        adata
            Real cells in the layer and the units of the training data, with the training genes in the training order,
            or generated cells, which are converted to them. None: the training data.
        indices
            Cells to encode; None: all.
        give_mean
            Give the mean; otherwise a sample, by torch's generator.
        batch_size
            Cells per pass.
        return_dist
            Give means and variances.

        Returns
        -------
        Codes ``(n, n_latent)``, or means and variances. In the loss, Q(c|x) has variance 1 whatever the head knows.
        What is given is the regression of the code on the head's output in 2,000 cells that are generated after
        training, and what it leaves of the variance, the same for all cells: samples for cells like those vary as
        N(0, I) does.

        Raises
        ------
        RuntimeError
            If the model is not trained, or `adata` is left out and it was loaded without data.
        ValueError
            If the genes or the units differ, or `batch_size` is no positive number.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.InfoWGANGP.setup_anndata(adata)
        >>> model = sm.InfoWGANGP(adata, n_latent=4, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.get_latent_representation().shape
        (60, 4)
        """
        ANNDATA.or_none.check(adata=adata)
        ORDERED.check(indices=indices)
        COUNT_OR_NONE.check(batch_size=batch_size)
        FLAG.check(give_mean=give_mean, return_dist=return_dist)
        self._check_trained()
        x = self._query_expression(self._own_data() if adata is None else adata)
        x = x if indices is None else x[check_rows("indices", indices, x.shape[0])]
        mean = self._codes_shown_by(x, batch_size or 1024)
        var = self.module.code_var.cpu().numpy()
        if return_dist:
            return mean, np.tile(var, (len(mean), 1))
        return mean if give_mean else mean + np.sqrt(var) * torch.randn(mean.shape).numpy()

    @torch.inference_mode()
    def _codes_shown_by(self, x: np.ndarray | sp.spmatrix, batch_size: int = 1024) -> np.ndarray:
        """Means of the codes of cells in the units of the training data."""
        self.module.eval()
        batches = self._dense_batches(x, np.arange(x.shape[0]), batch_size)
        parts = [self.module.encode(cells)[0].cpu().numpy() for cells in batches]
        return np.concatenate([np.empty((0, self.module.n_latent), dtype=np.float32), *parts])
