"""Simulated and real data sets."""

from scmimic.datasets._pbmc68k import pbmc68k_reduced
from scmimic.datasets._simulated import synthetic_counts

__all__ = ["pbmc68k_reduced", "synthetic_counts"]
