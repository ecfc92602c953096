"""Work in a background thread, one item ahead of its use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields the items in their order, each computed while the caller uses the one before.

    At most one item is held besides the caller's, done or under way. An error in `items` is raised where its item is
    due. A caller that stops early closes the generator, which waits for the item under way and ends the thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as worker:
        coming = worker.submit(next, items, _END)
        while (item := coming.result()) is not _END:
            coming = worker.submit(next, items, _END)
            yield item
            del item  # the caller may be done with it long before the next is
