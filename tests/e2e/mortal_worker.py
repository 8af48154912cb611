"""A worker that kills itself (SIGKILL) at the point that a file names. Run as a program; the
product has no such hook.

Points are the requests to LXD and the commits that one session's job makes, each before and after,
numbered within a life. What is passed is written down, and so is what it died of."""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from daas import log, wiring
from daas.cli.server import run_worker
from daas.cli.signals import Signals
from daas.config import settings
from daas.db import Database
from daas.jobs.work import Work

ARMED, PASSED, DIED = "mortal-armed", "mortal-passed", "mortal-died"
PLUMBING = ("db.py", "work.py", "contextlib.py", "mortal_worker.py")

_mine = threading.local()


class Mortal:
    """`armed` holds "LIFE POINT"; a new LIFE counts from one again."""

    def __init__(self, folder: Path):
        self._folder, self._life, self._counts = folder, "", Counter[str]()
        self._lock = threading.Lock()

    def number(self, what: str) -> str | None:
        """The name of this occasion within the life; None in threads that work for others."""
        key = getattr(_mine, "key", None)
        if key is None:
            return None
        life = self._armed()[0]
        with self._lock:
            if life != self._life:
                self._life, self._counts = life, Counter()
            self._counts[what] += 1
            return f"{what.replace(key, 'NAME')} {self._counts[what]}"

    def pass_by(self, when: str, occasion: str | None) -> None:
        if occasion is None:
            return
        point = f"{when} {occasion}"
        self._write(PASSED, point)
        if self._armed()[1] == point:
            self._write(DIED, point)
            os.kill(os.getpid(), signal.SIGKILL)

    def _armed(self) -> tuple[str, str]:
        try:
            life, _, point = (self._folder / ARMED).read_text().partition(" ")
        except OSError:
            return "", ""
        return life, point

    def _write(self, name: str, line: str) -> None:
        with open(self._folder / name, "a") as file:
            file.write(line + "\n")


def watch_jobs(reconcile: Callable[..., None]) -> Callable[..., None]:
    """Points count only in the thread that has a session's job in hand, and while it has."""

    def watched(work: Work, **more: Any) -> None:
        _mine.key = work.job.key
        try:
            reconcile(work, **more)
        finally:
            _mine.key = None

    return watched


def watch_commits(mortal: Mortal) -> None:
    real = Database.transaction

    @contextmanager
    def transaction(self: Database) -> Iterator[Any]:
        occasion = mortal.number(f"commit {_caller()}") if getattr(_mine, "key", None) else None
        with real(self) as db:
            yield db
            db.flush()
            mortal.pass_by("before", occasion)
        mortal.pass_by("after", occasion)

    Database.transaction = transaction  # type: ignore[method-assign]


def watch_requests(mortal: Mortal) -> None:
    real = httpx.HTTPTransport.handle_request

    def handle_request(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/1.0/")
        path = "operations/ID/wait" if path.startswith("operations/") else path
        occasion = mortal.number(f"{request.method} {path}")
        mortal.pass_by("before", occasion)
        response = real(self, request)
        response.read()
        mortal.pass_by("after", occasion)
        return response

    httpx.HTTPTransport.handle_request = handle_request  # type: ignore[method-assign]


def _caller() -> str:
    """The function of ours that opened the transaction."""
    frame = sys._getframe(1)
    while frame.f_back and Path(frame.f_code.co_filename).name in PLUMBING:
        frame = frame.f_back
    return frame.f_code.co_name


def main() -> None:
    chosen = settings()
    log.setup(chosen.log_format, chosen.log_level)
    mortal = Mortal(chosen.data_dir)
    wiring.sessions.reconcile = watch_jobs(wiring.sessions.reconcile)
    wiring._certificate_of = lambda endpoint, timeout_s: None  # the tiny guest has none
    watch_commits(mortal)
    watch_requests(mortal)
    run_worker(chosen, Signals(signal.SIGTERM, signal.SIGINT))


if __name__ == "__main__":
    main()
