"""Whether synthetic cells give away the cells that their generator was trained on."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT, COUNT_OR_NONE, KEY, LAYER, POSITIVE, SEED, THREADS
from scmimic._arrays import fit_pca
from scmimic.cells import (
    ANNDATA,
    check_same_genes,
    check_same_units,
    label_array,
    read_matrix,
    roles_warning,
    space_of_cells,
    warn_of_logarithms,
    where_is,
)
from scmimic.metrics import (
    distance_to_closest_record,
    duplicate_fraction,
    membership_inference,
    nearest_neighbor_distance_ratio,
)
from scmimic.tl.evaluation._cells import Cells, without_shared
from scmimic.tl.evaluation._diagnostics import MAX_MEMBERSHIP_AUC

if TYPE_CHECKING:
    from anndata import AnnData

    from scmimic.metrics import MembershipInference

logger = logging.getLogger(__name__)

_SEEN = "Cells that the generator was trained on are not unseen: hold out others."
_JUDGED = "Axes that are fitted on the cells judged set these apart: give other cells."

_ATTACK_IDEALS = {"auc": 0.5, "tpr_at_fpr_1": 0.01, "tpr_at_fpr_10": 0.1}


def privacy(
    adata: AnnData,
    synthetic: AnnData,
    *,
    train: AnnData | None = None,
    holdout: AnnData | None = None,
    reference: AnnData | None = None,
    layer: str | None = None,
    donor_key: str | None = None,
    n_comps: int = 50,
    target_sum: float = 1e4,
    max_cells: int | None = 20_000,
    seed: int = 0,
    n_jobs: int = 1,
    key_added: str = _keys.PRIVACY,
) -> pd.DataFrame:
    """Check synthetic cells for copies of the training cells, and for what they betray about them.

    Four measures, each beside its value for cells that cannot know the training set: distance to the closest training
    cell, ratio of the distances to the nearest and second nearest, exact duplicates, and the attack that infers
    membership in the training set. Distances are between principal components of the cells scaled to `target_sum` and
    logged. The components are fitted on cells that are neither trained on nor judged: along components fitted on them,
    cells reach further out, which hides leaks if they are the training cells and feigns leaks if they are the unseen.

    These are empirical checks against named attacks. They can show a leak, and cannot prove that there is none.

    Training and unseen cells are needed. One of the two is named, and `adata` is the other: ``privacy(test, synthetic,
    train=train)`` takes the cells as :func:`scmimic.evaluate` does, ``privacy(train, synthetic, holdout=test)`` gives
    the same numbers and writes them to the training cells.

    Parameters
    ----------
    adata
        Real cells: with `train` those that the generator has not seen, with `holdout` those that it was trained on. Raw
        counts or normalised, unlogged expression.
    synthetic
        The generated cells, in the same space, with the same genes in the same order.
    train
        All cells that the generator was trained on, where `adata` are unseen cells.
    holdout
        Cells that the generator has not seen, where `adata` are the training cells. Unseen cells are of the same
        population as the training cells; best a random part of the same data set.
    reference
        Further unseen cells of that population, on which the components are fitted and the membership attack is
        calibrated. `None` draws a random half of the unseen cells for the components, judges by the other half, and
        leaves out the calibrated attack.
    layer
        Layer with the expression; `None` for `.X`. Where `synthetic` lacks the layer, its `.X` is taken.
    donor_key
        Column of `.obs` of the training and the unseen cells with the donor of each cell. With it the attack is also
        made on donors, none of whom may be in both. Cells of unseen donors differ from the training cells without any
        leak: read the rows of cells with caution then.
    n_comps
        Number of principal components; fewer where the cells allow fewer.
    target_sum
        Total per cell before the logarithm.
    max_cells
        Largest number of cells of each side that are judged, drawn at random; all cells serve as what they are compared
        with. `None` judges all.
    seed
        Seed of the halving, the components and that draw.
    n_jobs
        Threads of the neighbour search; `-1` for all cores.
    key_added
        Key in `adata.uns`.

    Returns
    -------
    DataFrame with one row per measure and the columns `value`, `ideal` (what new cells give), `lower` and `upper` (95 %
    interval of the AUC, NaN elsewhere), `unit` (`"cell"` or `"donor"`) and `direction` (on which side of the ideal a
    leak lies: `"low"` or `"high"`). The rows:

    `dcr_ratio`, `nndr_ratio`
        Median over synthetic cells over that of unseen cells; 0 for a memoriser.
    `nndr_low_ratio`
        The same of the 5th percentiles: falls as soon as one cell in twenty is a copy.
    `duplicate_fraction`
        Synthetic cells that equal a training cell in every gene; the ideal is the fraction among unseen cells.
    `membership_auc`, `membership_tpr_at_fpr_1`, `membership_tpr_at_fpr_10`
        The attack by the distance to the closest synthetic cell.
    `calibrated_auc`, ...
        The attack calibrated on `reference`, where that is given.
    `donor_auc`, ..., `donor_calibrated_auc`, ...
        The attacks on donors, where `donor_key` is given.

    Also writes to `adata`:

    `adata.uns['privacy' | key_added]` : dict
        `'results'`: the table; `'params'`: the arguments; `'n_cells'`: cells of each kind, by the names of arguments.

    Raises
    ------
    ValueError
        If the genes differ, values are missing or negative, there are too few unseen cells to be halved, a donor is in
        both sets, or more than half of the unseen cells are training cells (or of `reference` in either).
    TypeError
        If both or none of `train` and `holdout` are given.
    KeyError
        If `layer` or `donor_key` is not there.

    Warns
    -----
    UserWarning
        If the synthetic cells know the unseen cells better than the training cells: the two are probably the wrong way
        round. If scanpy has marked `adata.X` as logged already, and no layer is named. If unseen cells are training
        cells too, or cells of `reference` in either, the same in every gene: they are left out.

    See Also
    --------
    scmimic.evaluate : Realism; takes the same cells.
    scmimic.metrics.distance_to_closest_record : One of its measures, for arrays.
    scmimic.metrics.membership_inference : Another.
    scmimic.pl.self_distance : Cells that repeat.

    Examples
    --------
    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=300)
    >>> train, test = adata[:150].copy(), adata[150:].copy()
    >>> copies = sm.baselines.Memoriser(train, labels_key="cell_type").fit().generate(150, seed=0)
    >>> realism = sm.tl.evaluate(test, copies, train=train, metrics=["mmd"])
    >>> result = sm.tl.privacy(test, copies, train=train, n_comps=10)
    >>> result.loc[["dcr_ratio", "duplicate_fraction"], "value"].tolist()
    [0.0, 1.0]
    """
    ANNDATA.check(adata=adata, synthetic=synthetic)
    ANNDATA.or_none.check(train=train, holdout=holdout, reference=reference)
    LAYER.check(layer=layer)
    COLUMN.or_none.check(donor_key=donor_key)
    COUNT.check(n_comps=n_comps)
    POSITIVE.check(target_sum=target_sum)
    COUNT_OR_NONE.check(max_cells=max_cells)
    SEED.check(seed=seed)
    THREADS.check(n_jobs=n_jobs)
    KEY.check(key_added=key_added)
    if (train is None) == (holdout is None):
        raise TypeError(
            "Training and unseen cells are needed: name the training cells (`train=`) where `adata` are unseen cells, "
            "as in `evaluate`, or the unseen cells (`holdout=`) where `adata` are the training cells; not both."
        )
    seen, unseen = ("train", "adata") if holdout is None else ("adata", "holdout")
    given = {"adata": adata, "synthetic": synthetic, "train": train, "holdout": holdout, "reference": reference}
    sets: dict[str, Cells] = {}
    for name, cells in given.items():
        if cells is not None:
            check_same_genes(adata, cells, name=name)
            spaces = space_of_cells(adata, layer), space_of_cells(cells, layer, optional=name == "synthetic")
            check_same_units(*spaces, where_is(layer), any_scale=True, name=name)
    warn_of_logarithms(adata, layer, "pass `layer` with the counts")
    for name, cells in given.items():
        if cells is not None:
            x = read_matrix(cells, layer, optional=name == "synthetic")
            sets[name] = Cells.of(x, name, log1p=True, target_sum=target_sum)
            if donor_key is not None and name in (seen, unseen):
                sets[name] = replace(sets[name], labels=_donors(cells, donor_key, name))
    # shared cells are left out of the first
    sets, told = without_shared(
        sets, [(unseen, seen, _SEEN), ("reference", seen, _SEEN), ("reference", unseen, _JUDGED)]
    )
    for text in [roles_warning(adata, synthetic), *told]:
        if text:
            warnings.warn(text, UserWarning, stacklevel=2)
    if reference is None:
        sets["reference"], sets[unseen] = _halves(sets[unseen], unseen, seed)
    fitted = sets["reference"].genes
    pca = fit_pca(fitted, n_comps, seed=seed)
    if pca.n_components_ < n_comps:
        logger.info("%d x %d values allow %d of %d components.", *fitted.shape, pca.n_components_, n_comps)
    sets = {name: cells.on(pca) for name, cells in sets.items()}
    trained, fake, others = sets[seen], sets["synthetic"], sets[unseen]

    options: dict[str, Any] = {"max_cells": max_cells, "seed": seed, "n_jobs": n_jobs}
    record = distance_to_closest_record(trained.pcs, fake.pcs, others.pcs, **options)
    ratio = nearest_neighbor_distance_ratio(trained.pcs, fake.pcs, others.pcs, **options)
    low_ratio = ratio.synthetic_low / ratio.test_low if ratio.test_low > 0 else np.nan
    copied, by_chance = (duplicate_fraction(trained.raw, cells.raw) for cells in (fake, others))
    rows = [
        _row("dcr_ratio", record.ratio, 1.0, "low"),
        _row("nndr_ratio", ratio.ratio, 1.0, "low"),
        _row("nndr_low_ratio", low_ratio, 1.0, "low"),
        _row("duplicate_fraction", copied, by_chance, "high"),
    ]
    if donor_key is not None:
        options |= {"train_donors": trained.labels, "test_donors": others.labels}
    attacks = {"membership": None} if reference is None else {"membership": None, "calibrated": sets["reference"].pcs}
    for name, calibration in attacks.items():
        result = membership_inference(trained.pcs, others.pcs, fake.pcs, reference=calibration, **options)
        rows += _attack_rows(name, result, "cell")
        if calibration is None and result.interval[1] < 1 - MAX_MEMBERSHIP_AUC:
            warnings.warn(_wrong_way_round(seen, unseen, result.auc), UserWarning, stacklevel=2)
        if result.donors is not None:
            rows += _attack_rows("donor" if calibration is None else f"donor_{name}", result.donors, "donor")
    table = pd.DataFrame(rows).set_index("metric")

    params: dict[str, Any] = {
        "n_comps": int(pca.n_components_),
        "target_sum": target_sum,
        "seed": seed,
        "fitted_on": f"half of {unseen}" if reference is None else "reference",
    }
    optional = {"layer": layer, "donor_key": donor_key, "max_cells": max_cells}
    params |= {name: value for name, value in optional.items() if value is not None}
    adata.uns[key_added] = {
        "results": table.copy(),
        "params": params,
        "n_cells": {name: len(cells) for name, cells in sets.items()},
    }
    return table


def _halves(cells: Cells, name: str, seed: int) -> tuple[Cells, Cells]:
    """Two random halves: the first fits the components, the second is judged."""
    order = np.random.default_rng(seed).permutation(len(cells))
    n = len(order) // 2
    if n < 3:
        raise ValueError(
            f"`{name}` has {len(cells)} cells, of which one half fits the components and the other is judged: "
            "hold out more, or give `reference`."
        )
    return cells[np.sort(order[:n])], cells[np.sort(order[n:])]


def _wrong_way_round(seen: str, unseen: str, auc: float) -> str:
    return (
        f"The synthetic cells know the unseen cells (`{unseen}`) better than the training cells (`{seen}`; "
        f"membership_auc {auc:.2f}). Either the two are the wrong way round, or they are not of one population. "
        "Training cells are `train=`, as in `evaluate`, or come first beside `holdout=`."
    )


def _row(metric: str, value: float, ideal: float, direction: str, unit: str = "cell") -> dict[str, Any]:
    return {
        "metric": metric,
        "value": value,
        "ideal": ideal,
        "lower": np.nan,
        "upper": np.nan,
        "unit": unit,
        "direction": direction,
    }


def _attack_rows(name: str, result: MembershipInference, unit: str) -> list[dict[str, Any]]:
    rows = [
        _row(f"{name}_{measure}", getattr(result, measure), ideal, "high", unit)
        for measure, ideal in _ATTACK_IDEALS.items()
    ]
    rows[0]["lower"], rows[0]["upper"] = result.interval
    return rows


def _donors(adata: AnnData, donor_key: str, name: str) -> np.ndarray:
    if donor_key not in adata.obs:
        raise KeyError(f"`donor_key={donor_key!r}` is not in `{name}.obs`; its columns are {list(adata.obs.columns)}.")
    return label_array(adata, donor_key, name, argument="donor_key")
