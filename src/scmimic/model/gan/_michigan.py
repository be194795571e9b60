"""MichiGAN: cells from the codes of a pre-trained representation, by a conditional Wasserstein GAN.

Yu and Welch (2021) MichiGAN: sampling from disentangled representations of single-cell data using generative
adversarial networks. Genome Biology 22, 158. Algorithm 1 and appendix A.1.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from lightning.pytorch.utilities.seed import isolate_rng
from scvi.data import fields
from scvi.model.base import BaseModelClass

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT_OR_NONE, FLAG, KEY, LAYER, NATURAL, Choice, check_rows, check_widths
from scmimic._interrupts import interrupted_part
from scmimic.cells import ANNDATA, ExpressionSpace, Value, check_convertible, check_obsm, made_space
from scmimic.model.base._fields import anndata_fields, register
from scmimic.model.base._model import CellModel
from scmimic.model.base._runner import n_epochs
from scmimic.model.base._saving import REPRESENTATION_PREFIX
from scmimic.model.gan._base import GenerativeGAN
from scmimic.model.gan._faithfulness import faithfulness, median_faithfulness
from scmimic.model.gan._module import CODE_KEY, CODE_VAR_KEY, MichiGANModule
from scmimic.model.gan._presets import CRITIC_STEPS, Preset, gan_preset
from scmimic.model.gan._representation import (
    check_representation,
    class_path,
    encode,
    load_representation,
    space_of,
)

logger = logging.getLogger(__name__)


class MichiGAN(GenerativeGAN):
    """Projection-conditional WGAN-GP on the codes of a trained representation (MichiGAN).

    Usually made by :meth:`from_representation`.

    Parameters
    ----------
    adata
        Data registered with :meth:`setup_anndata`.
    n_noise
        Size of the noise beside the code, 118 as the paper: what the code leaves open.
    gene_likelihood
        ``"normal"`` only: the critic compares cells as they are.
    conditioning
        How the critic is told the code: ``"projection"`` on a learned embedding (the paper found projection most
        effective), ``"inner_product"`` of the code itself with the last hidden layer, which must be of its size, or
        ``"concat"``. None: ``"projection"``; with ``preset="michigan_paper"``, whose last layer has the size of its
        codes, ``"inner_product"``.
    preset, n_hidden_generator, n_hidden_critic, output, dropout_rate, dropout_rate_critic, use_batch_norm_critic
        As for :class:`~scmimic.model.WGANGP`.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    Attributes
    ----------
    representation
        The model that encodes, or None where the codes were registered.

    See Also
    --------
    scmimic.model.BetaTCVAE : The representation of the paper.
    scmimic.tl.code_faithfulness : Do cells show the codes that were asked for?
    scmimic.tl.latent_arithmetic : Cells of combinations that were never seen.
    scmimic.model.WGANGP : The network without codes.

    Notes
    -----
    The networks see raw counts scaled to 10,000 per cell and log1p'd, and :meth:`generate` gives integer counts for
    them. So a MichiGAN on :class:`scvi.model.SCVI` makes cells that the SCVI can encode again.

    Examples
    --------
    >>> import scmimic as sm
    >>> import scvi
    >>> scvi.settings.verbosity = 30
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> scvi.model.SCVI.setup_anndata(adata)
    >>> vae = scvi.model.SCVI(adata, n_latent=4, n_hidden=16)
    >>> vae.train(max_epochs=2, enable_progress_bar=False)
    >>> model = sm.MichiGAN.from_representation(vae, n_hidden_generator=(16, 32), n_hidden_critic=(32, 16))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> model.decode(vae.get_latent_representation()[:5], seed=0).shape
    (5, 50)
    """

    _module_cls = MichiGANModule

    def __init__(
        self,
        adata: AnnData | None = None,
        *,
        n_noise: int = 118,
        gene_likelihood: Literal["normal"] = "normal",
        conditioning: Literal["projection", "inner_product", "concat"] | None = None,
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
        Choice(("projection", "inner_product", "concat"), optional=True).check(conditioning=conditioning)
        super().__init__(adata, registry)
        self._remember_registration()
        if not self.label_categories_:
            # also where every cell is unlabelled
            self.labels_key_ = None
            self._set_column("label", None)
        self.representation: BaseModelClass | None = None
        self.representation_class_: str | None = None
        self.representation_space_: ExpressionSpace | None = None
        self.code_width_: np.ndarray | None = None
        sizes, n_latent = gan_preset(preset), self.summary_stats[f"n_{CODE_KEY}"]
        conditioning = sizes.code_conditioning if conditioning is None else conditioning
        if conditioning == "inner_product":
            self._check_code_fits(n_latent, sizes.n_hidden_critic if n_hidden_critic is None else n_hidden_critic)
        output = self._set_up_networks(
            preset,
            n_hidden_generator,
            n_hidden_critic,
            output,
            n_latent=n_latent,
            n_noise=n_noise,
            conditioning=conditioning,
            dropout_rate=dropout_rate,
            dropout_rate_critic=dropout_rate_critic,
            use_batch_norm_critic=use_batch_norm_critic,
        )
        if adata is not None and sizes.standardizes_codes:
            mean, std = self._codes_of_cells(np.arange(adata.n_obs))
            spread = np.sqrt(mean.var(0) + np.square(std).mean(0))
            self.module.code_mean.copy_(torch.as_tensor(mean.mean(0)))
            self.module.code_std.copy_(torch.as_tensor(np.where(spread > 1e-6, spread, 1.0)))
        self.init_params_ = self._get_init_params(locals())

    @staticmethod
    def _check_code_fits(n_latent: int, n_hidden_critic: Sequence[int]) -> None:
        """Refuse an inner product of two sizes."""
        widths = check_widths("n_hidden_critic", n_hidden_critic)
        if widths[-1] != n_latent:
            raise ValueError(
                f"The critic multiplies its last hidden layer by the code (conditioning='inner_product', that of "
                f"preset='michigan_paper'), but the one has {widths[-1]} units and the other {n_latent} dimensions. "
                f"Pass `n_hidden_critic={(*widths[:-1], n_latent)}`, or `conditioning='projection'`, which learns an "
                "embedding."
            )

    @classmethod
    def from_representation(
        cls,
        model: BaseModelClass,
        code: Literal["sample", "mean"] = "sample",
        *,
        layer: str | None = None,
        labels_key: str | None = None,
        **kwargs,
    ) -> MichiGAN:
        """Make a MichiGAN on the codes of a trained model (Algorithm 1).

        Parameters
        ----------
        model
            Any trained scvi-tools model with a normal latent posterior, such as :class:`scvi.model.SCVI`,
            :class:`~scmimic.model.ACTIVA` or :class:`~scmimic.model.BetaTCVAE`. It is kept as ``representation``.
        code
            ``"sample"``: a fresh sample from the cell's posterior in every step. ``"mean"``: its mean.
        layer
            Layer to learn to generate, such as counts where `model` encodes log expression. None: the one that `model`
            was trained on. What is in ``.X`` beside such a layer can be named as a layer too:
            ``adata.layers["counts"] = adata.X``.
        labels_key
            Column of ``adata.obs`` with the type of each cell, so that :meth:`generate` can be asked for types. None:
            the one that `model` knows, if any, with its value for cells of no known type.
        **kwargs
            Of :class:`MichiGAN`.

        Returns
        -------
        MichiGAN that is not trained yet. The codes are written to

        ``model.adata.obsm["X_<model>_code"]`` : ndarray
            Posterior means. Where that key holds other codes, the next free one of ``"X_<model>_code_1"`` and so on.
        ``model.adata.obsm["X_<model>_code_var"]`` : ndarray
            Posterior variances, with ``code="sample"``; numbered alike.

        Raises
        ------
        TypeError
            If `model` has no latent posterior, or its data are a MuData.
        RuntimeError
            If `model` is not trained.
        ValueError
            If `code` is unknown, or the posterior is not normal.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.BetaTCVAE.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.BetaTCVAE(adata, n_latent=2, n_hidden=(8,), gene_likelihood="nb")
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> gan = sm.MichiGAN.from_representation(model, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> [key for key in adata.obsm if key.startswith("X_")]
        ['X_betatcvae_code', 'X_betatcvae_code_var']
        """
        LAYER.check(layer=layer)
        COLUMN.or_none.check(labels_key=labels_key)
        Choice(("sample", "mean")).check(code=code)
        adata = check_representation(model)
        known = model.registry_.get("setup_args", {})
        labels_key = known.get("labels_key") if labels_key is None else labels_key
        code_key, var_key, width = _write_codes(model, adata, sample=code == "sample")
        cls.setup_anndata(
            adata,
            layer=known.get("layer") if layer is None else layer,
            code_key=code_key,
            code_var_key=var_key,
            labels_key=labels_key,
            unlabeled_category=known.get("unlabeled_category") if labels_key == known.get("labels_key") else None,
        )
        gan = cls(adata, **kwargs)
        gan.representation, gan.representation_class_ = model, class_path(model)
        gan.representation_space_, gan.code_width_ = space_of(model), width
        gan.interrupted_source_ = interrupted_part(model)
        return gan

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        layer: str | None = None,
        code_key: str = "X_pca",
        code_var_key: str | None = None,
        labels_key: str | None = None,
        unlabeled_category: Value | None = None,
        **kwargs,
    ) -> None:
        """Register the data and their codes.

        Parameters
        ----------
        adata
            Cells x genes: any non-negative expression.
        layer
            Layer that holds the expression; None: ``adata.X``.
        code_key
            Key of ``adata.obsm`` with a code for each cell.
        code_var_key
            Key of ``adata.obsm`` with the variances of the codes, of the same shape: fresh samples are drawn in every
            step. None: the codes as they are.
        labels_key
            Column of ``adata.obs`` with the type of each cell, so that :meth:`generate` can be asked for types; the
            networks do not see it.
        unlabeled_category
            Value in that column that means "no type known", which is no type to ask for. None: there is none.
        **kwargs
            Passed on by scvi-tools when it transfers a registration.

        Raises
        ------
        KeyError
            If the layer, a key or the column does not exist.
        ValueError
            If values are NaN or negative, codes are NaN, shapes differ, labels are missing or of several kinds, gene
            names repeat, or `adata` is a view or backed.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> adata.obsm["X_pca"] = adata.X[:, :3].toarray()
        >>> sm.MichiGAN.setup_anndata(adata, code_key="X_pca", labels_key="cell_type")
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        field_list = anndata_fields(
            adata, layer=layer, labels_key=labels_key, unlabeled_category=unlabeled_category, needs_known=False
        )
        KEY.check(code_key=code_key)
        KEY.or_none.check(code_var_key=code_var_key)
        code = check_obsm(adata, code_key, "code_key")
        field_list.append(fields.ObsmField(CODE_KEY, code_key))
        if code_var_key is not None:
            var = check_obsm(adata, code_var_key, "code_var_key")
            if var.shape != code.shape or (var < 0).any():
                raise ValueError(
                    f"`adata.obsm[{code_var_key!r}]` must hold a variance for each number of "
                    f"`adata.obsm[{code_key!r}]`: shape {code.shape}, none negative."
                )
            field_list.append(fields.ObsmField(CODE_VAR_KEY, code_var_key))
        register(cls, adata, field_list, setup_method_args, **kwargs)

    def train(
        self,
        max_epochs: int | None = None,
        *,
        n_faithfulness_cells: int = 500,
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
            preset's, or as many as hold 20,000 steps of the critic.
        n_faithfulness_cells
            Cells that are generated and encoded again at the end, where the model has a representation; 0 leaves it
            out. ``history["code_faithfulness"]`` gets the median correlation over the informative dimensions of the
            codes asked for with those that the cells show, in the row of the last epoch;
            :func:`scmimic.tl.code_faithfulness` gives the whole table.
        accelerator, devices, train_size, validation_size, shuffle_set_split, load_sparse_tensor, batch_size
            As of :meth:`WGANGP.train <scmimic.model.WGANGP.train>`.
        early_stopping, datasplitter_kwargs, plan_kwargs, **trainer_kwargs
            As of it too; misspelt ones are refused.

        Raises
        ------
        ValueError
            If the number of epochs or of cells is out of range, early stopping or several devices are asked for, or
            there is no batch to train on.
        TypeError
            If `plan_kwargs` holds an unknown setting.
        RuntimeError
            If nothing finite was learned. As after any other error, the model is what it was before.

        Notes
        -----
        As of :meth:`WGANGP.train <scmimic.model.WGANGP.train>`; the mark of an interrupt, in the cells' ``.uns`` too,
        also comes of a representation whose training was interrupted when the model was made.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> adata.obsm["X_pca"] = adata.X[:, :3].toarray()
        >>> sm.MichiGAN.setup_anndata(adata, code_key="X_pca")
        >>> gan = sm.MichiGAN(adata, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> gan.train(max_epochs=1, enable_progress_bar=False)
        >>> gan.is_trained
        True
        """
        NATURAL.check(n_faithfulness_cells=n_faithfulness_cells)
        super().train(
            max_epochs,
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
            **trainer_kwargs,
        )
        with self._after_learning():
            self._record_faithfulness(n_faithfulness_cells)

    def _default_steps(self) -> int:
        # values too: the codes hold them, and the longer the run, the better they are kept
        return CRITIC_STEPS

    def _write(self, folder: Path, prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._write(folder, prefix, *args, **kwargs)
        prefix = f"{prefix}{REPRESENTATION_PREFIX}"
        if isinstance(self.representation, CellModel):
            self.representation._write(folder, prefix)
        elif self.representation is not None:
            self.representation.save(str(folder), prefix=prefix, overwrite=True)

    @classmethod
    def _load(
        cls, dir_path: str | os.PathLike, adata: AnnData | None, *, allow_pickle: bool, **kwargs: Any
    ) -> MichiGAN:
        prefix = f"{kwargs.get('prefix') or ''}{REPRESENTATION_PREFIX}"
        options: dict[str, Any] = {key: kwargs[key] for key in ("accelerator", "device")}
        options["allow_pickle"] = allow_pickle
        saved = cls._saved(dir_path, allow_pickle=allow_pickle, **kwargs)
        path = saved["attr_dict"].get("representation_class_")
        if path is None or not isinstance(adata, AnnData):
            model = super()._load(dir_path, adata, allow_pickle=allow_pickle, **kwargs)
            if path is not None:
                model.representation = load_representation(path, Path(dir_path), prefix, model.adata, **options)
            return model
        cls._check_saved(saved, adata)
        # False: without data, and without looking for data
        model = super()._load(dir_path, False, allow_pickle=allow_pickle, **kwargs)
        model.representation = load_representation(path, Path(dir_path), prefix, adata, **options)
        model._take_data(adata)
        return model

    def _take_data(self, adata: AnnData) -> None:
        """Train on these cells from now on, with their codes by the representation."""
        args, units = self.registry_["setup_args"], self.count_units_
        sample = args["code_var_key"] is not None
        args["code_key"], args["code_var_key"], _ = _write_codes(self.representation, adata, sample=sample)
        self.adata = adata
        self._check_unchanged()
        self._inspect_expression()
        self.count_units_ = units

    def _code_spread(self) -> tuple[np.ndarray, np.ndarray]:
        """Variance of the training cells' mean codes, and the mean variance of their posteriors, by dimension."""
        posterior = self._trained_cells()
        spread = posterior.mean.var(0, dtype=np.float64)
        # on mean codes the model draws from no posterior, though its representation has one
        width = np.square(posterior.std).mean(0) if self.code_width_ is None else self.code_width_
        return spread, width

    def _record_faithfulness(self, n_cells: int) -> None:
        """Append to the history how well newly generated cells show their codes."""
        if self.representation is None or n_cells == 0 or not isinstance(self.history_, dict) or not self.history_:
            return
        try:
            with isolate_rng():
                value = self._median_faithfulness(n_cells)
        except Exception as error:  # noqa: BLE001
            # the model is trained, whatever its representation makes of the cells
            logger.warning("The history has no code faithfulness. %s: %s", type(error).__name__, error)
            return
        if value is None:
            return
        name = _keys.CODE_FAITHFULNESS
        row = pd.DataFrame({name: [value]}, index=pd.Index([n_epochs(self.history_) - 1], name="epoch"))
        self.history_[name] = pd.concat([self.history_[name], row]) if name in self.history_ else row

    def _median_faithfulness(self, n_cells: int) -> float | None:
        """That of newly generated cells; None where the representation cannot read their units."""
        want = self.representation_space_
        # cells as the model makes them, or counts of them where the representation reads no others
        as_counts = self.count_units_ == "counts" or (
            want is not None and want.units == "counts" and self.count_units_ is not None
        )
        if want is not None:
            try:
                check_convertible(made_space(self.expression_space_, self._units_made(as_counts)), want)
            except ValueError as error:
                logger.info("The history has no code faithfulness. %s", error)
                return None
        cells = self.generate(n_cells, as_counts=as_counts, seed=0)
        shown, _ = self.get_latent_representation(cells, return_dist=True)
        asked: np.ndarray = np.asarray(cells.obsm[_keys.latent(type(self).__name__)], dtype=np.float64)
        return median_faithfulness(faithfulness(asked, shown, *self._code_spread()))

    def get_latent_representation(
        self,
        adata: AnnData | None = None,
        indices: Sequence[int] | None = None,
        give_mean: bool = True,
        batch_size: int | None = None,
        return_dist: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Codes of cells, by the representation.

        Parameters
        ----------
        adata
            Real cells in the layer and the units of the representation's own data, or generated cells, which are
            converted to them. None: the training data.
        indices
            Cells to encode; None: all.
        give_mean
            Give the posterior's mean; otherwise a sample, by torch's generator.
        batch_size
            Cells per pass.
        return_dist
            Give means and variances.

        Returns
        -------
        Codes ``(n, n_latent)``, or means and variances.

        Raises
        ------
        RuntimeError
            If `adata` is left out and the model was loaded without data.
        ValueError
            If the codes were registered with :meth:`setup_anndata`, and `adata` holds none of their size, the genes
            differ, or generated cells cannot be brought to the units of the representation, such as logarithms to
            counts.

        Examples
        --------
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.BetaTCVAE.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.BetaTCVAE(adata, n_latent=2, n_hidden=(8,), gene_likelihood="nb")
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> gan = sm.MichiGAN.from_representation(model, n_hidden_generator=(8,), n_hidden_critic=(8,))
        >>> gan.train(max_epochs=1, enable_progress_bar=False)
        >>> gan.get_latent_representation(adata).shape
        (60, 2)
        """
        ANNDATA.or_none.check(adata=adata)
        COUNT_OR_NONE.check(batch_size=batch_size)
        FLAG.check(give_mean=give_mean, return_dist=return_dist)
        adata = self._own_data() if adata is None else adata
        if self._is_own(adata):
            self._check_unchanged()
        if self.representation is not None:
            mean, var = encode(
                self.representation, adata, indices=indices, batch_size=batch_size, space=self.representation_space_
            )
        else:
            mean, var = self._registered_codes(adata)
            keep = check_rows("indices", indices, len(mean))
            mean, var = mean[keep], var[keep]
        if return_dist:
            return mean, var
        return mean if give_mean else mean + np.sqrt(var) * torch.randn(mean.shape).numpy()

    def _registered_codes(self, adata: AnnData) -> tuple[np.ndarray, np.ndarray]:
        args = self.registry_["setup_args"]
        if args["code_key"] not in adata.obsm:
            raise ValueError(
                f"This MichiGAN was trained on registered codes and cannot encode: give cells with "
                f"`.obsm[{args['code_key']!r}]`, or make the model with `MichiGAN.from_representation`."
            )
        mean = check_obsm(adata, args["code_key"], "code_key")
        if mean.shape[1] != self.module.n_latent:
            raise ValueError(
                f"`adata.obsm[{args['code_key']!r}]` holds codes of {mean.shape[1]} dimensions, but the model was "
                f"trained on {self.module.n_latent}. Put codes of the same representation there."
            )
        var = np.zeros_like(mean)
        if args["code_var_key"] is not None:
            var = check_obsm(adata, args["code_var_key"], "code_var_key")
        return mean, var

    def _codes_of_cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, var = self._registered_codes(self.adata)
        return mean[rows], np.sqrt(var[rows])

    def _sources(self, z: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each code the training cell with the nearest mean code, of its label where one is given."""
        source = np.empty(len(z), dtype=np.int64)
        for code in np.unique(label):
            rows = np.flatnonzero(label == code)
            pool = self._pool(int(code))
            source[rows] = pool[self._trained_cells().nearest(z[rows], pool)]
        return source


def _write_codes(model: BaseModelClass, adata: AnnData, *, sample: bool) -> tuple[str, str | None, np.ndarray]:
    """Encode `adata` into its ``.obsm``; the keys, and the mean variance of each dimension's posteriors."""
    mean, var = encode(model, adata)
    name = type(model).__name__
    for number in count():
        codes = {_keys.code(name, number): mean}
        if sample:
            codes[_keys.code_var(name, number)] = var
        # another MichiGAN may train on what is there
        if all(_is_free(adata, key, values) for key, values in codes.items()):
            break
    for key, values in codes.items():
        if key not in adata.obsm:
            adata.obsm[key] = values
    code_key, *var_key = codes
    return code_key, var_key[0] if sample else None, var.mean(0)


def _is_free(adata: AnnData, key: str, values: np.ndarray) -> bool:
    """Whether there is nothing under the key of ``.obsm``, or these values."""
    if key not in adata.obsm:
        return True
    there: Any = adata.obsm[key]
    return isinstance(there, np.ndarray) and there.shape == values.shape and np.allclose(there, values, 1e-4, 1e-5)
