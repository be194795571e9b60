"""The table of an evaluation, kept in the cells that it is of."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Unpack

from scmimic import _keys
from scmimic._arguments import KEY
from scmimic.cells import storable
from scmimic.tl.evaluation._run import run
from scmimic.tl.evaluation._settings import Settings, takes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


@takes(Settings)
def evaluate(
    adata: AnnData, synthetic: AnnData, *, key_added: str = _keys.REALISM, **settings: Unpack[Settings]
) -> pd.DataFrame:
    r"""Measure how real synthetic cells are, overall and per cell type.

    Each measure is taken on the synthetic cells, on other real cells in their place (the replicate), and on the cells
    of trivial generators, always against the same real cells and with the same number of cells on both sides. The
    calibrated score is

    .. math:: s = \frac{m - \text{best trivial}}{\text{replicate} - \text{best trivial}}

    so that 0 is the best trivial generator and 1 a second sample of real cells; it is negative for cells that are less
    real than the trivial generator's. Where the ideal may be overshot (slopes, ratios) the distance to the ideal takes
    the place of the value. Elsewhere values beyond the ideal count as the ideal, for the replicate and the synthetic
    cells alike: no sample is closer to real cells than a second sample of them, unless by luck. So an AUC of 0.41 of
    a lucky replicate does not push the score of good cells down. An AUC so far below 0.5, or an error of a forest so
    far above 50 %, that luck does not explain it (six standard deviations by chance: an AUC of 0.33 with 210 cells per
    side, 0.44 with 2,000) means copies of `adata`: it counts against the cells, and the row says so. The memoriser of
    the training cells is no trivial generator: it copies, and only the privacy rows, which have no score, can tell.

    Real cells that are also in `train` would judge a generator that has seen them: shared cells are found by their
    values, left out of `adata` (or of `reference`, which must share none with either) and told of in a warning.

    Parameters
    ----------
    adata
        Real cells that the generator has not been trained on.
    synthetic
        Synthetic cells with the same genes in the same order.
    **settings
        See :class:`~scmimic.tl.evaluation._settings.Settings`.
    key_added
        `.uns` key of the result.

    Returns
    -------
    A table with one row per metric and type and these columns:

    `metric`, `group`, `label`
        Name, kind (discriminator, distribution, genes, types, privacy, diagnostic) and type, or `"overall"`.
    `value`, `low`, `high`
        What the synthetic cells score, with a 95 % interval for other cells of the same sources: of DeLong for an AUC,
        of Wilson for shares, otherwise from five disjoint groups of the cells. It does not hold what another training
        of the generator would change.
    `ideal`, `replicate`
        What is ideal in theory, and what real cells score in the place of the synthetic ones.
    `trivial`, `trivial_value`
        The best trivial generator and its score. For forests it is chosen on 500 cells.
    `score`
        The calibrated score; NaN where the metric cannot tell the trivial generator from real cells.
    `n_real`, `n_synthetic`
        Cells compared.
    `warning`
        Why a value is missing or should not be believed. A measure that fails has rows without a value, with its error
        here.

    Writes to `adata`:

    `.uns['realism' | key_added]` : dict
        `'table'`: the table; `'params'`: the arguments, and from which cells PCA, replicate and trivial generators
        come and which cells were left out; `'seconds'`: time of each measure.

    Raises
    ------
    ValueError
        If genes differ, a label or a value is missing, values are negative with `log1p`, a metric or generator is
        unknown, a number is out of range, more than half of `adata` are in `train` (or of `reference` in either), or
        there are too few cells.
    TypeError
        If there is no such setting, a name is no text, or `log1p` no truth value.
    KeyError
        If `labels_key` or `layer` is not there.

    Warns
    -----
    UserWarning
        If the numbers are not to be believed: real and synthetic cells in different spaces, smooth output, other
        proportions of the types, copies of training cells or of the cells compared, forests beyond chance. If cells
        were left out because two sets share them. If a measure failed for another reason than too few cells.

    See Also
    --------
    scmimic.evaluate : The same as an object, with a verdict.
    scmimic.report : As a page.
    scmimic.pl.report : Draws it.
    scmimic.tl.privacy : What cells tell of their training cells.

    Examples
    --------
    >>> import scmimic as sm
    >>> cells = sm.datasets.synthetic_counts(n_obs=600, n_vars=50)
    >>> train, test = cells[:300].copy(), cells[300:].copy()
    >>> generator = sm.baselines.Multinomial(train, labels_key="cell_type").fit()
    >>> synthetic = generator.generate(labels=test.obs["cell_type"].value_counts(), seed=0)
    >>> table = sm.tl.evaluate(test, synthetic, labels_key="cell_type", train=train, metrics=["mmd", "dcr_ratio"])
    >>> table.loc[table["label"] == "overall", "metric"].tolist()
    ['same_space', 'zero_fraction_ratio', 'real_copies', 'label_composition', 'variance_ratio', 'mmd', 'dcr_ratio']
    """
    KEY.check(key_added=key_added)
    evaluation = run(adata, synthetic, settings)
    adata.uns[key_added] = {
        "table": evaluation.table.copy(),
        "params": storable(evaluation.params),
        "seconds": {name: float(seconds) for name, seconds in evaluation.seconds.items()},
    }
    for text in evaluation.alarms:
        warnings.warn(text, UserWarning, stacklevel=2)
    return evaluation.table
