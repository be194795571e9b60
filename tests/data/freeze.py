"""Save one small model of each class, with what it makes, for the test that saved models keep loading.

    python tests/data/freeze.py NAME CLASS ...

adds tests/data/frozen/NAME/CLASS (all classes, if none is named), NAME saying what is new in what is saved. What is
there is never replaced, least of all to mend a failing test: that test says that the models of users no longer load, or
make other cells than they did.

    python tests/data/freeze.py --draws

replaces the cells alone, where counts are drawn in another way for good: the changelog then says that seeds give other
cells.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

FROZEN = Path(__file__).parent / "frozen"
N_CELLS, SEED = 30, 3


def record(model) -> dict[str, np.ndarray]:
    """What a model makes, which one that is loaded must make again."""
    from small_models import cells

    real = cells()[:N_CELLS].copy()
    made = {"version": model.scmimic_version_, "cells": real.X.toarray()}
    if hasattr(model, "generate"):
        new = model.generate(labels={"type_0": 15, "type_1": 10, "type_2": 5}, seed=SEED)
        made |= {"x": new.X.toarray(), "labels": new.obs["cell_type"].astype(str).to_numpy(dtype=str)}
    if hasattr(model, "get_latent_representation"):
        made["codes"] = model.get_latent_representation(real)
    if hasattr(model, "predict"):
        made["classes"] = model.predict(real, soft=True).to_numpy()
    elif hasattr(model, "classify"):
        made["classes"] = model.classify(real, soft=True).to_numpy()
    return made


def draw_again() -> None:
    """Record the cells of all frozen models anew; what else they make stays as it was."""
    import scmimic as sm

    for path in sorted(FROZEN.glob("*/*/made.npz")):
        with np.load(path) as made:
            before = dict(made)
        after = record(getattr(sm, path.parent.name).load(path.parent, allow_pickle=False))
        if "x" in before and not np.array_equal(before["x"], after["x"]):
            np.savez_compressed(path, **before | {"x": after["x"]})


def main() -> None:
    """Train, save, record."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from small_models import CLASSES, fit

    if sys.argv[1:] == ["--draws"]:
        draw_again()
        return
    folder, *names = sys.argv[1:]
    for name in names or CLASSES:
        model = fit(name, epochs=10)
        model.save(FROZEN / folder / name)
        np.savez_compressed(FROZEN / folder / name / "made.npz", **record(model))


if __name__ == "__main__":
    main()
