"""The directory of one run: ours alone while it lasts, and taken over, with the state in it, from
a worker that was killed."""

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from daas import process
from daas.errors import NotYet, Stopped
from daas.providers.terraform.slots import locked

LOOK_S = 0.1
# Terraform is interrupted when its worker dies, and nobody listens to it any more: most die of
# that alone, and what is left then (a provider) would linger.
ORPHAN_S = 5.0
KILLED_S = 5.0
FORGOTTEN_S = 86400.0  # of a session that nobody asked for again
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@contextmanager
def held(folder: Path, name: str) -> Iterator[tuple[Path, int]]:
    """`folder/name`, with what a killed run left in it, and the descriptor that holds it, for the
    child to hold as well. Nobody else is at work there, not even a provider that lingers. Whoever
    has kept the state removes it."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a directory")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    lock = _lock(folder / f"{name}.lock", path)
    try:
        yield path, lock
    finally:
        if not path.exists():
            (folder / f"{name}.lock").unlink(missing_ok=True)
        os.close(lock)


def forget(folder: Path, prefix: str) -> None:
    """Nothing is left of runs whose names begin so. One that still ends is waited for; NotYet
    where that takes long."""
    for file in folder.glob(f"{prefix}*.lock") if NAME.fullmatch(prefix) else ():
        with held(folder, file.stem) as (path, _):
            shutil.rmtree(path, ignore_errors=True)


def forget_old(folder: Path) -> None:
    """Directories that nobody holds or asked for in a day are gone."""
    for path in folder.glob("*.lock") if folder.exists() else ():
        if path.stat().st_mtime < time.time() - FORGOTTEN_S and (lock := locked(path)) is not None:
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink(missing_ok=True)
            os.close(lock)


def write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _lock(file: Path, path: Path) -> int:
    lock = _wait_for(file, ORPHAN_S)
    if lock is None:
        _kill_those_in(path)
        lock = _wait_for(file, KILLED_S)
    if lock is None:
        raise NotYet(KILLED_S, "another Terraform of this session to end")
    os.utime(file)
    return lock


def _wait_for(file: Path, timeout_s: float) -> int | None:
    deadline = time.monotonic() + timeout_s
    while True:
        lock = locked(file)
        # Its last holder may have removed it between our open and our lock.
        if lock is not None and _is_still(file, lock):
            return lock
        if lock is not None:
            os.close(lock)
        elif time.monotonic() > deadline:
            return None
        elif process.stop.get().wait(LOOK_S):
            raise Stopped("waiting for another Terraform of this session")


def _is_still(file: Path, lock: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(file.stat(), os.fstat(lock))
    return False


def _kill_those_in(folder: Path) -> None:
    """Terraform and its providers run there; nobody else has a reason to."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            where = os.readlink(link).removesuffix(" (deleted)")
            if where == str(folder.resolve()) and int(link.parent.name) != os.getpid():
                os.kill(int(link.parent.name), signal.SIGKILL)
