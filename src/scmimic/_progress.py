"""Progress of long works: bars in the style of ``scvi.settings`` where somebody watches, lines in the log elsewhere."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import Callback

logger = logging.getLogger(__name__)

DELAY = 2.0
"""Seconds that a work takes before it gets a bar."""

# Most seconds between two looks at a bar, which shows the time also where a step takes long, and between two lines.
_REFRESH, _LINES = 1.0, 60.0


class Advance(Protocol):
    """What a work tells of itself: how many further steps are done, and what comes now."""

    def __call__(self, n: int, now: str = "") -> object: ...


@contextmanager
def progress(total: int | None, description: str, *, silent: bool = False) -> Iterator[Advance]:
    """A bar for a work of `total` steps, which appears where the work takes over two seconds.

    It is shown on terminals and in notebooks, in the style of ``scvi.settings.progress_bar_style``; elsewhere steps and
    time are logged as information. ``scvi.settings.verbosity`` above ``logging.INFO`` turns off both.

    Parameters
    ----------
    total
        Number of steps; None: they are not known, and the time alone is shown.
    description
        What is done.
    silent
        Show none.

    Yields
    ------
    Function that is told how many further steps are done, and, where steps have names, which comes now.
    """
    from scvi import settings

    if silent or settings.verbosity > logging.INFO:
        yield _untold
        return
    shown = _lines if not _is_watched() else _rich_bar if settings.progress_bar_style == "rich" else _tqdm_bar
    with shown(total, description) as advance:
        yield advance


def epochs(description: str) -> Callback:
    """Callback of Lightning that shows the epochs of a training as :func:`progress` does."""
    from lightning.pytorch.callbacks import LambdaCallback

    shown: ExitStack = ExitStack()
    advance: Advance | None = None

    def begin(trainer: Trainer, _: object) -> None:
        nonlocal advance
        advance = shown.enter_context(progress(trainer.max_epochs, description))

    def step(*_: object) -> None:
        assert advance is not None
        advance(1)

    def end(*_: object) -> None:
        shown.close()

    return LambdaCallback(on_train_start=begin, on_train_epoch_end=step, on_train_end=end, on_exception=end)


def _with(description: str, now: str) -> str:
    return f"{description} ({now})"


def _untold(n: int, now: str = "") -> None:
    """Where nothing is shown."""


@contextmanager
def _tqdm_bar(total: int | None, description: str) -> Iterator[Advance]:
    from tqdm.auto import tqdm

    form = None if total else "{desc}: {elapsed}"
    # on the stream of the bars of trainings; gone at the end, as what it told of
    options = {"desc": description, "delay": DELAY, "leave": False, "file": sys.stdout, "bar_format": form}
    lock = threading.Lock()
    with tqdm(total=total, miniters=0, **options) as counter:

        def advance(n: int = 0, now: str = "") -> None:
            with lock:
                if now:
                    counter.set_description(_with(description, now), refresh=False)
                counter.update(n)

        with _repeated(advance, _REFRESH):
            yield advance


@contextmanager
def _rich_bar(total: int | None, description: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = () if total else (TextColumn("{task.description}"), TimeElapsedColumn())
    # A console of its own: on that which all share, a bar does not show while another one does. It leaves the streams
    # alone, which others may have redirected when it appears.
    bar = Progress(
        *columns, transient=True, console=Console(file=sys.stdout), redirect_stdout=False, redirect_stderr=False
    )
    task, start = bar.add_task(description, total=total), time.monotonic()

    def advance(n: int, now: str = "") -> None:
        bar.update(task, advance=n, description=_with(description, now) if now else None)
        if time.monotonic() - start >= DELAY:
            bar.start()

    try:
        with _repeated(bar.start, _REFRESH):
            yield advance
    finally:
        bar.stop()


@contextmanager
def _lines(total: int | None, description: str) -> Iterator[Advance]:
    if not logger.isEnabledFor(logging.INFO):
        yield _untold
        return
    done, start, doing = 0, time.monotonic(), description

    def advance(n: int, now: str = "") -> None:
        nonlocal done, doing
        done, doing = done + n, _with(description, now) if now else doing

    def say() -> None:
        steps = f"{done:,} of {total:,}, " if total else ""
        logger.info("%s: %s%.0f s", doing, steps, time.monotonic() - start)

    with _repeated(say, _LINES):
        yield advance
    if time.monotonic() - start >= DELAY:
        logger.info("%s: done, %.0f s", description, time.monotonic() - start)


@contextmanager
def _repeated(action: Callable[[], object], seconds: float) -> Iterator[None]:
    """Within the block, do something after the delay and then ever less often, also while a step takes long.

    `seconds` are the most between two times.
    """
    over = threading.Event()

    def work() -> None:
        wait = DELAY
        while not over.wait(wait):
            action()
            wait = min(max(2 * wait, _REFRESH), seconds)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _is_watched() -> bool:
    # a notebook's stream is no terminal
    return sys.stdout.isatty() or type(sys.stdout).__module__.startswith("ipykernel")
