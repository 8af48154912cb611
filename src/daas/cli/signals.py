"""Waiting for a signal without waking up in between, and without blocking it in children."""

import os
import select
import signal


class Signals:
    """From now on these signals are only noted; `wait` returns them. For the main thread."""

    def __init__(self, *numbers: signal.Signals):
        self._read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # Not sigwait(): a blocked signal stays blocked in the children, and they could not be
        # stopped. Not an Event either: set() in a handler can meet wait() holding its lock.
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _noted)

    def wait(self, timeout_s: float | None = None) -> set[int]:
        """Return what came since the last call; empty after `timeout_s`."""
        if not select.select([self._read], [], [], timeout_s)[0]:
            return set()
        return set(os.read(self._read, 4096))


def _noted(number: int, frame: object) -> None:
    pass
