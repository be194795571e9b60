"""What the autoencoders of cells share: generation, decoding, calibration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from anndata import AnnData
from lightning.pytorch import LightningModule
from scvi import REGISTRY_KEYS
from scvi.model.base import VAEMixin

from scmimic._random import as_seed
from scmimic.cells import Labels, Value, Values
from scmimic.model.base._generative import GenerativeModel, library_sizes, recorded_library_size
from scmimic.model.base._realism import RealismMixin
from scmimic.model.base._rna import RNAMixin
from scmimic.model.base._vae_module import CellVAEModule
from scmimic.model.generation._output import check_path, collect, deliver, in_order
from scmimic.model.generation._sampler import AggregatedPosterior, CellSampler, Stream
from scmimic.model.generation.calibration._calibration import calibrate
from scmimic.model.generation.calibration._margins import GeneMargins


class GenerativeVAE(RealismMixin, RNAMixin, VAEMixin, GenerativeModel):
    """An autoencoder of cells: expression and codes as scvi-tools' models give them, and generation.

    A subclass sets ``module``, a :class:`~scmimic.module.CellVAEModule`.
    """

    module: CellVAEModule
    margins_: GeneMargins | None = None

    _library_size_note = "with gene_likelihood='normal' the cells have the totals of the training layer"

    @torch.inference_mode()
    def generate(
        self,
        n: int | None = None,
        labels: Labels = None,
        *,
        method: Literal["posterior", "prior"] = "posterior",
        library_size: float | Sequence[float] | None = None,
        min_confidence: float | None = None,
        max_draws: int | None = None,
        transform_batch: Value | None = None,
        match_margins: bool | None = None,
        seed: int | None = None,
        batch_size: int = 1024,
        path: str | os.PathLike | None = None,
        overwrite: bool = False,
        silent: bool = True,
    ) -> AnnData:
        """Generate new cells.

        Parameters
        ----------
        n
            Total number of cells.
        labels
            None: all types, in the proportions of the training data (``method="prior"``: as the prior gives them).
            One type, a list of types (`n` is shared evenly, the remainder goes to the first), or a dict from type to
            number of cells (then `n` is left out). Types are given as they stand in the column, or as text.
        method
            Where the latent codes come from. ``"posterior"`` (default): the aggregated posterior of the requested type,
            that is q(z|x) of its training cells, each used equally often, with the library size of the same cell; exact
            and without rejection, and more realistic than the prior (see the benchmarks). ``"prior"``: N(0, I), and
            cells of a requested type are those that the classifier takes for it (section 2.6 of the paper); library
            sizes come from the type's log-normal distribution.
        library_size
            Counts per cell: one number, or one for each cell where none is rejected. None: modelled, as said under
            `method`. Only for count likelihoods.
        min_confidence
            Keep only cells to whose type the classifier gives at least this probability, between 0 and 1. None: with
            ``"posterior"`` every cell is kept, with ``"prior"`` the most probable type decides.
        max_draws
            Bound on the cells drawn per type where cells are rejected. None: 1,000 per requested cell, at least
            100,000.
        transform_batch
            Batch to generate. None: the batches of the training cells that the codes come from.
        match_margins
            Draw each gene within a type towards the distribution that it has in the training cells, the further the
            more cells the type has, by moving each drawn count to the same quantile; dependence between genes and
            cells stays the model's. None: wherever training has compared them, as that of ACTIVA does for count
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
        silent
            Show no progress bar.

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
        ``.obs[batch_key]``, ``.obs_names``, ``.var``, ``.uns["<column>_colors"]``
            The batch; names that differ from those of other calls; the training genes without statistics of the
            training cells; the training cells' colours.
        ``.uns["scmimic"]`` : dict
            Model, version, parameters and seed.

        Raises
        ------
        RuntimeError
            If the model is not trained, or too few cells are accepted within `max_draws`.
        ValueError
            If a label is unknown, `n` is not positive, or an argument does not fit the model.
        OSError
            If something is at `path` and `overwrite` is False (this one is a ValueError too), or nothing can be
            written there.
        """
        self._check_request(locals())
        path = check_path(path, overwrite)
        self._check_confidence(min_confidence, method, labels)
        any_type = method == "prior" and labels is None and min_confidence is None
        asked = self._requested(n, labels, any_type=any_type)
        seed = as_seed(seed)
        sampler = self._sampler(
            seed=seed,
            method=method,
            library_size=self._check_library_size(library_size, asked.total),
            min_confidence=min_confidence,
            batch=self._batch_code(transform_batch),
            max_draws=max(100_000, 1000 * asked.total) if max_draws is None else max_draws,
            margins=self._check_margins(match_margins, library_size),
        )
        if library_size is not None and np.ndim(library_size) > 0 and sampler.rejects(asked.cells):
            raise ValueError(
                "`library_size` must be one number where cells may be rejected, that is with `min_confidence` or with "
                "types from the prior."
            )
        about = self._describe_cells(
            seed,
            {
                "n": asked.total,
                "labels": asked.labels,
                "method": method,
                "library_size": recorded_library_size(library_size),
                "min_confidence": min_confidence,
                "transform_batch": transform_batch,
                "match_margins": sampler.margins is not None,
            },
        )
        self.module.eval()
        blocks = sampler.run(asked.cells, shuffle=labels is None)
        return deliver(blocks, about, asked.total, batch_size=batch_size, path=path, overwrite=overwrite, silent=silent)

    @torch.inference_mode()
    def decode(
        self,
        z: np.ndarray,
        *,
        labels: Values | None = None,
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
        library_size
            Counts per cell, one number or one for each. None: drawn from the log-normal distribution of the training
            cells (of the type, where `labels` is given).
        transform_batch
            Batch to decode into. None: batches at random as in the training data.
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
        """
        self._check_request(locals())
        z = self._check_codes(z)
        label = self._label_codes(labels, len(z))
        library = self._check_library_size(library_size, len(z))
        seed = as_seed(seed)
        sampler = self._sampler(
            seed=seed, method="prior", library_size=library, batch=self._batch_code(transform_batch)
        )
        self.module.eval()
        chunks = list(sampler.decode(z, label, share_noise))
        order = np.argsort(np.concatenate([index for index, _ in chunks]))
        parameters = {"n": len(z), "method": "decode", "transform_batch": transform_batch, "share_noise": share_noise}
        about = self._describe_cells(seed, parameters, z, label, library)
        return collect([in_order((chunk for _, chunk in chunks), order)], about)

    @torch.inference_mode()
    def expected_expression(
        self,
        z: np.ndarray,
        *,
        labels: Values | None = None,
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
        library_size
            Counts per cell, one number or one for each. None: the geometric mean of the training cells'.
        transform_batch
            Batch to decode into. None: the most frequent one.
        batch_size
            Cells per pass.

        Returns
        -------
        Array ``(n, n_genes)``: expected counts for count likelihoods, else the units of the training layer.

        Raises
        ------
        ValueError
            If the codes have another size than the latent space or are not finite, or a label is unknown.
        """
        self._check_request(locals())
        z = self._check_codes(z)
        posterior, module = self._trained_cells(), self.module
        label = self._label_codes(labels, len(z))
        if labels is None and self.label_categories_ is not None:
            label = posterior.nearest_labels(z, len(self.label_categories_))
        library = self._check_library_size(library_size, len(z))
        log_library = np.full(len(z), posterior.log_library.mean()) if library is None else np.log(library)
        batch = self._batch_code(transform_batch)
        batch = int(np.bincount(posterior.batches).argmax()) if batch is None else batch
        columns = (z, log_library[:, None].astype(np.float32), np.full((len(z), 1), batch), label.clip(0)[:, None])
        module.eval()
        parts = []
        for start in range(0, len(z), batch_size):
            block = (torch.as_tensor(c[start : start + batch_size], device=module.device) for c in columns)
            parts.append(module.expected(module.decode(*block)).cpu().numpy())
        return np.concatenate(parts)

    def _sampler(self, **settings: Any) -> CellSampler:
        return CellSampler(self.module, self._trained_cells(), names=self.label_categories_, **settings)

    def _calibrate(self, *, dispersion: bool, spread: bool, margins: bool) -> None:
        """Take from the training cells what generation is matched with."""
        calibration = calibrate(
            self.module,
            self._trained_cells(),
            self._training_batches,
            dispersion=dispersion,
            spread=spread,
            margins=margins,
        )
        self.posterior_, self.margins_ = calibration.posterior, calibration.margins

    def _after_training(self, plan: LightningModule) -> None:
        self._prepare_generation()

    def _prepare_generation(self) -> None:
        # a map from the counts of other weights
        self.margins_ = None
        self._remember_posterior()
        self._check_generation()

    @torch.inference_mode()
    def _check_generation(self, n_cells: int = 512) -> None:
        """Reject weights by which no cell can be generated."""
        posterior, module = self._trained_cells(), self.module
        codes = torch.as_tensor(np.concatenate([posterior.mean, posterior.std]))
        self._check_useful("the codes of its training cells", codes)
        cells = np.arange(0, len(posterior), max(len(posterior) // n_cells, 1))
        label = posterior.labels[cells]
        sampler = self._sampler(seed=0)
        stream = sampler.stream(Stream.BLOCKS, 0)
        z, log_library, batches = sampler.latents(sampler.codes, cells, label, None, stream)
        px = module.decode(z, log_library, batches, torch.as_tensor(label, device=z.device).unsqueeze(1))
        self._check_useful("the cells that it generates", module.expected(px), is_count=module.is_count)

    @torch.inference_mode()
    def _remember_posterior(self) -> None:
        """Encode the training cells, so that a saved model generates without its data."""
        self.module.eval()
        parts = []
        for tensors in self._training_batches():
            tensors = {key: value.to(self.module.device) for key, value in tensors.items()}
            out = self.module.inference(**self.module._get_inference_input(tensors))
            parts.append(
                (
                    out["qz_mean"],
                    (0.5 * out["qz_log_var"]).exp(),
                    out["library"].squeeze(-1),
                    tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1),
                    tensors[REGISTRY_KEYS.BATCH_KEY].squeeze(-1),
                )
            )
        mean, std, library, labels, batches = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
        self.posterior_ = AggregatedPosterior(mean, std, library, labels.astype(np.int64), batches.astype(np.int64))

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

    def _training_batches(self, cells: np.ndarray | None = None):
        """The cells trained on, or these of them, in their order."""
        indices = None if self.train_indices_ is None else np.sort(self.train_indices_)
        if cells is not None:
            indices = cells if indices is None else indices[cells]
        return self._make_data_loader(self.adata, indices=indices, batch_size=1024)

    def _check_confidence(self, min_confidence: float | None, method: str, labels) -> None:
        needs = min_confidence is not None or (method == "prior" and labels is not None)
        if needs and getattr(self.module, "classifier", None) is None:
            raise ValueError("This model has no classifier; `min_confidence` and types from the prior need one.")

    def _check_library_size(self, library_size, n: int) -> np.ndarray | None:
        if library_size is None:
            return None
        if not self.module.takes_library_size:
            raise ValueError(f"`library_size` cannot be asked of this model: {self._library_size_note}.")
        return library_sizes(library_size, n)
