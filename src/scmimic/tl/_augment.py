"""Real and synthetic cells in one object (ACTIVA, section 4.4)."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import scanpy as sc
import scipy.sparse as sp
from anndata import AnnData
from anndata.utils import make_index_unique
from pandas.api.types import is_bool_dtype, is_string_dtype, union_categoricals

from scmimic import _keys
from scmimic._arguments import COUNT_OR_NONE, ORDERED, SEED_OR_NONE
from scmimic.cells import (
    ANNDATA,
    Labels,
    check_same_genes,
    check_same_units,
    gene_annotation,
    layer_names,
    read_matrix,
    space_of_cells,
    where_is,
)

logger = logging.getLogger(__name__)

# columns of sc.pp.calculate_qc_metrics, and of sc.pp.filter_cells, which has names of its own for two of them
_QC = re.compile(r"n_genes|n_counts|(log1p_)?n_genes_by_counts|(log1p_)?total_counts(_.+)?|pct_counts_.+")
_FILTERED = {"n_genes": "n_genes_by_counts", "n_counts": "total_counts"}
_SOURCES = [_keys.SOURCE_REAL, _keys.SOURCE_SYNTHETIC]


def augment(
    adata: AnnData, model: Any, *, n: int | None = None, labels: Labels = None, seed: int | None = None
) -> AnnData:
    """Add cells that a model generates to real cells.

    Parameters
    ----------
    adata
        Real cells, with the genes that the model was trained on in the same order; not changed. They need not be the
        training cells: for a fair test of a classifier they must not be its test cells.
    model
        A trained scmimic model, a fitted reference generator, or any object with `.generate(n, labels, seed=)` that
        returns an AnnData.
    n
        Synthetic cells to add. `None` adds those that `labels` counts where it is a dict, and otherwise as many as
        `adata` has cells.
    labels
        Passed to `.generate`: `None` for all types, one type, a list of types, or a dict from type to number of cells.
    seed
        Seed of the generation.

    Returns
    -------
    A new AnnData, the real cells first and in their order:

    `.X` : CSR matrix
        Both sides in the space of the layer that the model was trained on (`adata.X` for models without a layer).
    `.layers`
        The model's layer, and those that both sides have.
    `.obs['source']` : categorical
        `"real"` or `"synthetic"`; cells of an `adata` that was augmented before keep theirs.
    `.obs`
        All columns of either side, missing where a side has none; without those that scvi-tools keeps for itself. A
        column that both have in one type stays in it. Columns of scanpy's quality control (`total_counts`,
        `pct_counts_mt`, ...) go on where the real cells' can be computed from `.X`, and are missing where they were
        of genes or counts that are not in it: `sc.pp.calculate_qc_metrics` then writes new ones for all cells.
    `.obs_names`
        Unique: a synthetic name that is taken gets a number.
    `.var`
        That of `adata`, without statistics of its cells (`n_cells`, `mean_counts`, `means`, ...), which are not those
        of both sides. Truth values such as `highly_variable` are kept.
    `.varm`
        That of `adata`.
    `.obsm`
        What both sides have in the same width, such as `X_joint_pca`.
    `.uns['scmimic']` : dict
        How the cells were generated. Also kept: colours, and scanpy's mark of logged values where `.X` is `adata.X`.

    Raises
    ------
    TypeError
        If `adata` is no AnnData, or `model` cannot generate or does not return an AnnData.
    ValueError
        If the genes or the units differ, names of real cells repeat, `adata` holds no values, or
        `adata.obs['source']` holds something else.
    KeyError
        If `adata` lacks the layer that the model was trained on.

    Warns
    -----
    UserWarning
        If one side holds counts and the other fractions whose units do not show.

    See Also
    --------
    scmimic.tl.rare_augmentation : Does it help to find a rare type?
    scmimic.tl.rare_classification : Does a classifier know the type?

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=100)
    >>> model = sm.baselines.IndependentNB(adata, labels_key="cell_type").fit()
    >>> both = sm.tl.augment(adata, model, n=40, labels="type_2", seed=0)
    >>> both.obs["source"].value_counts().to_dict()
    {'real': 100, 'synthetic': 40}
    """
    COUNT_OR_NONE.check(n=n)
    ORDERED.check(labels=labels)
    SEED_OR_NONE.check(seed=seed)
    ANNDATA.check(adata=adata)
    if not callable(getattr(model, "generate", None)):
        raise TypeError(
            f"`model` must be a trained model or another object with `.generate(n, labels, seed=)`, not "
            f"{type(model).__name__}."
        )
    if not adata.obs_names.is_unique:
        raise ValueError("Names of cells repeat in `adata.obs_names`: call `adata.obs_names_make_unique()` first.")
    earlier = _earlier_sources(adata)
    layer = _training_layer(model)
    real = read_matrix(adata, layer)
    if real is None:
        raise ValueError("`adata.X` is empty: there is nothing to put the synthetic cells beside.")
    if n is None and not isinstance(labels, Mapping | pd.Series):
        n = adata.n_obs
    synthetic = model.generate(n=n, labels=labels, seed=seed)
    if not isinstance(synthetic, AnnData):
        raise TypeError(f"`model.generate` returned {type(synthetic).__name__}, but an AnnData is needed.")
    check_same_genes(adata, synthetic)

    _check_same_space(adata, synthetic, layer)
    x = _stack(real, read_matrix(synthetic, None))
    names = make_index_unique(adata.obs_names.append(synthetic.obs_names))
    source = pd.Categorical.from_codes(np.r_[earlier, np.ones(synthetic.n_obs, dtype=int)], _SOURCES)
    varm: Mapping[str, Any] = adata.varm
    result = AnnData(
        X=x,
        obs=_join_obs(adata.obs, synthetic.obs, names),
        var=gene_annotation(adata.var),
        varm={key: value.copy() for key, value in varm.items()},
    )
    result.obs[_keys.OBS_SOURCE] = source
    controlled = adata.obs.select_dtypes("number")
    if lacking := [key for key in map(str, controlled) if _QC.fullmatch(key) and key not in synthetic.obs]:
        _continue_quality_control(result, controlled[lacking])
    for key in layer_names(adata):
        if key in synthetic.layers:
            result.layers[key] = _stack(adata.layers[key], synthetic.layers[key])
    if layer is not None:
        result.layers[layer] = x.copy()
    for key in adata.obsm.keys() & synthetic.obsm.keys():
        pair: list[np.ndarray] = [np.asarray(side.obsm[key]) for side in (adata, synthetic)]
        if pair[0].shape[1:] == pair[1].shape[1:]:
            result.obsm[key] = np.concatenate(pair)
    for key, value in adata.uns.items():
        if key.endswith("_colors") or (key == "log1p" and layer is None):
            result.uns[key] = value
    result.uns.update(_joint_colors(adata, synthetic, result))
    if _keys.UNS in synthetic.uns:
        result.uns[_keys.UNS] = synthetic.uns[_keys.UNS]
    return result


def _continue_quality_control(both: AnnData, real: pd.DataFrame) -> None:
    """Fill in columns of scanpy's quality control of the real cells, where their values are those of `.X`."""
    keys: list[str] = list(real.columns)
    top = [int(found[1]) for key in keys if (found := re.fullmatch(r"pct_counts_in_top_(\d+)_genes", key))]
    table, _ = sc.pp.calculate_qc_metrics(
        both,
        qc_vars=[key for key in both.var if f"pct_counts_{key}" in keys and is_bool_dtype(both.var[key])],
        percent_top=sorted(n for n in top if n <= both.n_vars),
    )
    for key in keys:
        values = table.get(_FILTERED.get(key, key))
        known = real[key].to_numpy(dtype=float, na_value=np.nan)
        if values is not None and np.allclose(values[: len(real)], known, equal_nan=True):
            both.obs[key] = values.astype(real[key].dtype)
    if missing := [key for key in keys if both.obs[key][len(real) :].isna().all()]:
        logger.warning(
            "Synthetic cells have no %s: the real cells' are of other genes or counts than `.X`. "
            "`sc.pp.calculate_qc_metrics(both, inplace=True)` computes those of all cells anew.",
            ", ".join(missing),
        )


