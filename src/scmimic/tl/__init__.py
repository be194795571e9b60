"""Tools that work on AnnData objects of real and synthetic cells."""

from scmimic.tl._joint_embedding import joint_embedding

__all__ = ["joint_embedding"]
