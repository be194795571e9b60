"""Does augmentation help to find a rare cell type? The experiment of ACTIVA, section 4.4 and figure 7.

Heydari et al. (2022), after Marouf et al. (2020) Nature Communications 11, 166, section "Data augmentation". One type
of the training cells is thinned out, a generator learns from what is left, its cells of that type are added, and a
random forest with class weights tells the type from all others on held-out real cells.

Deviations: the cheap rivals stand beside the generators; a quarter of the cells is held out instead of a tenth, since
the F1 score of some thirty cells moves by 0.02 with a single one; the forest sees log-normalised expression, on which
SMOTE's interpolation makes sense; each seed draws split and subsample anew, so that ranges show both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import COUNT, SETTINGS, THREADS, check_arguments
from scmimic._interrupts import stop_if_interrupted
from scmimic.cells import ANNDATA, Value, check_same_genes, check_same_space, storable
from scmimic.tl.augmentation._generators import (
    OVERSAMPLING,
    RIVALS,
    SMOTE,
    UNWEIGHTED,
    WEIGHTED,
    Generator,
    default_generators,
    oversample,
    smote,
)
from scmimic.tl.augmentation._rare_type import TRIAL_KINDS, RareType, check_methods, compare
from scmimic.tl.augmentation._trial import SCORES, Space, Trial, score_forest

if TYPE_CHECKING:
    import scipy.sparse as sp
    from anndata import AnnData
    from distributed import Client

_KINDS = TRIAL_KINDS | {
    "adata": ANNDATA,
    "generators": SETTINGS.or_none,
    "n_synthetic": COUNT,
    "n_trees": COUNT,
    "n_jobs": THREADS,
}


def rare_augmentation(
    adata: AnnData,
    *,
    labels_key: str,
    label: Value,
    layer: str | None = None,
    fractions: Sequence[float] = (0.1, 0.05, 0.01, 0.005),
    generators: Mapping[str, Generator] | None = None,
    methods: Sequence[str] | None = None,
    n_synthetic: int = 1500,
    test_size: float = 0.25,
    seeds: Sequence[int] = range(5),
    n_trees: int = 1000,
    n_top_genes: int | None = None,
    log1p: bool = True,
    target_sum: float = 1e4,
    model_kwargs: Mapping[str, Any] | None = None,
    train_kwargs: Mapping[str, Any] | None = None,
    n_jobs: int = 1,
    key_added: str | None = None,
    client: Client | None = None,
) -> pd.DataFrame:
    """Measure how well a rare type is found with and without added cells (ACTIVA, section 4.4).

    For each seed the cells are split by type into training and held-out cells. For each fraction, so many of the
    training cells of `label` are kept and all of the other types; each method adds `n_synthetic` cells of `label` that
    it makes from these reduced training cells; a random forest learns `label` against the rest, and is scored on the
    held-out real cells. No fit, nor the choice of genes, ever sees a held-out cell.

    Always in the comparison, unless `methods` leaves them out:

    - `"none"`: a forest without class weights, nothing added.
    - `"class weights"`: nothing added; the "no augmentation" of the paper. All following have class weights too.
    - `"oversampling"`: the kept cells of the type, repeated.
    - `"SMOTE"`: interpolation to nearest neighbours (Chawla et al. 2002) of log-normalised expression.

    Parameters
    ----------
    adata
        Real cells; only `.uns` is written.
    labels_key
        Column of `adata.obs` with the cell types.
    label
        The type to make rare, in the type of the column or as text.
    layer
        Layer with the values that the generators learn from: raw counts for the default ones. `.X` by default.
    fractions
        Fractions of the training cells of `label` to keep, at least one cell; 10, 5, 1 and 0.5 % as in the papers.
    generators
        Name to callable `(train_adata, labels_key, layer, seed)` that returns an object with
        `.generate(n, labels, seed=)`. `None` takes `"independent NB"`, `"Gaussian copula"` and `"ACTIVA"`, each with
        its default settings. `train_adata` is a new object with the reduced training cells, without `.obsm`, `.uns` and
        other fields that all cells may have shaped.
    methods
        Names to run, in this order, among the four rivals and the names of the generators. `None` runs all.
    n_synthetic
        Cells to add; 1,500 as ACTIVA (cscGAN: 5,000).
    test_size
        Fraction of each type to hold out. The paper's tenth leaves few cells of the type to score.
    seeds
        Each seeds one repetition: split, thinning, fit, generation and forest. Five as in the paper.
    n_trees
        Trees of the forest; 1,000 as in the paper. Gini impurity, square root of the genes per split.
    n_top_genes
        Take so many highly variable genes, chosen among the reduced training cells (scanpy's default flavour, or of
        normalised values where `log1p` is off); training cells without a value in them are dropped. `None` takes all.
    log1p
        Scale all cells, real and added, to `target_sum` and take log(1 + x) before the forest and SMOTE: right for
        counts and linear values of any scale. `False` takes the values as they are: right for logged values.
    target_sum
        Total per cell before the logarithm.
    model_kwargs, train_kwargs
        Passed to :class:`~scmimic.model.ACTIVA` and its `train`; only with the default generators.
    n_jobs
        Threads of the forest; `-1` for all cores.
    key_added
        Key of `.uns` to use instead of `"rare_augmentation"`.
    client
        Dask's client of a cluster (extra ``dask``) whose workers take the trials, each method by itself. The table is
        the same but for `seconds`. None: this process, one after the other.

    Returns
    -------
    One row per seed, fraction and method, with the columns

    `method`, `fraction`, `seed`
        What was run.
    `n_real`, `n_added`
        Real training cells of the type, and cells added to them.
    `f1`
        F1 score of the type on the held-out cells: harmonic mean of `precision` and `recall`, 0 to 1, 1 is ideal. It
        counts as found what the forest gives a probability above one half.
    `average_precision`
        Area under the precision-recall curve, 0 to 1, 1 is ideal. It needs no threshold: a method whose F1 is low but
        whose average precision is high ranks the cells well and is only too careful.
    `seconds`
        Time to make the added cells.
    `error`
        Why a method gave no cells, or `""`. Its scores are NaN then, and the comparison goes on.

    `adata.uns['rare_augmentation' | key_added]` : dict
        `'results'` (this table) and `'params'`.

    Raises
    ------
    KeyError
        If `labels_key` or `layer` is not there.
    ValueError
        If `label` does not occur, is the only type or too rare to be held out, names of cells or genes repeat, values
        are negative with `log1p`, or an argument is out of range.

    See Also
    --------
    scmimic.pl.augmentation : Draws it.
    scmimic.tl.rare_classification : With cells of a type that were held out.
    scmimic.tl.augment : The cells, without the experiment.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=300, n_vars=40)
    >>> result = sm.tl.rare_augmentation(
    ...     adata,
    ...     labels_key="cell_type",
    ...     label="type_1",
    ...     fractions=[0.1],
    ...     seeds=[0],
    ...     methods=["class weights", "oversampling", "independent NB"],
    ...     n_synthetic=100,
    ...     n_trees=50,
    ... )
    >>> result[["method", "n_real", "n_added"]].values.tolist()
    [['class weights', 6, 0], ['oversampling', 6, 100], ['independent NB', 6, 100]]
    """
    check_arguments(locals(), _KINDS)
    rare = RareType.find(adata, labels_key, label, layer)
    fractions, seeds = [float(f) for f in fractions], [int(s) for s in seeds]
    if generators is None:
        generators = default_generators(model_kwargs, train_kwargs)
    elif model_kwargs or train_kwargs:
        raise ValueError("`model_kwargs` and `train_kwargs` are for the default ACTIVA: leave `generators` out.")
    methods = check_methods(methods, RIVALS, list(generators), "generators")
    space = Space(log1p, target_sum)
    # the cells themselves stay here
    value = rare.value

    def make(method: str, trial: Trial, seed: int) -> sp.csr_matrix | None:
        if method in (UNWEIGHTED, WEIGHTED):
            return None
        if method in (OVERSAMPLING, SMOTE):
            draw = oversample if method == OVERSAMPLING else smote
            return draw(trial.x_train[trial.is_label], n_synthetic, np.random.default_rng(seed))
        # a copy, since a model may write to what it is given
        model = generators[method](trial.train.copy(), labels_key, layer, seed)
        stop_if_interrupted(model)
        synthetic = model.generate(n_synthetic, value, seed=seed)
        check_same_genes(trial.train, synthetic)
        check_same_space(trial.train, synthetic, layer, log1p=log1p, name=f"cells of {method}")
        return space.bring(synthetic.X, f"cells of {method}")

    def score(method: str, trial: Trial, seed: int, added: sp.csr_matrix | None) -> dict[str, float]:
        n_added, weighted = 0 if added is None else added.shape[0], method != UNWEIGHTED
        scores = score_forest(trial, added, weighted=weighted, n_trees=n_trees, seed=seed, n_jobs=n_jobs)
        return {"n_added": n_added, **scores}

    trials = rare.trials(seeds, fractions, test_size=test_size, n_top_genes=n_top_genes, space=space)
    blank = {"n_added": 0, **dict.fromkeys(SCORES, np.nan)}
    result = compare(trials, len(seeds) * len(fractions), methods, make, score, blank, rare.label, client)
    adata.uns[key_added or _keys.RARE_AUGMENTATION] = {
        "params": storable(
            {
                "labels_key": labels_key,
                "label": rare.label,
                "layer": layer,
                "fractions": fractions,
                "methods": methods,
                "n_synthetic": n_synthetic,
                "test_size": test_size,
                "seeds": seeds,
                "n_trees": n_trees,
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
