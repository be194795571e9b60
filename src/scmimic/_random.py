"""Random numbers: draws that repeat nothing before its turn, and seeds of what draws by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from scmimic._noise import without_noise


def as_seed(seed: int | None) -> int:
    """The seed, or one from torch's generator, which ``scvi.settings.seed`` sets."""
    import torch

    return int(torch.randint(2**31 - 1, ())) if seed is None else int(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch, NumPy and scvi-tools within the block, and leave their state as it was."""
    from lightning.pytorch.utilities.seed import isolate_rng
    from scvi import settings

    scvi_seed = settings.seed
    with isolate_rng():
        # scvi-tools splits and shuffles by this setting
        with without_noise():
            settings.seed = seed
        try:
            yield
        finally:
            with without_noise():
                settings.seed = scvi_seed


def draw_members(members: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw `n` of `members`, each as often as any other up to one.

    Repeated cells within a sample give themselves away to a forest, so that none is repeated before all were drawn.
    """
    rounds = [rng.permutation(members) for _ in range(-(-n // len(members)))]
    return np.concatenate(rounds)[:n]
