"""What the tools ask of a model with a latent space: the posterior of cells, and cells of given codes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from anndata import AnnData
from scvi.model.base import BaseModelClass

from scmimic._arguments import Choice
from scmimic._arrays import Matrix
from scmimic.cells import (
    ExpressionSpace,
    check_same_genes,
    check_units,
    convert,
    expression_space,
    read_matrix,
    recorded_space,
)
from scmimic.metrics.parts import as_latent, as_variance
from scmimic.model.gan import check_model_genes, space_of
from scmimic.tl._module_decoder import ModuleDecoder, has_module_decoder, own_random_numbers

Code = Literal["sample", "mean"]
CODE = Choice(get_args(Code))

# of no layer: whatever has another space is converted
_LOGARITHMS = ExpressionSpace("log1p of 10,000", "log1p", total=1e4)


@dataclass(frozen=True)
class Posterior:
    """Means of the latent posteriors of cells (cells x dimensions), and their variances where the model has them."""

    mean: np.ndarray
    variance: np.ndarray | None

    def __getitem__(self, rows: np.ndarray | slice) -> Posterior:
        return Posterior(self.mean[rows], None if self.variance is None else self.variance[rows])

    def __len__(self) -> int:
        return len(self.mean)

    def codes(self, code: Code, rng: np.random.Generator) -> np.ndarray:
        """The means, or one draw for each cell; without variances the means either way."""
        if code == "mean" or self.variance is None:
            return self.mean
        return self.mean + np.sqrt(self.variance) * rng.standard_normal(self.mean.shape)


def check_model(model: Any) -> None:
    """Raise unless `model` encodes and decodes, and is trained."""
    for method in ("get_latent_representation", "decode"):
        if not callable(getattr(model, method, None)) and not (method == "decode" and has_module_decoder(model)):
            raise TypeError(
                f"`model` must have `.get_latent_representation(adata)` and `.decode(z)`, but {type(model).__name__} "
                f"has no `{method}`. Models of scvi-tools decode where their module makes cells of a code, a library "
                "size and a batch, as SCVI does."
            )
    if getattr(model, "is_trained", True) is False:
        raise RuntimeError(f"This {type(model).__name__} is not trained yet. Call `model.train()` first.")


def check_same_kind(model: Any, adata: AnnData) -> None:
    """Raise TypeError where `model` encodes a MuData and `adata` is an AnnData."""
    registry = getattr(model, "registry_", None) or {}
    if isinstance(adata, AnnData) and registry.get("setup_method_name") == "setup_mudata":
        raise TypeError(
            f"This {type(model).__name__} is a model of a MuData, but the cells are an AnnData. Set a model up with "
            "the AnnData of the expression: `setup_anndata`."
        )


def encode(model: Any, adata: AnnData) -> Posterior:
    """Posterior of every cell of `adata`; without variances from a model that gives means alone."""
    check_model(model)
    check_same_kind(model, adata)
    check_model_genes(model, adata)
    if not hasattr(model, "expression_space_") and isinstance(model, BaseModelClass) and adata is not model.adata:
        # models of scvi-tools take any values
        space = space_of(model)
        if space is not None:
            check_units(read_matrix(adata, space.layer), space)
    encoder = model.get_latent_representation
    # loaders of data draw from torch's generator, which must stay as it was where a seed is given
    with own_random_numbers(model):
        found = encoder(adata, return_dist=True) if _accepts(encoder, "return_dist") else encoder(adata)
    mean, variance = found if isinstance(found, tuple) else (found, None)
    mean = as_latent(mean, "the latent representation")
    if len(mean) != adata.n_obs:
        raise ValueError(f"The model gave {len(mean)} codes for {adata.n_obs} cells.")
    # codes without a posterior, such as a PCA's, come with variances of 0
    known = variance is not None and np.any(variance)
    return Posterior(mean, as_variance(variance, mean, allow_zero=True) if known else None)


def as_decoder(model: Any) -> Any:
    """The model, or in place of one without `decode` the generative part of its module."""
    return model if callable(getattr(model, "decode", None)) else ModuleDecoder(model)


def decode(
    model: Any,
    z: np.ndarray,
    *,
    known: Mapping[str, str],
    seed: int,
    decode_kwargs: Mapping[str, Any] | None,
    adata: AnnData,
    share_noise: bool = False,
) -> AnnData:
    """Cells of the codes `z`, by `model.decode` or, where there is none, by the generative part of its module.

    `known` says what all these cells are, by column of `.obs`: where the model was set up with such a column, it is
    told. `decode_kwargs` are passed on and come first. The cells must have the genes of `adata`. With `share_noise` a
    model that can gives all of them the same of what a code does not say.
    """
    model = as_decoder(model)
    options: dict[str, Any] = {"seed": seed} | ({"share_noise": True} if share_noise else {})
    arguments = (("labels", "labels_key_", "label_categories_"), ("transform_batch", "batch_key_", "batch_categories_"))
    for argument, key, categories in arguments:
        column = getattr(model, key, None)
        name = None if column is None else known.get(column)
        if name is not None and name in (getattr(model, categories, None) or ()):
            options[argument] = name
    options = {name: value for name, value in options.items() if _accepts(model.decode, name)}
    cells = model.decode(np.asarray(z, dtype=np.float32), **options | dict(decode_kwargs or {}))
    if not isinstance(cells, AnnData):
        raise TypeError(f"`model.decode` returned {type(cells).__name__}, but an AnnData is needed.")
    if cells.n_obs != len(z):
        raise ValueError(f"`model.decode` returned {cells.n_obs} cells for {len(z)} codes.")
    check_same_genes(adata, cells, name="decoded")
    return cells


class LogExpression:
    """Cells as their mean expression is compared: logarithms, or the values of which there is none, as they are.

    Amounts are scaled to 10,000 in each cell before the logarithm is taken.

    Attributes
    ----------
    space
        Of the layer that the model decodes into, or of ``.X`` where the cells have no such layer.
    values
        All cells.
    """

    def __init__(self, model: Any, adata: AnnData) -> None:
        known = getattr(model, "expression_space_", None)
        if known is None and isinstance(model, BaseModelClass):
            known = space_of(model)
        if known is None or not (known.layer is None or known.layer in adata.layers):
            known = expression_space(read_matrix(adata, None), None)
        self.space: ExpressionSpace = known
        self.values: Matrix = self._compared(read_matrix(adata, known.layer), known)

    def of_decoded(self, cells: AnnData) -> Matrix:
        """Cells that the model decoded.

        Raises
        ------
        ValueError
            If there is no way from their units to these.
        """
        return self._compared(cells.X, recorded_space(cells) or self.space)

    def _compared(self, x: Matrix, have: ExpressionSpace) -> Matrix:
        want = _LOGARITHMS if self.space.units in ("counts", "linear") else self.space
        return convert(x, have, want)


def _accepts(function: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(function).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def stream(seed: int, *name: int) -> np.random.Generator:
    """Generator of one use of a seed; never that of `default_rng(seed)`, which may have made the data."""
    # the length stands first, since zeros at the end do not count
    return np.random.default_rng([1 + len(name), seed, *name])
