"""A small simulated data set for examples, tests and documentation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import COUNT, SEED


def synthetic_counts(
    n_obs: int = 300, n_vars: int = 100, *, n_labels: int = 3, n_batches: int = 1, seed: int = 0
) -> AnnData:
    """Simulate counts with cell types, batches and library sizes.

    Counts are negative-binomial around (library size) x (gene proportions of the cell's type and batch). Each type
    raises its own share of the genes about eightfold; each batch shifts every gene by about 20 %. Gene means are
    log-normal, library sizes log-normal around three counts per gene, the dispersion is 0.3.

    Parameters
    ----------
    n_obs, n_vars
        Numbers of cells and of genes. The simulation is dense while it runs: made for small numbers.
    n_labels
        Number of cell types; their frequencies fall as 1, 1/2, 1/3, ... and each has at least one cell.
    n_batches
        Number of batches, of equal frequency.
    seed
        Seed of every draw.

    Returns
    -------
    AnnData with `n_obs` cells x `n_vars` genes:

    `adata.X` : CSR float32
        Integer counts; every cell has at least one.
    `adata.obs['cell_type']`, `adata.obs['batch']` : categorical
        `"type_0"`, `"type_1"`, ... and `"batch_0"`, ...
    `adata.obs['library_size']` : float
        Expected total counts of the cell.

    Raises
    ------
    ValueError
        If a number is below 1, or there are fewer cells than labels or batches, or fewer genes than labels.

    See Also
    --------
    scmimic.datasets.splat : Cells with known factors.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=50, n_vars=20)
    >>> adata.shape
    (50, 20)
    >>> list(adata.obs["cell_type"].cat.categories)
    ['type_0', 'type_1', 'type_2']
    """
    COUNT.check(n_obs=n_obs, n_vars=n_vars, n_labels=n_labels, n_batches=n_batches)
    SEED.check(seed=seed)
    if n_obs < max(n_labels, n_batches) or n_vars < n_labels:
        raise ValueError(
            f"Too few cells or genes for the labels or batches: {n_obs=}, {n_vars=}, {n_labels=}, {n_batches=}."
        )
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, n_labels + 1)
    free = rng.choice(n_labels, n_obs - n_labels, p=frequency / frequency.sum())
    label = rng.permutation(np.concatenate([np.arange(n_labels), free]))
    batch = rng.permutation(np.arange(n_obs) % n_batches)

    program = rng.permutation(np.arange(n_vars) % n_labels)
    raised = rng.lognormal(np.log(8), 0.3, n_vars)
    base = rng.lognormal(0, 1, n_vars)
    by_label = base * np.where(program == np.arange(n_labels)[:, None], raised, 1)
    by_batch = rng.lognormal(0, 0.2, (n_batches, n_vars)) if n_batches > 1 else np.ones((1, n_vars))
    proportion = by_label[label] * by_batch[batch]
    proportion /= proportion.sum(axis=1, keepdims=True)

    library = rng.lognormal(np.log(3 * n_vars), 0.35, n_obs)
    inverse_dispersion = 1 / 0.3
    rate = rng.gamma(inverse_dispersion, library[:, None] * proportion / inverse_dispersion)
    counts = rng.poisson(rate)
    empty = np.flatnonzero(counts.sum(axis=1) == 0)
    counts[empty, proportion[empty].argmax(axis=1)] = 1

    obs = pd.DataFrame(
        {
            _keys.OBS_CELL_TYPE: pd.Categorical.from_codes(label, [f"type_{i}" for i in range(n_labels)]),
            _keys.OBS_BATCH: pd.Categorical.from_codes(batch, [f"batch_{i}" for i in range(n_batches)]),
            _keys.OBS_LIBRARY_SIZE: library,
        },
        index=[f"cell_{i}" for i in range(n_obs)],
    )
    var = pd.DataFrame(index=[f"gene_{i}" for i in range(n_vars)])
    return AnnData(sp.csr_matrix(counts, dtype=np.float32), obs=obs, var=var)
