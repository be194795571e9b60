"""Ways to add cells of a rare type, and the trial that compares them."""

from scmimic.tl.augmentation._generators import OVERSAMPLING, SMOTE, UNWEIGHTED, WEIGHTED

__all__ = [
    "OVERSAMPLING",
    "SMOTE",
    "UNWEIGHTED",
    "WEIGHTED",
]
