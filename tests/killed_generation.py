"""Calls of generate that are killed at one moment, each in a process of its own, a fork of this one."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import scmimic as sm
from scmimic.model.generation import parts as _parts

N = 2 * _parts.PART + 100
ASKED = {"n": N, "seed": 3, "silent": True}


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def in_part(number):
    """Die when a part is written, and not at its place yet."""
    write, calls = _parts._write, []

    def broken(*args):
        write(*args)
        calls.append(args)
        if len(calls) > number:
            die()

    _parts._write = broken


def in_join():
    read = _parts.Parts.read

    def broken(self):
        yield next(read(self))
        die()

    _parts.Parts.read = broken


def at_end():
    _parts.shutil = SimpleNamespace(rmtree=die)


MOMENTS = {
    "first part": lambda: in_part(0),
    "second part": lambda: in_part(1),
    "join": in_join,
    "end": at_end,
}


def main(folder: Path) -> None:
    model = sm.ACTIVA.load(folder / "model")
    for moment, prepare in MOMENTS.items():
        for path in sorted((folder / moment).iterdir()):
            child = os.fork()
            if child == 0:
                prepare()
                model.generate(**ASKED, path=path / "cells.zarr", overwrite=True, resume=True)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WTERMSIG(status) == signal.SIGKILL, (moment, status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
