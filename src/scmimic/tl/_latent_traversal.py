"""Cells along single latent dimensions (MichiGAN, section 3.4 and figure 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from scmimic import _keys
from scmimic._arguments import DIMENSIONS, KEY, QUANTILES, SEED_OR_NONE, SETTINGS, SEVERAL
from scmimic._arrays import as_dense, as_matrix, log_normalise, scale_cells
from scmimic._random import as_seed
from scmimic.cells import ANNDATA, Value, check_writable, label_array, label_column, storable
from scmimic.model import WGANGP, InfoWGANGP
from scmimic.tl._latent_model import as_decoder, check_model, decode, encode, stream

if TYPE_CHECKING:
    from anndata import AnnData

# Codes from N(0, I) among which the start is sought for a model without an encoder.
_TRIED = 1000

Start = Value | Mapping[str, Value] | Sequence[float] | np.ndarray


def latent_traversal(
    adata: AnnData,
    model: Any,
    *,
    start: Start,
    dims: int | str | Sequence[int | str] | None = None,
    n_steps: int = 50,
    span: tuple[float, float] = (0.01, 0.99),
    decode_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    key_added: str = _keys.LATENT_TRAVERSAL,
) -> AnnData:
    """Decode codes that change in one dimension at a time (MichiGAN, section 3.4).

    Every other dimension stays as in `start`. What changes among the cells of a traversal is what the dimension means;
    in a disentangled representation that is one thing. To see it, place the cells among the real ones with
    :func:`~scmimic.tl.joint_embedding` and draw them with :func:`~scmimic.pl.latent_traversal`.

    Parameters
    ----------
    adata
        Cells with the genes that the model was trained on. Their posteriors say how far each dimension reaches. Only
        `.uns` is written.
    model
        Any trained model with `.get_latent_representation` and `.decode`, or one of scvi-tools such as
        :class:`scvi.model.SCVI`, as in :func:`~scmimic.tl.latent_arithmetic`. A :class:`~scmimic.model.WGANGP`,
        which has no encoder, moves through N(0, I). What a code does not say is the same for all cells: the noise of
        GANs, library size and batch.
    start
        Where all traversals start: the name of a cell (its mean code), a dict from columns of `adata.obs` to values
        such as `{"cell_type": "fibroblast"}` (mean code of the cells that have them all), a label of the column that
        the model was trained with, or a code with one number per dimension. For a model without an encoder these
        cells mean that code, of 1,000 from N(0, I), whose cell comes nearest to their mean expression, as in the
        paper's figure 3a.
    dims
        Dimensions to move, by name (`"Z1"` is the first) or by position (0 is the first), one or several. `None` moves
        each in turn.
    n_steps
        Values per dimension, evenly spaced. One cell is decoded for each.
    span
        Quantiles between which the values lie, of codes drawn from the posteriors of `adata`, one for each cell, or of
        N(0, 1) without an encoder. The default leaves out outlying cells.
    decode_kwargs
        Passed to `model.decode`, such as `labels`, `library_size` or `share_noise=False`. What is left out and not in
        the code is that of the cells in `start` where they have one in common, their batch and a GAN's label;
        otherwise the model chooses it.
    seed
        Same seed, same cells. `None`: from torch's generator, which `scvi.settings.seed` sets.
    key_added
        Key in `.uns`, and after `X_` in `.obsm`.

    Returns
    -------
    The cells, dimension by dimension and value by value, as the model decodes them, with

    `.obs['dimension']` : categorical
        The dimension that was moved: `"Z1"`, `"Z2"`, ...
    `.obs['value']`
        Its value.
    `.obsm['X_latent_traversal' | X_key_added]` : ndarray
        The codes.
    `.uns['latent_traversal' | key_added]` : dict
        `'start'`: the code; `'low'` and `'high'`: the ends of each dimension; `'params'`: the arguments.

    Also writes the same dict to `adata.uns['latent_traversal' | key_added]`.

    Raises
    ------
    KeyError
        If `start` names no cell or label, or a column that is not there.
    ValueError
        If no cell fits `start`, a code has the wrong size, a dimension does not exist, `n_steps` is below 2, `span`
        is no range of quantiles, or `adata` is a view.
    TypeError
        If the model cannot encode or decode.
    RuntimeError
        If the model is not trained.

    See Also
    --------
    scmimic.pl.latent_traversal : Draws it.
    scmimic.tl.rank_latent_genes : Genes behind a latent dimension.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30)
    >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    >>> model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    >>> start = {"cell_type": "type_0"}
    >>> cells = sm.tl.latent_traversal(adata, model, start=start, dims=["Z1", "Z3"], n_steps=5, seed=0)
    >>> cells.obs["dimension"].value_counts(sort=False).to_dict()
    {'Z1': 5, 'Z3': 5}
    """
    ANNDATA.check(adata=adata)
    DIMENSIONS.or_none.check(dims=dims)
    SEVERAL.check(n_steps=n_steps)
    QUANTILES.check(span=span)
    SETTINGS.or_none.check(decode_kwargs=decode_kwargs)
    SEED_OR_NONE.check(seed=seed)
    KEY.check(key_added=key_added)
    has_encoder = not isinstance(model, WGANGP)
    if has_encoder:
        check_model(model)
        # before the cells are encoded, which may fail for the same reason with a worse message
        as_decoder(model)
    check_writable(adata)
    seed = as_seed(seed)
    decode_kwargs = dict(decode_kwargs or {})
    has_rows = isinstance(start, Mapping) or np.ndim(start) == 0
    rows = _start_rows(adata, model, start) if has_rows else None
    known = _beside_the_code(adata[rows], model) if has_rows else {}
    if has_encoder:
        posterior = encode(model, adata)
        n_latent = posterior.mean.shape[1]
        origin = posterior.mean[rows].mean(axis=0) if has_rows else _start_code(start, n_latent)
    else:
        n_latent = model.module.n_latent
        origin = (
            _nearest_code(adata[rows], model, known, decode_kwargs, seed) if has_rows else _start_code(start, n_latent)
        )
    moved = _keys.latent_positions(dims, n_latent)

    if has_encoder:
        # the means alone would not show how far a dimension reaches that says little about each cell
        codes = posterior.codes("sample", stream(seed))
        low, high = np.quantile(codes, span, axis=0)
    else:
        if span[0] == 0 or span[1] == 1:
            raise ValueError(
                f"N(0, 1) has no smallest and no largest value: `span` must lie inside 0 and 1, got {span}."
            )
        low, high = (np.full(n_latent, norm.ppf(quantile)) for quantile in span)
    values = np.linspace(low[moved], high[moved], n_steps, axis=1)
    z = np.tile(origin, (values.size, 1))
    z[np.arange(values.size), np.repeat(moved, n_steps)] = values.ravel()
    cells = decode(model, z, known=known, seed=seed, decode_kwargs=decode_kwargs, adata=adata, share_noise=True)

    if taken := [name for name in (_keys.OBS_DIMENSION, _keys.OBS_VALUE) if name in cells.obs]:
        raise ValueError(
            f"The model's cells have the columns {taken} already, where the traversal is written: set the model up "
            "with columns of other names."
        )
    names = [_keys.latent_name(dim) for dim in moved]
    cells.obs[_keys.OBS_DIMENSION] = pd.Categorical(np.repeat(names, n_steps), categories=names)
    cells.obs[_keys.OBS_VALUE] = values.ravel()
    cells.obsm[_keys.latent(key_added)] = z
    record = {
        "start": origin,
        "low": low,
        "high": high,
        "params": storable(
            {
                "start": start if has_rows else "code",
                "dims": names,
                "n_steps": n_steps,
                "span": list(span),
                "decode_kwargs": decode_kwargs,
                "seed": seed,
                "model": type(model).__name__,
            }
        ),
    }
    cells.uns[key_added] = record
    adata.uns[key_added] = dict(record)
    return cells


def _start_code(start: Any, n_latent: int) -> np.ndarray:
    code = np.asarray(start, dtype=np.float64)
    if code.shape != (n_latent,) or not np.isfinite(code).all():
        raise ValueError(f"`start` must be a code of {n_latent} finite numbers, got an array of shape {code.shape}.")
    return code


def _beside_the_code(cells: AnnData, model: Any) -> dict[str, str]:
    """What `cells` have in common that their codes leave to the decoder: batch, and label where it is an input."""
    keys = [getattr(model, "batch_key_", None)]
    if isinstance(model, WGANGP | InfoWGANGP):
        keys.append(model.labels_key_)
    values = {key: np.unique(label_array(cells, key)) for key in keys if key is not None and key in cells.obs}
    return {key: found[0] for key, found in values.items() if len(found) == 1}


def _nearest_code(
    near: AnnData, model: WGANGP, known: Mapping[str, str], decode_kwargs: Mapping[str, Any], seed: int
) -> np.ndarray:
    """The code from N(0, I) whose cell comes nearest to the mean of given cells."""
    if np.ndim(decode_kwargs.get("labels", "")):
        raise ValueError(
            "`decode_kwargs['labels']` must be one label here, since `start` is sought among codes decoded with it."
        )
    codes = stream(seed, 0).standard_normal((_TRIED, model.module.n_latent))
    options = {name: value for name, value in decode_kwargs.items() if name in ("labels", "share_noise")}
    # expected counts, since the draws of single ones differ by more than codes do
    options |= {"as_counts": False}
    cells = decode(model, codes, known=known, seed=seed, decode_kwargs=options, adata=near, share_noise=True)
    real, decoded = (as_matrix(x, "adata", dtype=np.float32) for x in (model._query_matrix(near), cells.X))
    counts = model.count_units_ == "counts"
    center = np.asarray((scale_cells(real, 1e4) if counts else real).mean(axis=0)).ravel()
    center, decoded = (np.log1p(center), log_normalise(decoded)) if counts else (center, decoded)
    return codes[np.square(as_dense(decoded) - center).sum(axis=1).argmin()]


def _start_rows(adata: AnnData, model: Any, start: Any) -> np.ndarray:
    """Rows of the cells that `start` names."""
    if not isinstance(start, Mapping):
        rows = np.flatnonzero(adata.obs_names == start)
        if len(rows) == 1:
            return rows
        if len(rows) > 1:
            raise ValueError(f"`start`: {len(rows)} cells are called {start!r}. Call `adata.obs_names_make_unique()`.")
        args = (getattr(model, "registry_", None) or {}).get("setup_args", {})
        key = getattr(model, "labels_key_", None) or args.get("labels_key")
        if key is None or key not in adata.obs or label_column(adata, key)[0].code(start) is None:
            raise KeyError(
                f"`start={start!r}` is the name of no cell, nor a label that the model was trained with. Name other "
                "cells by their column: `start={column: value}`."
            )
        start = {key: start}
    if not start:
        raise ValueError("`start` is an empty dict: name a column of `adata.obs` and its value.")
    fits = np.ones(adata.n_obs, dtype=bool)
    for key, value in start.items():
        column, codes = label_column(adata, key, argument="start")
        code = column.code(value)
        fits &= False if code is None else codes == code
    if not fits.any():
        raise ValueError(f"`start`: no cell has {dict(start)}.")
    return np.flatnonzero(fits)
