"""Wake-ups: a thread with nothing to do waits for its bell, not for a poll. A bell is only a
hint; the database is the truth, and is looked at each second even if no bell ever rings.

Between processes a ring travels by `LISTEN/NOTIFY` on PostgreSQL and by datagrams between
sockets in one folder on SQLite, whose processes share a machine."""

import contextlib
import logging
import os
import socket
import threading
import uuid
from pathlib import Path
from typing import Any, Protocol

import psycopg
from sqlalchemy import event, func, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session as Db

from daas.jobs.lanes import Lane

EVENTS, SEALED = "events", "sealed"
CHANNEL = "daas_bell"
RECONNECT_S = 1.0

log = logging.getLogger(__name__)


class Bell:
    def __init__(self) -> None:
        self._condition, self.rings = threading.Condition(), 0

    def ring(self) -> None:
        with self._condition:
            self.rings += 1
            self._condition.notify_all()

    def wait(self, heard: int, timeout_s: float) -> None:
        """Wait for a ring after the first `heard` ones: none between is missed."""
        with self._condition:
            self._condition.wait_for(lambda: self.rings != heard, timeout_s)


BELLS = {name: Bell() for name in (*Lane, EVENTS, SEALED)}


class Rope(Protocol):
    """Carries rings to the other processes, and theirs to our bells until closed."""

    def before_commit(self, db: Db, names: set[str]) -> None: ...
    def after_commit(self, names: set[str]) -> None: ...
    def close(self) -> None: ...


_ropes: list[Rope] = []


def ring_on_commit(db: Db, name: str) -> None:
    """Ring once what `db` is about to write can be seen by others."""
    names = db.info.setdefault("bells", set())
    if not names:
        event.listen(db, "before_commit", _before)
        event.listen(db, "after_commit", _after)
    names.add(str(name))


def connect(url: str) -> Rope:
    """Join the processes that use this database; close() leaves them."""
    parsed = make_url(url)
    rope: Rope
    if parsed.get_backend_name() == "postgresql":
        rope = NotifyRope(parsed.set(drivername="postgresql").render_as_string(False))
    else:
        rope = SocketRope(Path(str(parsed.database)).parent / "bells")
    _ropes.append(rope)
    return rope


def _before(db: Db) -> None:
    for rope in _ropes:
        rope.before_commit(db, db.info["bells"])


def _after(db: Db) -> None:
    names: set[str] = db.info["bells"]
    for name in names:
        BELLS[name].ring()
    for rope in _ropes:
        rope.after_commit(names)


class SocketRope:
    """One datagram socket a process in `folder`; who rings writes to all the others."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._path = folder / f"{os.getpid()}.{uuid.uuid4().hex[:6]}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        # Bound by a short name relative to the folder: a path of a socket has 107 bytes at most.
        self._dir = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._socket.bind(self._address(self._path.name))
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._is_open = True
        threading.Thread(target=self._listen, name="bell", daemon=True).start()

    def before_commit(self, db: Db, names: set[str]) -> None:
        pass

    def after_commit(self, names: set[str]) -> None:
        for other in os.listdir(self._dir):
            if other != self._path.name:
                self._send(other, ",".join(names).encode())

    def close(self) -> None:
        self._is_open = False
        with contextlib.suppress(OSError):
            self._sender.sendto(b"", self._address(self._path.name))
        self._path.unlink(missing_ok=True)
        if self in _ropes:
            _ropes.remove(self)

    def _address(self, name: str) -> str:
        return f"/proc/self/fd/{self._dir}/{name}"

    def _send(self, other: str, names: bytes) -> None:
        try:
            self._sender.sendto(names, self._address(other))
        except ConnectionRefusedError:  # left by a process that was killed
            (self._folder / other).unlink(missing_ok=True)
        except OSError:  # gone, or its queue is full: it has rings enough to wake up for
            pass

    def _listen(self) -> None:
        while self._is_open:
            _ring_all(self._socket.recv(4096).decode())
        self._socket.close()


class NotifyRope:
    """NOTIFY in the ringing transaction itself: sent with its commit, or not at all."""

    def __init__(self, url: str):
        self._url, self._stop = url, threading.Event()
        self._thread = threading.Thread(target=self._run, name="bell", daemon=True)
        self._thread.start()

    def before_commit(self, db: Db, names: set[str]) -> None:
        db.execute(select(func.pg_notify(CHANNEL, ",".join(sorted(names)))))

    def after_commit(self, names: set[str]) -> None:
        pass

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self in _ropes:
            _ropes.remove(self)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
                    self._listen(connection)
            except psycopg.Error as error:
                log.warning("no bell from the database: %s", type(error).__name__)
                self._stop.wait(RECONNECT_S)

    def _listen(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute(f"LISTEN {CHANNEL}")
        while not self._stop.is_set():
            for notify in connection.notifies(timeout=0.5):
                _ring_all(notify.payload)


def _ring_all(names: str) -> None:
    for name in names.split(","):
        if name in BELLS:
            BELLS[name].ring()
