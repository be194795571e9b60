"""A trained model as the source of MichiGAN's codes: encode with it, save and load it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scmimic import _keys
from scmimic._noise import without_noise
from scmimic.cells import (
    ExpressionSpace,
    ObsColumn,
    Value,
    check_genes,
    check_record,
    check_units,
    convert,
    expression_space,
    get_matrix,
    layer_names,
    recorded_space,
)


def check_representation(model: Any) -> AnnData:
    """Reject what has no normal posterior, and return the model's cells."""
    name = type(model).__name__
    if not isinstance(model, BaseModelClass) or not hasattr(model, "get_latent_representation"):
        raise TypeError(
            f"`model` must be a trained scvi-tools model with a latent posterior, not {name}. For codes from "
            "elsewhere use `MichiGAN.setup_anndata(adata, code_key=...)` with a key of `adata.obsm`."
        )
    if not model.is_trained:
        raise RuntimeError(f"The {name} is not trained yet. Call its `train()` first.")
    if getattr(model.module, "latent_distribution", "normal") != "normal":
        raise ValueError(
            f"The codes of this {name} are not normal (latent_distribution={model.module.latent_distribution!r}). "
            "Train it with latent_distribution='normal'."
        )
    if model.adata is None:
        raise ValueError(f"This {name} was loaded without data. Load it with `adata=`, or use `setup_anndata`.")
    if not isinstance(model.adata, AnnData):
        raise TypeError(
            "`from_representation` needs a model of an AnnData. For a MuData, put the codes into `.obsm` of the "
            "expression's AnnData and use `MichiGAN.setup_anndata(adata, code_key=...)`."
        )
    return model.adata


def space_of(model: BaseModelClass) -> ExpressionSpace | None:
    """The space of the cells that a model encodes; None where it does not show."""
    known = getattr(model, "expression_space_", None)
    if known is not None or not isinstance(model.adata, AnnData):
        return known
    return expression_space(model.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY), _layer(model))


def check_model_genes(model: Any, adata: AnnData) -> None:
    """Reject genes other than those that a model is set up with, as far as it says; scvi-tools takes any order."""
    fields = (getattr(model, "registry_", None) or {}).get("field_registries", {})
    names = fields.get(REGISTRY_KEYS.X_KEY, {}).get("state_registry", {}).get("column_names")
    if names is not None and isinstance(adata, AnnData):
        check_genes(adata.var_names, np.asarray(names).astype(str))


def encode(
    model: BaseModelClass,
    adata: AnnData | None = None,
    *,
    indices=None,
    batch_size: int | None = None,
    space: ExpressionSpace | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of the codes of cells, each ``(n, n_latent)``.

    Generated cells are brought to the model's own `space`, or refused where that is impossible; other cells must be in
    it.
    """
    if adata is not None:
        check_model_genes(model, adata)
    if adata is not None and adata is not model.adata:
        space = space_of(model) if space is None else space
        if _keys.UNS in adata.uns:
            adata = _with_registered_fields(model, adata, space)
        if space is not None:
            check_units(get_matrix(adata, space.layer), space)
    try:
        with without_noise():
            mean, var = model.get_latent_representation(
                adata=adata, indices=indices, return_dist=True, batch_size=batch_size
            )
    except (TypeError, NotImplementedError) as error:
        raise TypeError(
            f"{type(model).__name__} gives no posterior (`get_latent_representation(return_dist=True)`): {error}. Put "
            "its codes into `adata.obsm` and use `MichiGAN.setup_anndata(adata, code_key=...)`."
        ) from error
    mean, var = np.asarray(mean, dtype=np.float32), np.asarray(var, dtype=np.float32)
    if not (np.isfinite(mean).all() and np.isfinite(var).all()):
        raise ValueError(f"The {type(model).__name__} gives codes that are NaN or infinite.")
    return mean, var


def _layer(model: BaseModelClass) -> str | None:
    return model.registry_["setup_args"].get("layer")


def _with_registered_fields(model: BaseModelClass, adata: AnnData, space: ExpressionSpace | None) -> AnnData:
    """Generated cells with the layer and the columns that `model` was set up with: those they lack, by a first value.

    Of continuous covariates that is their mean, or 0 where the training cells are not at hand. A generated cell is of
    no batch. Encoders look at the expression alone, unless they were told to.
    """
    args, registries = model.registry_["setup_args"], model.registry_["field_registries"]
    missing = {}
    for registry in registries.values():
        where, state = registry["data_registry"], registry["state_registry"]
        key = state.get("original_key", where.get("attr_key"))
        if where.get("attr_name") == "obs" and key in args.values():
            missing[key] = _first_value(state, key) if "categorical_mapping" in state else 1.0
        for name in state.get("field_keys", ()):
            missing[name] = state["mappings"][name][0]
        for name in state.get("columns", ()):
            missing[name] = 0.0 if model.adata is None else model.adata.obs[name].mean()
    missing = {key: value for key, value in missing.items() if key not in adata.obs}
    layer, x = _layer(model), adata.X
    has_layer = layer in layer_names(adata)
    generated = recorded_space(adata)
    if not has_layer and space is not None and generated is not None:
        check_record(x, generated)
        x = convert(x, generated, space)
    if not missing and (has_layer or (layer is None and x is adata.X)):
        return adata
    filled = adata.copy()
    for key, value in missing.items():
        filled.obs[key] = value
    if layer is None:
        filled.X = x
    elif not has_layer:
        filled.layers[layer] = x
    return filled


def _first_value(state: Mapping[str, Any], key: str) -> Value | None:
    column = ObsColumn.registered(state, key)
    return column.values[0] if column.values else column.unlabeled


def class_path(model: BaseModelClass) -> str:
    """Where the model's class is imported from: the first package above it that has it, since modules are moved."""
    cls = type(model)
    parts = cls.__module__.split(".")
    for i in range(1, len(parts)):
        if getattr(sys.modules[".".join(parts[:i])], cls.__name__, None) is cls:
            return f"{'.'.join(parts[:i])}:{cls.__name__}"
    return f"{cls.__module__}:{cls.__qualname__}"


def load_representation(
    path: str, dir_path: Path, prefix: str, adata: AnnData | None, *, allow_pickle: bool, **kwargs: Any
) -> BaseModelClass:
    """Load the model that :func:`class_path` named."""
    module, name = path.split(":")
    if module.split(".")[0] == __name__.split(".")[0]:
        kwargs["allow_pickle"] = allow_pickle
    elif not allow_pickle:
        raise ValueError(
            f"The representation of this model, a {name} of {module}, is saved as pickled objects, and loading these "
            "can run any code. If you trust where it comes from, pass `allow_pickle=True`."
        )
    cls = getattr(importlib.import_module(module), name)
    try:
        # False: without data, and without looking for data
        with without_noise():
            return cls.load(str(dir_path), adata=False if adata is None else adata, prefix=prefix, **kwargs)
    except (NotImplementedError, ImportError, AttributeError) as error:
        raise ValueError(
            f"The representation of this model, a {name} of {module}, cannot be loaded: {error}. It is pickled, tables "
            "of pandas included: load it with the versions that it was saved with, or newer ones."
        ) from error
