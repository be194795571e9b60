"""Ctrl-C during an experiment that trains models."""

from __future__ import annotations

from typing import Any


def stop_if_interrupted(model: Any) -> None:
    """Raise KeyboardInterrupt if the last training of a model, or of the representation that it is made on, was halted.

    A model keeps what it has learned until then and returns from `train`, but half a training must not be scored as a
    whole one, and who presses Ctrl-C wants the experiment to end.
    """
    for part in (model, getattr(model, "representation", None)):
        if getattr(getattr(part, "trainer", None), "interrupted", False):
            raise KeyboardInterrupt(
                f"The training of {type(part).__name__} was interrupted, and the experiment with it."
            )
