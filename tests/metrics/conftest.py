"""Latent codes of which the disentanglement is known."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def factors():
    """Four independent factors: two of two levels, steps with an order, and a continuous one."""
    rng = np.random.default_rng(0)
    return {
        "batch": rng.choice(["a", "b"], 3000),
        "path": rng.integers(2, size=3000),
        "step": rng.integers(5, size=3000),
        "library": rng.uniform(size=3000),
    }


@pytest.fixture(scope="session")
def codes(factors):
    """`perfect`: a dimension per factor, and one of noise; then what spoils it."""
    rng = np.random.default_rng(1)
    columns = [factors["batch"] == "b", factors["path"], factors["step"], factors["library"]]
    perfect = np.column_stack([*columns, rng.normal(size=3000)]).astype(float)
    standard = (perfect - perfect.mean(axis=0)) / perfect.std(axis=0)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    return {
        "perfect": perfect,
        "rotated": standard @ rotation,
        "duplicated": np.hstack([perfect[:, :4], perfect[:, :4]]),
        "noise": rng.normal(size=(3000, 5)),
    }
