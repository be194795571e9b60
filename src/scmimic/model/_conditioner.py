"""The classifier that conditions ACTIVA (section 2.3)."""

from __future__ import annotations

import copy

import torch
from torch import nn

from scmimic.model._actinn import ACTINN
from scmimic.nn import ACTINNClassifier


def conditioner(
    classifier: ACTINN | nn.Module | None, label_categories: list[str] | None, n_input: int
) -> tuple[nn.Module | None, bool]:
    """Return the network to condition with, and whether the user gave it.

    Parameters
    ----------
    classifier
        What the user passed to the model.
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
