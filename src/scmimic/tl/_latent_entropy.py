"""Latent space entropy of held-out combinations (MichiGAN, sections 2.3 and 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT_OR_NONE, KEY, ORDERED, SEED_OR_NONE
from scmimic._random import as_seed
from scmimic.cells import ANNDATA, check_writable, storable
from scmimic.tl._combinations import SHIFT, Combinations, Shift, Target, entropies, predict_codes
from scmimic.tl._latent_model import CODE, Code, LogExpression, encode, stream
from scmimic.tl._similarity import REFERENCE_WEIGHTS, ReferenceWeights, Weighting

if TYPE_CHECKING:
    from anndata import AnnData


def latent_entropy(
    adata: AnnData,
    model: Any,
    *,
    group_key: str,
    condition_key: str,
    target: tuple[str, str] | None = None,
    control: str | Sequence[str] | None = None,
    reference_group: str | Sequence[str] | None = None,
    shift: Shift = "condition",
    reference_weights: ReferenceWeights = "similar",
    code: Code = "sample",
    max_cells: int | None = 12_000,
    seed: int | None = None,
    key_added: str = _keys.LATENT_ENTROPY,
) -> pd.DataFrame:
    """Measure how well latent arithmetic places the cells of a combination: H and delta-H (MichiGAN, section 2.3).

    The codes of the combination's cells as the encoder gives them are compared with those that latent arithmetic
    predicts without them. Both entropies are taken against the posteriors of the combination's own cells. Delta-H near
    0 says that the predicted codes lie where the cells lie; a large one says that the effect of the condition differs
    between groups, or that the model holds it in a tangle, and the predicted cells deserve no trust.

    Of each cell's own code the cell itself is left out. So delta-H is 0 on average for perfect predictions, which are
    drawn as the cells' codes are, whatever their number and the width of the posteriors; below 0 the predicted codes
    are more typical than the cells' own. By the paper's formula, which leaves none out, it would be 39 nats for perfect
    predictions of 30 cells with ten standard normal codes of posterior standard deviation 0.3, and 1,489 with 0.05. Its
    spread is that of the two means, large where cells are few and posteriors narrow; the user guide has a table.

    Parameters
    ----------
    adata
        Cells with the genes that the model was trained on, those of the combination included; only `.uns` is written.
    model
        A trained model with `.get_latent_representation` that gives means and variances (`return_dist=True`), and
        `.decode`.
    group_key
        Column of `adata.obs` with the groups, such as cell types.
    condition_key
        Column of `adata.obs` with the conditions, such as treatments.
    target
        The combination (group, condition). `None`: every combination with cells that can be predicted from others.
    control, reference_group, shift, reference_weights, code
        As in :func:`~scmimic.tl.latent_arithmetic`.
    max_cells
        Largest number of cells and of predicted codes of a combination, drawn at random; `None` uses all. Time and
        densities grow with its square.
    seed
        Seed of everything random. `None`: from torch's generator, which `scvi.settings.seed` sets.
    key_added
        Key in `adata.uns`.

    Returns
    -------
    One row per combination, with the columns `group`, `condition`, `n_cells` (observed), `n_predicted`,
    `entropy` (H of the cells' own codes, in nats), `entropy_predicted` (H of the predicted codes) and `delta_entropy`
    (predicted less own; 0 or below is ideal); NaN where a variance of the combination's cells is 0. The same table and
    the parameters are written to `adata.uns['latent_entropy' | key_added]`, as `'results'` and `'params'`.

    Raises
    ------
    KeyError
        If a column is not in `adata.obs`.
    ValueError
        If the target's group or condition, `shift` or `reference_weights` is unknown, it has no cells, no jointly
        observed combination leads to it, the model gives no variances, a number is out of range, or `adata` is a view.
    TypeError
        If the model cannot encode.
    RuntimeError
        If the model is not trained.

    See Also
    --------
    scmimic.tl.latent_arithmetic : Predicts the combination.
    scmimic.metrics.latent_entropy : The same for arrays.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, n_batches=2)
    >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
    >>> model = sm.ACTIVA(adata, n_latent=4, n_hidden=(16,))
    >>> model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    >>> table = sm.tl.latent_entropy(
    ...     adata, model, group_key="cell_type", condition_key="batch", target=("type_0", "batch_1"), seed=0
    ... )
    >>> table[["group", "condition"]].values.tolist()
    [['type_0', 'batch_1']]
    """
    ANNDATA.check(adata=adata)
    COLUMN.check(group_key=group_key, condition_key=condition_key)
    ORDERED.check(control=control, reference_group=reference_group)
    SHIFT.check(shift=shift)
    REFERENCE_WEIGHTS.check(reference_weights=reference_weights)
    CODE.check(code=code)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED_OR_NONE.check(seed=seed)
    KEY.check(key_added=key_added)
    check_writable(adata)
    combinations = Combinations(adata, group_key, condition_key)
    routes = _routes(combinations, target, (control, reference_group, shift))
    seed = as_seed(seed)
    posterior = encode(model, adata)
    if posterior.variance is None:
        raise ValueError(
            f"{type(model).__name__} gives no variances of its posteriors (`get_latent_representation("
            "return_dist=True)`), without which codes have no density."
        )
    means = combinations.means(LogExpression(model, adata).values) if reference_weights == "similar" else {}
    rows = []
    for number, (combination, ways) in enumerate(routes.items()):
        ways = Weighting.of(reference_weights, ways, shift, means)(ways)
        rng = stream(seed, number)
        observed = posterior[combinations.rows[combination]]
        predicted = predict_codes(posterior, combinations, ways, code=code, n=None, rng=rng).codes
        of_observed, of_predicted = entropies(observed, predicted, code=code, rng=rng, max_cells=max_cells)
        delta = of_predicted - of_observed
        rows.append((*combination, len(observed), len(predicted), of_observed, of_predicted, delta))
    columns = ["group", "condition", "n_cells", "n_predicted", "entropy", "entropy_predicted", "delta_entropy"]
    table = pd.DataFrame(rows, columns=columns)
    adata.uns[key_added] = {
        "results": table.copy(),
        "params": storable(
            {
                "group_key": group_key,
                "condition_key": condition_key,
                "target": target,
                "control": control,
                "reference_group": reference_group,
                "shift": shift,
                "reference_weights": reference_weights,
                "code": code,
                "max_cells": max_cells,
                "seed": seed,
                "model": type(model).__name__,
            }
        ),
    }
    return table


def _routes(combinations: Combinations, target: Target | None, over: tuple) -> dict:
    if target is not None:
        target = combinations.check_target(target)
        if target not in combinations.rows:
            raise ValueError(
                f"There are no cells of {target} to compare predicted codes with. `sm.tl.latent_arithmetic` judges a "
                "combination without cells by the groups that were seen under both conditions."
            )
        return {target: combinations.routes(target, *over)}
    found = {}
    for combination in combinations.rows:
        try:
            found[combination] = combinations.routes(combination, *over)
        except ValueError:
            continue
    if not found:
        raise ValueError("No combination with cells can be predicted from other combinations.")
    return found
