"""Cells of an unseen combination by arithmetic in a latent space (MichiGAN, sections 2.2 and 3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT_OR_NONE, KEY, ORDERED, SEED_OR_NONE, SETTINGS
from scmimic._random import as_seed
from scmimic.cells import ANNDATA, check_writable, storable
from scmimic.tl._combinations import (
    SHIFT,
    Combinations,
    Route,
    Shift,
    Target,
    entropies,
    left_out,
    predict_codes,
    to_references,
)
from scmimic.tl._latent_model import (
    CODE,
    Code,
    LogExpression,
    Posterior,
    as_decoder,
    check_model,
    decode,
    encode,
    stream,
)
from scmimic.tl._seen_combinations import SeenCombinations, trust_in, warn_of_distrust
from scmimic.tl._similarity import REFERENCE_WEIGHTS, ReferenceWeights, Weighting, group_weights

if TYPE_CHECKING:
    from anndata import AnnData


def latent_arithmetic(
    adata: AnnData,
    model: Any,
    *,
    group_key: str,
    condition_key: str,
    target: tuple[str, str],
    control: str | Sequence[str] | None = None,
    reference_group: str | Sequence[str] | None = None,
    shift: Shift = "condition",
    reference_weights: ReferenceWeights = "similar",
    code: Code = "sample",
    n: int | None = None,
    max_cells: int | None = 12_000,
    decode_kwargs: Mapping[str, Any] | None = None,
    seed: int | None = None,
    key_added: str = _keys.LATENT_ARITHMETIC,
) -> AnnData:
    r"""Predict the cells of a combination of group and condition that was never seen (MichiGAN, section 2.2).

    With `shift="condition"` (default) the codes of the target group's control cells are moved by the mean difference of
    codes between the target and the control condition in other groups, as scGen and the authors' program do. With
    `shift="group"` the codes of another group's cells under the target condition are moved by the mean difference
    between the target's and that group over the conditions seen in both: the paper's equation. Both are decoded.

    .. math::
        \hat Z(g, c) &= Z(g, s) + \frac{1}{|K|} \sum_{k \in K} \{\bar Z(k, c) - \bar Z(k, s)\} \ \text{(condition)} \\
        \hat Z(g, c) &= Z(k, c) + \frac{1}{|S|} \sum_{s \in S} \{\bar Z(g, s) - \bar Z(k, s)\} \ \text{(group)}

    for the target group g and condition c, control conditions s, and reference groups k. In the paper all members of K
    count alike; by default here those count most that are like the target's group. Conditions always count alike, and
    numbers of cells never count. Cells of the target itself are never used.

    Parameters
    ----------
    adata
        Cells with the genes that the model was trained on; only `.uns` is written. Cells of the target, where there are
        any, serve for delta-H alone; leave them out of the training of the model, or nothing is predicted.
    model
        Any trained model with `.get_latent_representation` and `.decode`, or a model of scvi-tools whose module makes
        cells of a code, a library size and a batch, such as :class:`scvi.model.SCVI`: each code then takes library size
        and batch of a training cell drawn at random. Codes should keep factors apart; a model set up with
        `labels_key=group_key` is told the target's group, one with `batch_key=condition_key` its condition.
    group_key
        Column of `adata.obs` with the groups, such as cell types.
    condition_key
        Column of `adata.obs` with the conditions, such as treatments.
    target
        The combination (group, condition) to predict.
    control
        The condition, or several, to start from; `None` takes every one for which this is possible. With
        `shift="condition"` its cells of the target's group are moved, each by the shift from its own condition, and
        all conditions give as many cells. With `shift="group"` the difference of the groups is averaged over them.
    reference_group
        The group, or several, to learn from; `None` takes every one for which this is possible. With
        `shift="condition"` the shift is averaged over them. With `shift="group"` their cells under the target condition
        are moved, each by the shift from its own group, and all groups give as many cells.
    shift
        What the difference is taken of: `"condition"` (default), or `"group"`, which is the paper's equation; see
        above. Neither is ahead everywhere. On the types of Kang et al. (page "Held-out cell types under a drug" of the
        benchmarks) shifts of conditions place the codes of a BetaTCVAE nearer to those of the held-out cells (delta-H
        of 2.2 against 3.8 nats on average, lower in each of five types), start from cells of the type itself, and need
        a single other group seen under both conditions; hence the default. The decoded means are alike (R2 of 0.82 and
        0.83). Shifts of groups start from real cells under the target condition: with mean shifts of the genes
        themselves these are harder to tell from the held-out cells (random-forest error of 10.2 against 3.1 %).
    reference_weights
        How much each reference group counts: in the mean of the shifts, or with `shift="group"` by its share of the
        moved cells. `"equal"`: all alike, as in the paper. `"similar"` (default): as d to the power -p, with d the
        distance of its mean expression under the control from that of the target's group, and p from 0 (all alike) to
        16 as the reference groups foretell one another's change best, each left out in turn. With fewer than three of
        them all count alike. It is the default since groups that differ respond differently: where CD4+ T cells of Kang
        et al. are held out, monocytes change three times as much as they do, and R2 of the predicted means varies from
        -0.3 to 0.8 with the seed of the training when all count alike (page "Held-out cell types under a drug").
    code
        `"sample"` (default): one draw from the posterior of each cell to move, with which the paper's predictions were
        better than with `"mean"`, the posterior means (as scGen). Shifts are differences of means either way. For a
        model without variances both are the same.
    n
        Number of cells, shared evenly by the conditions (or groups) that are moved; of each of these every cell is
        taken equally often, up to one. `None`: each cell once; where several are moved, cells of the smaller ones are
        repeated up to the number of the largest.
    max_cells
        Largest number of cells of a combination in delta-H, as in :func:`~scmimic.tl.latent_entropy`.
    decode_kwargs
        Passed to `model.decode`, such as `library_size`.
    seed
        Same seed, same cells. `None`: from torch's generator, which `scvi.settings.seed` sets.
    key_added
        Key in `.uns`, and after `X_` in `.obsm`.

    Returns
    -------
    The predicted cells as the model decodes them, with

    `.obs[group_key]`, `.obs[condition_key]`
        The target, in the types of the columns of `adata`.
    `.obs['control_cell']`
        Name of the cell whose code was moved.
    `.obsm['X_latent_arithmetic' | X_key_added]` : ndarray
        The predicted codes.
    `.uns['latent_arithmetic' | key_added]` : dict
        `'shift'`: mean shift of the cells; `'controls'`, `'reference_groups'`: the control conditions and the groups
        that took part; `'shifts'`: the shift from each control, or from each reference group with `shift="group"`;
        `'delta_entropy'`: the trust score, 0 or below is ideal; `'delta_entropy_of'`: `'target'` where `adata` holds
        cells of the target, otherwise `'references'`: the mean over all that is averaged of what arithmetic from the
        others makes of their cells (those of each reference group under the target condition, or with `shift="group"`
        those of the target's group under each control), or `'nothing'` (NaN) with a single one; NaN
        also without variances, or where one is 0;
        `'delta_entropy_references'`: the value of each;
        `'reference_weights'`: how much each of the reference groups counts, 1 in all; `'reference_power'`: the power p;
        `'seen'`: a table of the combinations of each reference group with the target's condition, predicted by the
        other groups: `group`, `condition`, `n_cells`, `weight` (likeness to the target's group), and of the mean
        expression over genes (on a log scale) the root mean squared error `error_...` and R2 `r2_...` of four
        predictions: `decoded` by the model, whose training cells they may be; `neighbors`, the 20 cells with the codes
        nearest to each predicted one, those of the combination itself left out; `control` cells as they are; and
        `mean_shift` of the genes along the same steps;
        `'trust'`: share of the squared change from the control cells that the predicted codes foretell (`neighbors`),
        by weight over the table: 1 is ideal, 0 or below no better than the control cells; `'trust_decoded'` and
        `'trust_mean_shift'`: the same of the other predictions. NaN with a single reference group;
        `'params'`: the arguments.

    Also writes the same dict to `adata.uns['latent_arithmetic' | key_added]`. Logs a warning where one of
    the shares is 0 or less, where that of the mean shift is the largest, or where there is nothing to judge by.

    Raises
    ------
    KeyError
        If a column is not in `adata.obs`.
    ValueError
        If a group, a condition, `shift` or `reference_weights` is unknown, no jointly observed combination leads to the
        target, a number is out of range, or `adata` is a view.
    TypeError
        If the model cannot encode or decode.
    RuntimeError
        If the model is not trained.

    See Also
    --------
    scmimic.pl.latent_arithmetic : Draws it.
    scmimic.tl.holdout_arithmetic : How good it is on combinations that were seen.
    scmimic.tl.latent_entropy : Its trust score, of cells you have.
    scmimic.tl.evaluate_perturbation : Measures of the prediction.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=200, n_vars=30, n_batches=2)
    >>> seen = adata[(adata.obs["cell_type"] != "type_0") | (adata.obs["batch"] != "batch_1")].copy()
    >>> sm.ACTIVA.setup_anndata(seen, labels_key="cell_type")
    >>> model = sm.ACTIVA(seen, n_latent=4, n_hidden=(16,))
    >>> model.train(max_epochs=2, warmup_epochs=1, enable_progress_bar=False)
    >>> new = sm.tl.latent_arithmetic(
    ...     seen, model, group_key="cell_type", condition_key="batch", target=("type_0", "batch_1"), n=10, seed=0
    ... )
    >>> new.shape, new.uns["latent_arithmetic"]["delta_entropy_of"]
    ((10, 30), 'references')
    """
    ANNDATA.check(adata=adata)
    COLUMN.check(group_key=group_key, condition_key=condition_key)
    ORDERED.check(control=control, reference_group=reference_group)
    SHIFT.check(shift=shift)
    REFERENCE_WEIGHTS.check(reference_weights=reference_weights)
    CODE.check(code=code)
    COUNT_OR_NONE.check(n=n, max_cells=max_cells)
    SETTINGS.or_none.check(decode_kwargs=decode_kwargs)
    SEED_OR_NONE.check(seed=seed)
    KEY.check(key_added=key_added)
    check_model(model)
    # before the cells are encoded, which may fail for the same reason with a worse message
    as_decoder(model)
    check_writable(adata)
    combinations = Combinations(adata, group_key, condition_key)
    target = combinations.check_target(target)
    routes = combinations.routes(target, control, reference_group, shift)
    seed = as_seed(seed)
    rng = stream(seed)
    posterior = encode(model, adata)
    expression = LogExpression(model, adata)
    seen = combinations.without([target])
    means = seen.means(expression.values)
    alike = Weighting.of("similar", routes, shift, means)
    weighting = alike if reference_weights == "similar" else replace(alike, power=0)
    # a prediction is judged by the groups like its own, however they are averaged
    likeness = group_weights(alike(routes), shift)
    routes = weighting(routes)
    prediction = predict_codes(posterior, combinations, routes, code=code, n=n, rng=rng)
    known = {group_key: target[0], condition_key: target[1]}
    cells = decode(model, prediction.codes, known=known, seed=seed, decode_kwargs=decode_kwargs, adata=adata)
    trust = _trust(
        posterior, combinations, target, routes, weighting, prediction.codes, code=code, seed=seed, max_cells=max_cells
    )
    judge = SeenCombinations(model, adata, decode_kwargs, posterior, expression, seen, means, shift, code, seed)
    table = judge.table({pair: weighting(ways) for pair, ways in to_references(routes, shift).items()}, likeness)
    trust |= trust_in(table)
    warn_of_distrust(target, trust)
    weights = group_weights(routes, shift)
    moved, averaged = [route.moved for route in routes], sorted({name for route in routes for name in route.averaged})
    controls, groups = (moved, averaged) if shift == "condition" else (averaged, moved)
    record = trust | {
        "seen": table,
        "reference_weights": np.array([weights[name] for name in groups]),
        "reference_power": weighting.power,
        "shift": prediction.shift,
        "controls": np.array(controls, dtype=str),
        "reference_groups": np.array(groups, dtype=str),
        "shifts": prediction.shifts,
        "params": storable(
            {
                "group_key": group_key,
                "condition_key": condition_key,
                "target": list(target),
                "control": control,
                "reference_group": reference_group,
                "shift": shift,
                "reference_weights": reference_weights,
                "code": code,
                "n": n,
                "max_cells": max_cells,
                "decode_kwargs": dict(decode_kwargs or {}),
                "seed": seed,
                "model": type(model).__name__,
            }
        ),
    }
    for column, place in combinations.columns_of(target):
        codes = np.full(cells.n_obs, place)
        cells.obs[column.key] = column.restore(codes, cells.obs_names)
        cells.uns.update(column.own_colors(codes))
    cells.obs[_keys.OBS_CONTROL_CELL] = adata.obs_names[prediction.rows].to_numpy()
    cells.obsm[_keys.latent(key_added)] = prediction.codes
    cells.uns[key_added] = record
    adata.uns[key_added] = dict(record)
    return cells


def _trust(
    posterior: Posterior,
    combinations: Combinations,
    target: Target,
    routes: list[Route],
    weighting: Weighting,
    codes: np.ndarray,
    *,
    code: Code,
    seed: int,
    max_cells: int | None,
) -> dict[str, Any]:
    """Delta-H of the target, or of the reference groups in its place."""

    def delta(combination: Target, predicted: np.ndarray, rng: np.random.Generator) -> float:
        observed = posterior[combinations.rows[combination]]
        of_observed, of_predicted = entropies(observed, predicted, code=code, rng=rng, max_cells=max_cells)
        return of_predicted - of_observed

    names = sorted({name for route in routes for name in route.averaged})
    of_references = np.full(len(names), np.nan)
    for i, name in enumerate(names):
        reached, ways = left_out(routes, name)
        if reached is not None:
            rng = stream(seed, i)
            predicted = predict_codes(posterior, combinations, weighting(ways), code=code, n=None, rng=rng).codes
            of_references[i] = delta(reached, predicted, rng)
    record = {"delta_entropy_references": of_references}
    if target in combinations.rows:
        value = delta(target, codes, stream(seed, len(names)))
        return record | {"delta_entropy": value, "delta_entropy_of": "target"}
    known = of_references[np.isfinite(of_references)]
    if len(known):
        return record | {"delta_entropy": float(known.mean()), "delta_entropy_of": "references"}
    return record | {"delta_entropy": float("nan"), "delta_entropy_of": "nothing"}
