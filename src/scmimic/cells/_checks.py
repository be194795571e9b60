"""Kinds of arguments that hold cells."""

from __future__ import annotations

from anndata import AnnData
from mudata import MuData

from scmimic._arguments import Instance

ANNDATA = Instance((AnnData,))
CELLS = Instance((AnnData, MuData))
