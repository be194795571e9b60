"""Registration of AnnData and MuData, shared by the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager, fields

from scmimic._arguments import COLUMN, LAYER, TEXT, check_keywords, check_ranges
from scmimic._compat import MuDataLabelsWithUnlabeledObsField
from scmimic._plain import from_plain
from scmimic.cells._layers import layer_names
from scmimic.model._count_units import check_record, check_units, convert, expression_space
from scmimic.model._representation import recorded_space
from scmimic.model._validation import (
    check_genes,
    check_obs_key,
    check_size_factor,
    check_structure,
    check_values,
    get_matrix,
    place,
)

_KINDS = {
    **dict.fromkeys(("labels_key", "batch_key", "size_factor_key"), COLUMN.or_none),
    **dict.fromkeys(("layer", "rna_layer"), LAYER),
    "unlabeled_category": TEXT.or_none,
}
# what scvi-tools passes to a set-up that repeats another one
_TRANSFER = ("source_registry", "extend_categories", "allow_missing_labels")


def anndata_fields(
    adata: AnnData,
    *,
    layer: str | None,
    labels_key: str | None,
    unlabeled_category: str | None = None,
    batch_key: str | None = None,
    size_factor_key: str | None = None,
) -> list:
    """Check an AnnData and return the fields to register."""
    check_ranges(locals(), _KINDS)
    check_structure(adata, layer)
    check_values(get_matrix(adata, layer), place(layer))
    check_obs_key(adata.obs, labels_key, "labels_key", unlabeled_category)
    check_obs_key(adata.obs, batch_key, "batch_key")
    check_size_factor(adata.obs, size_factor_key)
    if labels_key is None or unlabeled_category is None:
        labels = fields.CategoricalObsField(REGISTRY_KEYS.LABELS_KEY, labels_key)
    else:
        labels = fields.LabelsWithUnlabeledObsField(REGISTRY_KEYS.LABELS_KEY, labels_key, unlabeled_category)
    return [
        # whether X must hold counts depends on the likelihood, which the model knows and checks
        fields.LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=False),
        labels,
        fields.CategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key),
        fields.NumericalObsField(REGISTRY_KEYS.SIZE_FACTOR_KEY, size_factor_key, required=False),
    ]


def mudata_fields(
    mdata: MuData,
    modalities: Mapping[str, str | None],
    *,
    rna_layer: str | None,
    labels_key: str | None,
    unlabeled_category: str | None,
    batch_key: str | None,
    size_factor_key: str | None,
) -> list:
    """Check a MuData and return the fields to register."""
    check_ranges(locals(), _KINDS)
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
    for key, argument, modality in (
        (labels_key, "labels_key", modalities.labels_key),
        (batch_key, "batch_key", modalities.batch_key),
        (size_factor_key, "size_factor_key", modalities.size_factor_key),
    ):
        unlabeled = unlabeled_category if argument == "labels_key" else None
        check_obs_key(mdata.obs if modality is None else mdata.mod[modality].obs, key, argument, unlabeled)
    if labels_key is None or unlabeled_category is None:
        labels = fields.MuDataCategoricalObsField(
            REGISTRY_KEYS.LABELS_KEY, labels_key, mod_key=modalities.labels_key if labels_key else None
        )
    else:
        labels = MuDataLabelsWithUnlabeledObsField(
            REGISTRY_KEYS.LABELS_KEY, labels_key, unlabeled_category, mod_key=modalities.labels_key
        )
    return [
        fields.MuDataLayerField(
            REGISTRY_KEYS.X_KEY, rna_layer, mod_key=modalities.rna_layer, is_count_data=False, mod_required=True
        ),
        labels,
        fields.MuDataCategoricalObsField(REGISTRY_KEYS.BATCH_KEY, batch_key, mod_key=modalities.batch_key),
        fields.MuDataNumericalObsField(
            REGISTRY_KEYS.SIZE_FACTOR_KEY, size_factor_key, mod_key=modalities.size_factor_key, required=False
        ),
    ]


def register(cls: type, data: AnnData | MuData, field_list: list, setup_method_args: dict, **kwargs: Any) -> None:
    """Register ``data`` with the model class."""
    check_keywords(
        kwargs,
        [*setup_method_args["setup_args"], *_TRANSFER],
        what=f"`{cls.__name__}.{setup_method_args['setup_method_name']}`",
    )
    manager = AnnDataManager(fields=field_list, setup_method_args=setup_method_args)
    if "source_registry" in kwargs:
        kwargs["source_registry"] = from_plain(kwargs["source_registry"])
    manager.register_fields(data, **kwargs)
    cls.register_manager(manager)


class RegistrationMixin:
    """What was registered, in attributes that are saved with the model."""

    def __init__(self, adata: AnnData | MuData | None = None, registry: Mapping[str, Any] | None = None):
        super().__init__(adata, from_plain(registry))

    def _remember_registration(self) -> None:
        if self.adata is not None:
            # another model may have been set up on these data since
            self.adata_manager.validate()
        args = self.registry_["setup_args"]
        self.labels_key_ = args.get("labels_key")
        self.batch_key_ = args.get("batch_key")
        self.label_categories_ = self._categories(REGISTRY_KEYS.LABELS_KEY, self.labels_key_)
        self.batch_categories_ = self._categories(REGISTRY_KEYS.BATCH_KEY, self.batch_key_)
        if self.adata is not None:
            data = self._expression_data()
            self.var_ = data.var.copy()
            x = get_matrix(data, args.get("layer", args.get("rna_layer")))
            self.dtype_ = str(x.dtype)
            self.expression_space_ = expression_space(x, args.get("layer", args.get("rna_layer")))

    def _expression_data(self, adata: AnnData | MuData | None = None) -> AnnData:
        """The cells' expression; None: that of the training cells."""
        data = self._own_data() if adata is None else adata
        if isinstance(data, MuData):
            return data.mod[self.registry_["setup_args"]["modalities"]["rna_layer"]]
        return data

    def _own_data(self) -> AnnData | MuData:
        if self.adata is None:
            name = type(self).__name__
            raise RuntimeError(
                f"This {name} was loaded without its data. Give cells, `adata=...`, or load it with the data: "
                f"`{name}.load(path, adata=adata)`."
            )
        return self.adata

    def _validate_anndata(self, adata: AnnData | MuData | None = None, copy_if_view: bool = True) -> AnnData | MuData:
        """As scvi-tools does, which takes genes of any order."""
        data = self._own_data() if adata is None else adata
        if data is not self.adata:
            self._check_genes(data)
        return super()._validate_anndata(data, copy_if_view=copy_if_view)

    def _check_genes(self, data: AnnData | MuData) -> None:
        check_genes(self._expression_data(data).var_names, np.asarray(self.var_.index.astype(str)))

    def _query_matrix(self, data: AnnData):
        """Expression of ``data`` in the registered layer, with the model's genes."""
        self._check_genes(data)
        args = self.registry_["setup_args"]
        layer = args.get("layer", args.get("rna_layer"))
        x = get_matrix(data, layer)
        check_values(x, place(layer))
        return x

    def _query_expression(self, data: AnnData):
        """As :meth:`_query_matrix`, in the units that the model was trained on."""
        want = self.expression_space_
        made = None if data is self.adata else recorded_space(data)
        if made is not None and want.layer not in layer_names(data):
            self._check_genes(data)
            check_record(data.X, made)
            return convert(data.X, made, want)
        x = self._query_matrix(data)
        check_units(data, want)
        return x

    def _categories(self, registry_key: str, obs_key: str | None) -> list[str] | None:
        if obs_key is None:
            return None
        state = self.registry_["field_registries"][registry_key]["state_registry"]
        mapping = np.asarray(state["categorical_mapping"]).astype(str).tolist()
        unlabeled = state.get("unlabeled_category")
        return [name for name in mapping if name != str(unlabeled)]
