"""Data registered with a model, and what is remembered of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.model.base import BaseModelClass

from scmimic import _keys
from scmimic._arrays import as_dense
from scmimic._noise import without_noise
from scmimic._plain import from_plain
from scmimic.cells import (
    CELLS,
    UNIT_NAMES,
    Attributes,
    Changes,
    ObsColumn,
    changes,
    check_genes,
    check_record,
    check_units,
    check_values,
    convert,
    expression_space,
    get_matrix,
    layer_names,
    read_matrix,
    recorded_space,
    take_fingerprint,
    where_is,
)


class RegisteredModel(BaseModelClass):
    """What was registered, in attributes that are saved with the model."""

    # a model that was saved without them has none
    covariate_columns_: Sequence[Mapping[str, Any]] = ()
    """Columns of the registered covariates: their names, types and values."""
    continuous_covariates_: Mapping[str, str] = {}
    """Types of the continuous covariates, by name."""

    def __init__(self, adata: AnnData | MuData | None = None, registry: Mapping[str, Any] | None = None):
        CELLS.or_none.check(adata=adata)
        super().__init__(adata, from_plain(registry))

    def _remember_registration(self) -> None:
        if self.adata is not None:
            self._check_unchanged(strict=True)
            # another model may have been set up on these data since
            self.adata_manager.validate()
        args = self.registry_["setup_args"]
        self.labels_key_ = args.get("labels_key")
        self.batch_key_ = args.get("batch_key")
        self._remember_column("label", REGISTRY_KEYS.LABELS_KEY, self.labels_key_)
        self._remember_column("batch", REGISTRY_KEYS.BATCH_KEY, self.batch_key_)
        self._remember_covariates()
        if self.adata is not None:
            data = self._expression_data()
            self.var_ = data.var.copy()
            x = get_matrix(data, self._layer)
            self.dtype_ = str(x.dtype)
            self.expression_space_ = expression_space(x, self._layer)

    @property
    def _layer(self) -> str | None:
        """Layer of the registered expression."""
        args = self.registry_["setup_args"]
        return args.get("layer", args.get("rna_layer"))

    @property
    def _data_summary(self) -> str:
        """What was registered, in words."""
        args, told = self.registry_["setup_args"], self._attributes
        said = [f"{self.summary_stats.n_cells} cells"]
        if self._layer is not None:
            said.append(f"layer {self._layer!r}")
        for column, one, more in ((told.labels, "type", "types"), (told.batches, "batch", "batches")):
            if column is not None:
                n = len(column.values)
                said.append(f"{n} {one if n == 1 else more} of {column.key!r}")
        if covariates := [*(column.key for column in told.categorical), *told.continuous]:
            said.append(f"covariates {', '.join(map(repr, covariates))}")
        said += [
            f"{what} {args[key]!r}"
            for key, what in (("size_factor_key", "size factors"), ("code_key", "codes"))
            if args.get(key) is not None
        ]
        return ", ".join(said)

    def _expression(self) -> Any:
        """The registered expression, cells x genes."""
        return self.adata_manager.get_from_registry(REGISTRY_KEYS.X_KEY)

    def _label_array(self) -> np.ndarray:
        """The label code of each registered cell."""
        return np.asarray(self.adata_manager.get_from_registry(REGISTRY_KEYS.LABELS_KEY)).ravel().astype(np.int64)

    def _expression_data(self, adata: AnnData | MuData | None = None) -> AnnData:
        """The cells' expression; None: that of the training cells."""
        CELLS.or_none.check(adata=adata)
        data = self._own_data() if adata is None else adata
        if isinstance(data, MuData):
            return data.mod[self.registry_["setup_args"]["modalities"]["rna_layer"]]
        return data

    def _own_data(self) -> AnnData | MuData:
        if self.adata is None:
            name = type(self).__name__
            raise RuntimeError(
                f"This {name} was loaded without its data, or trained on cells on disk. Give cells, `adata=...`, or "
                f"load it with the data: `{name}.load(path, adata=adata)`."
            )
        return self.adata

    def _is_own(self, data: AnnData | MuData) -> bool:
        """Whether these are the model's own cells, or their expression."""
        return self.adata is not None and (data is self.adata or data is self._expression_data())

    def _check_unchanged(self, *, strict: bool = False) -> None:
        """Raise ValueError where the model's own cells are not what was registered.

        Parameters
        ----------
        strict
            Also where registered columns of ``.obs`` hold other values; otherwise these are warned of.
        """
        registry = self.adata_manager.registry
        before, name = registry.get(_keys.FINGERPRINT, {}), type(self).__name__
        if "values" not in before:
            # data that were taken over from another registration
            registry[_keys.FINGERPRINT] = take_fingerprint(self.adata_manager)
            return
        changed = changes(before, take_fingerprint(self.adata_manager))
        if not changed:
            return
        again = f"Register the data anew and make a new model: `{name}.{self.registry_['setup_method_name']}(...)`."
        if changed.genes or changed.cells or changed.values:
            keep = ""
            if changed.values:
                keep = (
                    " Values in other units are kept beside them in a layer, "
                    "`adata.layers['counts'] = adata.X.copy()`, and the layer is registered: `layer='counts'`. Other "
                    "cells than the training cells are given as an AnnData of their own, `adata=...`."
                )
            raise ValueError(
                f"The data of this {name} are not what was registered: {changed}{self._units_of_change(changed)}. "
                f"{again} Or undo the change.{keep}"
            )
        if strict:
            raise ValueError(f"The data of this {name} are not what was registered: {changed}. {again}")
        warnings.warn(
            f"{changed} than when this {name} was set up, and it goes by those of then. {again}",
            UserWarning,
            stacklevel=4,
        )

    def _units_of_change(self, changed: Changes) -> str:
        """What a changed layer of expression held and holds, where the two differ."""
        before = getattr(self, "expression_space_", None)
        if not changed.values or changed.genes or before is None:
            return ""
        units = expression_space(get_matrix(self._expression_data(), self._layer), None).units
        return "" if units == before.units else f" ({UNIT_NAMES[units]} in place of {UNIT_NAMES[before.units]})"

    def _validate_anndata(self, adata: AnnData | MuData | None = None, copy_if_view: bool = True) -> AnnData | MuData:
        """As scvi-tools does, which takes genes of any order and values of any units."""
        data = self._own_data() if adata is None else adata
        if self._is_own(data):
            self._check_unchanged()
            return super()._validate_anndata(data, copy_if_view=copy_if_view)
        self._query_matrix(data)
        without_data = self.adata is None
        with without_noise():
            data = super()._validate_anndata(data, copy_if_view=copy_if_view)
        if without_data:
            # scvi-tools takes the first cells that are given for the training cells
            self._adata = None
        self._renew_columns(data)
        return data

    def _renew_columns(self, data: AnnData | MuData) -> None:
        """Transfer the registration to other cells once more, where labels or batches changed since the last time."""
        manager = self.get_anndata_manager(data, required=True)
        now = take_fingerprint(manager, columns_only=True)
        before = manager.registry.get(_keys.FINGERPRINT, now)
        if changes(before, now):
            with without_noise():
                manager = self.adata_manager.transfer_fields(data)
            self._register_manager_for_instance(manager)
        manager.registry[_keys.FINGERPRINT] = now

    def _check_genes(self, data: AnnData | MuData) -> None:
        check_genes(self._expression_data(data).var_names, np.asarray(self.var_.index.astype(str)))

    def _query_matrix(self, data: AnnData | MuData, *, any_scale: bool = False):
        """Expression of ``data`` in the registered layer, with the model's genes and in its units.

        Parameters
        ----------
        data
            Cells; the model's own must be what was registered.
        any_scale
            Counts and scaled counts are the same to what reads them.
        """
        cells = self._expression_data(data)
        if self._is_own(data):
            self._check_unchanged()
            return get_matrix(cells, self._layer)
        self._check_genes(data)
        x = read_matrix(cells, self._layer)
        check_values(x, where_is(self._layer))
        want = getattr(self, "expression_space_", None)
        if want is not None:
            check_units(x, want, any_scale=any_scale)
        return x

    def _query_expression(self, data: AnnData):
        """As :meth:`_query_matrix`; generated cells are brought to the units that the model was trained on."""
        want = self.expression_space_
        record = None if self._is_own(data) else recorded_space(data)
        if record is not None and want.layer not in layer_names(data):
            self._check_genes(data)
            check_record(data.X, record)
            return convert(data.X, record, want)
        return self._query_matrix(data)

    def _dense_batches(self, x: Any, rows: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
        """Rows of expression as the networks read them, on the model's device."""
        for start in range(0, len(rows), batch_size):
            batch = as_dense(x[rows[start : start + batch_size]])
            yield torch.as_tensor(batch.astype(np.float32, copy=False), device=self.device)

    def _remember_column(self, what: str, registry_key: str, obs_key: str | None) -> None:
        """The names of labels or batches, and the column that they stand for."""
        column = None
        if obs_key is not None:
            column = ObsColumn.registered(self.registry_["field_registries"][registry_key]["state_registry"], obs_key)
        self._set_column(what, column)

    def _set_column(self, what: str, column: ObsColumn | None) -> None:
        setattr(self, f"{what}_categories_", None if column is None else column.names)
        setattr(self, f"{what}_column_", None if column is None else column.record())

    def _remember_covariates(self) -> None:
        """The columns of the covariates."""
        states = {name: entry["state_registry"] for name, entry in self.registry_["field_registries"].items()}
        categorical, continuous = (
            states.get(key, {}) for key in (REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
        )
        self.covariate_columns_ = list(categorical.get(ObsColumn.IN_REGISTRY, {}).values())
        self.continuous_covariates_ = dict(continuous.get("dtypes", {}))

    def _covariate_sizes(self) -> dict[str, Any]:
        """How many batches and covariates the networks are told of."""
        return {
            "n_batch": max(self.summary_stats.get("n_batch", 1), 1),
            "n_cats_per_cov": [len(column.values) for column in self._attributes.categorical],
            "n_continuous_cov": len(self._attributes.continuous),
        }

    @property
    def _attributes(self) -> Attributes:
        """What the model was told of its cells besides their expression."""
        columns = tuple(map(ObsColumn.from_record, self.covariate_columns_))
        numbers = self.continuous_covariates_
        return Attributes(self._labels, self._batches, columns, tuple(numbers), numbers)

    @property
    def _labels(self) -> ObsColumn | None:
        """The types that the model knows."""
        return None if self.label_column_ is None else ObsColumn.from_record(self.label_column_)

    @property
    def _batches(self) -> ObsColumn | None:
        """The batches that the model knows."""
        return None if self.batch_column_ is None else ObsColumn.from_record(self.batch_column_)
