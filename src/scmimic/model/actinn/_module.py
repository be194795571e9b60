"""ACTINN as a stand-alone classifier (Ma and Pellegrini 2020, ACTINN: automated identification of cell types)."""

from __future__ import annotations

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch.nn import functional as F

from scmimic.nn import ACTINNClassifier


class ACTINNModule(BaseModuleClass):
    """Cross entropy of labelled cells.

    Parameters
    ----------
    classifier
        The network from expression to logits.
    class_weights
        Weight of each type in the loss, shape ``(n_labels,)``; None weighs every cell alike.
    """

    def __init__(self, classifier: ACTINNClassifier, class_weights: torch.Tensor | None = None):
        super().__init__()
        self.classifier = classifier
        self.register_buffer("class_weights", class_weights)

    def _get_inference_input(self, tensors: dict[str, torch.Tensor], **kwargs) -> dict[str, torch.Tensor]:
        return {"x": tensors[REGISTRY_KEYS.X_KEY]}

    def _get_generative_input(self, tensors: dict[str, torch.Tensor], inference_outputs: dict, **kwargs) -> dict:
        return {}

    @auto_move_data
    def inference(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits of each cell."""
        return {"logits": self.classifier(x)}

    def generative(self) -> dict:
        """Nothing: a classifier generates no cells."""
        return {}

    def loss(self, tensors: dict[str, torch.Tensor], inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Weighted cross entropy over the labelled cells of the batch."""
        logits = inference_outputs["logits"]
        labels = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).long()
        loss, accuracy, n = labelled_cross_entropy(logits, labels, self.class_weights)
        metrics = {"accuracy": accuracy} if n else {}
        return LossOutput(loss=loss, n_obs_minibatch=max(n, 1), extra_metrics=metrics)

    def sample(self, *args, **kwargs):
        """A classifier has no samples."""
        raise RuntimeError("ACTINN is a classifier; it has no samples. Use ACTIVA to generate cells.")


def labelled_cross_entropy(
    logits: torch.Tensor, labels: torch.Tensor, class_weights: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Mean cross entropy and accuracy over the cells whose label has a logit, and the number of these cells."""
    known = labels < logits.shape[-1]
    n = int(known.sum())
    if n == 0:
        return logits.sum() * 0.0, torch.zeros(()), 0
    logits, labels = logits[known], labels[known]
    loss = F.cross_entropy(logits, labels, weight=class_weights)
    return loss, (logits.detach().argmax(-1) == labels).float().mean(), n
