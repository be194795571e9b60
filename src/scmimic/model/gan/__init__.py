"""The GANs: networks, training plan, and the models that users have."""

from scmimic.model.gan._faithfulness import dimension_index, faithfulness, median_faithfulness, spearman
from scmimic.model.gan._representation import check_model_genes, encode, space_of

__all__ = [
    "check_model_genes",
    "dimension_index",
    "encode",
    "faithfulness",
    "median_faithfulness",
    "space_of",
    "spearman",
]
