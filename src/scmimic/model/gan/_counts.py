"""Counts made of continuous cells."""

from __future__ import annotations

import torch

# Steps at most, and the relative error of a cell's total that ends them.
_STEPS, _CLOSE = 12, 1e-4


def scale_to(x: torch.Tensor, library_size: torch.Tensor) -> torch.Tensor:
    """Non-negative cells scaled to the totals `library_size`, ``(n, 1)``."""
    x = x.clamp_min(0)
    return x * (library_size / x.sum(-1, keepdim=True).clamp_min(1e-12))


def counts_of_logarithms(x: torch.Tensor, library_size: torch.Tensor) -> torch.Tensor:
    """Expected counts of cells in log1p values, such that counts drawn from them have these logarithms on average.

    A value between those of k and of k + 1 counts is the mean of the two logarithms with weights 1 - p and p, and
    becomes k + p. Scaling after expm1 would keep the mean of the counts instead, which makes far more zeros of the
    small values in between: the logarithm is concave, and it is what the networks have learned the mean of.

    Parameters
    ----------
    x
        Cells x genes, log1p of amounts.
    library_size
        Total of the expected counts of each cell, ``(n, 1)``. What one count is worth in a cell follows from it.
    """
    x = x.clamp_min(0)
    amount = torch.expm1(x)
    total = amount.sum(-1, keepdim=True)
    known = total > 0

    def counts(unit: torch.Tensor) -> torch.Tensor:
        whole = torch.floor(amount / unit)
        below = torch.log1p(whole * unit)
        gap = torch.log1p((whole + 1) * unit) - below
        # single precision knows no gap between counts of millions
        return whole + ((x - below) / gap.clamp_min(1e-9)).clamp(0, 1)

    def excess(expected: torch.Tensor) -> torch.Tensor:
        return torch.where(known, expected.sum(-1, keepdim=True) / library_size, 1.0).log()

    # Secant steps in log total by log unit, of slope -1 to 0; the first unit gives no fewer counts than asked for.
    log_unit = torch.where(known, total / library_size, 1.0).log()
    expected = counts(log_unit.exp())
    error = excess(expected)
    slope = torch.full_like(log_unit, -1.0)
    for _ in range(_STEPS):
        if error.abs().max() < _CLOSE:
            break
        step = -error / slope
        log_unit = log_unit + step
        expected = counts(log_unit.exp())
        last, error = error, excess(expected)
        slope = torch.where(step == 0, slope, (error - last) / step).clamp(-1.0, -0.05)
    return expected


def round_at_random(x: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Every value up or down to a whole number, so that its mean is kept.

    The noise of the counts is in continuous cells already, which learned it from normalised counts; a Poisson draw
    would add it once more.
    """
    return torch.floor(x + torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype))
