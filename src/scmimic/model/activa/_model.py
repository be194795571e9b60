"""ACTIVA: automatic cell-type-informed introspective variational autoencoder.

Heydari, Davalos, Zhao, Hoyer, Sindi (2022) ACTIVA: realistic single-cell RNA-seq generation with automatic cell-type
identification using introspective variational autoencoders. Bioinformatics 38, 2194-2201.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from torch import nn

from scmimic import _keys
from scmimic._arguments import (
    COUNT_OR_NONE,
    FLAG,
    NON_NEGATIVE,
    ORDERED,
    PROBABILITY,
    SETTINGS,
    SHARE,
    Choice,
    check_arguments,
    check_widths,
)
from scmimic._interrupts import interrupted_part
from scmimic.cells import ANNDATA, Value, check_registered_counts
from scmimic.model.actinn._model import ACTINN, classify_cells
from scmimic.model.activa._conditioner import conditioner, without_weights
from scmimic.model.activa._module import ACTIVAModule
from scmimic.model.activa._plan import IntrospectiveTrainingPlan
from scmimic.model.activa._presets import preset_for
from scmimic.model.base._fields import anndata_fields, mudata_fields, register
from scmimic.model.base._initialisation import start_from_data, write_covariate_statistics
from scmimic.model.base._likelihoods import likelihood_names
from scmimic.model.base._streamed import StreamedCells
from scmimic.model.base._vae import GenerativeVAE
from scmimic.model.generation.codes._posterior import AggregatedPosterior

_KINDS = {
    "encode_covariates": FLAG,
    "n_latent": COUNT_OR_NONE,
    "dispersion": Choice(("gene", "gene-label")),
    "encoder_head": Choice(("linear", "relu_bn")),
    "output_threshold": NON_NEGATIVE,
    "library_covariate": FLAG,
    "label_baseline": PROBABILITY,
    "dropout_rate": SHARE,
}


class ACTIVA(GenerativeVAE):
    """Cell-type-conditioned introspective VAE that generates cells (ACTIVA).

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata` or :meth:`setup_mudata`.
    gene_likelihood
        ``"nb"`` (default), ``"zinb"`` or ``"poisson"``: raw counts in, integer counts out, with the library size
        modelled. ``"normal"``: the paper's model, for any non-negative normalised expression; equation 2 is its
        reconstruction loss and cells are the generator's output, without noise. Counts are the default because a
        squared error on expression has no zeros and no noise, by which a random forest tells its cells at once; the
        authors name this extension themselves (section 4.2).
    n_latent
        Size of the latent space. None: 128 as the paper for ``"normal"``, 32 for counts.
    n_hidden
        Widths of the encoder's hidden layers; the generator has them in reverse. None: 1024, 512, 256 as the paper for
        ``"normal"``, 256, 128 for counts.
    dispersion
        ``"gene-label"`` (default) or ``"gene"``: inverse dispersion of the counts per gene and type, or per gene.
        Without labels the two are the same.
    encoder_head
        ``"linear"`` (default) or ``"relu_bn"``, which the authors' program has: ReLU and batch norm after the encoder's
        outputs hold the batch KL near 0.82 nats per dimension and make means and log variances one-sided, so that
        the codes cannot be distributed as N(0, I).
    output_threshold
        With ``"normal"``: outputs at or below this value become zero (section 2.5); 0 is the plain ReLU.
    library_covariate
        With counts: show the generator the log library size beside the code, so that gene proportions can depend on
        depth.
    label_baseline
        With counts and labels: share of a type's average profile that the generator is given, between 0 (the code
        alone, as the paper) and 1. It is added to the log proportions of genes, as the log ratio of the type's profile
        to that of all cells. A little keeps rare types from being drawn towards their neighbours; with all of it, the
        code need not hold the type any more, and the latent space does not show it.
    dropout_rate
        Dropout in encoder and generator; the paper has none.
    classifier
        The conditioner. None: an :class:`ACTINN` of its own, trained along. A trained :class:`ACTINN` with the same
        types, or any :class:`torch.nn.Module` that returns logits ``(n, n_types)`` from expression
        ``(n, n_genes)``: copied, and left as it is unless ``plan_kwargs={"n_epochs_classifier": ...}`` trains it on.
        Without labels there is none, and the model is a plain IntroVAE.
    encode_covariates
        Tell batch and covariates to the encoder too, so that the code need not hold them. False: to the decoder alone,
        as :class:`scvi.model.SCVI`; no worse on the cells of the benchmark.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    See Also
    --------
    scmimic.model.ACTINN : The classifier alone.
    scmimic.model.BetaTCVAE : A latent space of independent dimensions.
    scmimic.model.WGANGP : A generative adversarial network.
    scmimic.tl.augment : Real and synthetic cells together.
    scmimic.evaluate : How hard the cells are to tell from real ones.

    Notes
    -----
    See the user guide for the losses, what differs from the paper and from the authors' program, and the limits.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTIVA(adata, n_latent=8, n_hidden=(32,))
    >>> model.train(max_epochs=3, warmup_epochs=2, enable_progress_bar=False)
    >>> model.generate(n=20, seed=0).shape
    (20, 50)
    """

    _module_cls = ACTIVAModule
    _training_plan_cls = IntrospectiveTrainingPlan

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        *,
        gene_likelihood: Literal["nb", "zinb", "poisson", "normal"] = "nb",
        n_latent: int | None = None,
        n_hidden: Sequence[int] | None = None,
        dispersion: Literal["gene", "gene-label"] = "gene-label",
        encoder_head: Literal["linear", "relu_bn"] = "linear",
        output_threshold: float = 0.0,
        library_covariate: bool = True,
        label_baseline: float = 0.5,
        dropout_rate: float = 0.0,
        classifier: ACTINN | nn.Module | None = None,
        encode_covariates: bool = True,
        registry: dict[str, Any] | None = None,
    ):
        check_arguments(locals(), _KINDS | {"gene_likelihood": likelihood_names()})
        preset = preset_for(gene_likelihood)
        n_latent = preset.n_latent if n_latent is None else n_latent
        n_hidden = check_widths("n_hidden", preset.n_hidden if n_hidden is None else n_hidden)
        super().__init__(adata, registry)
        self._remember_registration()
        n_input = self.summary_stats.n_vars
        n_labels = max(self.summary_stats.get("n_labels", 1), 1)
        self.interrupted_source_ = interrupted_part(classifier)
        network, self._classifier_is_given = conditioner(classifier, self.label_categories_, n_input)
        self.module = self._module_cls(
            n_input,
            n_labels=n_labels,
            **self._covariate_sizes(),
            encode_covariates=encode_covariates,
            n_latent=n_latent,
            n_hidden=n_hidden,
            gene_likelihood=gene_likelihood,
            dispersion=dispersion,
            encoder_head=encoder_head,
            output_threshold=output_threshold,
            library_covariate=library_covariate,
            label_baseline=label_baseline > 0,
            dropout_rate=dropout_rate,
            classifier=network,
        )
        self._label_baseline = label_baseline
        if adata is not None:
            self._start()
        self.posterior_: AggregatedPosterior | None = None
        self._model_summary_string = (
            f"ACTIVA: {n_input} genes, {n_latent} latent dimensions, hidden layers {tuple(n_hidden)}, "
            f"gene_likelihood={gene_likelihood!r}"
        )
        # a model is saved with its parameters: an ACTINN would drag its data along
        given = without_weights(network) if network is not None and self._classifier_is_given else None
        self.init_params_ = self._get_init_params(locals() | {"classifier": given})

    def _start(self) -> None:
        write_covariate_statistics(self)
        if self.module.is_count:
            x = self._expression()
            check_registered_counts(self._expression_data(), self._layer, self.module.gene_likelihood)
            start_from_data(self, x, self._label_baseline)

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: Value | None = _keys.UNLABELED,
        batch_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        """Register the data.

        Parameters
        ----------
        adata
            Cells x genes. Raw counts for the count likelihoods, any non-negative expression for ``"normal"``.
        layer
            Layer that holds the expression; None: ``adata.X``.
        labels_key
            Column of ``adata.obs`` with the type of each cell: text, numbers, truth values or categories of these.
            None: a model without types.
        unlabeled_category
            Value in that column that means "no type known"; these cells train the VAE, not the classifier. None: all
            are types.
        batch_key
            Column of ``adata.obs`` with the batch of each cell, or its donor: an effect that is small beside those of
            types, and is learned with restraint (``plan_kwargs={"batch_decay": ...}``).
        size_factor_key
            Column of ``adata.obs`` with positive size factors, in any unit, to be used in place of the cells' totals.
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
            If values are NaN or negative, labels are missing, of several kinds or all unknown, gene names repeat, or
            `adata` is a view or backed.

        Examples
        --------
        Cells that can be asked for by type, plate and dose.

        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> adata.obs["dose"] = [0.5, 1.0] * 30
        >>> sm.ACTIVA.setup_anndata(
        ...     adata, labels_key="cell_type", batch_key="batch", continuous_covariate_keys=["dose"]
        ... )
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        field_list = anndata_fields(
            adata,
            layer=layer,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
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
        labels_key: str | None = None,
        unlabeled_category: Value | None = _keys.UNLABELED,
        batch_key: str | None = None,
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
        labels_key, unlabeled_category, batch_key, size_factor_key
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
        >>> keys = {"rna_layer": "rna", "labels_key": "rna"}
        >>> sm.ACTIVA.setup_mudata(mdata, modalities=keys, labels_key="cell_type")
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        SETTINGS.check(modalities=modalities)
        attributes = cls._create_modalities_attr_dict(dict(modalities), setup_method_args)
        field_list = mudata_fields(
            mdata,
            attributes,
            rna_layer=rna_layer,
            labels_key=labels_key,
            unlabeled_category=unlabeled_category,
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
        warmup_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = 1.0,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int = 128,
        early_stopping: bool = False,
        calibrate_dispersion: bool = True,
        calibrate_spread: bool = True,
        calibrate_margins: bool = True,
        datasplitter_kwargs: dict | None = None,
        plan_kwargs: dict | None = None,
        datamodule: StreamedCells | None = None,
        **trainer_kwargs,
    ) -> None:
        """Train: first a VAE with the classifier alongside, then the introspective game (section 2.6).

        Parameters
        ----------
        max_epochs
            Passes over the data, the warm-up included. None: 610 as the paper (10 + 600) for ``"normal"``; for counts
            400, but no more than 12,000 steps take, and no more than a quarter of the number of cells (at least 60):
            small data are memorised sooner.
        warmup_epochs
            Passes as a plain VAE. None: 10 as the paper for ``"normal"``; for counts three quarters of the
            run, since a count VAE needs its dispersion before a game about single counts makes sense.
        accelerator, devices
            As in scvi-tools.
        train_size
            Fraction of cells to train on. All by default, as the paper, which sets its test cells aside beforehand; a
            generator also gains from each cell.
        validation_size, shuffle_set_split, load_sparse_tensor
            As in scvi-tools.
        batch_size
            Cells per step; 128 as the paper.
        early_stopping
            Stop when ``elbo_validation`` no longer falls; needs validation cells, so give ``train_size`` below 1.
        calibrate_dispersion
            After training, draw a gene's dispersion in a type of which few cells express it towards that in all types;
            then lower it where the gene would get more zeros than training cells have. For ``"nb"`` and ``"zinb"``.
        calibrate_spread
            After training, move the codes of each type apart, where its cells would otherwise vary less along their
            main directions than training cells do. Only for count likelihoods, from 50 cells.
        calibrate_margins
            After training, compare each gene's distribution in generated cells and training cells of each type, and of
            its larger groups by batch and covariates, so that :meth:`generate` can match them. Only for count
            likelihoods.
        datasplitter_kwargs
            Passed to :class:`scvi.dataloaders.DataSplitter`.
        plan_kwargs
            Passed to :class:`scmimic.train.IntrospectiveTrainingPlan`: ``alpha1``, ``alpha2``, ``m``, ``lr``,
            ``softadapt``, ``n_epochs_classifier``, and so on.
        datamodule
            Cells on disk to train on, as ``setup_annbatch`` gives them; None: those that the model was made with, in
            memory. `shuffle_set_split` and `load_sparse_tensor` then say nothing.
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
        Ctrl-C ends the training and keeps what was learned; ``was_interrupted_`` tells. SIGTERM does too, and then
        ends the process by `SystemExit`. A loss that is not finite ends the training with the weights of the last good
        epoch. See the user guide on trainings that end early.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> len(model.history["train_loss"])
        2
        """
        self._check_training(locals())
        preset = preset_for(self.module.gene_likelihood)
        if max_epochs is None:
            max_epochs = preset.epochs((datamodule or self.adata).n_obs, batch_size)
        if warmup_epochs is None:
            warmup_epochs = preset.warmup(max_epochs)
        settings = {
            "n_epochs_warmup": warmup_epochs,
            "n_epochs_classifier": 0
            if self._classifier_is_given
            else preset.classifier_epochs(max_epochs, warmup_epochs),
            **preset.plan,
            **(plan_kwargs or {}),
        }
        calibration = {
            "dispersion": calibrate_dispersion,
            "spread": calibrate_spread,
            "margins": calibrate_margins,
            "silent": not trainer_kwargs.get("enable_progress_bar", True),
        }
        self._train(
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
            plan_kwargs=settings,
            datamodule=datamodule,
            finish=partial(self._calibrate, **calibration),
            **trainer_kwargs,
        )

    @torch.inference_mode()
    def classify(
        self,
        adata: AnnData | None = None,
        *,
        indices: Sequence[int] | None = None,
        soft: bool = False,
        batch_size: int | None = None,
    ) -> pd.Series | pd.DataFrame:
        """Type of each cell by the model's own classifier; on the command line ``scmimic predict``.

        Parameters
        ----------
        adata
            Real or generated cells with the training genes in the training order. None: the training data.
        indices
            Cells to classify; None: all.
        soft
            Return probabilities instead of types.
        batch_size
            Cells per pass.

        Returns
        -------
        Series of types in the type of the training column, or DataFrame of probabilities (cells x types), indexed by
        ``obs_names``.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the model has no classifier, the genes or the units differ, or the training data changed.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.classify(adata).shape
        (60,)
        """
        ANNDATA.or_none.check(adata=adata)
        ORDERED.check(indices=indices)
        FLAG.check(soft=soft)
        COUNT_OR_NONE.check(batch_size=batch_size)
        self._check_trained()
        if self.module.classifier is None:
            raise ValueError("This model has no classifier: the data were registered without `labels_key`.")
        data = self._expression_data() if adata is None else adata
        return classify_cells(self, data, indices=indices, soft=soft, batch_size=batch_size)
