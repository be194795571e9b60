"""Layers and networks."""

from scmimic.nn._actinn import ACTINNClassifier
from scmimic.nn._decoders import CountDecoder, ExpressionDecoder
from scmimic.nn._dense import DenseStack, RealBatchNorm1d, fake_cells
from scmimic.nn._encoder import Encoder
from scmimic.nn._shared_linear import shared_linear

__all__ = [
    "ACTINNClassifier",
    "CountDecoder",
    "DenseStack",
    "Encoder",
    "ExpressionDecoder",
    "RealBatchNorm1d",
    "fake_cells",
    "shared_linear",
]
