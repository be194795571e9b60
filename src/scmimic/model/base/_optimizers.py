"""Optimisers."""

from __future__ import annotations

from collections.abc import Iterable

import torch


def adam(parameters: Iterable, **settings) -> torch.optim.Adam:
    """Adam, in one fused pass over memory where the device has it.

    At the papers' widths and all genes the update is bound by memory, and an unfused one costs as much as a matrix
    product of the step.
    """
    groups = list(parameters)
    first = groups[0]["params"][0] if isinstance(groups[0], dict) else groups[0]
    return torch.optim.Adam(groups, fused=first.device.type in ("cpu", "cuda"), **settings)
