"""Simulated and real data sets."""

from scmimic.datasets._pbmc68k import pbmc68k_reduced
from scmimic.datasets._simulated import synthetic_counts
from scmimic.datasets._splat import splat
from scmimic.datasets._splat_estimate import splat_estimate
from scmimic.datasets._splat_parameters import SplatParameters

__all__ = ["SplatParameters", "pbmc68k_reduced", "splat", "splat_estimate", "synthetic_counts"]
