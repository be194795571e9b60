"""The Splat simulation of Zappia, Phipson & Oshlack (2017)."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import COUNT, COUNT_OR_NONE, SEED, SEVERAL, Choice
from scmimic.cells import LARGEST_COUNT, generation_record
from scmimic.datasets._splat_cells import Cells, draw_cells, draw_counts
from scmimic.datasets._splat_genes import bridges, check_known_genes, draw_genes
from scmimic.datasets._splat_parameters import SplatParameters, per_level


def splat(
    n_obs: int = 10_000,
    n_vars: int = 5_000,
    *,
    n_batches: int = 2,
    n_paths: int = 2,
    n_steps: int = 20,
    step: Literal["linear", "nonlinear"] = "linear",
    n_groups: int | None = None,
    parameters: SplatParameters | None = None,
    genes: AnnData | pd.DataFrame | None = None,
    seed: int = 0,
) -> AnnData:
    r"""Simulate counts whose batch, path, step and library size are known: the Splat model.

    1. **Genes.** Base means are gamma. An outlier's mean is the median gene's times a log-normal factor.
    2. **Factors.** Each batch multiplies every gene by a log-normal factor. Along a path, the mean goes from its start
       (factor 1, or the end of the path that it begins at) to its end in `n_steps` steps of even distance. The end is
       the start times :math:`e^{\pm |N(loc, scale)|}` for `de_prob` of the genes.
    3. **Steps.** `"linear"`: the factor runs on the straight line from start to end. `"nonlinear"`: on a Brownian
       bridge between the two, with five points and a natural cubic spline through them. Its scale is drawn per gene
       and path, uniform between 0 and `path_sigma_fac` times the mean of start and end.
    4. **Cells.** Library sizes are log-normal; a cell's gene means are scaled to add up to its library size.
    5. **Counts.** With :math:`B_{ij} = (\phi + 1 / \sqrt{\lambda_{ij}}) \sqrt{d / \chi^2_{d, j}}` for the mean
       :math:`\lambda_{ij}` of gene `j` in cell `i`, the common BCV :math:`\phi` and `d` degrees of freedom, the count
       is Poisson with a gamma rate of mean :math:`\lambda_{ij}` and coefficient of variation :math:`B_{ij}`. Its
       variance is :math:`\lambda + \lambda^2 B^2`.
    6. **Dropout**, where asked for: a logistic curve of the logarithm of the rate.

    The defaults are MichiGAN's simulation (section 3.1): two batches, two paths from one origin, 20 steps,
    `de_prob` 0.5, `de_fac_loc` 0.01, `de_fac_scale` 0.5, `bcv_common` 0.1. The paper estimated the remaining parameters
    from Tabula Muris and does not print them; here they are Splatter's defaults. :func:`splat_estimate` takes them from
    data of your own.

    Parameters
    ----------
    n_obs
        Number of cells. 10,000 as in MichiGAN.
    n_vars
        Number of genes. Where `genes` are given, theirs counts.
    n_batches
        Number of batches, of equal size (the first ones have one cell more where it does not divide).
    n_paths
        Number of paths; each cell is on one, with the probabilities `group_prob`.
    n_steps
        Steps per path, 2 or more. Step 1 is the start and step `n_steps` the end.
    step
        Whether a gene's mean runs along a path in a straight line or on a bridge. MichiGAN has one set of each.
    n_groups
        Simulate this many separate groups (cell types) in place of paths. `n_paths`, `n_steps` and `step` then have no
        meaning. One group is a single population without differential expression.
    parameters
        Everything else. Default: :class:`SplatParameters` as it is.
    genes
        Genes of an earlier simulation, or known ones, so that other cells of the same ground truth can be drawn: the
        result of :func:`splat`, or a table with columns of its `.var`. Columns that it holds are taken and the others
        drawn. From an AnnData, the curves in `.varm` are taken, too.
    seed
        Seed of every draw. The genes do not depend on `n_obs`.

    Returns
    -------
    AnnData with `n_obs` cells x `n_vars` genes:

    `adata.X` : CSR float32
        Integer counts.
    `adata.obs['batch']`, `adata.obs['path']` : categorical
        `"batch_0"`, ... and `"path_0"`, ...
    `adata.obs['step']` : int
        1 to `n_steps`.
    `adata.obs['group']` : categorical
        With `n_groups`, in place of path and step.
    `adata.obs['library_size']` : float
        Expected total counts of the cell.
    `adata.obs['library_size_quantile']` : int
        The tenth of the library sizes that the cell is in, 0 to 9.
    `adata.obs['total_counts']` : float
        Sum of the counts.
    `adata.var['base_mean']`, `adata.var['outlier_factor']`, `adata.var['mean']` : float
        Mean before outliers, factor (1: no outlier), and mean. Not scaled to a library size.
    `adata.var['batch_factor_batch_0']`, ... : float
        Factor of each batch.
    `adata.var['de_factor_path_0']`, ... : float
        Factor at the end of each path against the common origin, or of each group.
    `adata.var['sigma_factor_path_0']`, ... : float
        `path_sigma_fac` where the gene leaves the straight line, else 0.
    `adata.var['bcv_factor']` : float
        :math:`\sqrt{d / \chi^2_d}`.
    `adata.varm['step_factors_path_0']`, ... : ndarray
        Factors along each path, genes x steps.
    `adata.uns['scmimic']`
        Model, version, parameters and seed.

    Raises
    ------
    TypeError
        If `parameters` is no :class:`SplatParameters`, or `genes` neither AnnData nor DataFrame.
    ValueError
        If a number is too small, a parameter has neither one value nor one per batch or path, `path_from` has no
        solution, or a column of `genes` holds something else than finite, non-negative numbers.

    See Also
    --------
    scmimic.datasets.splat_estimate : Parameters of real cells.
    scmimic.datasets.synthetic_counts : Quick counts for tests.
    scmimic.tl.disentanglement : What the known factors are for.

    Notes
    -----
    Zappia, Phipson & Oshlack (2017), *Genome Biology* 18:174, and the R package Splatter since 1.25.1, where a path
    that begins at the end of another one multiplies its factors. Differences: cells are not ordered by batch; batches
    have equal sizes. Cells are drawn in chunks: the peak of memory is about 1.4 times the result.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.splat(200, 50, step="nonlinear")
    >>> adata.obs[["batch", "path", "step"]].nunique().to_dict()
    {'batch': 2, 'path': 2, 'step': 20}
    >>> held_out = sm.datasets.splat(100, genes=adata, step="nonlinear", seed=1)
    >>> bool((held_out.var["mean"] == adata.var["mean"]).all())
    True
    """
    COUNT.check(n_obs=n_obs, n_batches=n_batches, n_paths=n_paths)
    SEVERAL.check(n_steps=n_steps)
    Choice(("linear", "nonlinear")).check(step=step)
    COUNT_OR_NONE.check(n_groups=n_groups)
    SEED.check(seed=seed)
    parameters = SplatParameters() if parameters is None else parameters
    if not isinstance(parameters, SplatParameters):
        raise TypeError(f"`parameters` must be a SplatParameters, not {type(parameters).__name__}.")
    known, curves = _known_genes(genes)
    n_vars = n_vars if genes is None else len(known)
    COUNT.check(n_vars=n_vars)
    paths = n_groups is None
    n_levels, n_steps = (n_paths, n_steps) if n_groups is None else (n_groups, 1)
    if n_batches > n_obs:
        raise ValueError(f"There are more batches than cells: {n_batches=}, {n_obs=}.")

    gene_seed, bridge_seed, cell_seed, count_seed = np.random.SeedSequence(seed).spawn(4)
    batches = [f"{_keys.OBS_BATCH}_{i}" for i in range(n_batches)]
    groups = [f"{_keys.OBS_PATH if paths else _keys.OBS_GROUP}_{k}" for k in range(n_levels)]
    level = "paths" if paths else "groups"
    var = draw_genes(
        n_vars,
        parameters,
        batches=batches,
        groups=groups,
        nonlinear=step == "nonlinear",
        paths=paths,
        known=known,
        rng=np.random.default_rng(gene_seed),
    )
    position, varm = _positions(var, groups, n_steps, parameters, curves, paths, np.random.default_rng(bridge_seed))
    base = var[_keys.VAR_MEAN].to_numpy() * var[[_keys.batch_factor(batch) for batch in batches]].to_numpy().T
    cells = draw_cells(
        n_obs,
        n_batches,
        per_level(parameters, "group_prob", n_levels, level),
        n_steps,
        per_level(parameters, "path_skew", n_levels, level) if paths else np.full(n_levels, 0.5),
        parameters,
        np.random.default_rng(cell_seed),
    )
    if cells.library_size.max() > LARGEST_COUNT:
        raise ValueError(
            f"`lib_loc={parameters.lib_loc:g}` and `lib_scale={parameters.lib_scale:g}` give cells of up to "
            f"{cells.library_size.max():.3g} counts, but {LARGEST_COUNT:,} is the most that can be drawn. They are on "
            "the scale of natural logarithms, unless `lib_norm` is True."
        )
    counts, totals = draw_counts(
        cells,
        base,
        position,
        var[_keys.VAR_BCV_FACTOR].to_numpy(),
        parameters.bcv_common,
        count_seed,
        n_steps=n_steps,
        dropout=_dropout(parameters, cells, n_batches, n_levels, level),
    )

    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(n_obs)])
    obs[_keys.OBS_BATCH] = pd.Categorical.from_codes(cells.batch, batches)
    obs[_keys.OBS_PATH if paths else _keys.OBS_GROUP] = pd.Categorical.from_codes(cells.group, groups)
    if paths:
        obs[_keys.OBS_STEP] = cells.step
    obs[_keys.OBS_LIBRARY_SIZE] = cells.library_size
    obs[_keys.OBS_LIBRARY_SIZE_QUANTILE] = np.argsort(np.argsort(cells.library_size)) * 10 // n_obs
    obs[_keys.OBS_TOTAL_COUNTS] = totals.astype(np.float64)
    var.index = pd.Index([f"gene_{i}" for i in range(n_vars)]) if genes is None else known.index
    adata = AnnData(counts, obs=obs, var=var, varm=varm)
    design = {"n_paths": n_paths, "n_steps": n_steps, "step": step} if paths else {"n_groups": n_groups}
    settings = {"n_batches": n_batches} | design | dataclasses.asdict(parameters)
    adata.uns[_keys.UNS] = generation_record("Splat", settings, seed)
    return adata


def _known_genes(genes: AnnData | pd.DataFrame | None) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Table and curves of the genes that the caller knows; empty without any."""
    curves: dict[str, np.ndarray] = {}
    if genes is None:
        return pd.DataFrame(), curves
    if isinstance(genes, AnnData):
        table, curves = genes.var, {key: np.asarray(genes.varm[key]) for key in genes.varm}
    elif isinstance(genes, pd.DataFrame):
        table = genes
    else:
        raise TypeError(f"`genes` must be an AnnData or a DataFrame, not {type(genes).__name__}.")
    check_known_genes(table)
    return table, curves


