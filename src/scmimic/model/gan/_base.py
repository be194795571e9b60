"""What the GANs share: start, training that can go on, generation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from lightning.pytorch import LightningModule

from scmimic._arguments import COUNT, COUNT_OR_NONE, FLAG, NATURAL, SHARE, Choice, check_arguments, check_widths
from scmimic._arrays import as_dense
from scmimic._random import as_seed, draw_members
from scmimic.cells import OPEN, Labels, Units, Values, check_registered_counts, count_units
from scmimic.model.base._generative import GenerativeModel, library_sizes, recorded_library_size
from scmimic.model.base._training import SINGLE
from scmimic.model.gan._module import COUNTS_TARGET_SUM, Draw, InfoGANModule, Output
from scmimic.model.gan._plan import WassersteinTrainingPlan
from scmimic.model.gan._presets import CRITIC_STEPS, CRITIC_STEPS_OF_VALUES, GANPreset, default_epochs, gan_preset
from scmimic.model.gan._sampler import GANSampler
from scmimic.model.generation._delivery import deliver
from scmimic.model.generation._output import collect
from scmimic.model.generation._planned import PlannedCells
from scmimic.model.generation._sampler import BlockSampler, Stream
from scmimic.model.generation.codes._posterior import AggregatedPosterior
from scmimic.model.generation.parts import check_path

_SIZES = {
    "n_latent": COUNT,
    "n_noise": NATURAL,
    **dict.fromkeys(("dropout_rate", "dropout_rate_critic"), SHARE),
    "use_batch_norm_critic": FLAG,
}
_OUTPUT = Choice(("relu", "linear", "library", "counts"), optional=True)
# Cells whose hidden layers give the batch norm its statistics once training has ended.
_STATISTICS_CELLS = 4096


class GenerativeGAN(GenerativeModel):
    """A GAN of cells: its networks start from the data, its training can go on, and it generates."""

    _training_plan_cls = WassersteinTrainingPlan
    _precisions = SINGLE

    def _set_up_networks(
        self,
        preset: str,
        n_hidden_generator: Sequence[int] | None,
        n_hidden_critic: Sequence[int] | None,
        output: Output | None,
        *,
        dropout_rate: float | None,
        dropout_rate_critic: float | None,
        use_batch_norm_critic: bool | None,
        **kwargs,
    ) -> Output:
        """Make the module from a preset and what differs from it, begin with the data's averages; the output made."""
        sizes = gan_preset(preset)
        _OUTPUT.check(output=output)
        asked = {
            "dropout_rate": dropout_rate,
            "dropout_rate_critic": dropout_rate_critic,
            "use_batch_norm_critic": use_batch_norm_critic,
        }
        kwargs |= {name: getattr(sizes, name) if value is None else value for name, value in asked.items()}
        generator, critic = self._check_sizes(sizes, n_hidden_generator, n_hidden_critic, **kwargs)
        self._preset_name = preset
        has_data = self.adata is not None
        if has_data:
            self._inspect_expression()
        if output is None:
            output = "counts" if has_data and self.count_units_ == "counts" else sizes.output
        if has_data:
            self._check_output(output)
        n_input = self.summary_stats.n_vars
        self.module = self._module_cls(
            n_input,
            n_hidden_generator=generator,
            n_hidden_critic=critic,
            negative_slope=sizes.negative_slope,
            last_slope=sizes.last_slope,
            output=output,
            log_counts=has_data and self.count_units_ == "counts",
            **kwargs,
        )
        if has_data:
            self._start_from_data()
        self.posterior_: AggregatedPosterior | None = None
        self.training_state_: dict[str, Any] | None = None
        self.plan_kwargs_: dict[str, Any] = {}
        self._model_summary_string = (
            f"{type(self).__name__}: {n_input} genes, {self.module.n_latent} latent dimensions, generator {generator}, "
            f"critic {critic}"
        )
        return output

    def _inspect_expression(self) -> None:
        """Find out the units of the data, and the library sizes behind them."""
        counts = count_units(self._expression())
        if counts.units == "counts":
            check_registered_counts(self._expression_data(), self._layer)
        self.count_units_ = counts.units
        self._library_size = counts.library_size

    def _start_from_data(self) -> None:
        """Begin with the average cell, and bring the data to unit variance per gene on average."""
        x = self._expression()
        total, square, profile = np.zeros((3, x.shape[1]))
        n = x.shape[0]
        for start in range(0, n, 1024):
            rows = as_dense(x[start : start + 1024]).astype(np.float64)
            profile = profile + rows.sum(0)
            if self.module.log_counts:
                rows = np.log1p(rows * (COUNTS_TARGET_SUM / rows.sum(1, keepdims=True)))
            total, square = total + rows.sum(0), square + np.square(rows).sum(0)
        mean = total / n
        scale = float(np.sqrt(np.maximum(square / n - mean**2, 0).mean()))
        if scale == 0:
            raise ValueError("All cells of the registered expression are the same; there is nothing to learn.")
        profile /= profile.sum()
        self.module.start_from(*(torch.as_tensor(v, dtype=torch.float32) for v in (mean, profile)), scale)

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
        batch_size: int | None = None,
        early_stopping: bool = False,
        datasplitter_kwargs: dict | None = None,
        plan_kwargs: dict | None = None,
        **trainer_kwargs,
    ) -> None:
        """Train critic and generator; a further call goes on where the last one ended, also after save and load.

        Parameters
        ----------
        max_epochs
            Passes of the critic over the data; the generator takes a step for every five of the critic. None: the
            preset's, or as many as hold 20,000 steps of the critic; 8,000 where the generator does not draw counts
            (``output``), since the means of its values drift away in longer runs.
        accelerator, devices
            As in scvi-tools; one device.
        train_size
            Fraction of cells to train on. All by default.
        validation_size
            Fraction of cells on which ``wasserstein_validation`` is computed, with ``check_val_every_n_epoch=1``.
        shuffle_set_split
            Shuffle before splitting.
        load_sparse_tensor
            Move sparse tensors to the device.
        batch_size
            Cells per step. None: the preset's, 32 as MichiGAN or 128 as scGAN.
        early_stopping
            Not offered: no loss of a GAN says when to stop.
        datasplitter_kwargs
            Passed to :class:`scvi.dataloaders.DataSplitter`.
        plan_kwargs
            Passed to :class:`scmimic.train.WassersteinTrainingPlan`: ``n_critic``, ``gradient_penalty``, ``lr``,
            ``prediction``, ``average_decay``, and so on. What is not given is as in the last training of the model,
            also after save and load, and in the first one the preset's.
        **trainer_kwargs
            Passed to :class:`scvi.train.Trainer`.

        Raises
        ------
        ValueError
            If a number is out of range, `plan_kwargs` holds a setting that other models have, or early stopping,
            several devices or half precision are asked for, or there is no batch to train on.
        TypeError
            If `plan_kwargs` holds an unknown setting.
        RuntimeError
            If nothing finite was learned. As after any other error, the model is what it was before.

        Notes
        -----
        ``history`` holds, for each epoch, the means of ``critic_loss_train``, ``wasserstein_train`` (mean score of real
        minus generated cells), ``gradient_penalty_train`` (without its weight), ``gradient_norm_train`` and
        ``generator_loss_train``. Ctrl-C ends the training and keeps what was learned; ``was_interrupted_`` tells.
        SIGTERM does too, and then ends the process by `SystemExit`. A loss that is not finite ends the training with
        the weights of the last good epoch. See the user guide on trainings that end early.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.WGANGP(adata, n_latent=4, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.is_trained
        True
        """
        # more validation cells, which other models need for it, would not help
        if early_stopping is True:
            raise ValueError(
                "`early_stopping` needs a loss that falls as the cells get better, and a GAN has none. Compare cells "
                "of several lengths of training with `scmimic.tl.evaluate`."
            )
        self._check_training(locals(), batch_size=COUNT_OR_NONE)
        n_devices = len(devices) if isinstance(devices, list) else devices
        for name, asked_for, is_one in (
            ("devices", devices, n_devices in ("auto", "1", 1)),
            ("num_nodes", trainer_kwargs.get("num_nodes", 1), trainer_kwargs.get("num_nodes", 1) == 1),
        ):
            if not is_one:
                raise ValueError(
                    f"A {type(self).__name__} trains on one device: the gradients of its critic are written by hand, "
                    "and no process would learn of the others', so that each would train a critic of its own. Give "
                    f"`{name}=1`, not {asked_for!r}."
                )
        preset = gan_preset(self._preset_name)
        batch_size = preset.batch_size if batch_size is None else batch_size
        if max_epochs is None:
            max_epochs = default_epochs(preset, self.adata.n_obs, batch_size, self._default_steps())
        asked = {**self.plan_kwargs_, **(plan_kwargs or {})}
        plan = self._check_plan(asked, preset.plan)
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
            plan_kwargs=plan | {"state": self.training_state_},
            keep={"plan_kwargs_": asked},
            **trainer_kwargs,
        )

    def _default_steps(self) -> int:
        """Steps of the critic in a run whose length was not said."""
        return CRITIC_STEPS if self.module.makes_counts else CRITIC_STEPS_OF_VALUES

    def _after_training(self, plan: LightningModule) -> None:
        """Keep what generation and further training need; also after an interrupt."""
        assert isinstance(plan, WassersteinTrainingPlan)
        self.training_state_ = plan.state()
        self._prepare_generation()

    @torch.no_grad()
    def _prepare_generation(self) -> None:
        posterior = self.posterior_ = self._cells_of_training()
        sampler = BlockSampler(self.module, seed=0)
        source = draw_members(self._pool(OPEN), _STATISTICS_CELLS, np.random.default_rng(0))
        stream, n = sampler.stream(Stream.STATISTICS), len(source)
        z = posterior.sample(source, sampler.noise(n, self.module.n_latent, stream))
        noise = sampler.noise(n, self.module.n_noise, stream)
        labels = torch.as_tensor(posterior.labels[source], device=z.device) if self.module.n_labels else None
        self.module.refresh_statistics(Draw(z, noise, labels))
        size = torch.as_tensor(posterior.log_library[source], dtype=z.dtype, device=z.device).exp().unsqueeze(1)
        cells = self.module.decode(Draw(z, noise, labels, size))
        self._check_useful("the cells that it generates", cells, is_count=self.module.makes_counts)

    def _cells_of_training(self) -> AggregatedPosterior:
        """Labels, library sizes and codes of the training cells, so that a saved model generates without its data."""
        n = self.adata.n_obs
        rows = np.arange(n) if self.train_indices_ is None else np.sort(self.train_indices_)
        labels = self._label_array()[rows]
        mean, std = self._codes_of_cells(rows)
        return AggregatedPosterior(
            mean, std, np.log(np.maximum(self._library_size[rows], 1)), labels, np.zeros(len(rows), dtype=np.int64)
        )

    def _codes_of_cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and standard deviations of the codes of training cells; none where codes come from N(0, I)."""
        empty = np.empty((len(rows), 0), dtype=np.float32)
        return empty, empty

    def _sources(self, z: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each code a training cell that lends it label and library size."""
        source = np.empty(len(z), dtype=np.int64)
        for code in np.unique(label):
            rows = np.flatnonzero(label == code)
            source[rows] = rng.choice(self._pool(int(code)), len(rows))
        return source

    def _pool(self, code: int) -> np.ndarray:
        """Training cells of a label; those of any label but the unlabelled ones for `OPEN`."""
        posterior = self._trained_cells()
        pool = posterior.cells(None if code == OPEN else code)
        if code == OPEN and self.label_categories_ is not None:
            pool = pool[posterior.labels < len(self.label_categories_)]
        if len(pool) == 0:
            raise ValueError(f"The training data hold no cells of {self.label_categories_[code]!r}.")
        return pool

    @torch.inference_mode()
    def generate(
        self,
        n: int | None = None,
        labels: Labels = None,
        *,
        library_size: float | Sequence[float] | None = None,
        as_counts: bool | None = None,
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
            None: all types, in the proportions of the training data. One type, a list of types (`n` is shared evenly,
            the remainder goes to the first), or a dict from type to number of cells (then `n` is left out). Types are
            given as they stand in the column, or as text.
        library_size
            Counts per cell: one number, or one for each cell. None: those of training cells of the same type. Only
            with counts.
        as_counts
            Make integer counts. None: where the training layer holds raw counts. Models of raw counts draw them
            (``output="counts"``), with False they give the expected counts. Of normalised values and their log1p they
            are made afterwards: each cell gets a library size, and every value is rounded up or down at random so that
            its mean is kept, the mean of its logarithm for log1p values; the library sizes are read from the data,
            where the smallest value of a cell is one count.
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
            Expression in the units and the dtype of the training layer, or integer counts; integers of fewer than 32
            bits become 32-bit ones, which do not overflow.
        ``.obs[labels_key]``
            The requested type, in the type of the training column.
        ``.obsm["X_<model>"]`` : ndarray
            The codes.
        ``.obs_names``, ``.var``, ``.uns["<column>_colors"]``
            Names that differ from those of other calls; the training genes without statistics of the training cells;
            the training cells' colours.
        ``.uns["scmimic"]`` : dict
            Model, version, parameters and seed.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If a label is unknown, `n` is not positive, an argument does not fit the model or its data, or
            ``<path>.unfinished`` holds parts of cells that were asked for otherwise.
        OSError
            If something is at `path` and `overwrite` is False (this one is a ValueError too), or nothing can be
            written there.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.WGANGP(adata, n_latent=4, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> model.generate(4, labels=["type_0", "type_1"], seed=0).obs["cell_type"].tolist()
        ['type_0', 'type_0', 'type_1', 'type_1']
        """
        self._check_request(locals())
        path = check_path(path, overwrite=overwrite, resume=resume, seed=seed)
        planned = self._plan_cells(n, labels, library_size=library_size, as_counts=as_counts, seed=seed)
        return deliver(planned, batch_size=batch_size, path=path, overwrite=overwrite, resume=resume, silent=silent)

    def _plan_cells(
        self,
        n: int | None = None,
        labels: Labels = None,
        *,
        library_size: float | Sequence[float] | None = None,
        as_counts: bool | None = None,
        seed: int | None = None,
    ) -> PlannedCells:
        """What :meth:`generate` makes of these arguments."""
        asked = self._requested(n, labels)
        as_counts, library = self._check_counts_request(as_counts, library_size, asked.total)
        seed = as_seed(seed)
        parameters = {"n": asked.total, "labels": asked.labels}
        about = self._describe_output(seed, parameters, as_counts, library_size)
        self.module.eval()
        sampler = self._sampler(seed, as_counts, library)
        return PlannedCells(about, asked.cells, labels is None, sampler, self.device.type)

    @torch.inference_mode()
    def decode(
        self,
        z: np.ndarray,
        *,
        labels: Values | None = None,
        library_size: float | Sequence[float] | None = None,
        as_counts: bool | None = None,
        share_noise: bool = False,
        seed: int | None = None,
    ) -> AnnData:
        """Turn codes into cells.

        Parameters
        ----------
        z
            Codes, shape ``(n, n_latent)``.
        labels
            Type of every cell, or one for all. None: those of random training cells; for
            :class:`~scmimic.model.MichiGAN` that of the training cell with the nearest code.
        library_size, as_counts
            As in :meth:`generate`.
        share_noise
            Give all cells the same noise, and those of a label the library size and the type of one training cell (of
            the nearest code to the first, for :class:`~scmimic.model.MichiGAN`), so that codes alone tell them apart.
            The draw of counts stays that of each cell.
        seed
            Seed of what the codes leave open: noise, library sizes and the rounding of counts.

        Returns
        -------
        AnnData as from :meth:`generate`.

        Raises
        ------
        RuntimeError
            If the model is not trained.
        ValueError
            If the codes have another size than the latent space or are not finite, or a label is unknown.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.WGANGP.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.WGANGP(adata, n_latent=4, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> import numpy as np
        >>> model.decode(np.zeros((3, 4)), labels="type_0", seed=0).shape
        (3, 20)
        """
        self._check_request(locals())
        z = self._check_codes(z)
        label = self._label_codes(labels, len(z))
        as_counts, library = self._check_counts_request(as_counts, library_size, len(z))
        seed = as_seed(seed)
        source = self._sources(z, label, np.random.default_rng([seed, 2]))
        if share_noise:
            _, first, same = np.unique(label, return_index=True, return_inverse=True)
            source = source[first[same]]
        parameters = {"n": len(z), "method": "decode", "share_noise": share_noise}
        about = self._describe_output(seed, parameters, as_counts, library_size, z, label)
        self.module.eval()
        return collect(self._sampler(seed, as_counts, library, share_noise=share_noise).decode(z, source), about)

    def _sampler(
        self, seed: int, as_counts: bool, library_size: np.ndarray | None, *, share_noise: bool = False
    ) -> GANSampler:
        logged = bool(self.module.log_counts) or self.count_units_ == "log1p"
        return GANSampler(
            self.module,
            self._trained_cells(),
            seed=seed,
            as_counts=as_counts,
            logged=logged,
            library_size=library_size,
            share_noise=share_noise,
        )

    def _describe_output(self, seed: int, parameters: dict, as_counts: bool, library_size, *asked: np.ndarray):
        parameters = {
            **parameters,
            "as_counts": as_counts,
            "units": self._units_made(as_counts),
            "library_size": recorded_library_size(library_size),
        }
        about = self._describe_cells(seed, parameters, *asked)
        if not as_counts and about.dtype.kind != "f":
            # fractions of counts would be cut off in an integer layer's type
            about.dtype = np.dtype(np.float32)
        return about

    def _units_made(self, as_counts: bool) -> Units | None:
        """Units of the cells that :meth:`generate` makes."""
        if as_counts:
            return "counts"
        # expected counts are no whole numbers
        return "linear" if self.count_units_ == "counts" else self.expression_space_.units

    def _check_likelihood(self, gene_likelihood: str) -> None:
        if gene_likelihood != "normal":
            raise ValueError(
                f"`gene_likelihood` must be 'normal', not {gene_likelihood!r}: {type(self).__name__} has no "
                "likelihood, its critic compares cells as they are. For a model of counts use ACTIVA or BetaTCVAE. "
                "`generate(as_counts=True)` makes counts of the cells."
            )

    def _check_output(self, output: str) -> None:
        """Refuse a last layer that cannot make cells like the data's."""
        if output == "counts" and self.count_units_ != "counts":
            raise ValueError("`output='counts'` needs raw counts. Register the layer that holds them: `layer=...`.")
        space = self.expression_space_
        if output == "library" and space.units == "linear" and space.total is None:
            raise ValueError(
                "`output='library'` (that of preset='scgan') gives every cell the same sum, but the cells of the "
                "training layer differ in theirs. Scale them to one total over the genes that are left "
                "(`sc.pp.normalize_total`), or pass `output='relu'`."
            )
        if output == "library" and self.count_units_ in ("counts", "log1p"):
            raise ValueError(
                "`output='library'` (that of preset='scgan') gives every cell the same sum, and the logarithms that "
                "the networks would see here have none in common. Register counts scaled to one total per cell, "
                "without their logarithm (`layer=...`), or pass "
                f"`output={'counts' if self.count_units_ == 'counts' else 'relu'!r}`."
            )

    def _check_sizes(
        self,
        preset: GANPreset,
        n_hidden_generator: Sequence[int] | None,
        n_hidden_critic: Sequence[int] | None,
        **kwargs: Any,
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Refuse sizes that no network has; the hidden widths of generator and critic."""
        check_arguments(kwargs, _SIZES)
        generator = preset.n_hidden_generator if n_hidden_generator is None else n_hidden_generator
        critic = preset.n_hidden_critic if n_hidden_critic is None else n_hidden_critic
        return check_widths("n_hidden_generator", generator), check_widths("n_hidden_critic", critic)

    def _check_plan(self, asked: Mapping[str, Any], of_preset: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse settings of another model; the preset's with them in their place."""
        plan = dict(of_preset)
        if not isinstance(self.module, InfoGANModule):
            plan.pop("mutual_information_weight", None)
            if "mutual_information_weight" in asked:
                raise ValueError(
                    f"`mutual_information_weight` is that of codes, which a {type(self).__name__} does not find again. "
                    "Leave it out, or use InfoWGANGP."
                )
        return {**plan, **asked}

    def _check_counts_request(self, as_counts: bool | None, library_size, n: int) -> tuple[bool, np.ndarray | None]:
        as_counts = self.count_units_ == "counts" if as_counts is None else as_counts
        if as_counts and self.count_units_ is None:
            raise ValueError(
                "`as_counts` needs a training layer of counts, of counts scaled to a common total, or of the log1p of "
                "these; this model's layer is none of them."
            )
        if library_size is None:
            return as_counts, None
        if not as_counts:
            raise ValueError(
                "`library_size` needs counts: pass `as_counts=True`, or leave it out; the values have the totals of "
                "the training layer."
            )
        return as_counts, library_sizes(library_size, n)
