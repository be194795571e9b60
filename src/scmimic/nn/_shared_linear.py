"""One product for a linear layer that several readers differentiate with different reach."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _SharedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        own: torch.Tensor,
        given: torch.Tensor,
        other: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = torch.cat([own, other])
        ctx.save_for_backward(rows, weight)
        ctx.sizes = own.shape[0], other.shape[0]
        out, last = torch.addmm(bias, rows, weight.t()).split(ctx.sizes)
        return out, out.clone(), last

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows, weight = ctx.saved_tensors
        n, m = ctx.sizes
        for_weight = torch.cat([gradients[0] + gradients[1], gradients[2]])
        for_rows = torch.cat(gradients) @ weight
        return *for_rows.split([n, n, m]), for_weight.t() @ rows, for_weight.sum(0)


def shared_linear(
    layer: nn.Linear, own: torch.Tensor, given: torch.Tensor, other: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Apply ``layer`` to ``own``, ``given`` and ``other``, where ``given`` holds the same numbers as ``own``.

    The two copies have a gradient each, so that one reader's may go on where the other's must stop, while forward pass
    and weight gradient take a single product: three quarters of the arithmetic of separate calls, and one weight
    gradient in memory rather than three.

    Parameters
    ----------
    layer
        A linear layer with bias.
    own, given
        ``(n, n_in)``, equal in value.
    other
        ``(m, n_in)``.

    Returns
    -------
    Outputs for the three inputs.
    """
    return _SharedLinear.apply(own, given, other, layer.weight, layer.bias)
