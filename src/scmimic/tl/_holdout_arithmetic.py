"""Does latent arithmetic predict combinations that were held out? (MichiGAN, sections 3.5 and 3.6, figure 4)

Deviations: besides the models' own predictions stand rivals that need no model; the forest's principal components are
those of the training cells without the held-out ones; each combination is held out by itself, from the training too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats import spearmanr, wilcoxon

from scmimic import _keys
from scmimic._sampling import storable
from scmimic.baselines._scvi import seeded
from scmimic.metrics._arrays import Matrix
from scmimic.model import BetaTCVAE
from scmimic.tl._combinations import Combinations, Shift, Target, entropies
from scmimic.tl._holdout_spaces import HoldoutSpaces
from scmimic.tl._holdout_trial import RIVALS, SCORES, SIMPLE_RIVALS, VAE, HoldoutScores, HoldoutTrial
from scmimic.tl._latent_arithmetic import latent_arithmetic
from scmimic.tl._latent_model import Code, check_code, encode, stream

logger = logging.getLogger(__name__)

Fit = Callable[[AnnData, int], Any]
MODEL = "model"
MEAN_CODES = ", mean codes"
# what a fit on too few cells raises; mistakes in a program (TypeError, AttributeError) come through
_REFUSALS = (ValueError, RuntimeError, ArithmeticError, LookupError)


def holdout_arithmetic(
    adata: AnnData,
    *,
    group_key: str,
    condition_key: str,
    fit: Fit | Mapping[str, Fit],
    vae: bool | Mapping[str, Any] = False,
    targets: Sequence[tuple[str, str]] | None = None,
    control: str | Sequence[str] | None = None,
    reference_group: str | Sequence[str] | None = None,
    shift: Shift = "condition",
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
) -> pd.DataFrame:
    """Hold out combinations of group and condition in turn, predict their cells, and compare (MichiGAN, section 3.5).

    For each combination and seed a model is fitted without its cells, :func:`~scmimic.tl.latent_arithmetic` predicts
    them, and they are compared with the real ones. Always beside it:

    - `"control cells"`: the cells that the prediction starts from, as they are. A prediction that is no nearer to the
      real cells has learned nothing of the condition.
    - `"mean shift"`: these cells, each moved by the mean difference of log expression along the same steps.
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
    control, reference_group, shift
        As in :func:`~scmimic.tl.latent_arithmetic`. Name the control condition, or untreated cells are predicted too.
    codes
        `"sample"` gives the row named as the model, `"mean"` the row `"..., mean codes"`: arithmetic on posterior means
        as scGen has it.
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
    `seconds`
        Time of the fit.
    `error`
        Why a model gave no cells, or `""`. Its scores are NaN then, and the comparison goes on.

    Also writes to `adata`:

    `adata.uns['holdout_arithmetic' | key_added]` : dict
        `'results'`: this table; `'tests'`: for each model and each other method `median_gain` of the RF error over the
        combinations (means over seeds), `wilcoxon_p` (one-sided signed-rank test that the gain is above 0), and
        `spearman`, `spearman_p` of the gain with delta-H; `'params'`: the arguments.

    Raises
    ------
    KeyError
        If a column or a layer is not there.
    ValueError
        If no combination can be held out, one has too few cells or cannot be predicted, a name of a model is that of
        a rival, the units of a layer cannot be told, a `fit` changed its cells, or an argument is out of range.

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
    ['model', 'model, mean codes', 'control cells', 'mean shift', 'linear model']
    """
    fits = _check_fits(fit)
    codes = [codes] if isinstance(codes, str) else list(codes)
    for code in codes:
        check_code(code)
    if not codes or not seeds:
        raise ValueError("`codes` and `seeds` must name at least one.")
    for name, value in {"n_cells": n_cells, "n_top_genes": n_top_genes, "n_trees": n_trees}.items():
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    if min_cells < 5:
        raise ValueError(f"`min_cells` must be at least 5, the folds of the forest, got {min_cells}.")
    spaces = HoldoutSpaces(adata, layer, layers, log1p=log1p, target_sum=target_sum)
    combinations = Combinations(adata, group_key, condition_key)
    over = (control, reference_group, shift)
    names = ("group_key", "condition_key", "control", "reference_group", "shift")
    moves = dict(zip(names, (group_key, condition_key, *over), strict=True))
    chosen = _targets(combinations, targets, over, min_cells)
    expression = spaces.expression

    rows: list[dict[str, Any]] = []
    for seed in (int(s) for s in seeds):
        for target in chosen:
            held = np.zeros(adata.n_obs, dtype=bool)
            held[combinations.rows[target]] = True
            train = spaces.bare(~held)
            seen = Combinations(train, group_key, condition_key)
            # no route leads over the cells held out
            routes = combinations.routes(target, *over)
            real_rows = np.sort(stream(seed).permutation(np.flatnonzero(held))[:n_cells])
            trial = HoldoutTrial(expression[~held], seen, target, routes, expression[real_rows])
            score = HoldoutScores(trial, n_top_genes=n_top_genes, n_trees=n_trees, n_cells=n_cells, seed=seed)
            n = len(real_rows)
            about = {"group": target[0], "condition": target[1], "seed": seed}
            for name, make in fits.items():
                start = time.perf_counter()
                try:
                    # a copy, since a model may write to what it is given
                    model = make(train.copy(), seed)
                except _REFUSALS as error:
                    rows += [about | _failed(_method(name, code), n, error) for code in codes]
                    continue
                seconds = time.perf_counter() - start
                # a mistake that the next combination would only repeat
                spaces.check(model, train)
                try:
                    observed = encode(model, spaces.bare(held))
                except _REFUSALS as error:
                    rows += [about | _failed(_method(name, code), n, error) for code in codes]
                    continue
                for code in codes:
                    method = _method(name, code)
                    try:
                        new = latent_arithmetic(
                            train,
                            model,
                            target=target,
                            **moves,
                            code=code,
                            n=n,
                            decode_kwargs=decode_kwargs,
                            seed=seed,
                        )
                        cells = spaces.compared(new.X, model, f"cells of {method}")
                        measured = score(cells)
                    except _REFUSALS as error:
                        rows.append(about | _failed(method, n, error))
                        continue
                    z = new.obsm[_keys.latent(_keys.LATENT_ARITHMETIC)]
                    own, other = entropies(observed, z, code=code, rng=stream(seed, 0), max_cells=n_cells)
                    line = {"n_real": n, "n_predicted": new.n_obs, **measured, "delta_entropy": other - own}
                    rows.append(about | {"method": method} | line | {"seconds": seconds, "error": ""})
                    logger.info("%s, seed %d, %s: RF error %.2f", target, seed, method, measured["rf_error"])
            if vae is not False:
                start = time.perf_counter()
                try:
                    cells = _arithmetic_in_vae(
                        expression[~held], train.obs, {} if vae is True else vae, seed, n=n, target=target, **moves
                    )
                    line = {"n_real": n, "n_predicted": n, **score(cells), "delta_entropy": np.nan}
                    line |= {"seconds": time.perf_counter() - start, "error": ""}
                    rows.append(about | {"method": VAE} | line)
                except _REFUSALS as error:
                    rows.append(about | _failed(VAE, n, error))
            for name in SIMPLE_RIVALS:
                cells = trial.rival(name, n, stream(seed, 1))
                line = {"n_real": n, "n_predicted": n, **score(cells), "delta_entropy": np.nan}
                rows.append(about | {"method": name} | line | {"seconds": 0.0, "error": ""})
    columns = ["group", "condition", "seed", "method", "n_real", "n_predicted", *SCORES, "delta_entropy"]
    result = pd.DataFrame(rows)[[*columns, "seconds", "error"]]
    adata.uns[key_added] = {
        "results": result.copy(),
        "tests": compare_methods(result),
        "params": storable(
            {
                "group_key": group_key,
                "condition_key": condition_key,
                "models": list(fits),
                "vae": vae if isinstance(vae, bool) else dict(vae),
                "targets": [list(target) for target in chosen],
                "control": control,
                "reference_group": reference_group,
                "shift": shift,
                "codes": codes,
                "layer": layer,
                "layers": list(layers),
                "log1p": log1p,
                "target_sum": target_sum,
                "min_cells": min_cells,
                "n_cells": n_cells,
                "n_top_genes": n_top_genes,
                "n_trees": n_trees,
                "seeds": [int(s) for s in seeds],
                "decode_kwargs": dict(decode_kwargs or {}),
            }
        ),
    }
    return result


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


def _arithmetic_in_vae(
    expression: Matrix, obs: pd.DataFrame, train_kwargs: Mapping[str, Any], seed: int, **kwargs: Any
) -> Matrix:
    """Cells from the mean codes of a VAE, as they are compared."""
    cells = AnnData(expression, obs=obs.copy())
    BetaTCVAE.setup_anndata(cells)
    with seeded(seed):
        model = BetaTCVAE(cells, beta=0.0)
        model.train(**{"enable_progress_bar": False, **train_kwargs})
    return latent_arithmetic(cells, model, code="mean", seed=seed, **kwargs).X


def _method(name: str, code: Code) -> str:
    return name if code == "sample" else name + MEAN_CODES


def _failed(method: str, n: int, error: Exception) -> dict[str, Any]:
    text = f"{type(error).__name__}: {error}"
    logger.warning("%s: %s", method, text)
    missing = dict.fromkeys((*SCORES, "delta_entropy", "seconds"), np.nan)
    return {"method": method, "n_real": n, "n_predicted": 0, **missing, "error": text}


def _check_fits(fit: Fit | Mapping[str, Fit]) -> dict[str, Fit]:
    fits = dict(fit) if isinstance(fit, Mapping) else {MODEL: fit}
    if not fits or not all(callable(make) for make in fits.values()):
        raise ValueError("`fit` must be a callable `(train_adata, seed)` that returns a trained model, or several.")
    names = [_method(name, code) for name in fits for code in ("sample", "mean")]
    if taken := sorted(set(RIVALS) & set(names)):
        raise ValueError(f"`fit`: the names {taken} are those of rivals. Choose others.")
    if len(set(names)) < len(names):
        raise ValueError(f"`fit`: no name may end in {MEAN_CODES!r}.")
    return fits


def _targets(combinations: Combinations, targets: Any, over: tuple, min_cells: int) -> list[Target]:
    if targets is not None:
        chosen = [combinations.check_target(target) for target in targets]
        for target in chosen:
            n = len(combinations.rows.get(target, ()))
            if n < min_cells:
                raise ValueError(f"`targets`: {target} has {n} cells, but `min_cells={min_cells}`.")
            combinations.routes(target, *over)
    else:
        chosen = []
        for target, rows in combinations.rows.items():
            try:
                combinations.routes(target, *over)
            except ValueError:
                continue
            if len(rows) >= min_cells:
                chosen.append(target)
    if not chosen:
        raise ValueError(
            f"No combination of {combinations.group_key!r} and {combinations.condition_key!r} with at least "
            f"{min_cells} cells can be predicted from others."
        )
    return chosen
