"""From a session to an RDP client: its password in a private file, its certificate pinned, and a
command that holds no secret."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Token
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from daas import process
from daas.cli import http
from daas.cli.http import ApiRefused
from daas.errors import CommandFailed, DaasError, Stopped

LONGEST_S = 30 * 86400.0  # a desktop may be used for days


@dataclass(frozen=True)
class Login:
    username: str | None
    password: str | None = field(repr=False)


def credential(api: http.Api, name: str) -> Login:
    """User and one-time password; no password where it is not one of ours."""
    try:
        found = api.get(f"/sessions/{name}/credential")
    except ApiRefused as error:
        if error.status != 409:
            raise
        return Login(api.get(f"/sessions/{name}").get("local_user"), None)
    return Login(found["user"], found["password"])


def address(session: dict[str, Any]) -> str:
    rdp = session.get("rdp")
    return f"{rdp['host']}:{rdp['port']}" if rdp else ""


def command(session: dict[str, Any], username: str | None) -> list[str]:
    """xfreerdp for this desktop; the password comes by stdin."""
    args = ["xfreerdp", f"/v:{address(session)}", f"/u:{username or session['owner']}"]
    if pin := fingerprint(session):
        args.append(f"/cert:deny,fingerprint:sha256:{colons(pin)}")  # deny: never ask
    return [*args, "/sec:tls", "/dynamic-resolution", "+clipboard", "/from-stdin:force"]


def fingerprint(session: dict[str, Any]) -> str | None:
    """The SHA-256 of the certificate that its RDP port shows."""
    found = session.get("certificate")
    return str(found["sha256"]) if found else None


def colons(fingerprint: str) -> str:
    """A SHA-256 as FreeRDP compares it: pairs of lower-case digits with colons between."""
    bare = fingerprint.removeprefix("sha256:").replace(":", "").lower()
    return ":".join(bare[n : n + 2] for n in range(0, len(bare), 2))


def password_path(name: str) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")  # in memory, and gone with the login
    return (Path(runtime) if runtime else Path("~/.cache").expanduser()) / "daas" / name


def keep_password(name: str, password: str, given: Path | None = None) -> Path:
    """The password is alone in a file that only we can read; return its path."""
    path = given or password_path(name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)  # whatever mode an old one had
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(password + "\n")
    return path


def forget_password(name: str) -> None:
    password_path(name).unlink(missing_ok=True)


def start(args: list[str], password: str | None) -> None:
    """Run the client until it is closed, or Ctrl-C."""
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        raise DaasError("There is no display here: run this in a graphical session.")
    if password is None:
        raise DaasError("This desktop has no password of our making: start without --start.")
    with _interruptible():
        try:
            process.run(args, LONGEST_S, stdin=f"{password}\n".encode())
        except Stopped:
            pass
        except CommandFailed as error:
            raise DaasError(_why(error)) from error


def _why(error: CommandFailed) -> str:
    if error.exit_code == 127:
        return "xfreerdp is not installed: apt-get install freerdp2-x11"
    if "certificate not trusted" in error.tail:
        return "Another certificate than this desktop's was shown there; the client left off."
    lines = [line for line in error.tail.splitlines() if "ERROR" in line]
    return f"xfreerdp ended with {error.exit_code}. {lines[-1] if lines else ''}".strip()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stops the child, which has no terminal of its own."""
    stop = Event()
    token: Token[Event] = process.stop.set(stop)
    before = signal.signal(signal.SIGINT, lambda number, frame: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        process.stop.reset(token)
