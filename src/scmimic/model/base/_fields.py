"""Registration of AnnData and MuData, shared by the models."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, fields
from scvi.model.base import BaseModelClass
from scvi.utils import attrdict

from scmimic import _keys
from scmimic._arguments import COLUMN, LABEL, LAYER, Kind, Listed, check_arguments, check_keywords, parameter_names
from scmimic._noise import without_noise
from scmimic._plain import from_plain
from scmimic.cells import (
    ObsColumn,
    Value,
    as_list,
    check_column,
    check_number_column,
    check_size_factor,
    check_structure,
    check_values,
    get_matrix,
    take_fingerprint,
    where_is,
)

logger = logging.getLogger(__name__)

_COVARIATES = ("categorical_covariate_keys", "continuous_covariate_keys")
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("labels_key", "batch_key", "size_factor_key"), COLUMN.or_none),
    **dict.fromkeys(("layer", "rna_layer"), LAYER),
    "unlabeled_category": LABEL.or_none,
    **dict.fromkeys(_COVARIATES, Listed(COLUMN, least=0, alone=True, optional=True)),
}

# what scvi-tools passes to a set-up that repeats another one
_TRANSFER = ("source_registry", "extend_categories", "allow_missing_labels")


class ColumnField(fields.CategoricalObsField):
    """A column of labels or batches of any type, which cells can be given back in; see :class:`ObsColumn`.

    scvi-tools' own fields take no other labels than text where some cells may be unlabelled, know no way back, and
    fail on new cells that lack values.

    Parameters
    ----------
    registry_key
        Key of the field.
    obs_key
        Column of ``.obs``; None: all cells are alike.
    argument
        Argument of the set-up that names the column.
    unlabeled
        Value that means "not known", or None.
    needs_known
        Refuse a column of nothing else.
    name
        What the cells are called.
    """

    def __init__(
        self,
        registry_key: str,
        obs_key: str | None,
        argument: str,
        *,
        unlabeled: Value | None = None,
        needs_known: bool = True,
        name: str = "adata",
    ) -> None:
        super().__init__(registry_key, obs_key)
        self.argument, self.unlabeled, self.needs_known, self.name = argument, unlabeled, needs_known, name

    def register_field(self, adata: AnnData) -> dict:
        """Number the values of the column."""
        if self.is_default:
            return super().register_field(adata)
        values = self._values(adata)
        colors = adata.uns.get(_keys.colors(self._original_attr_key))
        column, codes = ObsColumn.read(values, unlabeled=self.unlabeled, colors=colors)
        where = f"`{self.name}.obs[{self._original_attr_key!r}]`"
        if self.needs_known and column.n_unlabeled == len(values):
            raise ValueError(
                f"Every cell is unlabeled in {where}, that is {self.unlabeled!r}: there is no type to learn. Correct "
                "`unlabeled_category`, or leave `labels_key` out where the model allows it."
            )
        few = [name for name, n in zip(column.names, np.bincount(codes), strict=False) if 0 < n < 3]
        if few:
            warnings.warn(
                f"There are fewer than 3 cells of each of {few} in {where}. Models may not train properly.",
                UserWarning,
                stacklevel=2,
            )
        return self._numbered(adata, column, codes)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs) -> dict:
        """Give the values of other cells the numbers that the training cells' have."""
        if self.is_default:
            return super().transfer_field(state_registry, adata_target, **kwargs)
        column = ObsColumn.registered(state_registry, self._original_attr_key)
        if column.key not in adata_target.obs:
            known = column.unlabeled if column.unlabeled is not None else (column.values or [None])[0]
            raise KeyError(
                f"The model was set up with `{self.argument}={column.key!r}`, but `{self.name}.obs` has no such "
                f"column. Add it: `{self.name}.obs[{column.key!r}] = {known!r}`"
                f"{'.' if column.unlabeled is None else ' says that no type is known.'}"
            )
        return self._numbered(adata_target, column, column.codes_of(self._values(adata_target), name=self.name))

    def _values(self, adata: AnnData) -> pd.Series:
        return check_column(adata.obs, self._original_attr_key, self.argument, name=self.name, unlabeled=self.unlabeled)

    def _numbered(self, adata: AnnData, column: ObsColumn, codes: np.ndarray) -> dict:
        mapping = [*column.names, *([] if column.unlabeled is None else [str(column.unlabeled)])]
        adata.obs[self.attr_key] = pd.Categorical.from_codes(codes, mapping).codes
        return {
            self.CATEGORICAL_MAPPING_KEY: np.array(mapping, dtype=object),
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            ObsColumn.IN_REGISTRY: column.record(),
        }


