"""Every name that scmimic writes into an AnnData object."""

from collections.abc import Sequence, Sized
from typing import Literal

UNS = "scmimic"
"""`.uns` key of a generated AnnData: model, version, parameters and seed."""
INTERRUPTED = "interrupted"
"""Key in it of cells from a model: whether its training, or that of what it was made on, was interrupted."""

UNSEEN = "unseen"
"""Key in it of cells from a model with a batch or covariates: combinations that the training cells have not."""

TRUST = "trust"
"""Key in it of such cells: how far the mean expression of these combinations can be trusted."""

BEYOND = "beyond"
"""Key in it of such cells: continuous covariates of which some lie beyond those of the training cells, how many."""

OBS_SEEN = "seen"
"""`.obs` column of such cells: whether the training cells have the cell's combination, and numbers about its own."""

UNLABELED = "Unknown"
"""Value of a label column that means "no type known" by default."""

FINGERPRINT = "scmimic_fingerprint"
"""Entry of scvi-tools' registry of an AnnData: what the registered data were like."""


def colors(column: str) -> str:
    """`.uns` key under which scanpy keeps the colours of a column's categories: ``"cell_type_colors"``."""
    return f"{column}_colors"


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

Basis = Literal["pca", "umap", "tsne"]
"""Embeddings of :func:`scmimic.tl.joint_embedding`."""

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

RARE_CLASSIFICATION = "rare_classification"
"""`.uns` key of :func:`scmimic.tl.rare_classification`."""

OVERALL = "overall"
"""What tables call all cells together, in the place of a label, and all factors, in the place of one."""

DISENTANGLEMENT = "disentanglement"
"""`.uns` key of :func:`scmimic.tl.disentanglement`."""

LATENT_ARITHMETIC = "latent_arithmetic"
"""`.uns` key of :func:`scmimic.tl.latent_arithmetic`."""

OBS_CONTROL_CELL = "control_cell"
"""`.obs` column of its cells: the real cell whose code was moved."""

LATENT_ENTROPY = "latent_entropy"
"""`.uns` key of :func:`scmimic.tl.latent_entropy`."""

HOLDOUT_ARITHMETIC = "holdout_arithmetic"
"""`.uns` key of :func:`scmimic.tl.holdout_arithmetic`."""

EVALUATE_PERTURBATION = "evaluate_perturbation"
"""`.uns` key of :func:`scmimic.tl.evaluate_perturbation`."""

LATENT_TRAVERSAL = "latent_traversal"
"""`.uns` key of :func:`scmimic.tl.latent_traversal`."""

OBS_DIMENSION = "dimension"
"""`.obs` columns of its cells: the dimension that was moved, and its value."""
OBS_VALUE = "value"

REALISM = "realism"
"""`.uns` key of :func:`scmimic.tl.evaluate`."""


def latent(model_name: str) -> str:
    """`.obsm` key of the latent codes that cells were generated from, such as ``"X_activa"``."""
    return f"X_{model_name.lower()}"


def code(model_name: str, number: int = 0) -> str:
    """`.obsm` key of the codes that a MichiGAN is trained on, by the model that made them: ``"X_scvi_code"``.

    Those of further models of the class are numbered: ``"X_scvi_code_1"``.
    """
    return f"X_{model_name.lower()}_code{f'_{number}' if number else ''}"


def code_var(model_name: str, number: int = 0) -> str:
    """`.obsm` key of the variances of these codes."""
    return f"{code(model_name, number)}_var"


def latent_name(dim: int | str) -> str:
    """What a dimension of a latent space is called, by its position, of which 0 is the first; a name stays."""
    return dim if isinstance(dim, str) else f"Z{int(dim) + 1}"


def latent_names(n_latent: int) -> list[str]:
    """What the dimensions of a latent space are called wherever they are named: ``"Z1"``, ``"Z2"``, ..."""
    return [latent_name(position) for position in range(n_latent)]


def asked_latents(dims: int | str | Sequence[int | str]) -> list[str]:
    """Names of the dimensions that a user names, or gives by position; one, or several."""
    return [latent_name(dim) for dim in (dims if isinstance(dims, Sized) and not isinstance(dims, str) else [dims])]


def latent_positions(dims: int | str | Sequence[int | str] | None, n_latent: int) -> list[int]:
    """Positions of dimensions that a user names, or gives by position; None: all.

    Raises
    ------
    ValueError
        If one does not exist, or is named twice.
    """
    if dims is None:
        return list(range(n_latent))
    known = {name: position for position, name in enumerate(latent_names(n_latent))}
    names = asked_latents(dims)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"`dims`: there is no {', '.join(unknown)}. The latent dimensions are Z1 to Z{n_latent}, at the positions "
            f"0 to {n_latent - 1}."
        )
    if twice := [name for name in known if names.count(name) > 1]:
        raise ValueError(f"`dims` has {', '.join(twice)} more than once: give different dimensions.")
    return [known[name] for name in names]


def joint(basis: str, key_added: str | None = None) -> str:
    """`.obsm` key of :func:`scmimic.tl.joint_embedding`: ``"X_joint_umap"``, or ``"X_mine_umap"`` for `key_added`."""
    return f"X_{key_added or 'joint'}_{basis}"


OBS_CELL_TYPE = "cell_type"
"""`.obs` columns of the data sets."""
OBS_BATCH = "batch"
OBS_CONDITION = "condition"
OBS_DONOR = "donor"

OBS_LIBRARY_SIZE = "library_size"
"""`.obs` column with the expected total counts of a simulated cell."""
OBS_PATH = "path"
"""Further `.obs` columns of :func:`scmimic.datasets.splat`."""
OBS_GROUP = "group"
OBS_STEP = "step"
OBS_LIBRARY_SIZE_QUANTILE = "library_size_quantile"
OBS_TOTAL_COUNTS = "total_counts"

VAR_BASE_MEAN = "base_mean"
"""`.var` columns of :func:`scmimic.datasets.splat`."""
VAR_OUTLIER_FACTOR = "outlier_factor"
VAR_MEAN = "mean"
VAR_BCV_FACTOR = "bcv_factor"
VAR_SPLAT = (VAR_BASE_MEAN, VAR_OUTLIER_FACTOR, VAR_MEAN, VAR_BCV_FACTOR)
VAR_SPLAT_PREFIXES = ("batch_factor_", "de_factor_", "sigma_factor_")
"""Beginnings of its `.var` columns that stand once per batch, path or group."""


def batch_factor(batch: str) -> str:
    """`.var` column with the factors of a batch: ``"batch_factor_batch_0"``."""
    return f"{VAR_SPLAT_PREFIXES[0]}{batch}"


def de_factor(group: str) -> str:
    """`.var` column with the factors of a group, or of the end of a path: ``"de_factor_path_0"``."""
    return f"{VAR_SPLAT_PREFIXES[1]}{group}"


def sigma_factor(path: str) -> str:
    """`.var` column with the scale of the genes' deviations from the straight line: ``"sigma_factor_path_0"``."""
    return f"{VAR_SPLAT_PREFIXES[2]}{path}"


def step_factors(path: str) -> str:
    """`.varm` key of the factors along a path, genes x steps: ``"step_factors_path_0"``."""
    return f"step_factors_{path}"


OBS_CATEGORY = "category"
"""`.obs` column with the category of cells from an InfoWGANGP that has categories but no labels."""

CODE_FAITHFULNESS = "code_faithfulness"
"""`.uns` key of :func:`scmimic.tl.code_faithfulness`."""

CODE_FACTORS = "code_factor_correlation"
"""`.uns` key of :func:`scmimic.tl.code_factor_correlation`."""
