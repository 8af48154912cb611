"""One connection to LXD's event stream, shared by all who wait for an operation to end. Whoever
waits learns at once when the stream is lost, and asks in another way."""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, unix_connect

from daas import process
from daas.errors import Stopped, Unreachable

log = logging.getLogger(__name__)

URI = "ws://lxd/1.0/events?type=operation,lifecycle"
CONNECT_S = 2.0
KEPT = 512  # ended operations remembered for those who have not begun to wait yet
LOOK_S = 0.2  # how soon one who waits notices that its step was told to stop
RETRY_S = (0.1, 5.0)  # first and longest pause between two tries to connect
ENDED = 200  # operations at or above this status code do not change any more

Operation = dict[str, Any]
Listener = Callable[[str, str], None]  # action ("instance-started"), machine's name


class Events:
    def __init__(self, find_socket: Callable[[], str]):
        self._find_socket = find_socket
        self._changed = threading.Condition()
        self._ended: OrderedDict[str, Operation] = OrderedDict()
        self._generation = 0  # counts connections: events may be missing between two
        self._is_up = False
        self._is_closed = False
        self._connection: ClientConnection | None = None
        self._thread: threading.Thread | None = None
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """From now on `listener` hears of every machine that changes; ("reconnected", "") where
        changes may have been missed. It is called in the stream's thread: return soon."""
        self._listeners.append(listener)
        self.generation()

    def generation(self, timeout_s: float = CONNECT_S) -> int | None:
        """Return a number to wait with, or None while the stream is down."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._run, name="lxd-events", daemon=True)
                self._thread.start()
                while not self._is_up and time.monotonic() < deadline:
                    self._changed.wait(deadline - time.monotonic())
            return self._generation if self._is_up else None

    def wait(self, operation: str, generation: int, deadline: float) -> Operation | None:
        """Return the operation once it has ended; None at the deadline (monotonic), or as soon
        as the stream is not the one of that generation. Stopped when our step is told to stop."""
        while time.monotonic() < deadline:
            with self._changed:
                if operation in self._ended:
                    return self._ended.pop(operation)
                if not self._is_up or self._generation != generation:
                    return None
                self._changed.wait(min(LOOK_S, max(0.0, deadline - time.monotonic())))
            if process.stop.get().is_set():
                raise Stopped(operation)
        return None

    def close(self) -> None:
        """The stream is closed, and its thread ends."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._connection:
            self._connection.close()

    def _run(self) -> None:
        pause_s = RETRY_S[0]
        while not self._is_closed:
            if self._read_until_lost():
                pause_s = RETRY_S[0]
            with self._changed:
                if not self._is_closed:
                    self._changed.wait_for(lambda: self._is_closed, pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    def _read_until_lost(self) -> bool:
        """Return whether there was a connection at all."""
        # Without pings: a killed LXD closes a unix socket, and a hung one is met by timeouts.
        with (
            suppress(OSError, WebSocketException, ValueError, Unreachable),
            unix_connect(
                self._find_socket(), URI, open_timeout=CONNECT_S, ping_interval=None, max_size=None
            ) as connection,
        ):
            self._connection = connection
            self._set_up(True)
            for message in connection:
                self._take(json.loads(message))
        was_up = self._is_up
        self._set_up(False)
        return was_up

    def _set_up(self, is_up: bool) -> None:
        with self._changed:
            self._is_up = is_up
            self._generation += is_up
            self._changed.notify_all()
            is_again = is_up and self._generation > 1
        if is_again:
            self._tell("reconnected", "")

    def _take(self, event: dict[str, Any]) -> None:
        about = event.get("metadata") or {}
        if event.get("type") == "lifecycle":
            self._tell(about.get("action", ""), _machine(about.get("source", "")))
        elif about.get("status_code", 0) >= ENDED:
            self._remember(about)

    def _remember(self, operation: Operation) -> None:
        with self._changed:
            self._ended[operation["id"]] = operation
            while len(self._ended) > KEPT:
                self._ended.popitem(last=False)
            self._changed.notify_all()

    def _tell(self, action: str, name: str) -> None:
        for listener in self._listeners:
            try:
                listener(action, name)
            except Exception:  # a listener's fault must not end the stream for all others
                log.exception("a listener to LXD's events failed")


def _machine(source: str) -> str:
    """Return "x" of "/1.0/instances/x", also with what follows."""
    parts = source.split("?")[0].split("/")
    return parts[3] if len(parts) > 3 and parts[2] == "instances" else ""
