"""Prepares items in a background thread, one item ahead of its use."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
_END = object()  # `items` may yield None


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Yields the items in their order; the next item is computed while the caller uses the current one.

    At most one item is held beside the caller's. An error in `items` is raised in place of its item. Closing the
    generator early waits for the item in preparation and ends the thread.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as worker:
        next_item = worker.submit(next, items, _END)
        while (item := next_item.result()) is not _END:
            next_item = worker.submit(next, items, _END)
            yield item
            del item  # a block of batches is large: do not hold it until the next one is ready
