"""The classifier that conditions ACTIVA (section 2.3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from scmimic.model.actinn._model import ACTINN
from scmimic.nn import ACTINNClassifier


def conditioner(
    classifier: ACTINN | nn.Module | Mapping[str, Any] | None, label_categories: list[str] | None, n_input: int
) -> tuple[nn.Module | None, bool]:
    """Return the network to condition with, and whether the user gave it.

    Parameters
    ----------
    classifier
        What the user passed to the model, or what :func:`without_weights` made of it.
    label_categories
        Types of the registered data, or None.
    n_input
        Number of genes.
    """
    if classifier is None:
        if label_categories is None or len(label_categories) < 2:
            return None, False
        return ACTINNClassifier(n_input, len(label_categories)), False
    if label_categories is None:
        raise ValueError("A classifier was given, but the data are registered without `labels_key`.")
    if isinstance(classifier, Mapping):
        sizes = dict(classifier)
        uses_all_genes = sizes.pop("uses_all_genes")
        actinn = ACTINNClassifier(n_input, len(label_categories), **sizes)
        actinn.uses_all_genes = uses_all_genes
        return actinn, True
    if isinstance(classifier, ACTINN):
        if not classifier.is_trained:
            raise ValueError("The given ACTINN is not trained. Train it first, or pass `classifier=None`.")
        if classifier.label_categories_ != label_categories:
            raise ValueError(
                f"The classifier knows the types {classifier.label_categories_}, the data have {label_categories}."
            )
        return copy_network(classifier.module.classifier), True
    if not isinstance(classifier, nn.Module):
        raise TypeError(f"`classifier` must be an ACTINN or a torch module, not {type(classifier).__name__}.")
    network = copy_network(classifier).eval()
    shape = tuple(network(torch.ones(2, n_input)).shape)
    if shape != (2, len(label_categories)):
        raise ValueError(f"`classifier` must map {n_input} genes to {len(label_categories)} logits, but gave {shape}.")
    return network, True


def copy_network(network: nn.Module) -> nn.Module:
    """An independent copy, on the CPU, that no optimiser of the original touches."""
    return copy.deepcopy(network).cpu()


def without_weights(network: nn.Module) -> dict[str, Any] | nn.Module:
    """What an ACTINN network is made anew from, its weights being saved with the model's; a copy of any other."""
    if type(network) is not ACTINNClassifier:
        return copy_network(network)
    widths = tuple(layer.out_features for layer in network.layers if isinstance(layer, nn.Linear))
    return {
        "n_hidden": widths[:-1],
        "input_transform": network.input_transform,
        "uses_all_genes": network.uses_all_genes,
    }
