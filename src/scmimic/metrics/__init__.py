"""Realism, disentanglement and privacy metrics: arrays in, numbers out."""

from scmimic.metrics._closest_record import ClosestRecord, distance_to_closest_record
from scmimic.metrics._discriminator import DiscriminatorResult, RocFold, discriminator_auc, random_forest_error
from scmimic.metrics._mmd import mmd

__all__ = [
    "ClosestRecord",
    "DiscriminatorResult",
    "RocFold",
    "discriminator_auc",
    "distance_to_closest_record",
    "mmd",
    "random_forest_error",
]
