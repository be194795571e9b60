"""Linear layers beside the genes: their weight gradients live in memory that is used again.

At 18,000 genes such a gradient takes 70 MB. Memory of that size goes back to the system whenever a gradient is cleared,
and the system hands it out again page by page, which takes as long as the product that fills it. A step of an
autoencoder of 18,000 genes and 1,024 hidden units takes 352 to 361 ms with these layers on one core, 406 to 428 with
:class:`torch.nn.Linear`, and 422 to 443 with gradients that are set to zero instead of being cleared
(``zero_grad(set_to_none=False)``). An allocator that never gives memory back (glibc's ``MALLOC_TRIM_THRESHOLD_``) makes
all of them as fast, but a library cannot ask for it.

A product whose result is much wider than high is computed in blocks of columns: see :func:`wide_product`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

# Where a product in blocks is worth the copies: matrices beyond the processor's cache, some rows.
WIDE_SIZE, WIDE_HEIGHT, WIDE_RATIO = 2**21, 32, 3
# Columns of a block, and of one that several threads make.
WIDE_BLOCK, SHARED_BLOCK = 512, 2048


def wide_product(
    a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """``a @ b + bias``, of rows that lie one after another.

    A library of matrix products (MKL) fills a result that is much wider than high slowly, since the rows of what it
    holds at a time lie far apart. With each block of columns made by itself and copied, 128 cells times 1,024 hidden
    units x 17,789 genes take 0.28 of the time of a 2048 x 2048 x 2048 product (0.46 at once), their gradient in the
    weight 0.36 (0.45 at once); the arithmetic is 0.27 (one core). Two threads that share a block of few cells are
    faster the other way round, at the transposed block: 0.30 for 0.36.

    Parameters
    ----------
    a, b
        ``(n, k)`` and ``(k, m)``.
    bias
        ``(m,)``; None: none.
    out
        ``(n, m)``, memory for the result; None: new.
    """
    (n, k), width = a.shape, b.shape[1]
    is_wide = max(k, n) * width >= WIDE_SIZE and min(k, n) >= WIDE_HEIGHT and width >= WIDE_RATIO * n
    if a.device.type != "cpu" or not is_wide or torch.is_autocast_enabled("cpu"):
        return torch.mm(a, b, out=out) if bias is None else torch.addmm(bias, a, b, out=out)
    if out is None:
        out = a.new_empty(n, width)
    # generated cells must not depend on the number of threads
    shared = torch.get_num_threads() > 1 and not torch.is_inference_mode_enabled()
    width_of_block = SHARED_BLOCK if shared else WIDE_BLOCK
    for part, columns in zip(out.split(width_of_block, dim=1), b.split(width_of_block, dim=1), strict=True):
        part.copy_((columns.t() @ a.t()).t() if shared and n <= k else a @ columns)
    return out if bias is None else out.add_(bias)


def _fits(memory: torch.Tensor | None, like: torch.Tensor) -> bool:
    return memory is not None and memory.dtype == like.dtype and memory.device == like.device


class WideLinear(nn.Linear):
    """A linear layer that keeps its weight gradient's memory from step to step.

    It computes what :class:`torch.nn.Linear` computes. :meth:`recycle` clears the gradient and keeps the memory; the
    next backward pass writes into it. A further pass before the next clearing writes into memory of its own, which is
    kept too once it has been added to the gradient. Only first derivatives are available.
    """

    _spare: torch.Tensor | None = None
    _addend: torch.Tensor | None = None
    _added = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``(n, n_in)`` to ``(n, n_out)``."""
        if x.dim() != 2:
            return super().forward(x)
        if not torch.is_grad_enabled():
            return wide_product(x, self.weight.t(), self.bias)
        return _WideLinear.apply(x, self.weight, self.bias, self)

    def recycle(self) -> None:
        """Clear the gradients of weight and bias, and keep the memory of the weight's."""
        if self.weight.grad is not None:
            self._spare = self.weight.grad
        self.weight.grad = self.bias.grad = None
        self._added = False

    def _memory(self, like: torch.Tensor) -> torch.Tensor | None:
        """Memory for a weight gradient of the type of `like`, if there is any to use again."""
        if self.weight.grad is None:
            # given away, so that a second use in the same backward pass cannot overwrite the first
            memory, self._spare = self._spare, None
        elif self._added:
            return None
        else:
            if not _fits(self._addend, like):
                self._addend = like.new_empty(self.weight.shape)
            memory, self._added = self._addend, True
        return memory if _fits(memory, like) else None

    def weight_gradient(self, gradient: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The product ``gradient.T @ x``, in memory that is used again where there is any."""
        return wide_product(gradient.t(), x, out=self._memory(gradient))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory that is used again out of copies and files."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_spare", "_addend", "_added")}


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, layer: WideLinear) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return wide_product(x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        for_x = wide_product(gradient, weight) if ctx.needs_input_grad[0] else None
        for_weight = ctx.layer.weight_gradient(gradient, x) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, gradient.sum(0), None


def recycle_gradients(module: nn.Module) -> None:
    """Clear all gradients below ``module``; its wide layers keep the memory."""
    for layer in module.modules():
        if isinstance(layer, WideLinear):
            layer.recycle()
    module.zero_grad(set_to_none=True)


class _SharedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        own: torch.Tensor,
        given: torch.Tensor,
        other: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        layer: WideLinear,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = torch.cat([own, other])
        ctx.save_for_backward(rows, weight)
        ctx.sizes = own.shape[0], other.shape[0]
        ctx.layer = layer
        out, last = wide_product(rows, weight.t(), bias).split(ctx.sizes)
        return out, out.clone(), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        n, m = ctx.sizes
        for_weight = torch.cat([gradients[0] + gradients[1], gradients[2]])
        for_rows = torch.cat(gradients) @ weight
        return *for_rows.split([n, n, m]), ctx.layer.weight_gradient(for_weight, rows), for_weight.sum(0), None


def shared_linear(
    layer: WideLinear, own: torch.Tensor, given: torch.Tensor, other: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Apply ``layer`` to ``own``, ``given`` and ``other``, where ``given`` holds the same numbers as ``own``.

    The two copies have a gradient each, so that one reader's may go on where the other's must stop, while forward pass
    and weight gradient take a single product: three quarters of the arithmetic of separate calls, and one weight
    gradient in memory rather than three.

    Parameters
    ----------
    layer
        A layer with bias.
    own, given
        ``(n, n_in)``, equal in value.
    other
        ``(m, n_in)``.

    Returns
    -------
    Outputs for the three inputs.
    """
    return _SharedLinear.apply(own, given, other, layer.weight, layer.bias, layer)
