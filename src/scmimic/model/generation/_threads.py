"""Work on blocks of cells by several threads, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], n_threads: int) -> Iterator[Result]:
    """What a function gives for each item, in their order.

    Each thread of torch works at an item of its own, since most of what makes a cell of its distribution is not done by
    several threads at once. So results do not depend on their number.

    Parameters
    ----------
    function
        What is done, without gradients; it shares nothing that changes.
    items
        What it is done with. No more than twice as many as there are threads are ahead of what is taken.
    n_threads
        Number of threads.
    """

    def alone(item: Item) -> Result:
        with torch.inference_mode():
            return function(item)

    if n_threads == 1:
        yield from map(alone, items)
        return
    waiting: deque[Future[Result]] = deque()
    before = torch.get_num_threads()
    with ThreadPoolExecutor(n_threads, "cells", torch.set_num_threads, (1,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(alone, item))
                if len(waiting) == 2 * n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
            # what threads that begin later start with
            torch.set_num_threads(before)