def _joint_colors(adata: AnnData, synthetic: AnnData, both: AnnData) -> dict[str, list[str]]:
    """Colours of the categories of both sides, in the joint order; those of the real cells come first."""
    found = {}
    for name in both.obs:
        key, column = _keys.colors(str(name)), both.obs[name]
        if not isinstance(column.dtype, pd.CategoricalDtype):
            continue
        colors: dict[Any, Any] = {}
        for side in (synthetic, adata):
            if key in side.uns and name in side.obs and isinstance(side.obs[name].dtype, pd.CategoricalDtype):
                colors |= dict(zip(side.obs[name].cat.categories, side.uns[key], strict=False))
        if colors and all(category in colors for category in column.cat.categories):
            found[key] = [colors[category] for category in column.cat.categories]
    return found


def _earlier_sources(adata: AnnData) -> np.ndarray:
    """Code of the source of each cell of `adata`: 0 (real) unless it was augmented before."""
    if _keys.OBS_SOURCE not in adata.obs:
        return np.zeros(adata.n_obs, dtype=int)
    codes = pd.Index(_SOURCES).get_indexer(adata.obs[_keys.OBS_SOURCE])
    if (codes < 0).any():
        raise ValueError(
            f"`adata.obs[{_keys.OBS_SOURCE!r}]` exists and holds other values than {_SOURCES}, which it would be "
            "overwritten with: rename that column."
        )
    return codes


