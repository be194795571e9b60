"""Save and load that leave nothing half-written and accept nothing that does not fit.

A model is saved as plain values (see :mod:`scmimic._plain`), in the file and under the names in which scvi-tools keeps
its models: ``model_state_dict``, ``var_names``, and in ``attr_dict`` the registration, the parameters of the model and,
under ``scmimic_``, the format, the version, the public name of the model and its attributes.
"""

from __future__ import annotations

import logging
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scmimic import _keys
from scmimic._files import recover
from scmimic._plain import from_plain, to_plain
from scmimic._version import package_version
from scmimic.cells import changes

logger = logging.getLogger(__name__)

REPRESENTATION_PREFIX = "representation_"
"""Prefix of the files of a model that another one, a MichiGAN, was made on and holds."""
FORMAT = 1
"""Version of what is written; a file of a later one is refused."""

CARD_FILE = "model_card.md"
MODEL_FILE, DATA_FILES = "model.pt", ("adata.h5ad", "mdata.h5mu")

# Times that a model is loaded whose directory is replaced meanwhile.
ATTEMPTS = 10

# Attributes that scvi-tools itself reads from the file.
OF_SCVI = ("registry_", "init_params_")


def warn_of_changes(saved: Mapping[str, Any], model: Any) -> None:
    """Warn where a model gets the cells that it was saved with, but with other values or labels.

    They are taken for the same where either is the same for all cells, in their order.
    """
    before, now = saved.get(_keys.FINGERPRINT), model.adata_manager.registry.get(_keys.FINGERPRINT)
    if not before or not now or not before["columns"]:
        return
    changed = changes(before, now)
    if changed and not changed.cells and not changed.genes and not (changed.values and changed.columns):
        warnings.warn(
            f"`adata` holds the cells that this {type(model).__name__} was saved with, but {changed}. What it learned "
            "is of the cells as they were.",
            UserWarning,
            stacklevel=4,
        )


def plain_parameters(parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The parameters that a model was made with; a network of the user stays as it is, to be pickled."""
    return {
        kind: {
            name: value if isinstance(value, nn.Module) else to_plain(value, f"init_params_[{name!r}]", arrays=False)
            for name, value in values.items()
        }
        for kind, values in parameters.items()
    }


def saved_name(dir_path: str | os.PathLike, *, allow_pickle: bool = False) -> str:
    """The public name of the model that a directory holds, such as ``"ACTIVA"``.

    Parameters
    ----------
    dir_path
        Directory that ``save`` wrote.
    allow_pickle
        Whether pickled objects may be loaded.

    Raises
    ------
    ValueError
        If the directory holds no model of scmimic, or pickled objects that are not allowed.
    """
    path = Path(dir_path) / MODEL_FILE
    if not path.is_file():
        recover(dir_path)
    if not path.is_file():
        raise ValueError(f"{dir_path} is no saved model: there is no {path.name} in it.")
    content = _content(path, allow_pickle)
    attributes = content.get("attr_dict", {}) if isinstance(content, dict) else {}
    about = attributes.get("scmimic_", {})
    name = about.get("model") or attributes.get("registry_", {}).get("model_name")
    if name is None or not about and "scmimic_version_" not in attributes:
        raise ValueError(f"{path} is no model of scmimic.")
    return name


def read_model(path: Path, name: str, *, allow_pickle: bool) -> dict[str, Any]:
    """What the file of a saved model holds, with its attributes in ``attr_dict``.

    Parameters
    ----------
    path
        The file.
    name
        The class that it must be of.
    allow_pickle
        Whether pickled objects may be loaded.

    Raises
    ------
    ValueError
        If the file is damaged, holds no model, one of another class or of a later format, or pickled objects that are
        not allowed.
    """
    content = _content(path, allow_pickle)
    if not isinstance(content, dict) or not {"model_state_dict", "var_names", "attr_dict"} <= content.keys():
        what = f"a dict of {list(content)[:3]}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path} is no saved model: it holds {what}. Was it written by `{name}.save`?")
    attributes = content["attr_dict"]
    saved_name = attributes.get("registry_", {}).get("model_name")
    about = attributes.get("scmimic_")
    if about is None and "scmimic_version_" not in attributes:
        raise ValueError(
            f"{path} is no model of scmimic: it holds {saved_name or 'a model'} of scvi-tools. Load it with the `load` "
            "of that class."
        )
    if about is not None and about["format"] > FORMAT:
        raise ValueError(
            f"{path} was saved by scmimic {about['version']} in format {about['format']}; this scmimic, "
            f"{package_version()}, reads formats up to {FORMAT}. Update scmimic to load it."
        )
    if saved_name != name:
        raise ValueError(
            f"{path} holds a model of a different class: {saved_name}, not {name}. Load it with "
            f"`scmimic.{saved_name}.load`."
        )
    if about is not None:
        content["attr_dict"] = attributes | from_plain(about["attributes"])
    return content


def _content(path: Path, allow_pickle: bool) -> Any:
    """Load a file by plain values alone, if it can be."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            head = file.read(2)
        what = "is cut off" if head == b"PK" else "was not written by torch" if head else "is empty"
        raise ValueError(f"{path} is no saved model: the file {what}. Restore it from a copy, or save the model anew.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        if not allow_pickle:
            raise ValueError(
                f"{path} holds pickled objects, and loading these can run any code. If you trust where it comes from, "
                "pass `allow_pickle=True`."
            ) from error
    except (RuntimeError, OSError, EOFError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no saved model, or damaged: {error}.") from error
    try:
        return torch.load(path, map_location="cpu", weights_only=False, mmap=True)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"{path} holds a pickled object whose class is not there: {error}. If it is a classifier of your own, "
            "import it as it was when the model was saved. Models saved before format 1 need the scmimic that saved "
            "them."
        ) from error
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}. Restore it from a copy, or save the model anew.") from error