class CategoricalCovariatesField(fields.CategoricalJointObsField):
    """Categorical covariates of any type, which cells can be given back in; see :class:`ObsColumn`.

    Parameters
    ----------
    registry_key
        Key of the field.
    obs_keys
        Columns of ``.obs``.
    name
        What the cells are called.
    """

    argument = "categorical_covariate_keys"

    def __init__(self, registry_key: str, obs_keys: list[str], *, name: str = "adata") -> None:
        super().__init__(registry_key, obs_keys)
        self.name = name

    def register_field(self, adata: AnnData) -> dict:
        """Number the values of the columns."""
        columns = {}
        for key in self.attr_keys:
            colors = adata.uns.get(_keys.colors(key))
            columns[key] = ObsColumn.read(check_column(adata.obs, key, self.argument, name=self.name), colors=colors)
        return self._numbered(adata, columns)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs) -> dict:
        """Give the values of other cells the numbers that the training cells' have."""
        columns = {}
        for key in self.attr_keys:
            column = ObsColumn.from_record(state_registry[ObsColumn.IN_REGISTRY][key])
            values = check_column(adata_target.obs, key, self.argument, name=self.name)
            columns[key] = column, column.codes_of(values, name=self.name)
        return self._numbered(adata_target, columns)

    def _numbered(self, adata: AnnData, columns: dict[str, tuple[ObsColumn, np.ndarray]]) -> dict:
        adata.obsm[self.attr_key] = pd.DataFrame({key: codes for key, (_, codes) in columns.items()}, adata.obs_names)
        return {
            self.MAPPINGS_KEY: {key: np.array(column.names, dtype=object) for key, (column, _) in columns.items()},
            self.FIELD_KEYS_KEY: self.attr_keys,
            self.N_CATS_PER_KEY: [len(column.values) for column, _ in columns.values()],
            ObsColumn.IN_REGISTRY: {key: column.record() for key, (column, _) in columns.items()},
        }


class ContinuousCovariatesField(fields.NumericalJointObsField):
    """Continuous covariates: columns of ``.obs`` with finite numbers.

    Parameters
    ----------
    registry_key
        Key of the field.
    obs_keys
        Columns of ``.obs``.
    name
        What the cells are called.
    """

    argument = "continuous_covariate_keys"

    def __init__(self, registry_key: str, obs_keys: list[str], *, name: str = "adata") -> None:
        super().__init__(registry_key, obs_keys)
        self.name = name

    def register_field(self, adata: AnnData) -> dict:
        """Gather the columns."""
        values = {key: check_number_column(adata.obs, key, self.argument, name=self.name) for key in self.attr_keys}
        adata.obsm[self.attr_key] = pd.DataFrame(values, adata.obs_names)
        dtypes = {key: str(adata.obs[key].dtype) for key in self.attr_keys}
        return {self.COLUMNS_KEY: np.array(self.attr_keys, dtype=object), "dtypes": dtypes}


MuDataColumnField = fields.MuDataWrapper(ColumnField)
MuDataCategoricalCovariatesField = fields.MuDataWrapper(CategoricalCovariatesField)
MuDataContinuousCovariatesField = fields.MuDataWrapper(ContinuousCovariatesField)


