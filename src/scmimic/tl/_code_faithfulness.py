"""Do generated cells show the codes that they were generated from? (MichiGAN, section 3.3 and figure S5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.model.base import BaseModelClass
from sklearn.neighbors import KNeighborsRegressor

from scmimic import _keys
from scmimic._arguments import COLUMNS, COUNT, FLAG, KEY, LAYER, POSITIVE
from scmimic._arrays import fit_pca
from scmimic.cells import ANNDATA, read_both, storable
from scmimic.model import MichiGAN
from scmimic.model.gan import dimension_index, encode, faithfulness, median_faithfulness, spearman
from scmimic.tl._latent_model import check_same_kind

if TYPE_CHECKING:
    from anndata import AnnData

MIN_CELLS = 3


def code_faithfulness(
    adata: AnnData, model: Any, *, use_rep: str | None = None, key_added: str | None = None
) -> pd.DataFrame:
    """Encode generated cells again, and correlate the codes with those asked for; 1 is ideal.

    Parameters
    ----------
    adata
        Generated cells with their codes in ``.obsm``. Cells in other units than the encoder's are converted, such as
        counts to the logarithms that it was trained on: scaled to their total, or, where genes were chosen after
        scaling and there is none, with a count worth what it is in the median of the training cells.
    model
        A trained :class:`~scmimic.model.MichiGAN` from a representation, or any model with
        ``get_latent_representation(adata, return_dist=True)``.
    use_rep
        Key of ``.obsm`` with the codes asked for. `None`: the model's own, such as ``"X_michigan"``.
    key_added
        Key of ``.uns``; ``"code_faithfulness"`` by default.

    Returns
    -------
    DataFrame with one row per dimension of the code; also written, with the parameters, to

    `adata.uns['code_faithfulness' | key_added]` : dict
        `'params'`; `'table'`: the DataFrame; `'median'`: median Pearson correlation over informative dimensions.

    Its columns are

    `pearson`, `spearman`
        Correlations of the codes asked for with the posterior means of the generated cells.
    `ceiling`
        What a perfect generator would reach: the correlation of a sample of a cell's posterior with its mean, by the
        spread of the means and the widths of the posteriors in the training data.
    `informative`
        Whether the means vary more than the posteriors are wide. Other dimensions are mostly prior: the sample asked
        for says little of the cell, and the cell cannot show it.

    Raises
    ------
    KeyError
        If ``.obsm`` has no such key.
    TypeError
        If the model has no encoder, or is one of a MuData.
    ValueError
        If the codes have another size than the model's, there are fewer than three cells, or these are in units that
        cannot be brought to those of the model's training data, such as logarithms to counts.

    See Also
    --------
    scmimic.pl.code_faithfulness : Draws it.
    scmimic.tl.code_factor_correlation : Codes against known factors.

    Examples
    --------
    >>> import scmimic as sm
    >>> import scvi
    >>> scvi.settings.verbosity = 30
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> sm.ACTIVA.setup_anndata(adata)
    >>> vae = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    >>> vae.train(max_epochs=2, warmup_epochs=2, enable_progress_bar=False)
    >>> model = sm.MichiGAN.from_representation(vae, n_hidden_generator=(16, 32), n_hidden_critic=(32, 16))
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> sm.tl.code_faithfulness(model.generate(50, seed=0), model).shape
    (4, 4)
    """
    ANNDATA.check(adata=adata)
    KEY.or_none.check(use_rep=use_rep, key_added=key_added)
    if not callable(getattr(model, "get_latent_representation", None)):
        raise TypeError(f"{type(model).__name__} has no encoder (`get_latent_representation`), which reads the codes.")
    check_same_kind(model, adata)
    key = _keys.latent(type(model).__name__) if use_rep is None else use_rep
    if key not in adata.obsm:
        raise KeyError(f"`use_rep={key!r}` is not in `adata.obsm`; there are {list(adata.obsm)}.")
    _check_enough(adata, "adata")
    asked: np.ndarray = np.asarray(adata.obsm[key], dtype=np.float64)
    # an encoder may want the cells in other units, or in a layer that generated cells do not have
    reads_any_cells = not isinstance(model, BaseModelClass) or isinstance(model, MichiGAN)
    cells = adata.to_memory() if adata.isbacked or hasattr(adata.X, "to_memory") else adata
    shown, _ = model.get_latent_representation(cells, return_dist=True) if reads_any_cells else encode(model, cells)
    if shown.shape != asked.shape:
        raise ValueError(f"The codes asked for have shape {asked.shape}, those of `model` {shown.shape}.")
    table = faithfulness(asked, shown, *_code_spread(model))
    adata.uns[key_added or _keys.CODE_FAITHFULNESS] = {
        "params": {"use_rep": key, "model": type(model).__name__},
        "table": table.copy(),
        "median": median_faithfulness(table),
    }
    return table


def _code_spread(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Variance of the training cells' mean codes, and the mean variance of their posteriors."""
    if isinstance(model, MichiGAN):
        return model._code_spread()
    posterior = getattr(model, "posterior_", None)
    if posterior is not None and posterior.mean.shape[1]:
        mean, var = posterior.mean, np.square(posterior.std)
    else:
        mean, var = model.get_latent_representation(return_dist=True)
    return mean.var(axis=0, dtype=np.float64), var.mean(axis=0, dtype=np.float64)


