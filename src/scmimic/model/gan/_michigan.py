"""MichiGAN: cells from the codes of a pre-trained representation, by a conditional Wasserstein GAN.

Yu and Welch (2021) MichiGAN: sampling from disentangled representations of single-cell data using generative
adversarial networks. Genome Biology 22, 158. Algorithm 1 and appendix A.1.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from anndata import AnnData
from scvi.data import fields
from scvi.model.base import BaseModelClass

from scmimic import _keys
from scmimic._arguments import COLUMN, KEY, LAYER, NATURAL, Choice
from scmimic._interrupts import interrupted_part
from scmimic.cells._checks import check_obsm
from scmimic.cells._columns import Value
from scmimic.cells._units import ExpressionSpace
from scmimic.model.base._registration import anndata_fields, register
from scmimic.model.base._saving import SafeSaveMixin
from scmimic.model.gan._base import GANMixin
from scmimic.model.gan._michigan_codes import MichiGANCodesMixin
from scmimic.model.gan._module import CODE_KEY, CODE_VAR_KEY, MichiGANModule
from scmimic.model.gan._presets import CRITIC_STEPS, Preset
from scmimic.model.gan._representation import (
    REPRESENTATION_PREFIX,
    check_representation,
    class_path,
    encode,
    load_representation,
    space_of,
)


class MichiGAN(MichiGANCodesMixin, GANMixin, BaseModelClass):
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
        How the critic is told the code: ``"projection"`` on a learned embedding (default; the paper found it most
        effective), or ``"concat"``.
    preset, n_hidden_generator, n_hidden_critic, output, dropout_rate
        As for :class:`~scmimic.model.WGANGP`.
    registry
        Registration of a saved model that is loaded without data; set by :meth:`load`.

    Attributes
    ----------
    representation
        The model that encodes, or None where the codes were registered.

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
        conditioning: Literal["projection", "concat"] = "projection",
        preset: Preset = "michigan",
        n_hidden_generator: Sequence[int] | None = None,
        n_hidden_critic: Sequence[int] | None = None,
        output: Literal["relu", "linear", "library", "counts"] | None = None,
        dropout_rate: float | None = None,
        registry: dict[str, Any] | None = None,
    ):
        self._check_likelihood(gene_likelihood)
        Choice(("projection", "concat")).check(conditioning=conditioning)
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
        output = self._set_up_networks(
            preset,
            n_hidden_generator,
            n_hidden_critic,
            output,
            n_latent=self.summary_stats[f"n_{CODE_KEY}"],
            n_noise=n_noise,
            conditioning=conditioning,
            dropout_rate=dropout_rate,
        )
        if adata is not None:
            mean, std = self._codes_of_cells(np.arange(adata.n_obs))
            spread = np.sqrt(mean.var(0) + np.square(std).mean(0))
            self.module.code_mean.copy_(torch.as_tensor(mean.mean(0)))
            self.module.code_std.copy_(torch.as_tensor(np.where(spread > 1e-6, spread, 1.0)))
        self.init_params_ = self._get_init_params(locals())

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
        made = cls(adata, **kwargs)
        made.representation, made.representation_class_ = model, class_path(model)
        made.representation_space_, made.code_width_ = space_of(model), width
        made.interrupted_source_ = interrupted_part(model)
        return made

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

    def train(self, max_epochs: int | None = None, *, n_faithfulness_cells: int = 500, **kwargs) -> None:
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
        **kwargs
            Of :meth:`WGANGP.train <scmimic.model.WGANGP.train>`: ``batch_size``, ``plan_kwargs``, ``accelerator``,
            ``devices``, ``train_size`` and so on, and what :class:`scvi.train.Trainer` takes.

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
        """
        NATURAL.check(n_faithfulness_cells=n_faithfulness_cells)
        super().train(max_epochs, **kwargs)
        with self._after_learning():
            self._record_faithfulness(n_faithfulness_cells)

    def _default_steps(self) -> int:
        # values too: the codes hold them, and the longer the run, the better they are kept
        return CRITIC_STEPS

    def _write(self, folder: Path, prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._write(folder, prefix, *args, **kwargs)
        prefix = f"{prefix}{REPRESENTATION_PREFIX}"
        if isinstance(self.representation, SafeSaveMixin):
            self.representation._write(folder, prefix)
        elif self.representation is not None:
            self.representation.save(str(folder), prefix=prefix, overwrite=True)

    @classmethod
    def _load(
        cls, dir_path: str | os.PathLike, adata: AnnData | None, *, allow_pickle: bool, **kwargs: Any
    ) -> MichiGAN:
        prefix = f"{kwargs.get('prefix') or ''}{REPRESENTATION_PREFIX}"
        options = {key: kwargs[key] for key in ("accelerator", "device") if key in kwargs}
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
    there = adata.obsm[key]
    return isinstance(there, np.ndarray) and there.shape == values.shape and np.allclose(there, values, 1e-4, 1e-5)