def _check_covariate_keys(
    labels_key: str | None,
    batch_key: str | None,
    categorical_covariate_keys: Sequence[str] | None,
    continuous_covariate_keys: Sequence[str] | None,
) -> tuple[list[str], list[str]]:
    """Keys of categorical and continuous covariates, each of which stands once in the whole registration."""
    categorical, continuous = as_list(categorical_covariate_keys or ()), as_list(continuous_covariate_keys or ())
    seen: dict[str, str] = {}
    given = ([labels_key], [batch_key], categorical, continuous)
    for argument, keys in zip(("labels_key", "batch_key", *_COVARIATES), given, strict=True):
        for key in keys:
            if key in seen and argument in _COVARIATES:
                twice = f"twice in `{argument}`" if seen[key] == argument else f"in `{seen[key]}` and `{argument}`"
                raise ValueError(f"The column {key!r} stands {twice}. Name it once: it can only be one of them.")
            if key is not None:
                seen[key] = argument
    return categorical, continuous


def _check_columns(
    tables: Mapping[str, tuple[str, pd.DataFrame]],
    labels_key: str | None,
    unlabeled: Value | None,
    batch_key: str | None,
    categorical: Sequence[str],
    continuous: Sequence[str],
) -> None:
    """Check every column before any field writes to the data; `tables` has name and table for each argument."""
    for argument, keys, check in (
        ("labels_key", [labels_key], partial(check_column, unlabeled=unlabeled)),
        ("batch_key", [batch_key], check_column),
        ("categorical_covariate_keys", categorical, check_column),
        ("continuous_covariate_keys", continuous, check_number_column),
    ):
        name, obs = tables[argument]
        for key in keys:
            if key is not None:
                check(obs, key, argument, name=name)


def anndata_fields(
    adata: AnnData,
    *,
    layer: str | None,
    labels_key: str | None,
    unlabeled_category: Value | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
    needs_known: bool = True,
) -> list:
    """Check an AnnData and return the fields to register; see :class:`ColumnField` for the labels."""
    check_arguments(locals(), KINDS)
    categorical, continuous = _check_covariate_keys(
        labels_key, batch_key, categorical_covariate_keys, continuous_covariate_keys
    )
    check_structure(adata, layer)
    check_values(get_matrix(adata, layer), where_is(layer))
    tables = dict.fromkeys(("labels_key", "batch_key", *_COVARIATES), ("adata", adata.obs))
    _check_columns(tables, labels_key, unlabeled_category, batch_key, categorical, continuous)
    check_size_factor(adata.obs, size_factor_key)
    # a model that was saved without covariates has no state of their fields
    covariates: list[fields.BaseAnnDataField] = []
    if categorical:
        covariates.append(CategoricalCovariatesField(REGISTRY_KEYS.CAT_COVS_KEY, categorical))
    if continuous:
        covariates.append(ContinuousCovariatesField(REGISTRY_KEYS.CONT_COVS_KEY, continuous))
    return [
        # whether X must hold counts depends on the likelihood, which the model knows and checks
        fields.LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
        ColumnField(
            REGISTRY_KEYS.LABELS_KEY,
            labels_key,
            "labels_key",
            unlabeled=unlabeled_category,
            needs_known=needs_known,
        ),
        ColumnField(REGISTRY_KEYS.BATCH_KEY, batch_key, "batch_key"),
        fields.NumericalObsField(REGISTRY_KEYS.SIZE_FACTOR_KEY, size_factor_key, required=False),
        *covariates,
    ]


