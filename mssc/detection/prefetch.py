"""Items made by a thread of their own, a few ahead of who uses them."""

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], most: int = 8) -> Iterator[T]:
    """The items, produced by a thread, at most `most` of them waiting. What it raises is raised here."""
    waiting: queue.Queue = queue.Queue(most)
    left = threading.Event()

    def put(entry: object) -> bool:
        while not left.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # also an interrupt: the consumer shall hear of everything
            put((None, error))

    producer = threading.Thread(target=produce, daemon=True, name="prefetch")
    producer.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        left.set()
        producer.join(timeout=5)
