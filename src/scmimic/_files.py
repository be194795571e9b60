"""Where results are written: what is refused beforehand, and results that take their place whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from uuid import uuid4

logger = logging.getLogger(__name__)

# Tells this run from an earlier one of the same process number, as containers have it.
_RUN, _NUMBER = uuid4().hex[:8], count()
CELL_ENDINGS = (".h5ad", ".zarr")
PAGE_ENDINGS = (".html", ".htm")
TABLE_ENDINGS = (".csv", ".csv.gz")
JSON_ENDINGS = (".json",)

# Times that a folder is moved to its name, where other processes keep putting theirs there.
_ATTEMPTS = 60
_WAIT = 0.001


class OutputExistsError(FileExistsError, ValueError):
    """Something stands where a result is to be written; a ValueError too, as scvi-tools raises for a model."""


def check_output(
    path: str | os.PathLike,
    *,
    overwrite: bool,
    endings: tuple[str, ...] = (),
    folder: bool = False,
    others: Mapping[str, str | os.PathLike | None] | None = None,
    name: str = "`path`",
    flag: str = "`overwrite=True`",
) -> Path:
    """Refuse a place for results, before any work is done.

    Parameters
    ----------
    path
        Where the result is wanted.
    overwrite
        Whether what stands there may be replaced.
    endings
        Endings that the name may have; a ``.zarr`` is a folder.
    folder
        The result is a folder of files, whose parents are made.
    others
        What the same call reads, or writes besides, by its name; None is left out. It is not replaced, whatever
        `overwrite` says.
    name, flag
        What the user calls `path` and `overwrite`.

    Raises
    ------
    OutputExistsError
        If something stands there and `overwrite` is False.
    ValueError
        If the ending is another, or `path` is, holds or lies in one of `others`.
    OSError
        If there is no folder to write to, a file stands where a folder is wanted, or a folder where a file is.
    """
    path = Path(path)
    for what, given in (others or {}).items():
        if given is not None and _overlap(path, Path(given)):
            raise ValueError(f"{name} {path} would overwrite {what} {given}. Choose another {name}.")
    if not folder and _is_special(path):
        return path
    is_folder = folder or path.suffix == ".zarr"
    if not is_folder and path.is_dir():
        raise IsADirectoryError(f"{name} {path} is a folder: name a file, such as {path / f'new{endings[0]}'}.")
    if endings and not path.name.endswith(endings):
        raise ValueError(f"{name} must end in {' or '.join(endings)}, not {path.name!r}.")
    if is_folder:
        if _is_no_folder(path):
            raise NotADirectoryError(f"{name} {path} is a file: choose another folder.")
        if path.exists() and _is_around(path.resolve(), Path.cwd()):
            raise ValueError(f"{name} {path} is the folder that you work in, or around it: name a folder in it.")
    above = path.parent
    while folder and not above.exists():
        above = above.parent
    if not above.exists():
        raise FileNotFoundError(f"There is no folder {above}: make it first, or choose another {name}.")
    if not above.is_dir():
        raise NotADirectoryError(f"{above} is a file, so that {path} cannot be made: choose another {name}.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(f"The folder {above} cannot be written to: choose another {name}.")
    if path.exists() and not overwrite:
        raise _exists_error(path, name, flag)
    return path


@contextmanager
def replacing(
    path: str | os.PathLike, *, overwrite: bool = True, keep: Callable[[str], bool] | None = None
) -> Iterator[Path]:
    """A place beside `path` to write to; what stands there at the end takes the place of `path`.

    If writing fails, what was there stays as it was and nothing is left behind. A folder replaces a folder as one
    thing: the old one is moved aside, the new one to its name. Every process writes to a place of its own; what one
    left that was killed is removed when `path` is written to again. What is no file, such as ``/dev/stdout``, is handed
    back to be written to directly.

    Parameters
    ----------
    path
        Where the result is wanted; a link is followed.
    overwrite
        Replace what stands there at the end. False: raise :class:`OutputExistsError`.
    keep
        Of a folder: whether an entry of the old one, by its name, is in the new one too unless that has it.

    Yields
    ------
    Path with the same endings.
    """
    path = Path(path)
    if _is_special(path):
        yield path
        return
    target = Path(os.path.realpath(path))
    recover(target)
    partial = _beside(target, "partial")
    try:
        yield partial
        if partial.is_dir():
            _move_folder(partial, target, overwrite, keep or (lambda name: False))
        elif target.exists() and not overwrite:
            raise _exists_error(path)
        else:
            os.replace(partial, target)
    finally:
        _remove(partial)


def recover(path: str | os.PathLike) -> None:
    """Clear away what processes that are no more have left of writing to `path`.

    Where one was killed while a folder was between its names, the old one gets its name back.
    """
    target = Path(os.path.realpath(path))
    try:
        beside = list(target.parent.iterdir())
    except OSError:
        return
    name = re.compile(rf"\.(partial|replaced)-{_host()}-(\d+)-([0-9a-f]{{8}})-\d+-{re.escape(_tail(target))}")
    for left in beside:
        found = name.fullmatch(left.name)
        if found is None or _is_running(int(found[2]), found[3]):
            continue
        if found[1] == "replaced":
            _move_back(left, target)
        else:
            _remove(left)


def _move_folder(new: Path, target: Path, overwrite: bool, keep: Callable[[str], bool]) -> None:
    """Give a folder its name; what has the name is moved aside before and comes back if that fails."""
    if _is_no_folder(target):
        raise NotADirectoryError(f"{target} is a file, which no folder replaces.")
    if not overwrite:
        # an empty folder alone gives way
        try:
            os.rename(new, target)
        except OSError as error:
            raise (_exists_error(target) if target.exists() else error) from error
        return
    for attempt in range(_ATTEMPTS):
        # the longer it is in vain, the longer the others are given to finish
        time.sleep(attempt * _WAIT)
        old = _beside(target, "replaced")
        try:
            if target.exists():
                os.rename(target, old)
                _carry_over(old, new, keep)
            os.rename(new, target)
            return
        except OSError as error:
            # of two processes at once, the later one finds the other's folder there, or none to move aside
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT) or attempt == _ATTEMPTS - 1:
                raise
        finally:
            # after an interrupt too
            if old.exists():
                _move_back(old, target)


def _move_back(old: Path, target: Path) -> None:
    """Give an old folder its name again, or remove it where there is a new one; never leave neither."""
    for attempt in range(_ATTEMPTS):
        if target.exists():
            _remove(old)
            return
        try:
            os.rename(old, target)
            return
        except OSError as error:
            # another process has put its folder there, and may have moved it aside by now
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _ATTEMPTS - 1:
                logger.error("%s could not be moved back (%s): it is in %s.", target, error, old)
                return


def _carry_over(old: Path, new: Path, keep: Callable[[str], bool]) -> None:
    """Put what is kept of a folder into another, as further names of the same files where the disk has these."""
    shutil.copymode(old, new)
    for entry in old.iterdir():
        if not keep(entry.name) or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True, copy_function=_link_or_copy)
        else:
            _link_or_copy(entry, new / entry.name)


def _link_or_copy(source: str | os.PathLike, target: str | os.PathLike) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _exists_error(path: Path, name: str = "`path`", flag: str = "`overwrite=True`") -> OutputExistsError:
    return OutputExistsError(f"{path} exists already: choose another {name}, or pass {flag}.")


def _is_special(path: Path) -> bool:
    return (mode := _mode(path)) is not None and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _is_no_folder(path: Path) -> bool:
    return (mode := _mode(path)) is not None and not stat.S_ISDIR(mode)


def _mode(path: Path) -> int | None:
    """What stands at a place, in one look: a folder may be gone by the second. None: nothing."""
    try:
        return os.stat(path).st_mode
    except OSError:
        return None


def _overlap(one: Path, other: Path) -> bool:
    """Whether two places are the same, by any of their names, or one lies in the other."""
    with suppress(OSError):
        if os.path.samefile(one, other):
            return True
    one, other = (Path(os.path.realpath(path)) for path in (one, other))
    return _is_around(one, other) or _is_around(other, one)


def _is_around(folder: Path, path: Path) -> bool:
    return folder == path or folder in path.parents


def _beside(target: Path, kind: str) -> Path:
    """A hidden place beside `target` that names its process; the ending stays, some writers choose a format by it."""
    return target.with_name(f".{kind}-{_host()}-{os.getpid()}-{_RUN}-{next(_NUMBER)}-{_tail(target)}")


def _tail(target: Path) -> str:
    """The end of a name, which may be too long to be made longer, and the sum of all of it."""
    return f"{zlib.crc32(target.name.encode()):08x}-{target.name[-40:]}"


def _host() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _is_running(pid: int, run: str) -> bool:
    if pid == os.getpid():
        return run == _RUN
    if os.name != "posix":
        # elsewhere the question is a signal that may end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        # a hidden file that stays is no reason to fail
        with suppress(OSError):
            path.unlink()
