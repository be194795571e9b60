"""Preprocessing of the papers' experiments."""

from scmimic.pp._recipe import recipe_marouf20
from scmimic.pp._split import balanced_split, downsample_label

__all__ = ["balanced_split", "downsample_label", "recipe_marouf20"]


def __dir__() -> list[str]:
    return sorted(__all__)
