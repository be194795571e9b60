"""What all six models are."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anndata import AnnData
from mudata import MuData

from scmimic._arguments import FLAG, PATH, SETTINGS, TEXT, check_keywords, parameter_names
from scmimic._compat import download
from scmimic._files import check_output, recover, replacing
from scmimic._noise import without_noise
from scmimic._plain import from_plain, to_plain
from scmimic._version import package_version
from scmimic.cells import CELLS, check_genes, check_units, get_matrix
from scmimic.model.base._saving import (
    ATTEMPTS,
    CARD_FILE,
    DATA_FILES,
    FORMAT,
    MODEL_FILE,
    OF_SCVI,
    REPRESENTATION_PREFIX,
    plain_parameters,
    read_model,
    warn_of_changes,
)
from scmimic.model.base._training import ACCELERATOR, DEVICE, TrainableModel

logger = logging.getLogger(__name__)


class CellModel(TrainableModel):
    """A model of cells: it registers its data and remembers of them what it needs, trains, saves and loads.

    Each step is a class of its own below this one: :class:`~scmimic.model.base._registration.RegisteredModel`,
    :class:`~scmimic.model.base._training.TrainableModel`, and here :meth:`save` and :meth:`load`.
    """

    _takes_any_scale = False
    """Whether counts and scaled counts are the same to the networks."""

    def save(
        self,
        dir_path: str | os.PathLike,
        prefix: str | None = None,
        overwrite: bool = False,
        save_anndata: bool = False,
        save_kwargs: dict[str, Any] | None = None,
        legacy_mudata_format: bool = False,
        *,
        shareable: bool = False,
        **anndata_write_kwargs,
    ) -> None:
        """Save the whole model: networks, classifier, posterior of the training cells, history.

        The directory takes its place as one thing, when all is written: after a failure (a full disk) or a kill there
        is the older model, whole. Of the older model, which all files of the same `prefix` are, nothing stays; models
        of other prefixes and other files in the directory do.

        Parameters
        ----------
        dir_path
            Directory to write to.
        prefix
            Prefix of the file names, so that a directory can hold several models.
        overwrite
            Replace the model that is there.
        save_anndata
            Save the training data too. False: an older model's data are removed with it.
        save_kwargs
            Passed to :func:`torch.save`.
        legacy_mudata_format
            Save the gene names of a MuData as one list of all modalities.
        shareable
            Leave out whatever is of a single training cell: codes, library sizes, row numbers, and gene margins and all
            else of groups of fewer than 20 cells, whose types are not generated. Codes then come from mixtures
            (``codes="mixture"``). A model card, ``model_card.md``, says what is there. Of
            :class:`~scmimic.model.ACTIVA` and :class:`~scmimic.model.BetaTCVAE`. The networks have seen the cells all
            the same; see the user guide on privacy.
        **anndata_write_kwargs
            Passed to :meth:`anndata.AnnData.write_h5ad`, such as ``compression="gzip"``.

        Raises
        ------
        ValueError
            If the directory exists and `overwrite` is False, or is the one that you work in, or there are no data to
            save.
        TypeError
            If an attribute that was added to the model is no number, text, array, table or tensor.
        OSError
            If the directory is a file, or cannot be written to.

        Notes
        -----
        The file holds plain values alone: arrays, tensors, numbers and text, and no path of a class. So it can be
        loaded by other versions of Python, pandas and scmimic. The one exception is a network of your own that an
        :class:`~scmimic.model.ACTIVA` was given as `classifier`, which is pickled: it needs its class to be loaded.

        Examples
        --------
        Keep a model, and generate with it elsewhere, without its data.

        >>> import tempfile
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> folder = tempfile.mkdtemp()
        >>> model.save(f"{folder}/model")
        >>> sm.ACTIVA.load(f"{folder}/model").generate(5, seed=0).n_obs
        5
        """
        PATH.check(dir_path=dir_path)
        TEXT.or_none.check(prefix=prefix)
        FLAG.check(overwrite=overwrite, save_anndata=save_anndata, legacy_mudata_format=legacy_mudata_format)
        FLAG.check(shareable=shareable)
        if shareable and save_anndata:
            raise ValueError("`shareable=True` leaves every training cell out, and `save_anndata=True` saves them all.")
        written = self._shareable() if shareable else self
        SETTINGS.or_none.check(save_kwargs=save_kwargs)
        target = check_output(dir_path, overwrite=overwrite, folder=True, name="`dir_path`")
        prefix = prefix or ""
        if Path(prefix).name != prefix or prefix.endswith(REPRESENTATION_PREFIX):
            raise ValueError(
                f"`prefix` is the beginning of a file name, without a folder, and must not end in "
                f"{REPRESENTATION_PREFIX!r}, which models use themselves; it is {prefix!r}."
            )
        if save_anndata and self.adata is None:
            raise ValueError(f"`save_anndata=True` needs the data, but this {type(self).__name__} was loaded without.")
        if not save_anndata and (old := [name for name in DATA_FILES if (target / f"{prefix}{name}").exists()]):
            logger.warning(
                "%s of the model that is replaced is removed with it: the data are not saved anew. Pass "
                "`save_anndata=True` to save them.",
                target / f"{prefix}{old[0]}",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        files = "|".join((MODEL_FILE, CARD_FILE, *DATA_FILES))
        own = re.compile(rf"{re.escape(prefix)}({REPRESENTATION_PREFIX})*({files})")
        with replacing(target, overwrite=overwrite, keep=lambda name: own.fullmatch(name) is None) as folder:
            folder.mkdir()
            written._write(folder, prefix, save_kwargs, legacy_mudata_format)
            if shareable:
                (folder / f"{prefix}{CARD_FILE}").write_text(written._card(), encoding="utf-8")
            if save_anndata:
                name = DATA_FILES[isinstance(self.adata, MuData)]
                with without_noise():
                    self.adata.write(folder / f"{prefix}{name}", **anndata_write_kwargs)

    def _shareable(self) -> CellModel:
        """A copy that holds nothing of a single training cell."""
        raise ValueError(
            f"{type(self).__name__} cannot be saved with `shareable=True`: only ACTIVA and BetaTCVAE know how to "
            "generate without their training cells."
        )

    def _card(self) -> str:
        """What a shareable model holds, as Markdown."""
        raise NotImplementedError

    def _write(
        self,
        folder: Path,
        prefix: str,
        save_kwargs: Mapping[str, Any] | None = None,
        legacy_mudata_format: bool = False,
    ) -> None:
        """Write the model without its data to an existing folder."""
        self.scmimic_version_ = package_version()
        attributes = {
            name: to_plain(value, name)
            for name, value in vars(self).items()
            if name.endswith("_") and not name.startswith("_") and name not in OF_SCVI
        }
        about = {"format": FORMAT, "version": self.scmimic_version_, "model": type(self).__name__}
        content = {
            "model_state_dict": self.module.state_dict(),
            "var_names": to_plain(self.get_var_names(legacy_mudata_format), "var_names", arrays=False),
            "attr_dict": {
                # what is passed on to `setup_anndata` and to the class comes without another word
                "registry_": {
                    key: to_plain(value, f"registry_[{key!r}]", arrays=key != "setup_args")
                    for key, value in self.registry_.items()
                },
                "init_params_": plain_parameters(self.init_params_),
                "scmimic_": {**about, "attributes": attributes},
            },
        }
        torch.save(content, folder / f"{prefix}{MODEL_FILE}", **(save_kwargs or {}))

    def _take_saved(self, saved: Mapping[str, Any]) -> None:
        for name, value in saved["attributes"].items():
            setattr(self, name, from_plain(value))

    scmimic_ = property(None, _take_saved, doc="The saved attributes, which scvi-tools sets on a model that it loads.")

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike,
        adata: AnnData | MuData | None = None,
        accelerator: str = "auto",
        device: int | str = "auto",
        prefix: str | None = None,
        backup_url: str | None = None,
        *,
        allow_pickle: bool = True,
        **kwargs,
    ):
        """Load a saved model.

        Parameters
        ----------
        dir_path
            Directory that :meth:`save` wrote.
        adata
            Data with the genes of the training data, in the same order. None: the data saved with the model, or none
            at all; :meth:`generate` works without. A :class:`~scmimic.model.MichiGAN` with a representation encodes
            them anew, into keys as those of its `from_representation`.
        accelerator, device
            Where the networks are put, as in scvi-tools. ``"auto"``: a GPU if there is one.
        prefix
            Prefix of the file names that :meth:`save` was given.
        backup_url
            Address from which the model's file is downloaded where the directory has none.
        allow_pickle
            Load pickled objects too, which can run any code: a classifier of your own in an
            :class:`~scmimic.model.ACTIVA`, the representation of a :class:`~scmimic.model.MichiGAN` that is a model of
            another package. Pass False for a file that you do not trust; all else is plain values.
        **kwargs
            Passed to :meth:`scvi.model.base.BaseModelClass.load`.

        Returns
        -------
        The model.

        Raises
        ------
        ValueError
            If the directory holds no model of this class, its file is damaged, of a later version or holds pickled
            objects that are not allowed, or the genes or the units of `adata` differ.
        TypeError
            If `adata` is an AnnData and the model was trained on a MuData, or the other way round.
        OSError
            If other processes replace the directory again and again.

        Examples
        --------
        >>> import tempfile
        >>> import scmimic as sm
        >>> adata = sm.datasets.synthetic_counts(n_obs=60, n_vars=20, seed=0)
        >>> sm.ACTIVA.setup_anndata(adata, labels_key="cell_type")
        >>> model = sm.ACTIVA(adata, n_latent=2, n_hidden=(8,))
        >>> model.train(max_epochs=2, enable_progress_bar=False)
        >>> folder = tempfile.mkdtemp()
        >>> model.save(f"{folder}/model")
        >>> loaded = sm.ACTIVA.load(f"{folder}/model", adata=adata)
        >>> loaded.get_latent_representation().shape
        (60, 2)
        """
        PATH.check(dir_path=dir_path)
        FLAG.check(allow_pickle=allow_pickle)
        if adata is not False:
            CELLS.or_none.check(adata=adata)
        ACCELERATOR.check(accelerator=accelerator)
        DEVICE.check(device=device)
        TEXT.or_none.check(prefix=prefix, backup_url=backup_url)
        check_keywords(kwargs, parameter_names(super().load), what=f"`{cls.__name__}.load`")
        kwargs |= {"accelerator": accelerator, "device": device, "prefix": prefix, "backup_url": backup_url}
        for _ in range(ATTEMPTS):
            before = cls._state_of(dir_path, prefix)
            try:
                model = cls._load(dir_path, adata, allow_pickle=allow_pickle, **kwargs)
            except (ValueError, OSError):
                if cls._state_of(dir_path, prefix) == before:
                    raise
            else:
                # a network of one model and the data of another, if another process has replaced them in between
                if before in (None, cls._state_of(dir_path, prefix)):
                    return model
        raise OSError(f"{dir_path} is replaced while it is loaded, again and again. Load it when nothing writes to it.")

    @staticmethod
    def _state_of(dir_path: str | os.PathLike, prefix: str | None) -> tuple[int, ...] | None:
        """What differs between a model's file and one that replaces it; None where there is none."""
        try:
            status = os.stat(Path(dir_path) / f"{prefix or ''}{MODEL_FILE}")
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    @classmethod
    def _load(cls, dir_path: str | os.PathLike, adata: AnnData | MuData | None, *, allow_pickle: bool, **kwargs):
        """Do the work of :meth:`load`."""
        saved = cls._saved(dir_path, allow_pickle=allow_pickle, **kwargs)
        if adata is not None and adata is not False:
            cls._check_saved(saved, adata)
        with without_noise():
            model = super().load(str(dir_path), adata=adata, **kwargs)
        if model.adata is not None:
            warn_of_changes(saved["attr_dict"]["registry_"], model)
        return model

    @classmethod
    def _saved(
        cls,
        dir_path: str | os.PathLike,
        *,
        allow_pickle: bool,
        prefix: str | None = None,
        backup_url: str | None = None,
        **_,
    ) -> dict[str, Any]:
        """What the file of a saved model of this class holds."""
        path = Path(dir_path) / f"{prefix or ''}{MODEL_FILE}"
        if not path.is_file():
            recover(dir_path)
            if backup_url:
                download(backup_url, str(dir_path), path.name)
        if not path.is_file():
            raise ValueError(
                f"{dir_path} is no saved model: there is no {path.name} in it. Name the directory that was given to "
                f"`{cls.__name__}.save`."
            )
        return read_model(path, cls.__name__, allow_pickle=allow_pickle)

    @classmethod
    def _check_saved(cls, saved: Mapping[str, Any], adata: AnnData | MuData) -> None:
        """Reject data that are not as those of a saved model, by what its file holds."""
        var_names, modalities = saved["var_names"], saved["attr_dict"]["registry_"]["setup_args"].get("modalities")
        if isinstance(adata, MuData):
            if modalities is None:
                # the registration says that it takes no MuData
                return
            for modality, names in var_names.items() if isinstance(var_names, dict) else ():
                if modality not in adata.mod:
                    raise ValueError(f"The model was trained on the modality {modality!r}, which `adata` lacks.")
                check_genes(adata.mod[modality].var_names, np.asarray(names))
            cells = adata.mod[modalities["rna_layer"]]
        elif modalities is None:
            check_genes(adata.var_names, np.asarray(var_names))
            cells = adata
        else:
            raise TypeError(
                f"The model was trained on a MuData, but `adata` is an {type(adata).__name__}. Give a MuData with the "
                f"modality {modalities['rna_layer']!r}."
            )
        for name in ("expression_space_", "representation_space_"):
            known = saved["attr_dict"].get(name)
            if known is not None:
                check_units(get_matrix(cells, known.layer), known, any_scale=cls._takes_any_scale)