def code_factor_correlation(
    adata: AnnData,
    synthetic: AnnData,
    *,
    factors: Sequence[str],
    use_rep: str = "X_michigan",
    n_neighbors: int = 3,
    n_comps: int = 50,
    layer: str | None = None,
    log1p: bool = True,
    target_sum: float = 1e4,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Correlate the codes of generated cells with the factors that their expression shows (figure S5b).

    A regressor on the nearest real cells predicts each factor for the generated cells; its predictions are correlated
    with each dimension of the codes. A generator that keeps a representation's meaning gives the table that the
    representation gives on real cells.

    Parameters
    ----------
    adata
        Real cells with the factors in ``.obs``.
    synthetic
        Generated cells with their codes in ``.obsm``.
    factors
        Columns of ``adata.obs``. As in :func:`scmimic.metrics.spearman_correlation`, text of two levels counts as 0 and
        1 in sorted order. Text of more levels has no order: each level is predicted by itself, and the correlation of
        largest absolute value stands in the table.
    use_rep
        Key of ``synthetic.obsm`` with the codes.
    n_neighbors
        Real cells that predict a factor, 3 as the paper.
    n_comps
        Principal components of the real cells in which neighbours are sought.
    layer
        Layer of the real cells, `.X` by default; that of the generated ones too, where they have it.
    log1p
        Scale each cell to `target_sum` and take log(1 + x) first. `False` for values already logged.
    target_sum
        See `log1p`.
    key_added
        Key of ``synthetic.uns``; ``"code_factor_correlation"`` by default.

    Returns
    -------
    DataFrame of Spearman correlations, dimensions of the code x factors; 0 where a side is constant. Also written to

    `synthetic.uns['code_factor_correlation' | key_added]` : dict
        `'params'` and `'table'`.

    Raises
    ------
    KeyError
        If a factor, the layer or the codes are not there.
    ValueError
        If the genes or units differ, a factor has missing values, none is named, there are too few cells, or a number
        is out of range.

    See Also
    --------
    scmimic.pl.code_factor_correlation : Draws it.
    scmimic.tl.code_faithfulness : Codes against the codes of the cells.

    Examples
    --------
    >>> import numpy as np
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=50, seed=0)
    >>> synthetic = adata[100:].copy()
    >>> synthetic.obsm["X_michigan"] = np.asarray(np.log(synthetic.obs[["library_size"]]))
    >>> sm.tl.code_factor_correlation(adata[:100].copy(), synthetic, factors=["cell_type"]).shape
    (1, 1)
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    if isinstance(factors, str):
        raise ValueError(f"`factors` must be a list of columns: `factors=[{factors!r}]`.")
    COLUMNS.check(factors=factors)
    KEY.check(use_rep=use_rep)
    COUNT.check(n_neighbors=n_neighbors, n_comps=n_comps)
    LAYER.check(layer=layer)
    FLAG.check(log1p=log1p)
    POSITIVE.check(target_sum=target_sum)
    KEY.or_none.check(key_added=key_added)
    _check_enough(synthetic, "synthetic")
    if n_neighbors > adata.n_obs:
        raise ValueError(f"`n_neighbors={n_neighbors}`, but there are {adata.n_obs} real cells to be neighbours.")
    if use_rep not in synthetic.obsm:
        raise KeyError(f"`use_rep={use_rep!r}` is not in `synthetic.obsm`; there are {list(synthetic.obsm)}.")
    targets = [_numbers(adata, name) for name in factors]
    real, fake = read_both(adata, synthetic, layer, log1p=log1p, target_sum=target_sum)
    pca = fit_pca(real, n_comps)
    regressor = KNeighborsRegressor(n_neighbors=n_neighbors).fit(pca.transform(real), np.hstack(targets))
    predicted = regressor.predict(pca.transform(fake))
    codes: np.ndarray = np.asarray(synthetic.obsm[use_rep], dtype=np.float64)
    levels = np.array([[spearman(code, level) for level in predicted.T] for code in codes.T])
    columns = np.split(levels, np.cumsum([target.shape[1] for target in targets])[:-1], axis=1)
    table = pd.DataFrame(
        [[r[np.abs(r).argmax()] for r in rows] for rows in zip(*columns, strict=True)],
        index=dimension_index(codes.shape[1]),
        columns=list(factors),
    )
    params = storable(
        {
            "use_rep": use_rep,
            "factors": list(factors),
            "n_neighbors": n_neighbors,
            "n_comps": int(pca.n_components_),
            "layer": layer,
            "log1p": log1p,
            "target_sum": target_sum,
        }
    )
    synthetic.uns[key_added or _keys.CODE_FACTORS] = {"params": params, "table": table.copy()}
    return table


def _check_enough(adata: AnnData, name: str) -> None:
    if adata.n_obs < MIN_CELLS:
        raise ValueError(f"`{name}` has {adata.n_obs} cells; correlations take at least {MIN_CELLS}.")


def _numbers(adata: AnnData, name: str) -> np.ndarray:
    """A factor as one column of numbers, or one of 0 and 1 for each of several levels without an order."""
    if name not in adata.obs:
        raise KeyError(f"`factors`: {name!r} is not in `adata.obs`; its columns are {list(adata.obs.columns)}.")
    column = adata.obs[name]
    if column.isna().any():
        raise ValueError(f"`adata.obs[{name!r}]` is missing for {int(column.isna().sum())} cells.")
    values = np.asarray(column)
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)[:, None]
    levels, codes = np.unique(values.astype(str), return_inverse=True)
    return np.eye(len(levels))[codes] if len(levels) > 2 else codes.astype(np.float64)[:, None]
