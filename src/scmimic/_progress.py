"""Progress bars, in the style of ``scvi.settings`` and where somebody watches."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DELAY = 2.0
"""Seconds that a work takes before it gets a bar."""


@contextmanager
def progress(total: int, description: str, *, silent: bool = False) -> Iterator[Callable[[int], object]]:
    """A bar for a work of `total` steps, which appears where the work takes over two seconds.

    It is shown on terminals and in notebooks alone, in the style of ``scvi.settings.progress_bar_style``.
    ``scvi.settings.verbosity`` above ``logging.INFO`` turns it off.

    Parameters
    ----------
    total
        Number of steps.
    description
        What is done.
    silent
        Show none.

    Yields
    ------
    Function that is told how many further steps are done.
    """
    from scvi import settings

    if silent or not _is_watched() or settings.verbosity > logging.INFO:
        yield lambda n: None
    elif settings.progress_bar_style == "rich":
        from rich.console import Console
        from rich.progress import Progress

        # a console of its own: on that which all share, a bar does not show while another one does
        bar, start = Progress(transient=True, console=Console()), time.monotonic()
        task = bar.add_task(description, total=total)

        def advance(n: int) -> None:
            bar.advance(task, n)
            if not bar.live.is_started and time.monotonic() - start >= DELAY:
                bar.start()

        try:
            yield advance
        finally:
            bar.stop()
    else:
        from tqdm.auto import tqdm

        # on the stream of the bars of trainings; gone at the end, as what it told of
        with tqdm(total=total, desc=description, delay=DELAY, leave=False, file=sys.stdout) as counter:
            yield counter.update


def _is_watched() -> bool:
    # a notebook's stream is no terminal
    return sys.stdout.isatty() or "ipykernel" in sys.modules
