"""Simulated and real data sets."""

from scmimic.datasets._papers import kang18, neurons20k, pbmc68k, sciplex3, tabula_muris
from scmimic.datasets._pbmc68k import pbmc68k_reduced
from scmimic.datasets._simulated import synthetic_counts
from scmimic.datasets._splat import splat
from scmimic.datasets._splat_estimate import splat_estimate
from scmimic.datasets._splat_parameters import SplatParameters

__all__ = [
    "SplatParameters",
    "kang18",
    "neurons20k",
    "pbmc68k",
    "pbmc68k_reduced",
    "sciplex3",
    "splat",
    "splat_estimate",
    "synthetic_counts",
    "tabula_muris",
]


def __dir__() -> list[str]:
    return sorted(__all__)
