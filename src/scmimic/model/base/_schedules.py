"""Schedules of weights and learning rates over a run."""

from __future__ import annotations

import math


def cosine_tail(epoch: float, n_epochs: int, *, final_factor: float, fraction: float) -> float:
    """Factor of a learning rate: 1, then along a cosine to `final_factor` over the last `fraction` of the run."""
    start = (1 - fraction) * n_epochs
    if final_factor >= 1 or epoch <= start:
        return 1.0
    progress = min((epoch - start) / max(n_epochs - start, 1e-9), 1.0)
    return final_factor + (1 - final_factor) * 0.5 * (1 + math.cos(progress * math.pi))


def linear_warmup(progress: float, length: float) -> float:
    """Weight that rises from 0 to 1 while `progress` goes from 0 to `length`; 1 without a length."""
    return 1.0 if length <= 0 else min(progress / length, 1.0)
