"""Plots: they take `ax`, `show` and `return_fig`, and never change the data."""

from scmimic.pl._embedding import embedding
from scmimic.pl._roc import roc
from scmimic.pl._training import training

__all__ = ["embedding", "roc", "training"]