def _training_layer(model: Any) -> str | None:
    """Layer that a model was trained on; `None` also for foreign objects, which say nothing about it."""
    arguments = getattr(model, "registry_", None)
    if isinstance(arguments, Mapping):
        arguments = arguments.get("setup_args", {})
        return arguments.get("layer", arguments.get("rna_layer"))
    return getattr(model, "layer", None)


def _stack(first: Any, second: Any) -> sp.csr_matrix:
    """Both below each other in the type of the first, or in one that holds the second as well."""
    first, second = sp.csr_matrix(first), sp.csr_matrix(second)
    dtype = first.dtype
    with np.errstate(invalid="ignore"):
        if (second.data.astype(dtype) != second.data).any() and dtype.kind != "f":
            dtype = np.promote_types(dtype, second.dtype)
    return sp.vstack([first.astype(dtype, copy=False), second.astype(dtype, copy=False)], format="csr")


def _check_same_space(adata: AnnData, synthetic: AnnData, layer: str | None) -> None:
    """Raise ValueError where both sides show other units; warn where those of one side do not show."""
    spaces = space_of_cells(adata, layer), space_of_cells(synthetic, None)
    way = f"put values in the units that the model was trained on into `{where_is(layer)}`"
    check_same_units(*spaces, where_is(layer), any_scale=False, way=way)
    if {space.units for space in spaces} == {"counts", None}:
        kinds = ["counts" if space.units == "counts" else "fractions" for space in spaces]
        warnings.warn(
            f"`{where_is(layer)}` holds {kinds[0]}, but the synthetic cells hold {kinds[1]}. Give the real cells in "
            "the space that the model was trained on.",
            UserWarning,
            stacklevel=3,
        )


def _join_obs(real: pd.DataFrame, synthetic: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    sides = (real, synthetic)
    keys: list[Hashable] = [*real.columns, *synthetic.columns.difference(real.columns, sort=False)]
    columns = {
        key: _join_column([side.get(key) for side in sides], [len(side) for side in sides], names)
        for key in keys
        # scvi-tools' own bookkeeping of the real cells; the next registration writes it anew
        if not str(key).startswith("_scvi")
    }
    return pd.DataFrame(columns, index=names)


def _join_column(pair: list[pd.Series | None], sizes: list[int], names: pd.Index) -> Any:
    """One column of both sides, of a type that `write_h5ad` keeps although a side (`None`) may lack it."""
    present = [side for side in pair if side is not None]
    if len(present) == 2 and present[0].dtype == present[1].dtype:
        if isinstance(present[0].dtype, pd.CategoricalDtype):
            return union_categoricals(present)
        # not the bare values: of objects that are text, a table makes text of pandas' own
        return pd.concat(present).set_axis(names)
    is_categorical = [isinstance(side.dtype, pd.CategoricalDtype) for side in present]
    if any(is_categorical) or all(is_string_dtype(side) for side in present):
        known = [pd.Categorical(side) for side in present]
        if len({c.categories.dtype for c in known}) > 1:
            known = [c.rename_categories(c.categories.astype(str)) for c in known]
        if len(known) == 2:
            return union_categoricals(known, ignore_order=True)
        # two of the same type keep their order
        filled = iter(known)
        empty = known[0].dtype
        return union_categoricals(
            [
                pd.Categorical([np.nan] * size, dtype=empty) if side is None else next(filled)
                for side, size in zip(pair, sizes, strict=True)
            ]
        )
    is_bool = all(is_bool_dtype(side) for side in present)
    # a plain column of truth values has no missing ones
    kind = "boolean" if is_bool else None
    whole = [
        pd.Series(pd.NA if is_bool else np.nan, index=range(size), dtype=kind)
        if side is None
        else side.astype(kind or side.dtype)
        for side, size in zip(pair, sizes, strict=True)
    ]
    joined = pd.concat(whole, ignore_index=True)
    return joined.to_numpy(dtype=bool) if is_bool and not joined.isna().any() else joined.array
