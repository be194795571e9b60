"""Dispersions after training: those of rare types are pooled, and zeros become those of the training cells.

A type's dispersion of a gene that few of its cells express is anything: a few counts that happen to fit push it to one
end of the scale, and a gene that ten cells did not show is given rare, huge bursts. Such an estimate is drawn towards
the gene's in all types, the more so the fewer cells it rests on.

Fitted by likelihood, genes may be generated with more zeros than the data have: the code holds a part of each training
cell's own noise, to which the draw adds noise once more, and a single outlying count can set the dispersion of a gene
in its whole type. Where a type has too many zeros over all genes, the dispersion of the genes with an excess is
lowered, until the type's zeros are right or those genes are Poisson. It is never raised.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from scvi import REGISTRY_KEYS

from scmimic._compat import MODULE_KEYS
from scmimic.model.base._likelihoods import zero_probability
from scmimic.model.base._vae_module import CellVAEModule

PRIOR_CELLS = 10.0
"""Weight of a gene's dispersion in all types against that in one, in cells that express it."""
# Steps of the log inverse dispersion; the last is Poisson in all but name.
LOG_STEPS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.0)


@torch.inference_mode()
def pool_dispersion(
    module: CellVAEModule, batches: Iterable[dict[str, torch.Tensor]], *, prior_cells: float = PRIOR_CELLS
) -> None:
    """Draw the dispersion of each gene and type towards the gene's in all types, in place.

    With ``n`` cells of the type that express the gene, its log inverse dispersion becomes the mean of its own, of
    weight ``n``, and of the average over all expressing cells, of weight ``prior_cells``. A gene that no cell
    expresses, or a module with one dispersion per gene, is left as it is.

    Parameters
    ----------
    module
        A trained module with the ``"nb"`` or ``"zinb"`` likelihood.
    batches
        The training cells, as a data loader gives them.
    prior_cells
        Weight of the average.
    """
    log_theta = module.px_r
    if log_theta is None or len(log_theta) == 1:
        return
    n = torch.zeros_like(log_theta)
    for tensors in batches:
        label = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).long().to(n.device)
        n.index_add_(0, label, (tensors[REGISTRY_KEYS.X_KEY].to(n.device) > 0).to(n.dtype))
    total = n.sum(0)
    average = (n * log_theta).sum(0) / total.clamp_min(1)
    pooled = (n * log_theta + prior_cells * average) / (n + prior_cells)
    log_theta.copy_(torch.where(total > 0, pooled, log_theta))


@torch.inference_mode()
def match_zeros(module: CellVAEModule, batches: Iterable[dict[str, torch.Tensor]]) -> None:
    """Lower the dispersion of genes whose expected zeros exceed the observed ones, in place.

    Parameters
    ----------
    module
        A trained module in eval mode with the ``"nb"`` or ``"zinb"`` likelihood.
    batches
        The training cells, as a data loader gives them.
    """
    log_theta = module.px_r
    assert log_theta is not None
    rows, n_genes = log_theta.shape
    steps = torch.tensor(LOG_STEPS, device=module.device)
    expected = torch.zeros(len(steps), rows, n_genes, device=module.device, dtype=torch.float64)
    observed = torch.zeros_like(expected[0])
    for tensors in batches:
        tensors = {key: value.to(module.device) for key, value in tensors.items()}
        inference = module.inference(**module._get_inference_input(tensors))
        px = module.generative(**module._get_generative_input(tensors, inference))[MODULE_KEYS.PX_KEY]
        row = tensors[REGISTRY_KEYS.LABELS_KEY].squeeze(-1).long() if rows > 1 else px.mu.new_zeros(len(px.mu)).long()
        observed.index_add_(0, row, (tensors[REGISTRY_KEYS.X_KEY] == 0).double())
        for i, step in enumerate(steps):
            expected[i].index_add_(0, row, zero_probability(px, step).double())
    needed = step_reaching(expected, observed, steps)
    excess = (expected[0] - observed).sum(1, keepdim=True)
    removed = (expected[0] - interpolate(expected, needed, steps)).sum(1, keepdim=True)
    share = (excess / removed.clamp_min(1e-9)).clamp(0, 1)
    log_theta.add_((share * needed).to(log_theta.dtype))


def step_reaching(falling: torch.Tensor, target: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Where ``falling`` (values at ``steps``, along the first axis) reaches ``target``, by linear interpolation.

    0 where it starts at or below the target, the last step where it stays above.
    """
    right = (falling > target).sum(0).clamp(0, len(steps) - 1)
    left = (right - 1).clamp_min(0)
    high, low = falling.gather(0, left[None])[0], falling.gather(0, right[None])[0]
    share = ((high - target) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return torch.where(right == 0, 0.0, steps[left] + share * (steps[right] - steps[left]))


def interpolate(values: torch.Tensor, where: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """``values`` (given at ``steps``, along the first axis) at ``where``, by linear interpolation."""
    right = torch.searchsorted(steps, where.contiguous()).clamp(1, len(steps) - 1)
    share = (where - steps[right - 1]) / (steps[right] - steps[right - 1])
    low, high = (values.gather(0, index[None])[0] for index in (right - 1, right))
    return low + share * (high - low)
