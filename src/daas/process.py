"""The one place that runs a child process. A child never outlives the step it serves."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from daas.errors import CommandFailed, Stopped

POLL_S = 0.2
GRACE_S = 5.0  # between asking a group to stop and killing it
# A child that works for minutes would do so beside its successor if we were killed meanwhile.
BOUND_TO_US = ["setpriv", "--pdeathsig", "INT", "--"]
TAIL = 4000  # characters of output that an error keeps, for the log

# Set for as long as a step runs; whoever waits inside a provider waits on this, too.
_never = threading.Event()
stop: ContextVar[threading.Event] = ContextVar("stop", default=_never)


def run(
    args: list[str],
    timeout_s: float,
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    on_line: Callable[[str], None] | None = None,
    is_bound: bool = False,
    grace_s: float | None = None,
    holds: Sequence[int] = (),
) -> str:
    """Return the child's output once it has ended with 0, and hand each line to `on_line`
    meanwhile. CommandFailed otherwise; at `timeout_s`, or when the step is told to stop, the
    whole process group is interrupted and then killed (Stopped). `env` is added to ours, of
    which our own settings (DAAS_*: they hold secrets) are left out. With `is_bound` it is also
    interrupted when we die, even by kill -9. Between interrupt and kill it has `grace_s`. It
    `holds` these descriptors of ours, and with them the locks on their files."""
    started = [*BOUND_TO_US, *args] if is_bound else args
    with TemporaryFile() as given, _spawn(started, cwd, env, _filled(given, stdin), holds) as child:
        lines: list[str] = []
        reader = threading.Thread(target=_read, args=(child, lines, on_line), daemon=True)
        reader.start()
        ended = _wait(child, time.monotonic() + timeout_s, GRACE_S if grace_s is None else grace_s)
        _kill_group(child)
        reader.join(GRACE_S)
    output = "".join(lines)
    if not ended and stop.get().is_set():
        raise Stopped(args[0])
    if not ended:
        raise CommandFailed(f"{args[0]} (stopped after {timeout_s:.0f} s)", -1, output[-TAIL:])
    if child.returncode:
        raise CommandFailed(args[0], child.returncode, output[-TAIL:])
    return output


def start(args: list[str], output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start a long-lived child of ours (`daas serve`) with our own environment, and our output or
    `output`. A signal to us, or to our terminal, does not reach it."""
    return subprocess.Popen(
        args,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _filled(file: IO[bytes], content: bytes) -> IO[bytes]:
    file.write(content)
    file.seek(0)
    return file


def _spawn(
    args: list[str],
    cwd: str | Path | None,
    env: Mapping[str, str] | None,
    stdin: IO[bytes],
    holds: Sequence[int],
) -> subprocess.Popen[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("DAAS_")}
    try:
        return subprocess.Popen(
            args,
            cwd=cwd,
            env={**inherited, **(env or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            pass_fds=holds,
        )
    except FileNotFoundError as error:
        raise CommandFailed(
            f"{args[0]} (not found: install it, or add its folder to PATH of the service)", 127
        ) from error


def _read(
    child: subprocess.Popen[str], lines: list[str], on_line: Callable[[str], None] | None
) -> None:
    for line in child.stdout or ():
        lines.append(line)
        if on_line:
            on_line(line.rstrip("\n"))


def _wait(child: subprocess.Popen[str], deadline: float, grace_s: float) -> bool:
    """Return whether the child ended by itself; if not, it was made to."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            child.wait(POLL_S)
            return True
        if stop.get().is_set() or time.monotonic() > deadline:
            _end(child, grace_s)
            return False


def _end(child: subprocess.Popen[str], grace_s: float) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        child.wait(grace_s)
    _kill_group(child)
    child.wait()


def _kill_group(child: subprocess.Popen[str]) -> None:
    """What the child itself started goes with it: a provider whose Terraform was killed would go
    on making its machine."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
