"""Layers and networks."""

from scmimic.nn._actinn import ACTINNClassifier
from scmimic.nn._covariates import CovariateDesign
from scmimic.nn._critic import Critic
from scmimic.nn._decoders import CountDecoder, ExpressionDecoder
from scmimic.nn._dense import DenseStack, RealBatchNorm1d, fake_cells
from scmimic.nn._encoder import Encoder
from scmimic.nn._gene_projection import GeneProjection
from scmimic.nn._gene_scale import GeneScale
from scmimic.nn._generator import ExpressionGenerator
from scmimic.nn._mean_decoder import MeanDecoder
from scmimic.nn._wide_linear import WideLinear, recycle_gradients, shared_linear, wide_product

__all__ = [
    "ACTINNClassifier",
    "CountDecoder",
    "CovariateDesign",
    "Critic",
    "DenseStack",
    "Encoder",
    "ExpressionDecoder",
    "ExpressionGenerator",
    "GeneProjection",
    "GeneScale",
    "MeanDecoder",
    "RealBatchNorm1d",
    "WideLinear",
    "fake_cells",
    "recycle_gradients",
    "shared_linear",
    "wide_product",
]


def __dir__() -> list[str]:
    return sorted(__all__)
