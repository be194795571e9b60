"""Independent parts of an experiment, one after the other, or by the workers of a Dask cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scmimic._arguments import Kind

if TYPE_CHECKING:
    from distributed import Client, Future


@dataclass(frozen=True)
class _Client(Kind):
    """Clients of Dask."""

    def fits(self, value: Any) -> bool:
        """Whether work can be handed to it; the package need not be there to know what is no client."""
        return not isinstance(value, type) and all(
            callable(getattr(value, name, None)) for name in ("submit", "cancel")
        )

    def describe(self) -> str:
        """What a client is."""
        return "a client of a Dask cluster (`distributed.Client`)"


CLIENT = _Client(optional=True)


def results(
    work: Callable[..., Any], given: Iterable[tuple[Any, Sequence[tuple[Any, ...]]]], client: Client | None
) -> Iterator[Any]:
    """``work(shared, *part)`` for each part, in order.

    Parameters
    ----------
    work
        What is done; with a cluster cloudpickle must be able to send it.
    given
        What some parts share, and these parts.
    client
        None: here, a part as soon as its result is asked for. Else all are given to the cluster at once; a part whose
        worker is lost is done again by another one.
    """
    if client is None:
        yield from (work(shared, *part) for shared, parts in given for part in parts)
        return
    futures = []
    try:
        for shared, parts in given:
            place = sent(shared, client)
            futures += [client.submit(work, place, *part, pure=False) for part in parts]
        yield from (future.result() for future in futures)
    finally:
        client.cancel(futures)


def sent(shared: Any, client: Client) -> Future:
    """What several tasks need, as a result of the cluster's own: made again where it is lost, unlike scattered data."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        return client.submit(_as_it_is, shared, pure=False)


def _as_it_is(shared: Any) -> Any:
    return shared
