"""Does latent arithmetic predict combinations that were held out? (MichiGAN, sections 3.5 and 3.6, figure 4)

Deviations: besides the models' own predictions stand rivals that need no model; the forest's principal components are
those of the training cells without the held-out ones; combinations are held out one by one unless asked for together.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr, wilcoxon

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT, FLAG, KEY, LAYER, ORDERED, POSITIVE, SEED, SETTINGS, TEXT, Listed, Range
from scmimic.cells import ANNDATA, as_list, storable
from scmimic.tl._combinations import SHIFT, Combinations, Shift, Target
from scmimic.tl._latent_model import CODE, Code
from scmimic.tl._similarity import REFERENCE_WEIGHTS, ReferenceWeights
from scmimic.tl._workers import CLIENT
from scmimic.tl.holdout._run import COLUMNS, MEAN_CODES, Fit, HoldoutRun, Row, method_name
from scmimic.tl.holdout._spaces import HoldoutSpaces
from scmimic.tl.holdout._trial import RIVALS

if TYPE_CHECKING:
    from anndata import AnnData
    from distributed import Client

logger = logging.getLogger(__name__)

MODEL = "model"
# the folds of the forest
_FOLDED = Range(5, whole=True)


def holdout_arithmetic(
    adata: AnnData,
    *,
    group_key: str,
    condition_key: str,
    fit: Fit | Mapping[str, Fit],
    vae: bool | Mapping[str, Any] = False,
    targets: Sequence[tuple[str, str]] | None = None,
    together: bool = False,
    control: str | Sequence[str] | None = None,
    reference_group: str | Sequence[str] | None = None,
    shift: Shift = "condition",
    reference_weights: ReferenceWeights = "similar",
    codes: Sequence[Code] = ("sample", "mean"),
    layer: str | None = None,
    layers: Sequence[str] = (),
    log1p: bool = True,
    target_sum: float = 1e4,
    min_cells: int = 30,
    n_cells: int = 1000,
    n_top_genes: int = 100,
    n_trees: int = 500,
    seeds: Sequence[int] = (0,),
    decode_kwargs: Mapping[str, Any] | None = None,
    key_added: str = _keys.HOLDOUT_ARITHMETIC,
    client: Client | None = None,
) -> pd.DataFrame:
    """Hold out combinations of group and condition, predict their cells, and compare (MichiGAN, section 3.5).

    For each combination and seed a model is fitted without its cells, :func:`~scmimic.tl.latent_arithmetic` predicts
    them, and they are compared with the real ones; with `together=True` one model, fitted without the cells of all
    `targets`, predicts each of them. A model that was told both columns, such as :class:`~scmimic.model.ACTIVA` set up
    with ``labels_key=group_key`` and ``condition_key`` among its covariates, is asked for the combination itself
    (``generate``); its codes are not moved. Always beside it:

    - `"control cells"`: the cells that the prediction starts from, as they are. A prediction that is no nearer to the
      real cells has learned nothing of the condition.
    - `"mean shift"`: these cells, each moved by the mean difference of log expression along the same steps, all groups
      counting alike; `"mean shift, similar groups"`: with the weights of `reference_weights="similar"`.
    - `"linear model"`: these cells, moved to the mean that least squares gives, expression = group + condition.

    Parameters
    ----------
    adata
        Cells with groups and conditions; only `.uns` is written.
    group_key, condition_key
        Columns of `adata.obs`, such as cell types and treatments.
    fit
        Callable `(train_adata, seed)` that returns a trained model, or several by name. `train_adata` is a new object
        with the cells to train on, whose values it must leave as they are.
    vae
        Also fit a VAE (:class:`~scmimic.model.BetaTCVAE` with `beta=0`) to the values that are compared, and move its
        mean codes, as scGen does (Lotfollahi et al. 2019): the method `"VAE arithmetic"`. `True`, or arguments of its
        training. It is trained anew for every combination and seed, so that it is left out by default.
    targets
        Combinations to hold out. `None`: every one with at least `min_cells` cells that can be predicted from others,
        under another condition than `control` where that is given.
    together
        Hold out all `targets` at once, as the paper does with three: one fit for each seed, which has seen none of
        them. It is cheaper, and harder: no prediction leads over another target. `False` holds out one after another.
    control, reference_group, shift, reference_weights
        As in :func:`~scmimic.tl.latent_arithmetic`. Name the control condition, or untreated cells are predicted too.
    codes
        `"sample"` gives the row named as the model, `"mean"` the row `"..., mean codes"`: arithmetic on posterior means
        as scGen has it. A model that is asked for the combination itself has one row.
    layer
        Layer with the values in the space of the decoded cells, counts for count models; `.X` by default.
    layers
        Further layers that a `fit` sets its model up with, such as log expression beside counts. A model's cells are in
        the units of its layer: where that holds the log1p of the values in `layer`, scaled in each cell or not, expm1
        takes the logarithm back before all cells are scaled. Other layers are refused: what was computed from all
        cells, such as scores or imputed values, knows those that are held out.
    log1p
        Scale all cells, real and predicted, to `target_sum` and take log(1 + x) before they are compared. `False` takes
        the values as they are: right for logged values.
    target_sum
        Total per cell before the logarithm.
    min_cells
        Least number of real cells of a combination.
    n_cells
        Largest number of cells of a side that are compared. Bounds memory and time.
    n_top_genes
        Genes for `r2_de`: those of the largest absolute Welch t between real and control cells.
    n_trees
        Trees of the forest; the paper has 1,000, which takes twice the time for nearly the same error.
    seeds
        Each seeds one repetition: fit, prediction and forest.
    decode_kwargs
        Passed to `model.decode`.
    key_added
        Key of `.uns`.
    client
        Dask's client of a cluster (extra ``dask``) whose workers take the combinations and seeds. `fit` and what it
        refers to are sent to them. The table is the same but for `seconds`. None: this process, one after the other.

    Returns
    -------
    One row per combination, seed and method, with the columns

    `group`, `condition`, `seed`, `method`
        What was run.
    `n_real`, `n_predicted`
        Real and predicted cells.
    `rf_error`
        Error in percent of a random forest that tells predicted from real cells: 50 is ideal, 0 the worst.
    `r2`, `r2_de`
        Coefficient of determination of the genes' mean expression, of all genes and of those that change most: 1 is
        ideal, below 0 worse than the mean over genes.
    `correlation_change`
        Pearson correlation over all genes of predicted and real change from the control cells: 1 is ideal, 0 is chance;
        NaN without a change.
    `delta_entropy`
        Delta-H of the models' codes: :func:`~scmimic.tl.latent_entropy`.
    `trust`
        What :func:`~scmimic.tl.latent_arithmetic` said of the prediction beforehand.
    `seconds`
        Time of the fit; with `together=True` all its rows have the same.
    `error`
        Why a model gave no cells, or `""`. Its scores are NaN then, and the comparison goes on.

    Also writes to `adata`:

    `adata.uns['holdout_arithmetic' | key_added]` : dict
        `'results'`: this table, or where the run was stopped its rows so far; `'tests'`: for each model and each other
        method `median_gain` of the RF error over the combinations (means over seeds), `wilcoxon_p` (one-sided
        signed-rank test that the gain is above 0), and `spearman`, `spearman_p` of the gain with delta-H; `'params'`:
        the arguments.

    Raises
    ------
    KeyError
        If a column or a layer is not there.
    TypeError
        If `seeds` is no list, or `vae` neither a truth value nor a dict.
    ValueError
        If no combination can be held out, one is given twice, has too few cells or cannot be predicted, `together` has
        no `targets` or leaves a group or condition without cells, a name of a model is that of a rival, the units of a
        layer cannot be told, a `fit` changed its cells, or an argument is out of range.

    See Also
    --------
    scmimic.pl.holdout_arithmetic : Draws it.
    scmimic.tl.latent_arithmetic : One prediction.

    Examples
    --------
    >>> import scmimic as sm
    >>> import scvi
    >>> scvi.settings.verbosity = 30
    >>> adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=30, n_batches=2)
    >>> def fit(train, seed):
    ...     sm.ACTIVA.setup_anndata(train, labels_key="cell_type")
    ...     model = sm.ACTIVA(train, n_latent=4, n_hidden=(16,))
    ...     model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    ...     return model
    >>> table = sm.tl.holdout_arithmetic(
    ...     adata,
    ...     group_key="cell_type",
    ...     condition_key="batch",
    ...     fit=fit,
    ...     targets=[("type_0", "batch_1")],
    ...     n_trees=20,
    ... )
    >>> table["method"].tolist()
    ['model', 'model, mean codes', 'control cells', 'mean shift', 'mean shift, similar groups', 'linear model']
    """
    ANNDATA.check(adata=adata)
    COLUMN.check(group_key=group_key, condition_key=condition_key)
    ORDERED.check(targets=targets, control=control, reference_group=reference_group)
    SHIFT.check(shift=shift)
    REFERENCE_WEIGHTS.check(reference_weights=reference_weights)
    Listed(CODE, alone=True).check(codes=codes)
    LAYER.check(layer=layer)
    Listed(TEXT, least=0).check(layers=layers)
    FLAG.check(together=together, log1p=log1p)
    POSITIVE.check(target_sum=target_sum)
    _FOLDED.check(min_cells=min_cells, n_cells=n_cells)
    COUNT.check(n_top_genes=n_top_genes, n_trees=n_trees)
    SETTINGS.or_none.check(decode_kwargs=decode_kwargs)
    KEY.check(key_added=key_added)
    CLIENT.check(client=client)
    fits = _check_fits(fit)
    codes = as_list(codes)
    seeds = _check_seeds(seeds)
    if not isinstance(vae, bool | Mapping):
        raise TypeError(f"`vae` must be True, False or a dict of arguments of its training, not {vae!r}.")
    spaces = HoldoutSpaces(adata, layer, layers, log1p=log1p, target_sum=target_sum)
    combinations = Combinations(adata, group_key, condition_key)
    run = HoldoutRun(
        spaces=spaces,
        combinations=combinations,
        fits=fits,
        vae=vae,
        codes=codes,
        control=control,
        reference_group=reference_group,
        shift=shift,
        reference_weights=reference_weights,
        n_cells=n_cells,
        n_top_genes=n_top_genes,
        n_trees=n_trees,
        decode_kwargs=decode_kwargs,
    )
    chosen = _targets(run, targets, together, min_cells)
    params = storable(
        {
            "group_key": group_key,
            "condition_key": condition_key,
            "models": list(fits),
            "vae": vae if isinstance(vae, bool) else dict(vae),
            "targets": [list(target) for target in chosen],
            "together": together,
            "control": control,
            "reference_group": reference_group,
            "shift": shift,
            "reference_weights": reference_weights,
            "codes": codes,
            "layer": layer,
            "layers": list(layers),
            "log1p": log1p,
            "target_sum": target_sum,
            "min_cells": min_cells,
            "n_cells": n_cells,
            "n_top_genes": n_top_genes,
            "n_trees": n_trees,
            "seeds": seeds,
            "decode_kwargs": dict(decode_kwargs or {}),
        }
    )
    rows: list[Row] = []
    try:
        for row in run.rows([chosen] if together else [[target] for target in chosen], seeds, client):
            rows.append(row)
    except BaseException:
        # fits take hours: what is done outlives a mistake in a later one, and Ctrl-C
        if rows:
            adata.uns[key_added] = _record(rows, params)
            logger.warning("Stopped early: the %d rows so far are in `adata.uns[%r]['results']`.", len(rows), key_added)
        raise
    adata.uns[key_added] = _record(rows, params)
    return adata.uns[key_added]["results"].copy()


def _record(rows: list[Row], params: dict[str, Any]) -> dict[str, Any]:
    results = pd.DataFrame(rows)[COLUMNS]
    return {"results": results, "tests": compare_methods(results), "params": params}


def compare_methods(results: pd.DataFrame, *, score: str = "rf_error") -> pd.DataFrame:
    """Gain of each model over every other method, over all held-out combinations (means over seeds).

    Columns: `method`, `rival`, `n` (combinations), `median_gain` of `score`, `wilcoxon_p` (one-sided signed-rank test
    that the gain is above 0), and `spearman`, `spearman_p` of the gain with delta-H. NaN where there are too few
    combinations or no differences.
    """
    table = results.groupby(["group", "condition", "method"], sort=False)[[score, "delta_entropy"]].mean()
    scores, entropy = (table[column].unstack("method") for column in (score, "delta_entropy"))
    rows = []
    for method in [m for m in dict.fromkeys(results["method"]) if m not in RIVALS]:
        for rival in [m for m in dict.fromkeys(results["method"]) if m != method]:
            gain = (scores[method] - scores[rival]).dropna()
            delta = entropy[method].loc[gain.index]
            known = delta.notna()
            p = wilcoxon(gain, alternative="greater").pvalue if len(gain) > 1 and (gain != 0).any() else np.nan
            rho = (np.nan, np.nan)
            if known.sum() > 2 and gain[known].nunique() > 1 and delta[known].nunique() > 1:
                rho = spearmanr(delta[known], gain[known])
            rows.append((method, rival, len(gain), gain.median() if len(gain) else np.nan, p, *map(float, rho)))
    columns = ["method", "rival", "n", "median_gain", "wilcoxon_p", "spearman", "spearman_p"]
    return pd.DataFrame(rows, columns=columns)


def _check_fits(fit: Fit | Mapping[str, Fit]) -> dict[str, Fit]:
    fits = dict(fit) if isinstance(fit, Mapping) else {MODEL: fit}
    if not fits or not all(callable(make) for make in fits.values()):
        raise ValueError("`fit` must be a callable `(train_adata, seed)` that returns a trained model, or several.")
    names = [method_name(name, code) for name in fits for code in ("sample", "mean")]
    if taken := sorted(set(RIVALS) & set(names)):
        raise ValueError(f"`fit`: the names {taken} are those of rivals. Choose others.")
    if len(set(names)) < len(names):
        raise ValueError(f"`fit`: no name may end in {MEAN_CODES!r}.")
    return fits


def _check_seeds(seeds: Sequence[int]) -> list[int]:
    if SEED.holds(seeds):
        raise TypeError(f"`seeds` must be a list of whole numbers: `seeds=[{seeds!r}]`.")
    Listed(SEED).check(seeds=seeds)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` must be different numbers, not {list(seeds)}.")
    return [int(seed) for seed in seeds]


def _targets(run: HoldoutRun, targets: Any, together: bool, min_cells: int) -> list[Target]:
    combinations = run.combinations
    if targets is None:
        if together:
            raise ValueError("`together=True` needs `targets`: without all combinations nothing is left to train on.")
        chosen = [pair for pair, rows in combinations.rows.items() if len(rows) >= min_cells and _reached(run, pair)]
        if not chosen:
            raise ValueError(
                f"No combination of {combinations.group_key!r} and {combinations.condition_key!r} with at least "
                f"{min_cells} cells can be predicted from others."
            )
        return chosen
    chosen = [combinations.check_target(target) for target in targets]
    if not chosen:
        raise ValueError("`targets` is empty: name at least one combination, or leave it out for all.")
    if twice := [target for target, n in Counter(chosen).items() if n > 1]:
        raise ValueError(f"`targets` names {twice} more than once.")
    for target in chosen:
        n = len(combinations.rows.get(target, ()))
        if n < min_cells:
            raise ValueError(f"`targets`: {target} has {n} cells, but `min_cells={min_cells}`.")
    if together:
        _check_something_left(combinations, chosen)
    for target in chosen:
        run.routes(target, chosen if together else [target])
    return chosen


def _reached(run: HoldoutRun, target: Target) -> bool:
    try:
        run.routes(target, [target])
    except ValueError:
        return False
    return True


def _check_something_left(combinations: Combinations, held: list[Target]) -> None:
    left = combinations.without(held).rows
    for i, (key, names) in enumerate(
        ((combinations.group_key, combinations.groups), (combinations.condition_key, combinations.conditions))
    ):
        if gone := [name for name in names if all(pair[i] != name for pair in left)]:
            raise ValueError(
                f"`targets`: with {held} held out together no cell of {gone} in `adata.obs[{key!r}]` is left to learn "
                "from. Hold out fewer of its combinations, or one after another (`together=False`)."
            )
