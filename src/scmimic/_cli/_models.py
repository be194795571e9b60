"""Models by their names, and what of the command line each takes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anndata import AnnData

from scmimic import model as models
from scmimic._cli._errors import WORDS
from scmimic.model.base import CellModel, saved_name


def make_model(name: str, adata: AnnData, representation: Path | None, **options: Any) -> CellModel:
    """Register cells and make the model of a name.

    Parameters
    ----------
    name
        Public name of the class.
    adata
        The cells.
    representation
        Folder of a saved model, whose codes a MichiGAN takes.
    **options
        Arguments of the class and its ``setup_anndata``; those that are None are left to the model.

    Raises
    ------
    ValueError
        If the model takes no such option, or needs one more.
    """
    given = {key: value for key, value in options.items() if value is not None}
    cls = getattr(models, name)
    if representation is not None:
        return _on_representation(name, adata, representation, given)
    refuse_unknown(name, "setup_anndata", {key: value for key, value in given.items() if key != "gene_likelihood"})
    likelihood = {key: given.pop(key) for key in ("gene_likelihood",) if key in given}
    refuse_unknown(name, "__init__", likelihood)
    setup = inspect.signature(cls.setup_anndata).parameters
    if "labels_key" in setup and setup["labels_key"].default is inspect.Parameter.empty and "labels_key" not in given:
        raise ValueError(f"{name} learns the types of cells: name the column of .obs that has them, --labels.")
    if given.get("unlabeled_category") == "":
        given["unlabeled_category"] = None
    cls.setup_anndata(adata, **given)
    return cls(adata, **likelihood)


def _on_representation(name: str, adata: AnnData, folder: Path, given: Mapping[str, Any]) -> CellModel:
    """A MichiGAN on the codes of a saved model."""
    if name != "MichiGAN":
        raise ValueError(f"--representation is for --model MichiGAN, and not for {name}.")
    if "code_key" in given:
        raise ValueError("--representation and --codes both say where codes come from: leave one out.")
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: train a model with `scmimic train` first.")
    refuse_unknown(name, "from_representation", given)
    encoder = load_model(folder, adata, allow_pickle=False)
    if not hasattr(encoder, "get_latent_representation"):
        raise ValueError(f"{folder} holds {type(encoder).__name__}, which has no codes: take an ACTIVA or BetaTCVAE.")
    return models.MichiGAN.from_representation(encoder, **given)


def load_model(folder: Path, adata: AnnData | None = None, *, allow_pickle: bool) -> Any:
    """Load a saved model of any class."""
    return getattr(models, saved_name(folder, allow_pickle=allow_pickle)).load(folder, adata, allow_pickle=allow_pickle)


def refuse_unknown(name: str, method: str, given: Mapping[str, Any]) -> None:
    """Raise where a model's method does not take an argument that is given, and say whose does."""
    for argument, value in given.items():
        if value is None or _takes(name, method, argument):
            continue
        others = [other for other in models.__all__ if _takes(other, method, argument)]
        raise ValueError(f"{name} takes no {WORDS[argument]}: leave it out, or choose of {', '.join(others)}.")


def _takes(name: str, method: str, argument: str) -> bool:
    function = getattr(getattr(models, name), method, None)
    return function is not None and argument in inspect.signature(function).parameters
