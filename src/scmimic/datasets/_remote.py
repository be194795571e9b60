"""Files of published data sets: downloaded once into a cache folder, or a local copy."""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import Request, urlopen

import scanpy as sc
from rich.progress import wrap_file

from scmimic._arguments import PATH
from scmimic._files import replacing
from scmimic._version import package_version

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_TIMEOUT = 60
"""Seconds without an answer after which a server counts as out of reach."""


@dataclass(frozen=True)
class RemoteFile:
    """A published file: its name, where it is, and `"algorithm:digest"` where its publisher or users tell one."""

    name: str
    url: str
    checksum: str | None = None


@dataclass(frozen=True)
class Source:
    """The files of one data set, and the page on which people find them."""

    name: str
    page: str
    files: tuple[RemoteFile, ...]

    def paths(self, path: str | os.PathLike | None) -> list[Path]:
        """Where the files are: at `path`, or in the cache, to which what is not there yet is downloaded."""
        PATH.or_none.check(path=path)
        if path is not None:
            return self._local(Path(path))
        folder = Path(sc.settings.datasetdir) / self.name
        paths = [folder / file.name for file in self.files]
        for file, target in zip(self.files, paths, strict=True):
            if not target.exists():
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    self._download(file, target)
                finally:
                    # one that holds no file says nothing, and was made for this one
                    with suppress(OSError):
                        folder.rmdir()
        return paths

    def _local(self, path: Path) -> list[Path]:
        if path.is_file() and len(self.files) == 1:
            return [path]
        paths = [path / file.name for file in self.files]
        missing = [local.name for local in paths if not local.is_file()]
        if missing:
            wanted = "the file itself or a folder that holds it" if len(paths) == 1 else "a folder that holds both"
            raise FileNotFoundError(
                f"`path` {path} has no {' and no '.join(missing)}: pass {wanted}. Where to get it: {self.page}"
            )
        return paths

    def _download(self, file: RemoteFile, target: Path) -> None:
        logger.info("Downloading %s to %s.", file.url, target)
        with replacing(target) as partial:
            try:
                # some servers refuse Python's own name
                request = Request(file.url, headers={"User-Agent": f"scmimic/{package_version()}"})
                with urlopen(request, timeout=_TIMEOUT) as response, partial.open("wb") as out:
                    announced = int(response.headers.get("Content-Length") or 0)
                    with wrap_file(response, announced, description=file.name, transient=True) as stream:
                        size, found = _copy(stream, out, file.checksum)
            except (OSError, HTTPException) as error:
                raise ConnectionError(
                    f"{file.url} could not be downloaded: {error}. Without a connection, {self._way_out(file)}"
                ) from error
            if size == 0 or size < announced:
                raise ConnectionError(
                    f"{file.url} gave {size} bytes in the place of {announced or 'a file'}. Try again later, or "
                    f"{self._way_out(file)}"
                )
            if found != file.checksum:
                raise ValueError(
                    f"{file.url} gave a file whose checksum is {found}, not {file.checksum}: it was damaged on its way "
                    f"or changed by its publisher. Nothing was kept. Try again, or {self._way_out(file)}"
                )

    def _way_out(self, file: RemoteFile) -> str:
        return (
            f"get {file.name} from {self.page} in another way and pass its place: `sm.datasets.{self.name}(path=...)`."
        )


def _copy(stream: IO[bytes], out: IO[bytes], checksum: str | None) -> tuple[int, str | None]:
    """Copy a stream; return its size, and its checksum by the algorithm of the one given."""
    algorithm = checksum.split(":")[0] if checksum else None
    digest = hashlib.new(algorithm, usedforsecurity=False) if algorithm else None
    size = 0
    while block := stream.read(_BLOCK):
        out.write(block)
        size += len(block)
        if digest is not None:
            digest.update(block)
    return size, None if digest is None else f"{algorithm}:{digest.hexdigest()}"
