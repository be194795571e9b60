"""What all models share: registration, training, saving; and what the autoencoders do.

A new model subclasses :class:`CellModel` (a model of cells), :class:`GenerativeModel` (one that generates) or
:class:`GenerativeVAE` (an autoencoder), and registers its data by :func:`anndata_fields` and :func:`register`.
"""

from scmimic.model.base._fields import anndata_fields, mudata_fields, register
from scmimic.model.base._generative import GenerativeModel, library_sizes, weights_sample
from scmimic.model.base._model import CellModel
from scmimic.model.base._saving import saved_name
from scmimic.model.base._vae import GenerativeVAE

__all__ = [
    "CellModel",
    "GenerativeModel",
    "GenerativeVAE",
    "anndata_fields",
    "library_sizes",
    "mudata_fields",
    "register",
    "saved_name",
    "weights_sample",
]
