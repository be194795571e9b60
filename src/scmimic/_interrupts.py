"""Ctrl-C and SIGTERM: as exceptions, held back while something is finished, and in what they have ended early."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
"""Says what an interrupt has ended; the command line, which says it by itself, turns it off."""

SIGINT_STATUS = 128 + signal.SIGINT
"""Exit status of a process that Ctrl-C has ended, as shells say it."""


class Terminated(SystemExit):
    """A signal came: the process ends with its status, once the finally-blocks have run."""

    code: int

    def __init__(self, number: int = signal.SIGTERM):
        super().__init__(128 + number)


class CtrlC(SystemExit):
    """Ctrl-C in a training of several processes; of a KeyboardInterrupt Lightning would kill the others."""


class Raise:
    """Handler of a signal that raises, unless the signal is `taken` by who will end in order."""

    def __init__(self, taken: Callable[[], bool]):
        self.taken = taken

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.taken():
            raise Terminated(number)


def in_main_thread() -> bool:
    """Whether this is the thread in which alone handlers are set and run."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def terminable(taken: Callable[[], bool] = lambda: False, *, by_ctrl_c: bool = False) -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated`; the system would end the process on the spot.

    A handler of the user's own stays in force.

    Parameters
    ----------
    taken
        Whether somebody else has heard of the signal and will end in order.
    by_ctrl_c
        Ctrl-C raises it too, so that trainings do not go on to their calibration.
    """
    usual = {signal.SIGTERM: signal.SIG_DFL} | ({signal.SIGINT: signal.default_int_handler} if by_ctrl_c else {})
    before = {number: signal.getsignal(number) for number in usual} if in_main_thread() else {}
    before = {n: handler for n, handler in before.items() if handler == usual[n] or isinstance(handler, Raise)}
    for number in before:
        signal.signal(number, Raise(taken))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def plain_interrupts(taken: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM leave a training by Lightning as KeyboardInterrupt and :class:`Terminated`.

    Lightning turns them into exits with the statuses 1 and 0, and may leave Ctrl-C without effect from then on.

    Parameters
    ----------
    taken
        As of :func:`terminable`.
    """
    # only trainings need it, and the command line answers sooner without
    from lightning.pytorch.utilities.exceptions import SIGTERMException

    before = signal.getsignal(signal.SIGINT) if in_main_thread() else None
    try:
        with terminable(taken):
            yield
    except SIGTERMException as error:
        raise Terminated from error
    except CtrlC as error:
        raise KeyboardInterrupt from error
    except (SystemExit, ValueError) as error:
        # the exit's reason; a ValueError where Lightning has tried to set a handler in another thread
        if isinstance(error.__context__, KeyboardInterrupt) and (isinstance(error, ValueError) or error.code == 1):
            raise KeyboardInterrupt from error
        raise
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextmanager
def held_signals() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Hold Ctrl-C and SIGTERM back until the end of the block.

    Yields
    ------
    Maker of a context in which they come through.
    """
    if not in_main_thread():
        yield nullcontext
        return
    handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        # what the system does by itself, or nobody does anything about, cannot be put off
        if callable(handler):
            handlers[number] = handler
    came: list[tuple[int, FrameType | None]] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append((number, frame))

    def hold() -> None:
        for number in handlers:
            signal.signal(number, note)

    def release() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    @contextmanager
    def released() -> Iterator[None]:
        release()
        try:
            yield
        finally:
            hold()

    hold()
    try:
        yield released
    finally:
        release()
    for signalled, frame in came:
        handlers[signalled](signalled, frame)


def interrupted_part(model: Any) -> str | None:
    """The class whose training was interrupted: the model's, or that of what it was made on; None if neither's."""
    if getattr(model, "was_interrupted_", False):
        return type(model).__name__
    return getattr(model, "interrupted_source_", None)


def stop_if_interrupted(model: Any) -> None:
    """Raise KeyboardInterrupt if the last training of a model, or of what it was made on, was interrupted.

    A model keeps what it has learned until then and returns from `train`, but half a training must not be scored as a
    whole one, and who presses Ctrl-C wants the experiment to end.
    """
    part = interrupted_part(model)
    if part is not None:
        raise KeyboardInterrupt(f"The training of {part} was interrupted, and the experiment with it.")
