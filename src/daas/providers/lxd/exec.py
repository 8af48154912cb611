"""A command inside a guest: LXD gives one websocket each for stdin, stdout, stderr and control,
and starts the command when all are connected."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from daas.errors import Unreachable

CONNECT_S = 5.0
CLOSE_S = 0.5
CHUNK = 32 * 1024
# The command starts when 0, 1 and 2 are there; a short one would be over before control came.
FDS = ("control", "0", "1", "2")


class EndedEarly(Exception):
    """The operation knows why."""


class StillRuns(Exception):
    """The command has not ended in time."""


@dataclass(frozen=True)
class Outcome:
    exit_code: int
    stdout: bytes
    stderr: bytes


def talk(
    socket: str, url: str, secrets: Mapping[str, str], stdin: bytes, deadline: float
) -> tuple[bytes, bytes]:
    """Give `stdin`, return stdout and stderr once the command has closed both. StillRuns at
    the deadline (monotonic); the command may then still run."""
    with ExitStack() as open_until_end:
        wires = {
            fd: open_until_end.enter_context(_connected(socket, f"{url}?secret={secrets[fd]}"))
            for fd in FDS
        }
        errors: list[bytes] = []
        reader = threading.Thread(target=_read_into, args=(wires["2"], errors, deadline))
        reader.start()
        # Beside the reading: a command may write before it has read all, and both would wait.
        threading.Thread(target=_give, args=(wires["0"], stdin), daemon=True).start()
        output: list[bytes] = []
        _read_into(wires["1"], output, deadline)
        reader.join(max(0.0, deadline - time.monotonic()) + 1.0)
        if time.monotonic() >= deadline:
            raise StillRuns
        return b"".join(output), b"".join(errors)


@contextmanager
def _connected(socket: str, path: str) -> Iterator[ClientConnection]:
    try:
        with unix_connect(
            socket,
            f"ws://lxd{path}",
            open_timeout=CONNECT_S,
            close_timeout=CLOSE_S,
            ping_interval=None,
            compression=None,
            max_size=None,
        ) as wire:
            yield wire
    except InvalidStatus as error:  # the command ended before all was connected: it failed
        raise EndedEarly from error
    except OSError as error:
        raise Unreachable(2.0, "LXD, which closed the connection to a command") from error


def _give(wire: ClientConnection, stdin: bytes) -> None:
    try:
        for start in range(0, len(stdin), CHUNK):
            wire.send(stdin[start : start + CHUNK])
        wire.send("")  # LXD's sign for the end of the input: an empty text message
    except ConnectionClosed:
        return  # the command ended without reading all of it


def _read_into(wire: ClientConnection, output: list[bytes], deadline: float) -> None:
    """Until LXD says that there is no more: an empty text message, or closing."""
    try:
        while True:
            message = wire.recv(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(message, str):
                return
            output.append(message)
    except (ConnectionClosed, TimeoutError):
        return
