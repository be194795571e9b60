"""Words of other packages that say nothing to the user: left out by their text, and only within our own calls."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_WARNINGS = (
    # Lightning's own code, on Python's newest torch
    r".*isinstance\(treespec, LeafSpec\)",
    # our models log what they log by epochs
    r".*smaller than the logging interval Trainer\(log_every_n_steps",
    # ours generate without their training cells
    r"Save path contains no saved anndata",
    # mudata reads and writes so by itself
    r"From 0\.4 \.update\(\) will not pull",
    r"The method mod_names is deprecated",
    # covariates as pandas hands them to scvi-tools; nothing writes to them, and torch says it once
    r"The given NumPy array is not writable",
    # a format that anndata chooses for us
    r".*zarr v3 autosharding will be the default",
    r"Writing zarr v2 data will no longer be the default",
    # and one that annbatch does
    r"Consolidated metadata is currently not part in the Zarr format 3",
)
_LIGHTNING = r"GPU available: False|(TPU|HPU) available: False|💡 Tip:|`Trainer\.fit` stopped: `max_epochs"
_RECORDS = {
    # whichever of them was imported last speaks for all
    "lightning.pytorch.utilities.rank_zero": _LIGHTNING,
    "lightning.fabric.utilities.rank_zero": _LIGHTNING,
    "lightning_utilities.core.rank_zero": _LIGHTNING,
    "lightning.fabric.utilities.seed": r"Seed set to",
    "scvi.data._download": r"File .* already downloaded",
    "scvi.data.fields._arraylike_field": r"Generating sequential column names",
    "scvi.model.base._base_model": r"Input AnnData not setup with scvi-tools|Model was loaded without AnnData",
}


# Of a forest whose list of filters another one, in another thread, has just emptied.
_RACE = re.compile(r"`sklearn\.utils\.parallel\.delayed` should be used")


class _LeaveOut(logging.Filter):
    def __init__(self, text: str):
        super().__init__()
        self._text = re.compile(text)

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno > logging.INFO or self._text.match(record.getMessage()) is None


@contextmanager
def without_noise() -> Iterator[None]:
    """Within the block, leave out what other packages say of themselves.

    Messages are known by their beginning; all others, and whatever is more than information in a log, come through.
    """
    filters = [(logging.getLogger(name), _LeaveOut(text)) for name, text in _RECORDS.items()]
    for logger, leave_out in filters:
        logger.addFilter(leave_out)
    try:
        with warnings.catch_warnings():
            for text in _WARNINGS:
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        for logger, leave_out in filters:
            logger.removeFilter(leave_out)


@contextmanager
def without_warnings(*categories: type[Warning]) -> Iterator[None]:
    """Within the block, leave out warnings of some categories, also where threads work on forests of scikit-learn.

    Its forests change the filters of all threads for each tree, and warn where they meet one another: filters alone
    cannot be relied on.
    """
    with warnings.catch_warnings():
        for category in categories:
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", _RACE.pattern)
        show = warnings.showwarning

        def show_others(message: Warning | str, category: type[Warning], *where: Any, **further: Any) -> None:
            if not issubclass(category, categories) and not _RACE.match(str(message)):
                show(message, category, *where, **further)

        warnings.showwarning = show_others
        yield
