"""VAE, beta-VAE and beta-TCVAE: disentangled representations.

Yu, Welch (2021) MichiGAN: sampling from disentangled representations of single-cell data using generative adversarial
networks. Genome Biology 22, 158. Chen, Li, Grosse, Duvenaud (2018) Isolating sources of disentanglement in variational
autoencoders. NeurIPS 31.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from anndata import AnnData
from mudata import MuData

from scmimic import _keys
from scmimic._arguments import (
    COUNT,
    COUNT_OR_NONE,
    FLAG,
    NON_NEGATIVE,
    SETTINGS,
    SHARE,
    Choice,
    check_arguments,
    check_widths,
)
from scmimic.cells import check_registered_counts, warn_of_counts, where_is
from scmimic.metrics.parts import mean_kl
from scmimic.model.base._fields import anndata_fields, mudata_fields, register
from scmimic.model.base._initialisation import start_mean_decoder, write_covariate_statistics
from scmimic.model.base._likelihoods import likelihood_names
from scmimic.model.base._streamed import StreamedCells
from scmimic.model.base._training import SINGLE
from scmimic.model.base._vae import GenerativeVAE
from scmimic.model.beta_tcvae._module import BetaTCVAEModule
from scmimic.model.beta_tcvae._plan import BetaTCVAETrainingPlan
from scmimic.model.beta_tcvae._restarts import Restarts, check_restarts
from scmimic.model.generation.codes._posterior import AggregatedPosterior

logger = logging.getLogger(__name__)

# A latent whose posterior means vary less tells nothing (Burda et al. 2015, section 5).
ACTIVE_VARIANCE = 0.01
DEFAULT_STEPS = 4_000
MIN_EPOCHS, MAX_EPOCHS = 20, 400
RESTART_SHARE = 0.25
"""Part of a training that each restart is given."""
_KINDS = {
    "encode_covariates": FLAG,
    "n_latent": COUNT,
    "beta": NON_NEGATIVE,
    "kl_weight": NON_NEGATIVE,
    "noise": Choice(("unit", "gene")),
    "library": Choice(("latent", "observed")),
    "standardize": FLAG,
    "n_comps": COUNT_OR_NONE,
    "estimator": Choice(("mss", "mws")),
    "posterior_gradients": FLAG,
    "dropout_rate": SHARE,
    "start": Choice(("random", "pca")),
    "split_aggregation": Choice(("sum", "logsumexp"), optional=True),
}


class BetaTCVAE(GenerativeVAE):
    """VAE whose latents are pushed to be independent of each other (beta-TCVAE).

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    n_latent
        Size of the latent space; 10 as the paper. Latents that the data do not need vanish, see
        :meth:`latent_activity`.
    n_hidden
        Widths of the encoder's hidden layers; the decoder has them in reverse. 512, 256 as the paper.
    beta
        Weight of the total correlation, on top of the one that the KL holds. 0: a VAE. With the default and
        ``"normal"``, every factor of the simulated cells, linear and non-linear, is found by one latent, though two
        factors share one; several times as much makes weak factors merge or vanish. Counts, and learned noise, weigh
        reconstruction more and need a larger beta for the same effect.
    kl_weight
        Weight of the KL. 1: as the paper; above 1 with ``beta=0``: a beta-VAE.
    gene_likelihood
        ``"normal"`` (default), the paper's: any non-negative log expression in, such as log1p of counts. ``"nb"``,
        ``"zinb"`` or ``"poisson"``: raw counts in, integer counts out.
    noise
        Of ``"normal"``: ``"unit"`` (default), one standard deviation for every gene, as the paper, or ``"gene"``,
        learned. Learned noise makes reconstruction so much more weighty that `beta` has to grow with it; the cells of
        :meth:`generate` then have that noise. Counts learn a dispersion per gene in any case.
    library
        ``"latent"`` (default): nothing but the code tells the decoder the library size, so that it becomes a factor of
        the latent space, as in the paper (its fourth ground truth). ``"observed"``: the decoder is given the log
        library size, which then need not and, as far as training goes, does not enter the code.
    standardize
        Bring each gene to mean 0 and variance 1 in the encoder's input and, with ``"normal"``, in the decoder's output.
        The paper does not.
    n_comps
        The encoder reads this many principal components of the (standardised) log expression, a fixed projection that
        is computed here from up to 20,000 cells, instead of all genes. None: all genes, as the paper.
    estimator
        Estimate of the total correlation: ``"mss"``, minibatch stratified sampling as the paper, or ``"mws"``,
        minibatch weighted sampling, whose value carries a constant but whose gradient does not.
    posterior_gradients
        Let the gradient of that estimate run through the posteriors as well as through the samples, as the authors'
        program does. It adds noise and lets the encoder exploit the estimate's error.
    dropout_rate
        Dropout in encoder and decoder; the paper has 0.2.
    start
        ``"random"`` (default), as the paper: encoder and decoder are hidden layers, at random weights. ``"pca"``: the
        decoder writes the `n_comps` components that the encoder reads, and beside the hidden layers of both there is a
        linear path, whose weights begin as the leading components and learn like all others. So every training begins
        alike, and what the latents come to hold depends less on the seed: better on real cells (in the benchmark one
        latent held the condition in five of five trainings, from random weights in four), behind on simulated ones.
        Only for ``"normal"``, with `n_comps`.
    split_aggregation
        None (default): the decoder reads all latents together, as the paper. ``"sum"`` or ``"logsumexp"``: each latent
        has a pass of its own through hidden layers that all share, and the passes are added up, before the link, or
        the log of their mean exponential is taken, as in DRVI (Moinfar and Theis 2024). Latents cannot act on each
        other's effect then. ``"logsumexp"`` takes about `n_latent` times as long.
    encode_covariates
        Tell batch and covariates to the encoder too, so that the code need not hold them. False: to the decoder alone,
        as :class:`scvi.model.SCVI`; no worse on the cells of the benchmark.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    Attributes
    ----------
    restarts_
        Of the trainings that the last ``train(n_restarts=...)`` began with: ``seed``, ``score``, and which was
        ``chosen``; ``scvi.settings.seed`` set to the seed before the model is made gives the same training. None
        where there were none.

    See Also
    --------
    scmimic.model.MichiGAN : Realistic cells from its codes.
    scmimic.tl.disentanglement : How well latent dimensions keep known factors apart.
    scmimic.tl.latent_traversal : Cells along one latent dimension.
    scmimic.tl.rank_latent_genes : Genes behind a latent dimension.

    Notes
    -----
    The paper's setting is ``BetaTCVAE(adata, beta=..., standardize=False, n_comps=None,
    posterior_gradients=True, dropout_rate=0.2)``, trained with ``max_epochs=1000, plan_kwargs={"memory_size": 0,
    "lr_final_factor": 1}``. Its ``beta``: 10 for simulated cells with linear steps, 50 with non-linear steps, 100 for
    Tabula Muris and sci-Plex. See the user guide for the loss, for what differs and why, and for the limits.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.BetaTCVAE.setup_anndata(adata)
    >>> model = sm.BetaTCVAE(adata, n_latent=4, n_hidden=(32,), gene_likelihood="nb")
    >>> model.train(max_epochs=3, enable_progress_bar=False)
    >>> adata.obsm["X_betatcvae"] = model.get_latent_representation()
    >>> adata.obsm["X_betatcvae"].shape
    (200, 4)
    """

    _module_cls = BetaTCVAEModule
    _training_plan_cls = BetaTCVAETrainingPlan
    _precisions = SINGLE
    restarts_: pd.DataFrame | None = None

    _library_size_note = "its code tells the library size (library='latent'); library='observed' takes one"

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        *,
        n_latent: int = 10,
        n_hidden: Sequence[int] = (512, 256),
        beta: float = 20.0,
        kl_weight: float = 1.0,
        gene_likelihood: Literal["normal", "nb", "zinb", "poisson"] = "normal",
        noise: Literal["unit", "gene"] = "unit",
        library: Literal["latent", "observed"] = "latent",
        standardize: bool = True,
        n_comps: int | None = 50,
        estimator: Literal["mss", "mws"] = "mss",
        posterior_gradients: bool = False,
        dropout_rate: float = 0.0,
        start: Literal["random", "pca"] = "random",
        split_aggregation: Literal["sum", "logsumexp"] | None = None,
        encode_covariates: bool = True,
        registry: dict[str, Any] | None = None,
    ):
        check_arguments(locals(), _KINDS | {"gene_likelihood": likelihood_names()})
        if noise == "gene" and gene_likelihood != "normal":
            raise ValueError(f"`noise` is of gene_likelihood='normal', not of {gene_likelihood!r}.")
        if start == "pca" and (gene_likelihood != "normal" or n_comps is None):
            raise ValueError("`start='pca'` is for gene_likelihood='normal' with `n_comps`. Leave it out.")
        n_hidden = check_widths("n_hidden", n_hidden)
        super().__init__(adata, registry)
        self._remember_registration()
        if library == "latent" and self.registry_["setup_args"].get("size_factor_key") is not None:
            raise ValueError(
                "The data are registered with `size_factor_key`, which library='latent' has no use for. Pass "
                "library='observed', or register without size factors."
            )
        n_input = self.summary_stats.n_vars
        self._make_module = functools.partial(
            self._module_cls,
            n_input,
            n_labels=max(self.summary_stats.get("n_labels", 1), 1),
            **self._covariate_sizes(),
            encode_covariates=encode_covariates,
            n_latent=n_latent,
            n_hidden=n_hidden,
            beta=beta,
            kl_weight=kl_weight,
            gene_likelihood=gene_likelihood,
            noise=noise,
            library=library,
            standardize=standardize,
            n_comps=None if n_comps is None else min(n_comps, n_input),
            estimator=estimator,
            posterior_gradients=posterior_gradients,
            dropout_rate=dropout_rate,
            start=start,
            split_aggregation=split_aggregation,
        )
        self.module = self._make_module()
        if adata is not None:
            self._start(is_new=registry is None)
        self.posterior_: AggregatedPosterior | None = None
        self._model_summary_string = (
            f"BetaTCVAE: {n_input} genes, {n_latent} latent dimensions, hidden layers {n_hidden}, "
            f"gene_likelihood={gene_likelihood!r}, beta={beta}, kl_weight={kl_weight}, library={library!r}"
        )
        self.init_params_ = self._get_init_params(locals())

    def _start(self, *, is_new: bool = True) -> None:
        x = self._expression()
        if self.module.is_count:
            check_registered_counts(self._expression_data(), self._layer, self.module.gene_likelihood)
        elif is_new:
            warn_of_counts(x, where_is(self._layer))
        write_covariate_statistics(self)
        start_mean_decoder(self, x)

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x genes. Log expression, such as ``sc.pp.log1p`` gives, for ``"normal"``; raw counts for the others.
        layer
            Layer that holds the expression; None: ``adata.X``.
        batch_key
            Column of ``adata.obs`` with the batch of each cell, which encoder and decoder are given, so that the code
            need not tell it. Leave it out where the batch is one of the factors to be found.
        labels_key
            Column of ``adata.obs`` with the type of each cell. It takes no part in the training; :meth:`generate` then
            makes cells of a given type.
        size_factor_key
            Column of ``adata.obs`` with positive size factors, in any unit, to be used in place of the cells' totals
            with ``library="observed"``; their mean stands for the mean total.
        categorical_covariate_keys
            Columns of ``adata.obs`` with what else tells cells apart and can be asked of new ones: condition, donor,
            tissue; of any type, as `labels_key`.
        continuous_covariate_keys
            Columns of ``adata.obs`` with numbers, such as dose, time or age, of which the same holds. They are
            standardised; where effects are multiplicative, register the logarithm.
        **kwargs
            Passed on by scvi-tools when it transfers a registration.

        Raises
        ------
        KeyError
            If the layer or a column does not exist.
        ValueError
            If values are NaN or negative, labels are missing or of several kinds, gene names repeat, or `adata` is a
            view or backed.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> adata.layers["log"] = adata.X.log1p()
        >>> sm.BetaTCVAE.setup_anndata(adata, layer="log")
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        field_list = anndata_fields(
            adata,
            layer=layer,
            labels_key=labels_key,
            batch_key=batch_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        )
        register(cls, adata, field_list, setup_method_args, **kwargs)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        modalities: Mapping[str, str],
        rna_layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        """Register the expression modality of a MuData.

        Parameters
        ----------
        mdata
            The data.
        modalities
            Which modality each argument is found in, such as ``{"rna_layer": "rna"}``; keys that are left out refer to
            ``mdata.obs``.
        rna_layer
            Layer of the modality that holds the expression; None: its ``X``.
        batch_key, labels_key, size_factor_key
            As in :meth:`setup_anndata`.
        categorical_covariate_keys, continuous_covariate_keys
            As in :meth:`setup_anndata`.
        **kwargs
            Passed on by scvi-tools when it transfers a registration.

        Raises
        ------
        KeyError
            If a modality, the layer or a column does not exist.
        ValueError
            As :meth:`setup_anndata`.

        Examples
        --------
        >>> import mudata
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> mdata = mudata.MuData({"rna": adata})
        >>> sm.BetaTCVAE.setup_mudata(mdata, modalities={"rna_layer": "rna"})
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        SETTINGS.check(modalities=modalities)
        attributes = cls._create_modalities_attr_dict(dict(modalities), setup_method_args)
        field_list = mudata_fields(
            mdata,
            attributes,
            rna_layer=rna_layer,
            labels_key=labels_key,
            unlabeled_category=None,
            batch_key=batch_key,
            size_factor_key=size_factor_key,
            categorical_covariate_keys=categorical_covariate_keys,
            continuous_covariate_keys=continuous_covariate_keys,
        )
        register(cls, mdata, field_list, setup_method_args, **kwargs)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 1.0,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int = 128,
        early_stopping: bool = False,
        datasplitter_kwargs: dict | None = None,
        plan_kwargs: dict | None = None,
        datamodule: StreamedCells | None = None,
        n_restarts: int = 1,
        restart_epochs: int | None = None,
        **trainer_kwargs,
    ) -> None:
        """Train.

        Parameters
        ----------
        max_epochs
            Passes over the data. None: as many as hold 4,000 steps, between 20 and 400; the paper has 1,000.
        accelerator, devices
            As in scvi-tools.
        train_size
            Fraction of cells to train on; all by default, as the paper.
        validation_size
            Fraction of cells to validate on.
        shuffle_set_split
            Shuffle before splitting.
        load_sparse_tensor
            Move sparse tensors to the device.
        batch_size
            Cells per step; 128 as the paper.
        early_stopping
            Stop when ``elbo_validation`` no longer falls; needs validation cells, so give ``train_size`` below 1.
        datasplitter_kwargs
            Passed to :class:`scvi.dataloaders.DataSplitter`.
        plan_kwargs
            Passed to :class:`scmimic.train.BetaTCVAETrainingPlan`: ``lr``, ``memory_size``, ``n_epochs_beta_warmup``,
            and so on.
        datamodule
            Cells on disk to train on, as ``setup_annbatch`` gives them; None: those that the model was made with, in
            memory. `shuffle_set_split` and `load_sparse_tensor` then say nothing.
        n_restarts
            Number of seeds to begin from, 1 or at least 3; one by default, since each costs `restart_epochs`. What a
            latent comes to hold depends on the seed. With several, each is trained for `restart_epochs`; the one that
            agrees best with the others (:func:`~scmimic.metrics.unsupervised_disentanglement_ranking`; no labels are
            needed) is then trained from its beginning to the end. `callbacks` and `logger` see that last training.
        restart_epochs
            Epochs of each restart, on the schedules of the whole training. None: a quarter of `max_epochs`.
        **trainer_kwargs
            Passed to :class:`scvi.train.Trainer`, such as ``strategy="ddp"``.

        Raises
        ------
        ValueError
            If an argument is out of range, or there is no batch to train on.
        TypeError
            If an argument is of another kind, or `plan_kwargs` holds an unknown setting.
        RuntimeError
            If nothing finite was learned. As after any other error, the model is what it was before.

        Notes
        -----
        ``history`` holds, beside the ELBO and its parts, the terms of the KL: ``mutual_information_train``,
        ``total_correlation_train`` and ``dimension_wise_kl_train``. Ctrl-C ends the training and keeps what was
        learned; ``was_interrupted_`` tells. SIGTERM does too, and then ends the process by `SystemExit`. A loss that is
        not finite ends the training with the weights of the last good epoch. See the user guide on trainings that end
        early.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.BetaTCVAE.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.BetaTCVAE(adata, n_latent=2, n_hidden=(8,), gene_likelihood="nb")
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.is_trained
        True
        """
        self._check_training(locals(), n_restarts=COUNT, restart_epochs=COUNT_OR_NONE)
        check_restarts(self, n_restarts, devices, trainer_kwargs)
        if max_epochs is None:
            max_epochs = default_epochs((datamodule or self.adata).n_obs, batch_size)
        train = functools.partial(
            self._train,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            train_size=train_size,
            validation_size=validation_size,
            shuffle_set_split=shuffle_set_split,
            load_sparse_tensor=load_sparse_tensor,
            batch_size=batch_size,
            early_stopping=early_stopping,
            datasplitter_kwargs=datasplitter_kwargs,
            plan_kwargs=plan_kwargs,
            datamodule=datamodule,
        )
        if n_restarts == 1:
            train(finish=self._report_vanished_latents, **trainer_kwargs)
            return
        if restart_epochs is None:
            restart_epochs = math.ceil(max_epochs * RESTART_SHARE)
        Restarts(self, restart_epochs, train, **trainer_kwargs).run(n_restarts)
        self._report_vanished_latents()

    def latent_activity(self) -> pd.DataFrame:
        """How much every latent tells of the training cells.

        A VAE leaves latents that it does not need at their prior: their posterior is N(0, 1) for every cell, they carry
        nothing, and the decoder ignores them. Such a latent has vanished.

        Returns
        -------
        DataFrame, one row per latent (``Z1``, ``Z2``, ...), with

        ``variance``
            Of the posterior means over cells.
        ``kl``
            Mean KL of the posteriors from N(0, 1), in nats.
        ``active``
            Whether the variance is above 0.01 (Burda et al. 2015, section 5).

        Raises
        ------
        RuntimeError
            If the model is not trained.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.BetaTCVAE.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.BetaTCVAE(adata, n_latent=2, n_hidden=(8,), gene_likelihood="nb")
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.latent_activity().index.tolist()
        ['Z1', 'Z2']
        """
        posterior = self._trained_cells()
        mean, variance = posterior.mean.astype(float), posterior.std.astype(float) ** 2
        spread = mean.var(axis=0)
        return pd.DataFrame(
            {
                "variance": spread,
                "kl": mean_kl(mean, variance),
                "active": spread > ACTIVE_VARIANCE,
            },
            index=_keys.latent_names(mean.shape[1]),
        )

    def _report_vanished_latents(self) -> None:
        activity = self.latent_activity()
        vanished = activity.index[~activity["active"]].tolist()
        if vanished:
            logger.warning("%d of %d latents have vanished: %s.", len(vanished), len(activity), ", ".join(vanished))


def default_epochs(n_obs: int, batch_size: int) -> int:
    """Epochs that hold `DEFAULT_STEPS` steps, within bounds."""
    steps_per_epoch = max(n_obs // batch_size, 1)
    return min(max(-(-DEFAULT_STEPS // steps_per_epoch), MIN_EPOCHS), MAX_EPOCHS)