def mudata_fields(
    mdata: MuData,
    modalities: attrdict,
    *,
    rna_layer: str | None,
    labels_key: str | None,
    unlabeled_category: Value | None,
    batch_key: str | None,
    size_factor_key: str | None,
    categorical_covariate_keys: Sequence[str] | None = None,
    continuous_covariate_keys: Sequence[str] | None = None,
) -> list:
    """Check a MuData and return the fields to register."""
    check_arguments(locals(), KINDS)
    categorical, continuous = _check_covariate_keys(
        labels_key, batch_key, categorical_covariate_keys, continuous_covariate_keys
    )
    if not isinstance(mdata, MuData):
        raise TypeError(f"`mdata` must be a MuData, not {type(mdata).__name__}. For AnnData use `setup_anndata`.")
    if modalities.rna_layer not in mdata.mod:
        raise KeyError(
            "`modalities` must name the modality of the expression, such as {'rna_layer': 'rna'}. "
            f"Modalities: {list(mdata.mod)}."
        )
    rna = mdata.mod[modalities.rna_layer]
    check_structure(rna, rna_layer)
    check_values(get_matrix(rna, rna_layer), f"mdata.mod[{modalities.rna_layer!r}]")
    tables = {
        argument: ("mdata", mdata.obs) if key is None else (f"mdata.mod[{key!r}]", mdata.mod[key].obs)
        for argument, key in modalities.items()
        if argument in ("labels_key", "batch_key", "size_factor_key", *_COVARIATES)
    }
    _check_columns(tables, labels_key, unlabeled_category, batch_key, categorical, continuous)
    check_size_factor(tables["size_factor_key"][1], size_factor_key)
    kinds = (MuDataCategoricalCovariatesField, MuDataContinuousCovariatesField)
    registry_keys = (REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
    covariates = [
        field(registry_key, keys, name=tables[argument][0], mod_key=modalities[argument])
        for field, registry_key, argument, keys in zip(
            kinds, registry_keys, _COVARIATES, (categorical, continuous), strict=True
        )
        if keys
    ]
    return [
        fields.MuDataLayerField(
            REGISTRY_KEYS.X_KEY, rna_layer, mod_key=modalities.rna_layer, is_count_data=False, mod_required=True
        ),
        MuDataColumnField(
            REGISTRY_KEYS.LABELS_KEY,
            labels_key,
            "labels_key",
            unlabeled=unlabeled_category,
            name=tables["labels_key"][0],
            mod_key=modalities.labels_key if labels_key else None,
        ),
        MuDataColumnField(
            REGISTRY_KEYS.BATCH_KEY,
            batch_key,
            "batch_key",
            name=tables["batch_key"][0],
            mod_key=modalities.batch_key if batch_key else None,
        ),
        fields.MuDataNumericalObsField(
            REGISTRY_KEYS.SIZE_FACTOR_KEY, size_factor_key, mod_key=modalities.size_factor_key, required=False
        ),
        *covariates,
    ]


def register(
    cls: type[BaseModelClass], data: AnnData | MuData, field_list: list, setup_method_args: dict, **kwargs: Any
) -> None:
    """Register ``data`` with the model class."""
    of_model = [name for name in parameter_names(cls) if name not in ("adata", "registry")]
    check_keywords(
        kwargs,
        [*setup_method_args["setup_args"], *_TRANSFER],
        what=f"`{cls.__name__}.{setup_method_args['setup_method_name']}`",
        hints={name: f"it is an argument of the model, `{cls.__name__}(adata, {name}=...)`" for name in of_model},
    )
    manager = AnnDataManager(fields=field_list, setup_method_args=setup_method_args)
    if "source_registry" in kwargs:
        kwargs["source_registry"] = from_plain(kwargs["source_registry"])
    with without_noise():
        manager.register_fields(data, **kwargs)
    manager.registry[_keys.FINGERPRINT] = take_fingerprint(manager)
    cls.register_manager(manager)
    if kwargs.get("source_registry") is None:
        _report_unlabeled(manager)


def _report_unlabeled(manager: AnnDataManager) -> None:
    """Say how many cells are of no known type."""
    state = manager.registry["field_registries"][REGISTRY_KEYS.LABELS_KEY]["state_registry"]
    record = state.get(ObsColumn.IN_REGISTRY, {})
    if record.get("n_unlabeled"):
        value = record["unlabeled"]
        logger.log(
            # nobody need have meant the default
            logging.WARNING if value == _keys.UNLABELED else logging.INFO,
            "%d of %d cells are %r in `.obs[%r]`, which stands for no known type: it is not learned as one, nor "
            "generated. If %r is a type, pass `unlabeled_category=None` or another value.",
            record["n_unlabeled"],
            manager.adata.n_obs,
            value,
            record["key"],
            value,
        )
