"""Save and load that leave nothing half-written and accept nothing that does not fit."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData

from scmimic._sampling import package_version
from scmimic.model._validation import check_genes

MODEL_FILE = "model.pt"


class SafeSaveMixin:
    """:meth:`save` and :meth:`load` of every model."""

    def save(self, dir_path: str | os.PathLike, prefix: str | None = None, overwrite: bool = False, **kwargs) -> None:
        """Save the whole model: networks, classifier, posterior of the training cells, history.

        Everything is written beside the target first and moved there at the end, so that a failing write (a full disk)
        leaves an older model as it was.

        Parameters
        ----------
        dir_path
            Directory to write to.
        prefix
            Prefix of the file names.
        overwrite
            Replace the model that is there.
        **kwargs
            Passed to :meth:`scvi.model.base.BaseModelClass.save`, such as ``save_anndata=True``.

        Raises
        ------
        ValueError
            If the directory exists and `overwrite` is False.
        """
        target = Path(dir_path)
        if target.exists() and not overwrite:
            raise ValueError(f"{target} exists already. Name another directory, or pass `overwrite=True`.")
        self.scmimic_version_ = package_version()
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as staging:
            super().save(staging, prefix=prefix, overwrite=True, **kwargs)
            self._save_parts(Path(staging), prefix or "")
            target.mkdir(exist_ok=True)
            for written in Path(staging).iterdir():
                os.replace(written, target / written.name)

    def _save_parts(self, staging: Path, prefix: str) -> None:
        """Write what a model needs besides its own file; nothing here."""

    @classmethod
    def load(cls, dir_path: str | os.PathLike, adata: AnnData | MuData | None = None, **kwargs):
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Directory that :meth:`save` wrote.
        adata
            Data with the genes of the training data, in the same order. None: the data saved with the model, or none
            at all; :meth:`generate` works without.
        **kwargs
            Passed to :meth:`scvi.model.base.BaseModelClass.load`, such as ``accelerator``, ``device`` or ``prefix``.

        Returns
        -------
        The model.

        Raises
        ------
        ValueError
            If the directory holds no model of this class, or the genes of `adata` differ; for GANs also its units.

        Notes
        -----
        The file is a pickle: loading one from a source that you do not trust can run any code.
        """
        path = Path(dir_path) / f"{kwargs.get('prefix') or ''}{MODEL_FILE}"
        if not path.is_file() and not kwargs.get("backup_url"):
            raise ValueError(
                f"{dir_path} is no saved model: there is no {path.name} in it. Name the directory that was given to "
                f"`{cls.__name__}.save`."
            )
        if adata is not None and adata is not False and path.is_file():
            cls._check_saved(_read(path), adata)
        return super().load(str(dir_path), adata=adata, **kwargs)

    @classmethod
    def _check_saved(cls, saved: Mapping[str, Any], adata: AnnData | MuData) -> None:
        """Reject data that are not as those of a saved model, by what its file holds."""
        var_names = saved["var_names"]
        if isinstance(var_names, dict):
            for modality, names in var_names.items():
                if modality not in adata.mod:
                    raise ValueError(f"The model was trained on the modality {modality!r}, which `adata` lacks.")
                check_genes(adata.mod[modality].var_names, np.asarray(names))
        elif isinstance(adata, AnnData):
            check_genes(adata.var_names, np.asarray(var_names))

    @staticmethod
    def _saved(dir_path: str | os.PathLike, prefix: str | None) -> dict[str, Any] | None:
        """What the file of a saved model holds; None where there is no such file."""
        path = Path(dir_path) / f"{prefix or ''}{MODEL_FILE}"
        return _read(path) if path.is_file() else None


def _read(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location="cpu", weights_only=False, mmap=True)