def _positions(
    var: pd.DataFrame,
    groups: list[str],
    n_steps: int,
    parameters: SplatParameters,
    curves: dict[str, np.ndarray],
    paths: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Factors at each position (step of a path, or group), positions x genes, and the curves for `.varm`."""
    ends = [var[_keys.de_factor(group)].to_numpy() for group in groups]
    if not paths:
        return np.stack(ends), {}
    varm = {}
    for k, start in enumerate(per_level(parameters, "path_from", len(groups), "paths")):
        key = _keys.step_factors(groups[k])
        begin = ends[start] if start >= 0 else np.ones(len(var))
        sigma = var[_keys.sigma_factor(groups[k])].to_numpy()
        drawn = bridges(begin, ends[k], sigma, n_steps, rng)
        varm[key] = curves.get(key, drawn)
        if varm[key].shape != drawn.shape:
            raise ValueError(
                f"`genes.varm[{key!r}]` has {varm[key].shape[1]} steps, but n_steps={n_steps}. Make them equal, or "
                "give `genes.var` alone: the curves are then drawn."
            )
    return np.concatenate([varm[_keys.step_factors(group)].T for group in groups]), varm


def _dropout(
    parameters: SplatParameters, cells: Cells, n_batches: int, n_levels: int, level: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Midpoint and shape of the dropout curve of each cell."""
    if parameters.dropout_type == "none":
        return None
    codes, n, what = {
        "experiment": (np.zeros(len(cells.batch), dtype=np.int64), 1, "curves for the whole experiment"),
        "batch": (cells.batch, n_batches, "batches"),
        "group": (cells.group, n_levels, level),
    }[parameters.dropout_type]
    middle, shape = (per_level(parameters, name, n, what)[codes] for name in ("dropout_mid", "dropout_shape"))
    return middle, shape
