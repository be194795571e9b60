"""Cells that are made in parts, each in a file of its own, until all are there and become one.

A part is a fixed number of blocks, and each block has random numbers of its own: who makes a part, when and how often
does not change its cells. So a run that was killed goes on with the parts that are missing, and several processes share
the parts among them. Not public.
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
from anndata.io import read_elem, write_elem

from scmimic._files import CELL_ENDINGS, OutputExistsError, check_output, replacing
from scmimic.cells import AttributeValues, fingerprint, generation_record
from scmimic.model.generation._output import Chunk, stack, stream
from scmimic.model.generation._planned import PlannedCells
from scmimic.model.generation._sampler import BLOCK

# Blocks of a part: what a kill costs at most, and what is held in memory.
BLOCKS = 32
PART = BLOCKS * BLOCK

# Values of a parameter that are kept by their fingerprint.
_LONG = 50

_REQUEST = "request.json"


def check_path(path: str | os.PathLike | None, *, overwrite: bool, resume: bool, seed: int | None) -> Path | None:
    """Refuse a place that cells cannot be written to, and parts that no later call could go on with."""
    if resume and path is None:
        raise ValueError("`resume=True` goes on with a file that was begun: give its `path`.")
    if resume and seed is None:
        raise ValueError("`resume=True` needs a `seed`: a call that goes on must ask for the cells that were begun.")
    return None if path is None else check_output(path, overwrite=overwrite, endings=CELL_ENDINGS)


def plan_parts(model: Any, path: Path, request: Mapping[str, Any]) -> Parts:
    """The parts of what a model's ``generate`` makes of these arguments.

    Raises
    ------
    ValueError
        If the model generates nothing, or cells that may be rejected.
    TypeError
        If its ``generate`` takes no such argument.
    """
    name = type(model).__name__
    if not hasattr(model, "_plan_cells"):
        raise ValueError(f"{name} generates no cells.")
    if unknown := sorted(request.keys() - inspect.signature(model._plan_cells).parameters.keys()):
        raise TypeError(f"{name}.generate takes no {unknown} to say which cells are made.")
    model._check_request(request)
    return Parts(path, model._plan_cells(**request))


class Parts:
    """The parts of some cells, in a folder beside the file that they become.

    Parameters
    ----------
    path
        The file or store.
    planned
        The cells.

    Raises
    ------
    ValueError
        If cells may be rejected, or the file cannot hold what is said of them.
    """

    def __init__(self, path: Path, planned: PlannedCells):
        if planned.sampler.judged:
            raise ValueError(
                "Cells that the classifier may reject are drawn one after the other, not in parts: leave "
                "`min_confidence` out, and take codes that are no prior's."
            )
        planned.about.check_names(path)
        self.path, self.folder = path, Path(f"{os.path.realpath(path)}.unfinished")
        self.planned, self.total = planned, planned.total

    def open(self) -> int:
        """Make the folder, or find that it holds parts of the same cells; gives the number of cells still to make.

        Raises
        ------
        ValueError
            If it holds parts of other cells.
        FileExistsError
            If it holds something else.
        """
        self.folder.mkdir(exist_ok=True)
        place = self.folder / _REQUEST
        if not place.exists():
            if any(not entry.name.startswith(".") for entry in self.folder.iterdir()):
                raise FileExistsError(f"{self.folder} is in the way, where parts of the cells are to be: move it.")
            # another process may have begun meanwhile
            with suppress(OutputExistsError), replacing(place, overwrite=False) as partial:
                partial.write_text(json.dumps(self._request(), indent=2), encoding="utf-8")
        self.check()
        return sum(self._size(number) for number in self.missing())

    def check(self) -> None:
        """Refuse parts of other cells."""
        begun, asked = json.loads((self.folder / _REQUEST).read_text(encoding="utf-8")), self._request()
        if begun == asked:
            return
        differ = [
            f"{name} was {begun.get(name, 'not given')} and is {asked.get(name, 'not given')}"
            for name in [*asked, *(begun.keys() - asked)]
            if begun.get(name) != asked.get(name)
        ]
        raise ValueError(
            f"{self.folder} holds parts of cells that were asked for otherwise: {'; '.join(differ)}. Ask as it was "
            "done then to go on with them, or delete that folder to begin anew."
        )

    def _request(self) -> dict[str, Any]:
        """What the cells depend on, as JSON has it."""
        about, asked = self.planned.about, self.planned.asked
        record = generation_record(about.model_name, about.parameters, about.seed)
        found = {
            **record,
            **record.pop("parameters"),
            "n": self.total,
            "type": str(about.dtype),
            "device": self.planned.device,
            "the model's fingerprint": about.source,
            "the rows' fingerprint": fingerprint(asked.codes, asked.numbers, self.planned.shuffle),
        }
        return json.loads(json.dumps(found, default=_short))

    @property
    def token(self) -> str:
        """Text that tells the cells from others."""
        return fingerprint(self._request())

    def _size(self, number: int) -> int:
        return min(PART, self.total - number * PART)

    def _file(self, number: int) -> Path:
        return self.folder / f"part-{number:06}.h5"

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there yet."""
        return [number for number in range(-(-self.total // PART)) if not self._file(number).exists()]

    def make(self, numbers: Iterable[int]) -> Iterator[int]:
        """Make these parts; gives the number of cells of each once it is written."""
        last = -(-self.total // BLOCK)
        for number in numbers:
            wanted = range(number * BLOCKS, min((number + 1) * BLOCKS, last))
            chunk = stack(list(self.planned.blocks(wanted)))
            with replacing(self._file(number)) as partial, h5py.File(partial, "w") as file:
                _write(file, chunk)
            yield len(chunk.z)

    def read(self) -> Iterator[Chunk]:
        """All parts, in order."""
        for number in range(-(-self.total // PART)):
            with h5py.File(self._file(number)) as file:
                x, z, codes, numbers = (read_elem(file[name]) for name in ("x", "z", "codes", "numbers"))
            yield Chunk(x, z, AttributeValues(codes, numbers))

    def join(self, *, overwrite: bool) -> ad.AnnData:
        """Put all parts together at the path, where they take their place as one, and remove them."""
        result = stream(self.read(), self.planned.about, self.total, self.path, overwrite=overwrite)
        shutil.rmtree(self.folder)
        return result


def _write(file: h5py.File, chunk: Chunk) -> None:
    squeezed = {"compression": "lzf"}
    write_elem(file, "x", chunk.x, dataset_kwargs=squeezed)
    write_elem(file, "z", chunk.z)
    write_elem(file, "codes", chunk.attributes.codes, dataset_kwargs=squeezed)
    write_elem(file, "numbers", chunk.attributes.numbers)


def _short(values: np.ndarray) -> Any:
    """A parameter that is an array, or its fingerprint if it is long."""
    return values.tolist() if values.size < _LONG else f"{values.size} values, {fingerprint(values)}"
