"""What the autoencoders of cells share: generation, decoding, calibration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from lightning.pytorch import LightningModule
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.model.base import VAEMixin

from scmimic._arguments import shown
from scmimic._random import as_seed
from scmimic.cells import BATCH, LABEL, OPEN, AttributeValues, Labels, Value, Values
from scmimic.model.base._generative import CodeName, GenerativeModel, check_like, library_sizes, recorded_library_size
from scmimic.model.base._realism import RealismMixin
from scmimic.model.base._rna import RNAMixin
from scmimic.model.base._sharing import model_card, shareable
from scmimic.model.base._vae_module import CellVAEModule
from scmimic.model.generation._delivery import deliver
from scmimic.model.generation._output import collect, in_order
from scmimic.model.generation._planned import PlannedCells
from scmimic.model.generation._sampler import CellSampler, Stream
from scmimic.model.generation._unseen import GroupMeans
from scmimic.model.generation.calibration._calibration import calibrate
from scmimic.model.generation.calibration._margins import GeneMargins
from scmimic.model.generation.codes._flow import CodeFlow
from scmimic.model.generation.codes._kernel import KernelCodes
from scmimic.model.generation.codes._mixture import CodeMixture
from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.model.generation.codes._sources import CodeSource, Drawn, FittedCodes, PosteriorCodes, PriorCodes
from scmimic.model.generation.parts import check_path

FITTED: dict[str, type[CodeMixture] | type[CodeFlow]] = {"mixture": CodeMixture, "flow": CodeFlow}


class GenerativeVAE(RealismMixin, RNAMixin, VAEMixin, GenerativeModel):
    """An autoencoder of cells: expression and codes as scvi-tools' models give them, and generation.

    A subclass sets ``module``, a :class:`~scmimic.module.CellVAEModule`.
    """

    module: CellVAEModule
    """Networks and losses, in torch."""
    margins_: GeneMargins | None = None
    """How each gene's counts are moved to those of the training cells; None where they are not."""
    fitted_codes_: Mapping[str, CodeMixture | CodeFlow] = MappingProxyType({})
    """What the codes of the training cells were summed up as, by the name of ``codes``."""
    # a model that was saved without it generates from the posteriors, as it did
    codes_: str = "posterior"
    """The ``codes`` that :meth:`generate` takes where it is told none."""
    shared_: dict[str, Any] | None = None
    """What a model that was saved with ``shareable=True`` says of itself; None for any other."""

    _library_size_note = "with gene_likelihood='normal' the cells have the totals of the training layer"

    @torch.inference_mode()
    def generate(
        self,
        n: int | None = None,
        labels: Labels = None,
        *,
        covariates: Mapping[str, Values] | None = None,
        like: pd.DataFrame | AnnData | MuData | None = None,
        codes: CodeName | None = None,
        method: CodeName | None = None,
        library_size: float | Sequence[float] | None = None,
        min_confidence: float | None = None,
        max_draws: int | None = None,
        transform_batch: Value | None = None,
        match_margins: bool | None = None,
        seed: int | None = None,
        batch_size: int = 1024,
        path: str | os.PathLike | None = None,
        overwrite: bool = False,
        resume: bool = False,
        silent: bool = False,
    ) -> AnnData:
        """Generate new cells.

        Parameters
        ----------
        n
            Total number of cells.
        labels
            None: all types, in the proportions of the training cells, of those with the asked covariates
            (``codes="prior"``: as the prior gives them). One type, a list of types (`n` is shared evenly, the remainder
            goes to the first), or a dict from type to number of cells (then `n` is left out). Types are given as they
            stand in the column, or as text.
        covariates
            What else the cells are: the name of the batch's column or of a covariate to a value, or to several, among
            which the cells are shared evenly; several columns in all combinations. What is left out is as in the
            training cells, given the rest. A combination that these do not have is generated too, and flagged.
        like
            A table, or cells with such a table in ``.obs``: one cell is made for each row, in their order, with its
            type, batch and covariates; what there is no column for is left out, as above. `n`, `labels` and
            `covariates` are then left out.
        codes
            Where the latent codes come from. ``"mixture"`` (None, for models that are trained): Gaussian mixtures of
            the codes and log library sizes of each type, whose groups borrow from one another; no cell is made from
            one training cell. ``"posterior"``: q(z|x) of training cells of what is asked for, each used equally often,
            with the library size of the same cell. ``"flow"``: a conditional flow of code and log library size (extra
            ``flow``). ``"kernel"``: posteriors, smoothed within their type. ``"prior"``: N(0, I), and cells of a
            requested type are those that the classifier takes for it (section 2.6 of the paper); library sizes come
            from a log-normal distribution. All but the prior are exact in number and without rejection, and more
            realistic (see the benchmarks). A flow is fitted when it is first asked for. Gene margins are those of cells
            from the mixture. A model that was saved before there were mixtures draws from the posterior.
        method
            Former name of `codes`.
        library_size
            Counts per cell: one number, or one for each cell where none is rejected. None: modelled, as said under
            `codes`. Only for count likelihoods.
        min_confidence
            Keep only cells to whose type the classifier gives at least this probability, between 0 and 1. None: with
            ``"posterior"`` every cell is kept, with ``"prior"`` the most probable type decides.
        max_draws
            Bound on the cells drawn per type where cells are rejected. None: 1,000 per requested cell, at least
            100,000.
        transform_batch
            Batch to generate, as `covariates` with the name of its column.
        match_margins
            Draw each gene within a type towards the distribution that it has in the training cells, the further the
            more cells the type has, by moving each drawn count to the same quantile; dependence between genes and
            cells stays the model's. Combinations of type, batch and covariates with 50 training cells have
            distributions of their own. None: wherever training has compared them, as that of ACTIVA does for count
            likelihoods (``calibrate_margins=True``), and library sizes are modelled.
        seed
            Same seed, same cells, whatever the batch size, on one kind of device. None: drawn from torch's
            generator, which ``scvi.settings.seed`` sets; the number used is kept in ``.uns``.
        batch_size
            Cells that are gathered before they are written out; bounds the memory with `path`.
        path
            Write to this ``.h5ad`` or ``.zarr`` in bounded memory and return the AnnData that is backed by it.
        overwrite
            Replace what is at `path`, once the new cells are whole.
        resume
            Write the cells in parts of 4,096 to the folder ``<path>.unfinished`` first. Where a call was killed, the
            same call makes the parts that are missing, and the file holds the same cells as without the kill. Needs a
            `seed`.
        silent
            Show no progress bar, also where generation takes over two seconds; `scvi.settings` has its style.

        Returns
        -------
        AnnData with

        ``.X`` : CSR matrix
            Integer counts for count likelihoods, else the units of the training layer; in its dtype, but for integers
            of fewer than 32 bits, which become 32-bit ones.
        ``.obs[labels_key]``
            The requested type, in the type of the training column.
        ``.obsm["X_<model>"]`` : ndarray
            The latent codes.
        ``.obs[batch_key]``, and the covariates
            In the type of their training columns.
        ``.obs["seen"]``
            Of a model with a batch or covariates: whether there are training cells of the same combination, and the
            continuous covariates lie within theirs.
        ``.obs_names``, ``.var``, ``.uns["<column>_colors"]``
            Names that differ from those of other calls; the training genes without statistics of the training cells;
            the training cells' colours.
        ``.uns["scmimic"]`` : dict
            Model, version, parameters, seed and, under ``"unseen"``, the number of cells of each combination that the
            training cells do not have; under ``"beyond"``, of how many cells a continuous covariate lies beyond
            theirs. For count likelihoods also ``"trust"``: how much of what sets such a combination apart from the
            type's other cells is likely to be foretold (see Notes), NaN where nothing says it.

        Raises
        ------
        RuntimeError
            If the model is not trained, or too few cells are accepted within `max_draws`.
        ValueError
            If a label is unknown, `n` is not positive, an argument does not fit the model, or ``<path>.unfinished``
            holds parts of cells that were asked for otherwise.
        OSError
            If something is at `path` and `overwrite` is False (this one is a ValueError too), or nothing can be
            written there.

        Notes
        -----
        **Combinations without training cells**, of count likelihoods: codes are those of the type, and the decoder is
        told what is asked. The means of the genes are then moved to where the types that were seen foretell them (not
        in the papers): a mean of the type's own groups, plus the response of the other types, of which those count
        most that are like it, by the power of the distance with which they foretell one another best. Of the type's
        groups those count that are likely to be near what is asked: with a drug and donors that hardly differ, the
        drug's cells of other donors (kriging, by what each attribute moves in all types). Library sizes are moved
        likewise; dispersions of genes that rise are those of the types in which they were seen; gene margins are
        those of other groups and not matched. ``"trust"`` is the share that the other types foretell of one
        another's squared difference between what is asked and the type's mean over the cells that it has, each left out
        in turn and weighted by likeness: 1 is ideal, 0 no better than that mean.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.generate(5, labels="type_1", seed=0).obs["cell_type"].tolist()
        ['type_1', 'type_1', 'type_1', 'type_1', 'type_1']
        >>> model.generate(labels={"type_0": 2, "type_2": 1}, seed=0).n_obs
        3
        """
        self._check_request(locals())
        path = check_path(path, overwrite=overwrite, resume=resume, seed=seed)
        planned = self._plan_cells(
            n,
            labels,
            covariates=covariates,
            like=like,
            codes=codes,
            method=method,
            library_size=library_size,
            min_confidence=min_confidence,
            max_draws=max_draws,
            transform_batch=transform_batch,
            match_margins=match_margins,
            seed=seed,
        )
        return deliver(planned, batch_size=batch_size, path=path, overwrite=overwrite, resume=resume, silent=silent)

    def _plan_cells(
        self,
        n: int | None = None,
        labels: Labels = None,
        *,
        covariates: Mapping[str, Values] | None = None,
        like: pd.DataFrame | AnnData | MuData | None = None,
        codes: CodeName | None = None,
        method: CodeName | None = None,
        library_size: float | Sequence[float] | None = None,
        min_confidence: float | None = None,
        max_draws: int | None = None,
        transform_batch: Value | None = None,
        match_margins: bool | None = None,
        seed: int | None = None,
    ) -> PlannedCells:
        """What :meth:`generate` makes of these arguments."""
        source = self._check_codes_of(codes, method)
        covariates = self._check_covariates(covariates, transform_batch)
        check_like(like, n, labels, covariates)
        self._check_confidence(min_confidence, source, labels)
        any_type = source == "prior" and labels is None and min_confidence is None
        asked = self._requested(n, labels, covariates=covariates, like=like, any_type=any_type)
        judged = min_confidence is not None or (source == "prior" and (asked.cells.labels != OPEN).any())
        if judged and like is not None:
            raise ValueError(
                "`like` keeps the order of its rows, and cells that the classifier may reject come type by type: leave "
                "`min_confidence` out, and take codes that are no prior's."
            )
        seed = as_seed(seed)
        sampler = self._sampler(
            source,
            seed=seed,
            library_size=self._check_library_size(library_size, asked.total),
            judged=judged,
            min_confidence=min_confidence,
            max_draws=max(100_000, 1000 * asked.total) if max_draws is None else max_draws,
            margins=self._check_margins(match_margins, library_size),
        )
        if library_size is not None and np.ndim(library_size) > 0 and judged:
            raise ValueError(
                "`library_size` must be one number where cells may be rejected, that is with `min_confidence` or with "
                "types from the prior."
            )
        parameters = {
            "n": asked.total,
            "labels": asked.labels,
            "codes": source,
            "library_size": recorded_library_size(library_size),
            "min_confidence": min_confidence,
            "match_margins": sampler.margins is not None,
        }
        if self._attributes.keys:
            parameters["covariates"] = covariates
        rows = () if like is None else (asked.cells.codes, asked.cells.numbers)
        about = self._describe_cells(seed, parameters, *rows)
        self.module.eval()
        return PlannedCells(about, asked.cells, labels is None and like is None, sampler, self.device.type)

    @torch.inference_mode()
    def decode(
        self,
        z: np.ndarray,
        *,
        labels: Values | None = None,
        covariates: Mapping[str, Value] | None = None,
        library_size: float | Sequence[float] | None = None,
        transform_batch: Value | None = None,
        share_noise: bool = False,
        seed: int | None = None,
    ) -> AnnData:
        """Turn latent codes into cells.

        Counts are as the likelihood draws them: the map to the gene margins of the training cells, which
        :meth:`generate` applies, knows cells at the codes of its types and says nothing about others.

        Parameters
        ----------
        z
            Codes, shape ``(n, n_latent)``.
        labels
            Type of every cell, or one for all: the type whose baseline, library sizes and dispersion are used. None:
            the type of the training cell with the nearest code; for a model without a baseline per type, the type that
            the classifier sees in the decoded cell.
        covariates
            What else the cells are: the name of the batch's column or of a covariate to its value. What is left out is
            at random as in the training cells, given the rest.
        library_size
            Counts per cell, one number or one for each. None: drawn from the log-normal distribution of the training
            cells (of the type, where `labels` is given).
        transform_batch
            Batch to decode into, as `covariates` with the name of its column.
        share_noise
            Give all cells of one of `labels` the library size and the batch of one training cell, so that codes alone
            tell them apart. The draw from the likelihood stays that of each cell.
        seed
            Seed of the draws, as in :meth:`generate`.

        Returns
        -------
        AnnData as from :meth:`generate`.

        Raises
        ------
        ValueError
            If the codes have another size than the latent space or are not finite, or a label is unknown.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.decode(model.get_latent_representation()[:3], labels="type_0", seed=0).shape
        (3, 20)
        """
        self._check_request(locals())
        z = self._check_codes(z)
        label = self._label_codes(labels, len(z))
        covariates = self._check_covariates(covariates, transform_batch)
        asked = self._one_combination(covariates).take(np.zeros(len(z), dtype=np.int64))
        asked.codes[:, LABEL] = label
        library = self._check_library_size(library_size, len(z))
        seed = as_seed(seed)
        sampler = self._sampler("prior", seed=seed, library_size=library)
        self.module.eval()
        chunks = list(sampler.decode(z, asked, share_noise))
        order = np.argsort(np.concatenate([index for index, _ in chunks]))
        parameters = {"n": len(z), "method": "decode", "share_noise": share_noise}
        if self._attributes.keys:
            parameters["covariates"] = covariates
        about = self._describe_cells(seed, parameters, z, label, library)
        return collect([in_order((chunk for _, chunk in chunks), order)], about)

    @torch.inference_mode()
    def expected_expression(
        self,
        z: np.ndarray,
        *,
        labels: Values | None = None,
        covariates: Mapping[str, Value] | None = None,
        library_size: float | Sequence[float] | None = None,
        transform_batch: Value | None = None,
        batch_size: int = 1024,
    ) -> np.ndarray:
        """Mean expression that the decoder gives to latent codes, without noise.

        Parameters
        ----------
        z
            Codes, shape ``(n, n_latent)``.
        labels
            Type of every cell, or one for all. None: the type of the training cell with the nearest code.
        covariates
            What else the cells are: the name of the batch's column or of a covariate to its value. What is left out is
            as in the largest group of training cells that has the rest.
        library_size
            Counts per cell, one number or one for each. None: the geometric mean of the training cells'.
        transform_batch
            Batch to decode into, as `covariates` with the name of its column.
        batch_size
            Cells per pass.

        Returns
        -------
        Array of cells x genes, expected counts for count likelihoods, else in the units of the training layer.

        Raises
        ------
        ValueError
            If the codes have another size than the latent space or are not finite, or a label is unknown.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.expected_expression(model.get_latent_representation()[:3]).shape
        (3, 20)
        """
        self._check_request(locals())
        z = self._check_codes(z)
        posterior, module, composition = self.posterior_, self.module, self._composition
        label = self._label_codes(labels, len(z))
        if labels is None and self.label_categories_ is not None and posterior is not None:
            label = posterior.nearest_labels(z, len(self.label_categories_))
        library = self._check_library_size(library_size, len(z))
        log_library = np.full(len(z), composition.mean_library) if library is None else np.log(library)
        one = self._one_combination(self._check_covariates(covariates, transform_batch))
        asked = composition.largest(one).take(np.zeros(len(z), dtype=np.int64))
        asked.codes[:, LABEL] = label.clip(0)
        sampler = self._sampler("prior", seed=0)
        columns = (z, log_library[:, None].astype(np.float32))
        module.eval()
        parts = []
        for start in range(0, len(z), batch_size):
            rows = slice(start, start + batch_size)
            part, library_part = (torch.as_tensor(c[rows], device=module.device) for c in columns)
            px = sampler.distribution(part, library_part, asked.take(rows))
            parts.append(module.expected(px).cpu().numpy())
        return np.concatenate(parts)

    def _one_combination(self, covariates: Mapping[str, Any]) -> AttributeValues:
        """What is asked of all cells alike."""
        found = self._attributes.asked(covariates)
        if len(found) > 1:
            raise ValueError(f"`covariates` must give one value for each column here, not {dict(covariates)}.")
        return found[0]

    def _check_covariates(self, covariates: Mapping[str, Any] | None, transform_batch: Value | None) -> dict[str, Any]:
        """Covariates with the batch among them."""
        if covariates is not None and not isinstance(covariates, Mapping):
            raise TypeError(
                f"`covariates` must be a dict from the name of a column to a value, not {shown(covariates)}."
            )
        asked = dict(covariates or {})
        if transform_batch is not None:
            self._batch_code(transform_batch)
            assert self.batch_key_ is not None
            if self.batch_key_ in asked:
                raise ValueError(
                    f"The batch is asked for twice: by `transform_batch` and `covariates[{self.batch_key_!r}]`."
                )
            asked[self.batch_key_] = transform_batch
        return asked

    def _check_codes_of(self, codes: CodeName | None, method: CodeName | None) -> str:
        """Where codes come from."""
        if codes is not None and method is not None and codes != method:
            raise ValueError(f"`codes={codes!r}` and `method={method!r}` contradict; `method` is its former name.")
        return codes or method or self.codes_

    def _shareable(self) -> GenerativeVAE:
        return shareable(self)

    def _card(self) -> str:
        return model_card(self)

    def _code_source(self, codes: str) -> CodeSource:
        """Where codes come from; what is fitted for it is kept."""
        if codes == "prior":
            return PriorCodes(self._composition)
        if codes in FITTED:
            if codes not in self.fitted_codes_:
                self.fitted_codes_ = {**self.fitted_codes_, codes: FITTED[codes].fit(self._trained_cells())}
            return FittedCodes(self._composition, self.fitted_codes_[codes])
        return (KernelCodes if codes == "kernel" else PosteriorCodes)(self._trained_cells())

    def _sampler(self, codes: str = "posterior", **settings: Any) -> CellSampler:
        group_codes = None
        if self.means_ is not None and codes == "prior":
            # codes of no type in particular say nothing of what the decoder makes of one
            group_codes = self._code_source("mixture" if self.posterior_ is None else "posterior")
        return CellSampler(
            self.module,
            self._code_source(codes),
            posterior=self.posterior_,
            names=self.label_categories_,
            means=self.means_,
            group_codes=group_codes,
            **settings,
        )

    def _calibrate(self, *, dispersion: bool, spread: bool, margins: bool, silent: bool = True) -> None:
        """Take from the training cells what generation is matched with."""
        calibration = calibrate(
            self.module,
            self._trained_cells(),
            self._training_batches,
            dispersion=dispersion,
            spread=spread,
            margins=margins,
            silent=silent,
        )
        self.posterior_, self.margins_ = calibration.posterior, calibration.margins
        self.fitted_codes_ = {"mixture": calibration.codes}

    def _after_training(self, plan: LightningModule) -> None:
        self._prepare_generation()

    def _prepare_generation(self) -> None:
        # a map from the counts of other weights
        self.margins_ = self.composition_ = self.means_ = None
        self.fitted_codes_, self.codes_ = {}, "mixture"
        self._remember_posterior()
        if self.module.is_count and self._attributes.covariates:
            posterior = self._trained_cells()
            blocks = (sp.csr_matrix(tensors[REGISTRY_KEYS.X_KEY].cpu().numpy()) for tensors in self._training_batches())
            self.means_ = GroupMeans.of(posterior.attributes, posterior.log_library, blocks)
        self._check_generation()

    @torch.inference_mode()
    def _check_generation(self, n_cells: int = 512) -> None:
        """Reject weights by which no cell can be generated."""
        posterior, module = self._trained_cells(), self.module
        codes = torch.as_tensor(np.concatenate([posterior.mean, posterior.std]))
        self._check_useful("the codes of its training cells", codes)
        cells = np.arange(0, len(posterior), max(len(posterior) // n_cells, 1))
        sampler, drawn = self._sampler(seed=0), Drawn(posterior.attributes.take(cells), cells)
        z, log_library = sampler.latents(sampler.codes, drawn, None, sampler.stream(Stream.BLOCKS, 0))
        label = torch.as_tensor(drawn.attributes.labels, device=z.device).unsqueeze(1)
        px = module.decode(z, log_library, sampler.told(drawn.attributes), label)
        self._check_useful("the cells that it generates", module.expected(px), is_count=module.is_count)

    @torch.inference_mode()
    def _remember_posterior(self) -> None:
        """Encode the training cells, so that a saved model generates without its data."""
        self.module.eval()
        parts = []
        for tensors in self._training_batches():
            tensors = {key: value.to(self.module.device) for key, value in tensors.items()}
            out = self.module.inference(**self.module._get_inference_input(tensors))
            columns = [tensors[REGISTRY_KEYS.LABELS_KEY], tensors[REGISTRY_KEYS.BATCH_KEY]]
            if REGISTRY_KEYS.CAT_COVS_KEY in tensors:
                columns.append(tensors[REGISTRY_KEYS.CAT_COVS_KEY])
            numbers = tensors.get(REGISTRY_KEYS.CONT_COVS_KEY)
            parts.append(
                (
                    out["qz_mean"],
                    (0.5 * out["qz_log_var"]).exp(),
                    out["library"].squeeze(-1),
                    torch.cat([column.long() for column in columns], dim=1),
                    out["qz_mean"][:, :0] if numbers is None else numbers,
                )
            )
        mean, std, library, codes, numbers = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        self.posterior_ = AggregatedPosterior(
            mean,
            std,
            library,
            codes[:, LABEL],
            codes[:, BATCH],
            covariates=codes[:, BATCH + 1 :] if codes.shape[1] > BATCH + 1 else None,
            numbers=numbers.astype(np.float64) if numbers.shape[1] else None,
        )

    def _check_margins(self, match_margins: bool | None, library_size) -> GeneMargins | None:
        margins = self.margins_
        if match_margins is None:
            return margins if library_size is None else None
        if not match_margins:
            return None
        if margins is None:
            raise ValueError(
                "`match_margins=True` needs margins that training has compared with those of the cells: an ACTIVA with "
                "a count likelihood and `train(calibrate_margins=True)`, the default."
            )
        if library_size is not None:
            raise ValueError(
                "`match_margins=True` and `library_size` exclude each other: the margins are those of the training "
                "cells' library sizes."
            )
        return margins

    def _check_confidence(self, min_confidence: float | None, codes: str, labels) -> None:
        needs = min_confidence is not None or (codes == "prior" and labels is not None)
        if needs and getattr(self.module, "classifier", None) is None:
            raise ValueError("This model has no classifier; `min_confidence` and types from the prior need one.")

    def _check_library_size(self, library_size, n: int) -> np.ndarray | None:
        if library_size is None:
            return None
        if not self.module.takes_library_size:
            raise ValueError(f"`library_size` cannot be asked of this model: {self._library_size_note}.")
        return library_sizes(library_size, n)
