"""Predicted cells of perturbations, measured as the Virtual Cell Challenge 2026 does."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pandas as pd
from anndata import AnnData

from scmimic import _keys
from scmimic._arguments import COLUMN, COUNT, KEY, LABEL, LAYER, SEED, SETTINGS, Choice, Instance
from scmimic._arrays import scale_cells
from scmimic._progress import progress
from scmimic._version import package_version
from scmimic.cells import (
    ANNDATA,
    Perturbed,
    check_same_genes,
    check_writable,
    control_name,
    storable,
)
from scmimic.tl.perturbation import TITLES, Emission, PerturbationScale, Preset, import_cell_eval2

logger = logging.getLogger(__name__)

_CELLS = Instance((AnnData, Mapping))
# each half has two cells of each, as rank tests take
_MIN_REAL = 4
_MIN_PREDICTED = 2
# errors of fold changes take as many
_MIN_GENES = 10
_COLUMNS = ["context", "method", "metric", "score", "value", "baseline", "replicate", "replicate_sd"]
_COLUMNS += ["n_perturbations", "note"]


def evaluate_perturbation(
    adata: AnnData,
    predicted: AnnData | Mapping[str, AnnData],
    *,
    perturbation_key: str,
    control: str,
    context_key: str | None = None,
    layer: str | None = None,
    baseline: Emission | AnnData = "tile",
    target_genes: Mapping[str, str | None] | None = None,
    changes: Mapping[str, Any] | None = None,
    n_splits: int = 5,
    seed: int = 0,
    key_added: str = _keys.EVALUATE_PERTURBATION,
) -> pd.DataFrame:
    """Compare predicted with real cells of perturbations by the six metrics of the Virtual Cell Challenge 2026.

    The metrics are those of the challenge's own package, cell-eval2 (the extra ``cell-eval2``), with its
    preset `vcc2026`. Each is put on a scale of its own, on which 0 is the baseline and 1 the replicate:

    - The **baseline** is the mean response: the mean counts over all perturbations, each with the same weight and
      without the perturbation that aims at the gene, given as the prediction of each of them. It knows what
      perturbations do in the mean, and nothing of a single one.
    - The **replicate** is the experiment repeated: the real cells of each perturbation, and the control cells, are cut
      into halves, and one half is measured against the other. It is the mean of `n_splits` such cuts.

    A prediction may be below 0, where it is worse than the mean response, and above 1, since halves are smaller than
    the whole. The challenge's score of a context is the mean of the six.

    Parameters
    ----------
    adata
        Real cells, raw counts: those of each perturbation, and control cells. Only `.uns` is written.
    predicted
        Predicted cells, raw counts, of the same perturbations and with the same genes in the same order; or several
        predictions by name, which share baseline and replicates. Any number of cells. Control cells in it are left out:
        the effects of both sides are taken from the real control cells.
    perturbation_key
        Column of `.obs`, in both, with the perturbation of each cell.
    control
        Its value for control cells.
    context_key
        Column of `.obs`, in both, with cell types, lines or other contexts. Each is measured against its own control
        cells, and the scores are averaged. `None`: all cells are of one context.
    layer
        Layer with the counts; `None` for `.X`. Where predicted cells lack the layer, their `.X` is taken.
    baseline
        How the mean response is made cells. `"tile"` (default: as in the challenge) gives every cell the mean counts,
        `"dispersed"` scales the genes of random control cells to them, as cell-eval2 does where it is not told
        otherwise. Or cells of your own, which stand at 0 instead: needed where a context has one perturbation, whose
        mean response is the truth itself.
    target_genes
        The gene that each perturbation aims at, by the perturbation's name; `None` for one that aims at none. It is
        left out of what is measured of the perturbation. By default the gene of the perturbation's own name, where
        there is one.
    changes
        Settings of the preset that do not fit the cells, by their dotted names in cell-eval2, such as
        `{"filter.filter_gene_min_cpm_cell": 0.0}`. The scores are no longer the challenge's then, and say so.
    n_splits
        Number of times that the real cells are halved.
    seed
        Seed of the halving, and of a dispersed baseline.
    key_added
        Key of `.uns`.

    Returns
    -------
    DataFrame with one row per context, prediction and metric, and the columns

    `context`, `method`, `metric`
        The context (`"overall"` without a `context_key`), the name of the prediction (`"predicted"` where there is but
        one), and cell-eval2's name of the metric: `pds_cosine` (is a predicted effect nearer to that of its own
        perturbation than to others?), `expr_mse_unbiased_capped_norm` (squared error of the expression over that of the
        control cells), `de_wilcoxon_direction_fidelity_yield_raw`, `de_wilcoxon_direction_reach_raw` (do genes that are
        called changed move in the right direction, and down to which rank?), `de_wilcoxon_sig_jaccard` (are the same
        genes called changed?), `de_wilcoxon_lfc_nmae` (error of the fold changes of genes that change).
        `metric="overall"` is the mean of these. With several contexts, those called `"overall"` are means over them.
    `score`
        0 for the baseline, 1 for the replicate. The expression error is cut to 0 and 1, the error of fold changes at
        -6, as in the challenge. NaN where there is no scale.
    `value`, `baseline`, `replicate`, `replicate_sd`
        The metric itself of the prediction, of the baseline and of the replicate, and the latter's standard deviation
        over the cuts. The two errors are better the smaller they are.
    `n_perturbations`
        Number of perturbations that have a value.
    `note`
        Why there is no score, that baseline and replicate are too near each other to trust it, or what is left out of a
        mean.

    Also writes to `adata`:

    `adata.uns['evaluate_perturbation' | key_added]` : dict
        `'results'`: this table; `'perturbations'`: the values of each perturbation; `'params'`: the arguments;
        `'changed'`: the settings that are not the challenge's; `'versions'`: of this package and of cell-eval2.

    Raises
    ------
    ImportError
        If cell-eval2 is not installed.
    KeyError
        If a column or a layer is not there.
    TypeError
        If `predicted` is neither an AnnData nor a dict of these, or `changes` names no setting.
    ValueError
        If there are no control cells, genes or perturbations differ, values are no raw counts, there are fewer than 4
        real or 2 predicted cells of a perturbation or than 10 genes with enough counts in the control cells, a cell has
        more counts than the preset allows, a context has one perturbation and no `baseline` of its own, no metric has a
        scale, or an argument is out of range.

    Warns
    -----
    UserWarning
        By the logger: of perturbations whose names are no genes, where others are.

    See Also
    --------
    scmimic.pl.evaluate_perturbation : Draws it.
    scmimic.tl.latent_arithmetic : Predicts cells of an unseen combination.

    Examples
    --------
    The other half of the real cells, as good as a repetition of the experiment:

    >>> import scmimic as sm
    >>> adata = sm.datasets.synthetic_counts(n_obs=900, n_vars=100, n_labels=6)
    >>> half, other = adata[::2].copy(), adata[1::2].copy()
    >>> table = sm.tl.evaluate_perturbation(
    ...     half, other, perturbation_key="cell_type", control="type_0"
    ... )  # doctest: +SKIP
    >>> table["metric"].iloc[[0, -1]].tolist()  # doctest: +SKIP
    ['pds_cosine', 'overall']
    """
    ANNDATA.check(adata=adata)
    _CELLS.check(predicted=predicted)
    COLUMN.check(perturbation_key=perturbation_key)
    LABEL.check(control=control)
    COLUMN.or_none.check(context_key=context_key)
    LAYER.check(layer=layer)
    if not isinstance(baseline, AnnData):
        Choice(get_args(Emission)).check(baseline=baseline)
    SETTINGS.or_none.check(target_genes=target_genes, changes=changes)
    COUNT.check(n_splits=n_splits)
    SEED.check(seed=seed)
    KEY.check(key_added=key_added)
    check_writable(adata)
    predictions = _named(predicted)
    package = import_cell_eval2()

    real = Perturbed.read(adata, perturbation_key, context_key, layer)
    control = control_name(adata, perturbation_key, control)
    contexts = [str(context) for context in np.unique(real.contexts)]
    _check_real(real, contexts, control, perturbation_key, own_baseline=isinstance(baseline, AnnData))
    keys = (perturbation_key, context_key, layer)
    others = {}
    for name, cells in predictions.items():
        called = "predicted" if isinstance(predicted, AnnData) else f"predicted[{name!r}]"
        others[name] = _read_other(adata, real, cells, called, keys, control)
    zero: Emission | Perturbed = (
        _read_other(adata, real, baseline, "baseline", keys, control, fractions=True)
        if isinstance(baseline, AnnData)
        else baseline
    )
    preset = Preset.of(control, changes or {}, _target_genes(real, control, target_genes))

    _check_depth("adata", real, preset)
    for name, cells in others.items():
        _check_depth("predicted" if isinstance(predicted, AnnData) else f"predicted[{name!r}]", cells, preset)
    _check_expressed(real, contexts, control, preset)

    rows: list[dict[str, Any]] = []
    details = []
    with progress(len(contexts) * (1 + len(others)), "Measuring") as advance:
        for context in contexts:
            here = {"context": context}
            part = zero[zero.contexts == context] if isinstance(zero, Perturbed) else zero
            scale = PerturbationScale(preset, real[real.contexts == context], part, n_splits, seed)
            advance(1)
            for name, cells in others.items():
                found, values = scale.rows(cells[cells.contexts == context])
                rows += [here | {"method": name} | row for row in found]
                details.append(values.assign(context=context, method=name))
                advance(1)
    results = _with_means(rows, contexts, list(others))
    if results["score"].isna().all():
        why = "; ".join(f"{metric}: {note}" for metric, note in scale.notes.items())
        raise ValueError(f"None of the metrics has a scale between its baseline and its replicate. {why}.")
    adata.uns[key_added] = {
        "results": results.copy(),
        "perturbations": pd.concat(details, ignore_index=True),
        "params": storable(
            {
                "perturbation_key": perturbation_key,
                "control": control,
                "context_key": context_key,
                "layer": layer,
                "baseline": baseline if isinstance(baseline, str) else "cells",
                "n_splits": n_splits,
                "seed": seed,
            }
        ),
        "changed": storable(preset.changed),
        "versions": {"scmimic": package_version(), "cell-eval2": package.__version__},
    }
    return results


def _named(predicted: AnnData | Mapping[str, AnnData]) -> dict[str, AnnData]:
    if isinstance(predicted, AnnData):
        return {"predicted": predicted}
    if not predicted:
        raise ValueError("`predicted` is empty: give predicted cells, or several by name.")
    for name, cells in predicted.items():
        if not isinstance(name, str) or not isinstance(cells, AnnData):
            raise TypeError(
                f"`predicted` must be an AnnData, or a dict of these by name, not {type(cells).__name__} for {name!r}."
            )
    return dict(predicted)


def _check_real(
    real: Perturbed, contexts: list[str], control: str, perturbation_key: str, *, own_baseline: bool
) -> None:
    if len(contexts) > 1 and _keys.OVERALL in contexts:
        raise ValueError(f"A context is called {_keys.OVERALL!r}, as means over contexts are. Rename it.")
    for context in contexts:
        where = "" if len(contexts) == 1 else f" in the context {context!r}"
        part = real[real.contexts == context]
        numbers = part.numbers()
        if control not in numbers:
            raise ValueError(f"`control={control!r}`: there is no control cell{where}, which each context needs.")
        perturbations = part.numbers(control)
        if not perturbations:
            raise ValueError(f"`adata` has control cells alone{where}: there is no perturbation to measure.")
        if len(perturbations) == 1 and not own_baseline:
            raise ValueError(
                f"`adata` has one perturbation{where}, {next(iter(perturbations))!r}, so that the mean response over "
                "perturbations is the truth itself. Give cells that are to stand at 0: `baseline=cells`, such as those "
                "of a mean shift learned in other contexts."
            )
        if few := [name for name, n in numbers.items() if n < _MIN_REAL]:
            raise ValueError(
                f"`adata` has fewer than {_MIN_REAL} cells of {few[:5]}{where}, whose halves would be compared. Leave "
                f"them out of both sides: `adata[~adata.obs[{perturbation_key!r}].isin({few[:5]})].copy()`."
            )


def _check_depth(name: str, cells: Perturbed, preset: Preset) -> None:
    """What cell-eval2 would refuse later, without a name."""
    most, limit = float(cells.counts.sum(axis=1).max()), preset.config.max_counts_per_cell
    if most > limit:
        raise ValueError(
            f"`{name}` has cells of up to {most:,.0f} counts, more than the challenge's {limit:,.0f}. If that is "
            f"right, allow more: `changes={{'max_counts_per_cell': {most:.0f}}}`."
        )


def _check_expressed(real: Perturbed, contexts: list[str], control: str, preset: Preset) -> None:
    """Genes that are tested: those of enough counts in control cells."""
    least = preset.config.filter.filter_gene_min_cpm_cell or 0.0
    for context in contexts:
        pool = real[(real.contexts == context) & (real.perturbations == control)].counts
        n = int((np.asarray(scale_cells(pool, 1e6).mean(axis=0)).ravel() > least).sum())
        if n < _MIN_GENES:
            where = "" if len(contexts) == 1 else f" of the context {context!r}"
            raise ValueError(
                f"{n} of {pool.shape[1]} genes have more than {least:g} counts per million in the control cells{where}"
                f"; the metrics take {_MIN_GENES} or more. Give more genes, or a lower limit: "
                "`changes={'filter.filter_gene_min_cpm_cell': 0.0}`."
            )


def _read_other(
    adata: AnnData,
    real: Perturbed,
    cells: AnnData,
    name: str,
    keys: tuple[str, str | None, str | None],
    control: str,
    *,
    fractions: bool = False,
) -> Perturbed:
    """Predicted cells, after checking that there are some of each perturbation and context, and no others."""
    check_same_genes(adata, cells, name=name)
    found = Perturbed.read(cells, *keys, name=name, like=adata, fractions=fractions)
    if others := sorted(set(found.contexts.tolist()) - set(real.contexts.tolist())):
        raise ValueError(f"`{name}` has the contexts {others[:5]}, which `adata` has not. Leave them out.")
    for context in np.unique(real.contexts):
        where = "" if keys[1] is None else f" in the context {str(context)!r}"
        wanted = real[real.contexts == context].numbers(control)
        given = found[found.contexts == context].numbers(control)
        if missing := [k for k in wanted if k not in given]:
            raise ValueError(
                f"`{name}` has no cells of {missing[:5]}{where}, which `adata` has: {len(missing)} of {len(wanted)} "
                "perturbations are missing. Predict them, or take those that are predicted, and control cells, out of "
                "`adata`."
            )
        if unknown := [k for k in given if k not in wanted]:
            raise ValueError(
                f"`{name}` has cells of {unknown[:5]}{where}, which `adata` has not. Leave them out: there is nothing "
                "to compare them with."
            )
        if few := [k for k, n in given.items() if n < _MIN_PREDICTED]:
            raise ValueError(
                f"`{name}` has a single cell of {few[:5]}{where}. The tests of genes take {_MIN_PREDICTED} or more."
            )
    return found


def _target_genes(
    real: Perturbed, control: str, given: Mapping[str, str | None] | None
) -> Mapping[str, str | None] | None:
    """What cell-eval2 is told of the genes that perturbations aim at; None where it finds them by their names."""
    names, genes = list(real.numbers(control)), set(real.genes)
    if given is not None:
        if unknown := [name for name in given if name not in names]:
            raise ValueError(f"`target_genes` names {unknown[:5]}, which are no perturbations in `adata`.")
        if absent := [gene for gene in given.values() if gene is not None and gene not in genes]:
            raise ValueError(
                f"`target_genes` names the genes {absent[:5]}, which `adata` has not. A perturbation whose gene is not "
                "measured has None."
            )
    own = {name: name if name in genes else None for name in names} | dict(given or {})
    if all(gene is None for gene in own.values()):
        # what cell-eval2 would refuse, so that a misspelt gene is seen
        logger.info("No perturbation has the name of a gene: none is left out.")
        return {"*": None}
    if given is None:
        if without := [name for name, gene in own.items() if gene is None]:
            logger.warning(
                "%d of %d perturbations, such as %s, have the name of no gene. If they aim at genes that are measured "
                "under other names, say so with `target_genes`.",
                len(without),
                len(names),
                without[:3],
            )
        return None
    return own


def _with_means(rows: list[dict[str, Any]], contexts: list[str], methods: list[str]) -> pd.DataFrame:
    """The rows, with each context's mean over metrics and, where there are several, means over contexts."""
    ordered = []
    scores: dict[tuple[str, str], list[float]] = {}
    for context in contexts:
        for method in methods:
            own = [row for row in rows if (row["context"], row["method"]) == (context, method)]
            missing = [TITLES[row["metric"]] for row in own if np.isnan(row["score"])]
            note = f"without {', '.join(missing)}" if missing else ""
            own.append(_mean_row(context, method, _keys.OVERALL, [row["score"] for row in own], note))
            ordered += own
            for row in own:
                scores.setdefault((method, row["metric"]), []).append(row["score"])
    if len(contexts) > 1:
        for (method, metric), values in scores.items():
            lacking = int(np.isnan(values).sum())
            note = f"without {lacking} of {len(contexts)} contexts" if lacking else ""
            ordered.append(_mean_row(_keys.OVERALL, method, metric, values, note))
    return pd.DataFrame(ordered)[_COLUMNS]


def _mean_row(context: str, method: str, metric: str, scores: list[float], note: str) -> dict[str, Any]:
    known = [score for score in scores if not np.isnan(score)]
    row: dict[str, Any] = dict.fromkeys(_COLUMNS, np.nan)
    about = {"context": context, "method": method, "metric": metric, "n_perturbations": 0, "note": note}
    return row | about | {"score": float(np.mean(known)) if known else np.nan}
