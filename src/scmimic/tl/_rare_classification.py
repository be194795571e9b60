"""Does a classifier know a type of which it has seen few cells? (ACTIVA, section 4.3, tables S4 and S5)

Heydari et al. (2022): the conditioner of ACTIVA is trained on all types, one of which is thinned out, and its F1 score
for that type is taken on held-out cells.

Deviations: a logistic regression stands beside the conditioner; split, thinning and held-out cells are those of
:func:`~scmimic.tl.rare_augmentation`, so that the two tables have the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import SETTINGS, check_arguments
from scmimic._interrupts import stop_if_interrupted
from scmimic._random import seeded
from scmimic.cells import ANNDATA, Value, storable
from scmimic.metrics import fit_label_classifier
from scmimic.tl.augmentation._rare_type import TRIAL_KINDS, RareType, check_methods, compare
from scmimic.tl.augmentation._trial import SCORES, Space, Trial, found_scores

if TYPE_CHECKING:
    from anndata import AnnData
    from distributed import Client

LOGISTIC = "logistic regression"
CONDITIONER, BALANCED = "ACTINN", "ACTINN, class weights"
Classifier = Callable[["AnnData", str, "str | None", int], Any]
"""Trained on (training cells, labels_key, layer, seed), with a `.predict(cells, soft=True)`."""

_KINDS = TRIAL_KINDS | {"adata": ANNDATA, "classifiers": SETTINGS.or_none}


def rare_classification(
    adata: AnnData,
    *,
    labels_key: str,
    label: Value,
    layer: str | None = None,
    fractions: Sequence[float] = (1.0, 0.1, 0.05, 0.01, 0.005),
    classifiers: Mapping[str, Classifier] | None = None,
    methods: Sequence[str] | None = None,
    test_size: float = 0.25,
    seeds: Sequence[int] = range(5),
    n_top_genes: int | None = None,
    log1p: bool = True,
    target_sum: float = 1e4,
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    key_added: str | None = None,
    client: Client | None = None,
) -> pd.DataFrame:
    """Measure how well a classifier of all types knows one of which it has seen few cells (ACTIVA, tables S4 and S5).

    For each seed the cells are split by type into training and held-out cells. For each fraction, so many of the
    training cells of `label` are kept and all of the other types; each classifier learns all types from these, and is
    scored for `label` on the held-out cells, which neither a fit nor the choice of genes ever sees. ACTIVA asks its
    conditioner for the type of each cell that it makes: what the conditioner does not know cannot be generated on
    demand from the prior.

    Always in the comparison, unless `methods` leaves it out: `"logistic regression"`, on log-normalised expression of
    unit standard deviation.

    Parameters
    ----------
    adata
        Real cells; only `.uns` is written.
    labels_key
        Column of `adata.obs` with the cell types.
    label
        The type to make rare, in the type of the column or as text.
    layer
        Layer with the values that the classifiers learn from: raw counts or linear values for the default ones. `.X` by
        default.
    fractions
        Fractions of the training cells of `label` to keep, at least one cell: all, and 10, 5, 1 and 0.5 % as in the
        papers.
    classifiers
        Name to callable `(train_adata, labels_key, layer, seed)` that returns an object whose
        `.predict(cells, soft=True)`, or as ACTIVA's `.classify(cells, soft=True)`, gives a table of probabilities,
        cells x types. `None` takes `"ACTINN"`, the conditioner of ACTIVA with its default settings, and `"ACTINN,
        class weights"`, the same with `class_weights="balanced"`. `train_adata` is a new object with the reduced
        training cells, without `.obsm`, `.uns` and other fields that all cells may have shaped.
    methods
        Names to run, in this order, among `"logistic regression"` and those of the classifiers. `None` runs all.
    test_size
        Fraction of each type to hold out. The paper's tenth leaves few cells of the type to score.
    seeds
        Each seeds one repetition: split, thinning and fit. Five as in the paper's experiment with a rare type.
    n_top_genes
        Take so many highly variable genes, chosen among the reduced training cells (scanpy's default flavour, or of
        normalised values where `log1p` is off); training cells without a value in them are dropped. `None` takes all.
    log1p
        Scale all cells to `target_sum` and take log(1 + x) before the logistic regression: right for counts and linear
        values of any scale. `False` takes the values as they are: right for logged values.
    target_sum
        Total per cell before the logarithm.
    model_kwargs, train_kwargs
        Passed to :class:`~scmimic.model.ACTINN` and its `train`; only with the default classifiers.
    key_added
        Key of `.uns` to use instead of `"rare_classification"`.
    client
        Dask's client of a cluster (extra ``dask``) whose workers take the trials, each method by itself. The table is
        the same but for `seconds`. None: this process, one after the other.

    Returns
    -------
    One row per seed, fraction and method, with the columns

    `method`, `fraction`, `seed`
        What was run.
    `n_real`
        Training cells of the type.
    `f1`
        F1 score of the type on the held-out cells: harmonic mean of `precision` and `recall`, 0 to 1, 1 is ideal. A
        cell is of the type where that is the most probable one.
    `average_precision`
        Area under the precision-recall curve of the type's probability, 0 to 1, 1 is ideal; needs no threshold.
    `accuracy`
        Share of all held-out cells whose type is right.
    `seconds`
        Time of the fit.
    `error`
        Why a method gave no classifier, or `""`. Its scores are NaN then, and the comparison goes on.

    `adata.uns['rare_classification' | key_added]` : dict
        `'results'` (this table) and `'params'`; :func:`scmimic.pl.augmentation` draws it with this key.

    Raises
    ------
    KeyError
        If `labels_key` or `layer` is not there.
    TypeError
        If a classifier has no `predict` and no `classify`.
    ValueError
        If `label` does not occur, is the only type or too rare to be held out, names of cells or genes repeat, values
        are negative with `log1p`, or an argument is out of range.

    See Also
    --------
    scmimic.pl.augmentation : Draws it.
    scmimic.tl.rare_augmentation : The experiment of the paper.
    scmimic.tl.augment : The cells, without the experiment.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=40)
    >>> result = sm.tl.rare_classification(
    ...     adata,
    ...     labels_key="cell_type",
    ...     label="type_1",
    ...     fractions=[1, 0.1],
    ...     seeds=[0],
    ...     methods=["logistic regression", "ACTINN"],
    ...     train_kwargs={"max_epochs": 2},
    ... )
    >>> result[["method", "n_real"]].values.tolist()
    [['logistic regression', 62], ['ACTINN', 62], ['logistic regression', 6], ['ACTINN', 6]]
    """
    check_arguments(locals(), _KINDS)
    rare = RareType.find(adata, labels_key, label, layer)
    fractions, seeds = [float(f) for f in fractions], [int(s) for s in seeds]
    if classifiers is None:
        classifiers = _default_classifiers(model_kwargs, train_kwargs)
    elif model_kwargs or train_kwargs:
        raise ValueError("`model_kwargs` and `train_kwargs` are for the default ACTINN: leave `classifiers` out.")
    if "class_weights" in (model_kwargs or {}):
        raise ValueError("`model_kwargs`: the two default classifiers differ in `class_weights`; choose by `methods`.")
    methods = check_methods(methods, [LOGISTIC], list(classifiers), "classifiers")
    # the cells themselves stay here
    name, labels_of = rare.label, pd.Series(rare.labels, index=adata.obs_names)

    def probabilities(method: str, trial: Trial, seed: int) -> pd.DataFrame:
        if method == LOGISTIC:
            model = fit_label_classifier(trial.x_train, labels_of[trial.train.obs_names].to_numpy())
            return pd.DataFrame(model.predict_proba(trial.x_test), columns=model.classes_)
        # a copy, since a model may write to what it is given
        model = classifiers[method](trial.train.copy(), labels_key, layer, seed)
        stop_if_interrupted(model)
        return _asked(model, trial.test.copy(), method)

    def score(method: str, trial: Trial, seed: int, found: pd.DataFrame) -> dict[str, float]:
        return _scores(found, trial, labels_of[trial.test.obs_names].to_numpy(), name)

    space = Space(log1p, target_sum)
    trials = rare.trials(seeds, fractions, test_size=test_size, n_top_genes=n_top_genes, space=space)
    blank = dict.fromkeys((*SCORES, "accuracy"), np.nan)
    result = compare(trials, len(seeds) * len(fractions), methods, probabilities, score, blank, rare.label, client)
    adata.uns[key_added or _keys.RARE_CLASSIFICATION] = {
        "params": storable(
            {
                "labels_key": labels_key,
                "label": rare.label,
                "layer": layer,
                "fractions": fractions,
                "methods": methods,
                "test_size": test_size,
                "seeds": seeds,
                "n_top_genes": n_top_genes,
                "log1p": log1p,
                "target_sum": target_sum,
                "model_kwargs": dict(model_kwargs or {}),
                "train_kwargs": dict(train_kwargs or {}),
            }
        ),
        "results": result.copy(),
    }
    return result


def _default_classifiers(
    model_kwargs: Mapping[str, Any] | None, train_kwargs: Mapping[str, Any] | None
) -> dict[str, Classifier]:
    def actinn(weights: Literal["balanced"] | None) -> Classifier:
        def fit(train: AnnData, labels_key: str, layer: str | None, seed: int) -> Any:
            from scmimic.model import ACTINN

            quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
            with seeded(seed):
                ACTINN.setup_anndata(train, labels_key=labels_key, layer=layer)
                model = ACTINN(train, class_weights=weights, **(model_kwargs or {}))
                model.train(**(quiet | dict(train_kwargs or {})))
            return model

        return fit

    return {CONDITIONER: actinn(None), BALANCED: actinn("balanced")}


def _asked(model: Any, cells: AnnData, method: str) -> pd.DataFrame:
    ask = getattr(model, "predict", None) or getattr(model, "classify", None)
    if ask is None:
        raise TypeError(f"{method}: the classifier, {type(model).__name__}, has neither `predict` nor `classify`.")
    table = ask(cells, soft=True)
    if not isinstance(table, pd.DataFrame) or len(table) != cells.n_obs or table.columns.empty:
        raise TypeError(
            f"{method}: `{ask.__name__}(cells, soft=True)` must return a table of probabilities with a row for each "
            f"cell and a column for each type, not {type(table).__name__}."
        )
    return table


def _scores(probability: pd.DataFrame, trial: Trial, labels: np.ndarray, label: str) -> dict[str, float]:
    names = np.array([str(name) for name in probability.columns])
    found = names[probability.to_numpy().argmax(axis=1)]
    of_label = probability.to_numpy()[:, names == label].sum(axis=1)
    scores = found_scores(trial.is_label_test, found == label, of_label)
    return scores | {"accuracy": float((found == labels).mean())}
