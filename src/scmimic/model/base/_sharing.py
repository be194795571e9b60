"""A trained autoencoder without anything of a single training cell, to be given to others."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from scmimic import _keys
from scmimic._version import package_version
from scmimic.cells import LABEL, gene_annotation
from scmimic.model.generation.calibration._margins import GeneMargins
from scmimic.model.generation.codes._composition import Composition, find_groups
from scmimic.model.generation.codes._mixture import CodeMixture
from scmimic.model.generation.codes._posterior import AggregatedPosterior

if TYPE_CHECKING:
    from scmimic.model.base._vae import GenerativeVAE

SHARED_CELLS = 20
"""Groups and types of fewer training cells leave no trace of their own."""


def shareable(model: GenerativeVAE) -> GenerativeVAE:
    """A copy of a trained model that holds no training cell.

    Codes come from mixtures, and what is kept of a group (its number of cells, library sizes, covariates, mean
    expression, weights of its mixture, gene margins) is that of `SHARED_CELLS` cells or more. Types of fewer cells are
    not generated: their baseline and their dispersions are those of all cells.

    Parameters
    ----------
    model
        A trained model with its training cells.
    """
    posterior = model._trained_cells()
    n_labels = model.module.n_labels
    composition = Composition.of(posterior.attributes, posterior.log_library, min_cells=SHARED_CELLS)
    kept = set(composition.codes[:, LABEL].tolist())
    if not kept:
        raise ValueError(
            f"No combination of type, batch and covariates has {SHARED_CELLS} training cells: nothing is left to "
            "share. Register fewer columns."
        )
    few = [label for label in range(n_labels) if label not in kept]
    found = copy.copy(model)
    # the networks of the model stay as they are
    found.module = copy.deepcopy(model.module)
    with torch.no_grad():
        _forget_types(found.module, few)
    members = posterior.select([label in kept for label in posterior.labels.tolist()])
    found.posterior_, found.codes_ = None, "mixture"
    found.composition_ = composition
    found.fitted_codes_ = {"mixture": CodeMixture.fit(members, min_cells=SHARED_CELLS)}
    found.means_ = None if model.means_ is None else model.means_.at_least(SHARED_CELLS)
    found.margins_ = None if model.margins_ is None else _shared_margins(model.margins_, posterior, few)
    found.train_indices_ = None
    found.var_ = gene_annotation(model.var_)
    found.shared_ = {"min_cells": SHARED_CELLS, "left_out": [] if model._labels is None else _names(model, few)}
    found.registry_ = {key: value for key, value in model.registry_.items() if key != _keys.FINGERPRINT}
    return found


def _shared_margins(margins: GeneMargins, posterior: AggregatedPosterior, few: list[int]) -> GeneMargins:
    """Those that tell nothing of a few cells: what a type has besides its groups are many cells, or none."""
    n_labels = margins.blocks.n_labels
    without_group = find_groups(margins.blocks.groups, posterior.attributes.codes) < 0
    left = np.bincount(posterior.labels[without_group], minlength=n_labels)
    return margins.without(few).without_groups(np.flatnonzero((left > 0) & (left < SHARED_CELLS)))


def _names(model: GenerativeVAE, labels: list[int]) -> list[str]:
    assert model._labels is not None
    return [model._labels.names[label] for label in labels if label < len(model._labels.names)]


def _forget_types(module: Any, labels: list[int]) -> None:
    """Give types what all cells have together."""
    baseline = getattr(module.decoder, "label_baseline", None)
    if baseline is not None:
        baseline[labels] = 0
    if module.px_r is not None and len(module.px_r) > 1:
        others = [label for label in range(len(module.px_r)) if label not in labels]
        module.px_r[labels] = module.px_r[others].mean(0)


def model_card(model: GenerativeVAE) -> str:
    """What a shared model is, holds and does not hold, as Markdown."""
    composition, attributes = model._composition, model._attributes
    name, space, shared = type(model).__name__, getattr(model, "expression_space_", None), model.shared_
    assert shared is not None
    keys = [column.key for column in attributes.columns.values()]
    quantiles = ", quantiles of the continuous covariates" if attributes.continuous else ""
    margins = "No gene margins." if model.margins_ is None else "Distributions of each gene's counts in each type."
    if model.margins_ is not None and len(model.margins_.blocks.groups):
        margins = "Distributions of each gene's counts in each type and in the larger ones of the groups below."
    means = "" if model.means_ is None else "\n- Mean expression of each group below."
    left_out = f" Left out as too small: {', '.join(shared['left_out'])}." if shared["left_out"] else ""
    named = ", ".join(f"`{key}`" for key in [*keys, *attributes.continuous]) or "no column"
    groups = zip(composition.codes, composition.n_cells, strict=True)
    return f"""# {name} that holds no training cell

A generative model of single-cell expression, {len(model.var_):,} genes, made with scmimic {package_version()}.
Likelihood: `{model.module.gene_likelihood}`. Generated values: {"unknown" if space is None else space.units}.

```python
import scmimic as sm
model = sm.{name}.load("this folder", allow_pickle=False)
cells = model.generate(n=1000, seed=0)
```

## What it holds

- The weights of encoder, decoder and, where there is one, classifier.
- For each group below: number of cells, mean and standard deviation of the log library size{quantiles}.
- Gaussian mixtures of the latent codes of each type, and weights and means of them for each group.
- {margins}{means}
- Names of genes and of the values of {named}.

## What it does not hold

No expression, code, name, library size or row number of a single cell, and no number, mixture or distribution of a
group of fewer than {shared["min_cells"]} cells.{left_out}

This is no proof of privacy: the networks were trained on all cells, those of small groups too, without differential
privacy, and a distribution of counts shows its largest value. `scmimic.tl.privacy` measures how near generated cells
come to training cells.

## Groups

The groups that the model generates have {int(composition.n_cells.sum()):,} of the training cells.

| {", ".join(keys) or "group"} | cells |
|---|---|
""" + "".join(f"| {attributes.describe(codes) or 'all cells'} | {n} |\n" for codes, n in groups)
