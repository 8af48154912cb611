"""How many Terraform processes run at once on this host. A slot is a locked file, so that a worker
who is killed gives it back at once; what it leaves behind ends soon, and is not counted."""

import fcntl
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daas import process
from daas.errors import Stopped

LOOK_S = 0.05


def locked(path: Path) -> int | None:
    """The descriptor of the file, locked for us; None where somebody else has it."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


@contextmanager
def slot(folder: Path, slots: int) -> Iterator[None]:
    """Have one of the slots, when there is one. Stopped if told so while waiting."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while (file := _any(folder, slots)) is None:
        if process.stop.get().wait(LOOK_S):
            raise Stopped("waiting for a slot of Terraform")
    try:
        yield
    finally:
        os.close(file)


def _any(folder: Path, slots: int) -> int | None:
    for number in random.sample(range(slots), slots):
        file = locked(folder / f"{number}.lock")
        if file is not None:
            return file
    return None
