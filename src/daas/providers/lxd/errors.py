"""What LXD's refusals mean to us. LXD gives codes sparingly, so its sentences are read here, and
only here."""

import httpx

from daas.errors import NotYet, Refused, Unreachable

FULL = ("no space left on device", "disk quota exceeded", "out of disk space")
UNDER_WAY = ("is busy running", "operation is already running", "matching non-reusable operation")
THERE = ("already exists", "already in use", "unique constraint failed")  # the last is Incus's
STARTING = ("not ready yet", "daemon is starting", "lxd is shutting", "incus is shutting")


class Absent(Refused):
    """LXD knows no such thing."""


class Exists(Refused):
    """Something of that name is there already."""


class Busy(NotYet):
    """Another operation on that machine is under way; the same call works a little later."""


def refusal(code: int, said: str) -> Exception:
    """Return the error that LXD's answer amounts to."""
    low = said.lower()
    if any(words in low for words in UNDER_WAY):
        return Busy(0.5, f"LXD ({said})")
    if code == 503 or any(words in low for words in STARTING):
        return Unreachable(1.0, f"LXD, which is starting or stopping ({said})")
    if any(words in low for words in FULL):
        return Refused(f"The storage pool is full: free some, or make it larger. LXD said: {said}")
    if code == 404 or low.endswith(("not found", "does not exist")):
        return Absent(f"LXD said: {said}")
    if code == 409 or any(words in low for words in THERE):
        return Exists(f"LXD said: {said}")
    if code == 403:
        return Refused(f"LXD does not let this user do that: add it to LXD's group. ({said})")
    return Refused(f"LXD said: {said}")


def unreachable(error: Exception, socket: str) -> Unreachable:
    """Return why LXD does not answer, for a person."""
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return Unreachable(2.0, f"LXD, which does not answer in time on {socket}")
    if "Permission denied" in str(error):
        return Unreachable(10.0, f"LXD: this user may not open {socket}; add it to the group lxd")
    return Unreachable(2.0, f"LXD: nothing listens on {socket}; start it (deploy/lxd-up)")
