"""Which genes a latent drives, read from the decoder by moving one latent at a time (MichiGAN, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic import _keys
from scmimic._arguments import COUNT, COUNT_OR_NONE, DIMENSIONS, FLAG, KEY, QUANTILES, SEED, SEVERAL
from scmimic.cells import CELLS

if TYPE_CHECKING:
    from anndata import AnnData


def rank_latent_genes(
    adata: AnnData,
    model: Any,
    *,
    dims: int | str | Sequence[int | str] | None = None,
    n_genes: int | None = 100,
    n_cells: int = 200,
    span: tuple[float, float] = (0.05, 0.95),
    n_steps: int = 7,
    seed: int = 0,
    key_added: str | None = None,
    copy: bool = False,
) -> AnnData | None:
    """Rank the genes that each latent drives.

    A number of real cells is encoded. One latent after the other is moved from the low to the high end of its range
    while the cell's other latents stay, and the cells are decoded at every step, without noise. The score of a gene is
    the range of its mean log expression along the way, with the sign of the way from the low to the high end: 1 means a
    change by one unit of log expression. Effects that are not monotone count in full.

    Parameters
    ----------
    adata
        Cells in the space that the model was trained on; their codes are where the latents are moved from.
    model
        A trained :class:`~scmimic.model.BetaTCVAE` or :class:`~scmimic.model.ACTIVA`.
    dims
        Latents to look at, by name (`"Z1"` is the first) or by position (0 is the first), one or several. None: those
        that have not vanished, where the model knows, else all.
    n_genes
        Genes to keep per latent. None: all.
    n_cells
        Cells to start from, drawn at random; all where there are fewer. The mean over 200 is steady to a few per cent.
    span
        Ends of a latent's range, as quantiles over the cells.
    n_steps
        Steps from one end to the other, both included; 2 compares the ends alone.
    seed
        Seed of the draw of cells.
    key_added
        Key in `.uns` instead of "rank_latent_genes".
    copy
        Return a copy and leave `adata` as it is.

    Returns
    -------
    `None`, or the copy if `copy`. Writes

    `.uns['rank_latent_genes' | key_added]` : dict
        `'names'` and `'scores'`: structured arrays with a field per latent (`"Z1"`, `"Z2"`, ...), strongest gene first,
        as :func:`scanpy.tl.rank_genes_groups` has them per group, so that :func:`scanpy.pl.rank_genes_groups` draws
        them (`key=`); `'params'`: the arguments. Scores are in natural logs: of expression for counts, of whatever base
        the training layer has for `gene_likelihood="normal"`.

    Raises
    ------
    TypeError
        If the model does not say what expression it expects of a code.
    RuntimeError
        If the model is not trained.
    ValueError
        If a latent does not exist, `span` is no pair of growing quantiles, or a number is too small.

    See Also
    --------
    scmimic.tl.latent_traversal : Cells along one latent dimension.
    scmimic.tl.disentanglement : Latent dimensions against known factors.

    Examples
    --------
    >>> import scanpy as sc
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50)
    >>> sm.BetaTCVAE.setup_anndata(adata)
    >>> model = sm.BetaTCVAE(adata, n_latent=3, n_hidden=(16,), gene_likelihood="nb")
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> sm.tl.rank_latent_genes(adata, model, dims=["Z1", "Z3"], n_genes=5)
    >>> adata.uns["rank_latent_genes"]["names"].dtype.names
    ('Z1', 'Z3')
    """
    CELLS.check(adata=adata)
    DIMENSIONS.or_none.check(dims=dims)
    COUNT_OR_NONE.check(n_genes=n_genes)
    COUNT.check(n_cells=n_cells)
    QUANTILES.check(span=span)
    SEVERAL.check(n_steps=n_steps)
    SEED.check(seed=seed)
    KEY.or_none.check(key_added=key_added)
    FLAG.check(copy=copy)
    if not callable(getattr(model, "expected_expression", None)):
        raise TypeError(
            "`rank_latent_genes` asks a model for the expression that it expects of a code (`expected_expression`), as "
            f"ACTIVA and BetaTCVAE give it; {type(model).__name__} does not."
        )
    codes = model.get_latent_representation(adata)
    moved = _keys.latent_positions(_active_dims(model, codes.shape[1]) if dims is None else dims, codes.shape[1])

    chosen = np.random.default_rng(seed).permutation(len(codes))[:n_cells]
    low, high = np.quantile(codes, span, axis=0)
    effects = np.stack([_effect(model, codes[chosen], j, np.linspace(low[j], high[j], n_steps)) for j in moved], axis=1)
    order = np.argsort(-np.abs(effects), axis=0, kind="stable")[:n_genes]
    kept = [_keys.latent_name(j) for j in moved]
    # the genes of a MuData are those of one modality
    genes = model.var_.index if hasattr(model, "var_") else adata.var_names
    result = {
        "params": {
            "dims": np.array(kept, dtype=object),
            "n_cells": int(len(chosen)),
            "span": np.array(span, dtype=float),
            "n_steps": n_steps,
            "seed": seed,
            "model": type(model).__name__,
            # scanpy's plots ask for these, and write the second beside a latent's name
            "groupby": "latent",
            "reference": "its low end",
        },
        "names": _records(np.asarray(genes.astype(str), dtype=object)[order], kept, "O"),
        "scores": _records(np.take_along_axis(effects, order, axis=0), kept, "float32"),
    }
    target = adata.copy() if copy else adata
    target.uns[key_added or _keys.RANK_LATENT_GENES] = result
    return target if copy else None


def _active_dims(model: Any, n_latent: int) -> list[int]:
    if not hasattr(model, "latent_activity"):
        return list(range(n_latent))
    active = np.flatnonzero(model.latent_activity()["active"].to_numpy())
    # a model in which all have vanished is still looked at
    return active.tolist() or list(range(n_latent))


def _effect(model: Any, codes: np.ndarray, dim: int, values: np.ndarray) -> np.ndarray:
    """Signed range of every gene's mean log expression while latent `dim` takes `values`."""
    moved = np.repeat(codes[None], len(values), axis=0)
    moved[:, :, dim] = values[:, None]
    curves = []
    for block in moved:
        expression = model.expected_expression(block)
        curves.append((np.log1p(expression) if model.module.is_count else expression).mean(0, dtype=np.float64))
    curve = np.stack(curves)
    return np.ptp(curve, axis=0) * np.where(curve[-1] < curve[0], -1.0, 1.0)


def _records(columns: np.ndarray, names: list[str], kind: str) -> np.recarray:
    return np.rec.fromarrays(list(columns.T), dtype=[(name, kind) for name in names])
