"""WGAN-GP for single cells: scGAN, and cscGAN where labels are registered.

Marouf, Machart, Bansal, Kilian, Magruder, Krebs, Bonn (2020) Realistic in silico generation and augmentation of
single-cell RNA-seq data using generative adversarial networks. Nature Communications 11, 166.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from anndata import AnnData

from scmimic._arguments import Choice
from scmimic.model.base._fields import anndata_fields, register
from scmimic.model.gan._base import GenerativeGAN
from scmimic.model.gan._module import GANModule
from scmimic.model.gan._presets import Preset


class WGANGP(GenerativeGAN):
    """Wasserstein GAN with gradient penalty (scGAN); conditional on labels where these are registered (cscGAN).

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata`.
    n_latent
        Size of the noise, 128 as the papers.
    gene_likelihood
        ``"normal"`` only: the critic compares cells as they are.
    preset
        ``"michigan"`` (default): networks 256-512-1024 and 1024-512-10 with leaky ReLU, batches of 32.
        ``"michigan_paper"``: the same widths and batches with every value of the paper: batch norm in the critic,
        dropout 0.2 in the generator, five steps of the critic, Adam with prediction, the last weights, 1,000 epochs;
        and where the paper gives none, that of the scripts behind it: slope 0.2, but the plain ReLU in the last hidden
        layers, learning rate 1e-4, betas 0.9 and 0.999, lambda 10, weight 10 of the mutual information. The user guide
        has paper, programs and preset side by side.
        ``"michigan_package"`` and ``"michigan_scripts"``: the networks of ``"michigan"`` with what the two published
        programs of MichiGAN set. Package: learning rate 5e-4, dropout 0.2, weight 1 of the mutual information, 25
        epochs. Scripts: 1e-4, none, 10, 10 epochs. Both: plain Adam with betas 0.9 and 0.999, the last weights.
        ``"scgan"``: 256-512-1024 and 1024-512-256 with ReLU, every cell scaled to the same total, AMSGrad at a learning
        rate of 1e-4 that decays, batches of 128.
    conditioning
        How labels enter, where they are registered. ``"projection"``: joined to the noise, and a projection critic with
        a learned embedding. ``"concat"``: joined in both networks. ``"batch_norm"``: conditional batch norm in the
        generator and a projection critic, as cscGAN's program.
    n_hidden_generator, n_hidden_critic
        Widths of the hidden layers, input to output. None: the preset's.
    output
        Last layer of the generator: ``"relu"`` (non-negative), ``"linear"``, ``"library"`` (non-negative with the
        same total in every cell), or ``"counts"`` (for raw counts: shares of the genes, from which Poisson counts are
        drawn before the critic sees them). None: ``"counts"`` for raw counts, else the preset's.
    dropout_rate
        Dropout in the generator. None: the preset's, which is 0 but for ``"michigan_paper"`` and
        ``"michigan_package"``. MichiGAN's paper has 0.2; the scripts behind it have none at work.
    dropout_rate_critic
        Dropout in the critic. None: the preset's, which is 0 in all of them.
    use_batch_norm_critic
        Batch norm in the critic. None: the preset's, which is False but for ``"michigan_paper"``. With it a cell's
        score depends on the other cells of its batch, and so the gradient penalty, which should bound the slope of each
        cell's own score, is one per batch, not per cell; and real and generated cells are normalised apart, so that the
        critic does not see a shift of their means.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    See Also
    --------
    scmimic.model.InfoWGANGP : With codes that it can read back.
    scmimic.model.MichiGAN : On the codes of a trained representation.
    scmimic.model.ACTIVA : A variational autoencoder, quicker to train.

    Notes
    -----
    The networks see raw counts scaled to 10,000 per cell and log1p'd, and :meth:`generate` gives integer counts for
    them. See the user guide for what differs from the papers' programs, and the limits.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.WGANGP(adata, n_latent=8, n_hidden_generator=(16, 32), n_hidden_critic=(32, 16))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.generate(n=20, seed=0).shape
    (20, 50)
    """

    _module_cls = GANModule

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        n_latent: int = 128,
        gene_likelihood: Literal["normal"] = "normal",
        preset: Preset = "michigan",
        conditioning: Literal["projection", "concat", "batch_norm"] = "projection",
        n_hidden_generator: Sequence[int] | None = None,
        n_hidden_critic: Sequence[int] | None = None,
        output: Literal["relu", "linear", "library", "counts"] | None = None,
        dropout_rate: float | None = None,
        dropout_rate_critic: float | None = None,
        use_batch_norm_critic: bool | None = None,
        registry: dict[str, Any] | None = None,
    ):
        self._check_likelihood(gene_likelihood)
        Choice(("projection", "concat", "batch_norm")).check(conditioning=conditioning)
        super().__init__(adata, registry)
        self._remember_registration()
        output = self._set_up_networks(
            preset,
            n_hidden_generator,
            n_hidden_critic,
            output,
            n_latent=n_latent,
            n_labels=0 if self.label_categories_ is None else len(self.label_categories_),
            conditioning=conditioning,
            dropout_rate=dropout_rate,
            dropout_rate_critic=dropout_rate_critic,
            use_batch_norm_critic=use_batch_norm_critic,
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def setup_anndata(
        cls, adata: AnnData, *, layer: str | None = None, labels_key: str | None = None, **kwargs
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x genes: any non-negative expression, such as counts scaled to 20,000 per cell (scGAN), their log1p
            (MichiGAN), or raw counts.
        layer
            Layer that holds the expression; None: ``adata.X``.
        labels_key
            Column of ``adata.obs`` with the type of each cell. None: a model without types.
        **kwargs
            Passed on by scvi-tools when it transfers a registration.

        Raises
        ------
        KeyError
            If the layer or the column does not exist.
        ValueError
            If values are NaN or negative, labels are missing or of several kinds, gene names repeat, or `adata` is a
            view or backed.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        field_list = anndata_fields(adata, layer=layer, labels_key=labels_key)
        register(cls, adata, field_list, setup_method_args, **kwargs)
