"""Waiting for what other threads do, with an end."""

import threading
import time
from collections.abc import Callable
from typing import Any


def until(what: Callable[[], Any], within_s: float = 8.0) -> float:
    """Return how long it took until `what()` was true."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.01)
    return time.monotonic() - began


def race(count: int, deed: Callable[[int], Any]) -> list[Any]:
    """Call `deed(i)` from `count` threads at once; return what they returned or raised."""
    barrier, out = threading.Barrier(count), [None] * count

    def run(i: int) -> None:
        barrier.wait()
        try:
            out[i] = deed(i)
        except Exception as error:
            out[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not [t for t in threads if t.is_alive()], "a thread hangs"
    return out
