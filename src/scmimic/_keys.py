"""Every name that scmimic writes into an AnnData object."""

UNS = "scmimic"
"""`.uns` key of a generated AnnData: model, version, parameters and seed."""

OBS_SOURCE = "source"
"""`.obs` column that tells real from synthetic cells where both stand in one object."""

SOURCE_REAL = "real"
SOURCE_SYNTHETIC = "synthetic"

OBS_SPLIT = "split"
"""`.obs` column of :func:`scmimic.pp.balanced_split`."""

SPLIT_TRAIN = "train"
SPLIT_TEST = "test"

LAYER_COUNTS = "counts"
"""`.layers` key under which the preprocessing keeps raw counts."""

OBSM_JOINT_PCA = "X_joint_pca"
"""`.obsm` keys of :func:`scmimic.tl.joint_embedding`."""
OBSM_JOINT_UMAP = "X_joint_umap"
OBSM_JOINT_TSNE = "X_joint_tsne"

JOINT_EMBEDDING = "joint_embedding"
"""`.uns` key of :func:`scmimic.tl.joint_embedding`."""

PRIVACY = "privacy"
"""`.uns` key of :func:`scmimic.tl.privacy`."""

RANK_LATENT_GENES = "rank_latent_genes"
"""`.uns` key of :func:`scmimic.tl.rank_latent_genes`."""

RARE_AUGMENTATION = "rare_augmentation"
"""`.uns` key of :func:`scmimic.tl.rare_augmentation`."""

REALISM = "realism"
"""`.uns` key of :func:`scmimic.tl.evaluate`."""


def latent(model_name: str) -> str:
    """`.obsm` key of the latent codes that cells were generated from, such as ``"X_activa"``."""
    return f"X_{model_name.lower()}"


def latent_names(n_latent: int) -> list[str]:
    """What the dimensions of a latent space are called in tables and pictures: ``"Z1"``, ``"Z2"``, ..."""
    return [f"Z{i}" for i in range(1, n_latent + 1)]


def joint(basis: str, key_added: str | None = None) -> str:
    """`.obsm` key of :func:`scmimic.tl.joint_embedding`: ``"X_joint_umap"``, or ``"X_mine_umap"`` for `key_added`."""
    return f"X_{key_added or 'joint'}_{basis}"


OBS_CELL_TYPE = "cell_type"
"""`.obs` columns of the simulated data sets."""
OBS_BATCH = "batch"

OBS_LIBRARY_SIZE = "library_size"
"""`.obs` column with the expected total counts of a simulated cell."""
