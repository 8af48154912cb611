"""`daas serve`, once all is checked: web and worker as child processes, started again when they
die. It imports little, for it lives as long as they do."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated

import typer

from daas import log, process
from daas.cli.signals import Signals
from daas.config import settings

PARTS = ("web", "worker")
MISCONFIGURED = 2  # a child that ends so would do it again
STOP_S = 5.5  # the worker takes 5 s at most to give its leases back
BACK_OFF_MAX_S = 30.0
STEADY_S = 60.0  # who lived so long starts anew with the shortest back-off
PR_SET_PDEATHSIG = 1

Parent = Annotated[int, typer.Option("--parent", hidden=True)]
app = typer.Typer()
logger = logging.getLogger(__name__)


class Child:
    """A process that is to run. It is started when `due_s` (monotonic) is past."""

    def __init__(self, name: str, args: list[str]):
        self.name, self._args = name, args
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths, self._since_s = 0, 0.0
        self.due_s = 0.0

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def start_if_due(self, now_s: float) -> None:
        if self._process is None and now_s >= self.due_s:
            self._process, self._since_s = process.start(self._args), now_s
            logger.info("started %s (process %d)", self.name, self._process.pid)

    def ended(self, now_s: float) -> int | None:
        """The exit code, once; from then on it is due again, the later the oftener it died."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        self._process = None
        self._deaths = 1 if now_s - self._since_s > STEADY_S else self._deaths + 1
        wait_s = min(BACK_OFF_MAX_S, 0.5 * 2.0 ** min(self._deaths - 1, 10))
        self.due_s = now_s + wait_s
        logger.warning("%s ended with %d; again in %.1f s", self.name, code, wait_s)
        return code

    def signal(self, number: int) -> None:
        if self._process and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    @property
    def is_gone(self) -> bool:
        return self._process is None or self._process.poll() is not None


@app.command(hidden=True)
def supervise() -> None:
    """Run web and worker. Use `daas serve`: it checks first."""
    log.setup(settings().log_format, settings().log_level)
    commands = {
        part: [sys.executable, "-m", "daas.cli", part, "--parent", str(os.getpid())]
        for part in PARTS
    }
    raise typer.Exit(keep_running(commands))


def keep_running(commands: Mapping[str, list[str]]) -> int:
    """Until SIGTERM or SIGINT; return the exit code. Nothing of it runs afterwards."""
    signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    children = [Child(name, args) for name, args in commands.items()]
    try:
        while True:
            for child in children:
                child.start_if_due(time.monotonic())
            if signals.wait(_until_due(children)) & {signal.SIGTERM, signal.SIGINT}:
                return 0
            if MISCONFIGURED in [child.ended(time.monotonic()) for child in children]:
                return MISCONFIGURED
    finally:
        _end(children, signals)


def follow(parent: int) -> None:
    """This process ends when `parent` does, however that ends: a killed supervisor leaves nobody
    behind who holds the port."""
    if not parent:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(0)


def _until_due(children: list[Child]) -> float | None:
    waiting = [child.due_s for child in children if not child.is_running]
    return max(0.01, min(waiting) - time.monotonic()) if waiting else None


def _end(children: list[Child], signals: Signals) -> None:
    deadline = time.monotonic() + STOP_S
    for child in children:
        child.signal(signal.SIGTERM)
    while (left_s := deadline - time.monotonic()) > 0 and not all(c.is_gone for c in children):
        signals.wait(left_s)
    for child in children:
        if not child.is_gone:
            logger.warning("%s did not end in %.0f s and was killed", child.name, STOP_S)
        child.signal(signal.SIGKILL)
