"""LXD's REST API (Incus has the same one). Every call has a timeout; whatever keeps LXD from
answering is Unreachable, whatever it refuses is Refused, by the words it said."""

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from daas import process
from daas.errors import Refused, Stopped, Unreachable
from daas.providers.lxd.errors import Absent, Busy, Exists, refusal, unreachable
from daas.providers.lxd.events import ENDED, Events, Listener, Operation
from daas.providers.lxd.exec import EndedEarly, Outcome, StillRuns, talk

SOCKETS = (
    "/var/lib/lxd/unix.socket",  # Debian
    "/var/snap/lxd/common/lxd/unix.socket",  # Ubuntu
    "/run/incus/unix.socket",
    "/var/lib/incus/unix.socket",
)
REQUEST_S = 30.0  # one answer; LXD answers in milliseconds unless the disk is busy
OPERATION_S = 180.0  # a copy, a start, a stop
BUSY_S = 30.0  # how long we try again while another operation holds the machine
STREAM_S = 30.0  # without a word from the stream, until we ask for the operation ourselves
SLICE_S = 5  # of waiting without the event stream, so that a stopped step ends soon
WHO = ("X-LXD", "X-Incus")  # how each wants its file headers called


def find_socket(given: str | None = None) -> str:
    """Return the socket to use: the one given, or the first of the usual ones."""
    for path in (given,) if given else SOCKETS:
        if Path(path).exists():
            return path
    looked = given or ", ".join(SOCKETS)
    raise Unreachable(2.0, f"LXD: there is no socket at {looked}; start it (deploy/lxd-up)")


class LxdClient:
    """Safe to share between threads. `transport` is for tests that let calls fail."""

    def __init__(self, socket: str | None = None, transport: httpx.BaseTransport | None = None):
        self._given = socket
        self._transport = transport
        self._http: httpx.Client | None = None
        self._lock = threading.Lock()
        self.events = Events(lambda: find_socket(self._given))

    def close(self) -> None:
        """Connections and the event stream are closed."""
        self.events.close()
        if self._http:
            self._http.close()

    def listen(self, listener: Listener) -> None:
        """See Events.listen."""
        self.events.listen(listener)

    def request(
        self, method: str, path: str, json: Any = None, timeout_s: float = REQUEST_S
    ) -> Any:
        """Return the answer's metadata; for a call that starts an operation, the operation."""
        return self._send(method, path, timeout_s, json=json)["metadata"]

    def do(self, method: str, path: str, json: Any = None, timeout_s: float = OPERATION_S) -> Any:
        """Like `request`, and the operation it started has ended well: return its metadata.
        A machine that another operation holds is tried again for up to BUSY_S."""
        deadline, pause_s = time.monotonic() + min(BUSY_S, timeout_s), 0.05
        while True:
            try:
                return self._do_once(method, path, json, timeout_s)
            except Busy:
                if time.monotonic() + pause_s > deadline:
                    raise
                if process.stop.get().wait(pause_s):
                    raise Stopped(path) from None
                pause_s = min(2 * pause_s, 0.5)

    def wait(self, operation: Operation, timeout_s: float = OPERATION_S) -> Any:
        """Return the metadata of an operation somebody started, once it has ended well."""
        deadline, generation = time.monotonic() + timeout_s, self.events.generation()
        # It may have ended before we listened: look once, listening already.
        now = self._look(f"/1.0/operations/{operation['id']}", REQUEST_S)
        if now["status_code"] >= ENDED:
            return _result(now)
        return _result(self._ended(operation["id"], generation, deadline))

    def exec(
        self,
        name: str,
        args: list[str],
        stdin: bytes = b"",
        timeout_s: float = 60.0,
        environment: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Return exit code and output of a command run as the guest's root. `stdin` reaches it
        by a socket of its own: nothing of it is in a request, a log or a process list."""
        deadline = time.monotonic() + timeout_s
        order = {
            "command": args,
            "environment": dict(environment or {}),
            "wait-for-websocket": True,
            "interactive": False,
        }
        generation = self.events.generation()
        operation = self.request("POST", f"/1.0/instances/{name}/exec", order)
        socket = find_socket(self._given)
        url = f"/1.0/operations/{operation['id']}/websocket"
        stdout, stderr = b"", b""
        with contextlib.suppress(StillRuns):
            with contextlib.suppress(EndedEarly):
                stdout, stderr = talk(socket, url, operation["metadata"]["fds"], stdin, deadline)
            ended = self._ended(operation["id"], generation, deadline)
            if "not found" in ended.get("err", "").lower():
                return Outcome(127, b"", ended["err"].encode())
            return Outcome(int(_result(ended).get("return", -1)), stdout, stderr)
        self._give_up(operation["id"])
        raise Refused(f"{args[0]} in {name} did not end within {timeout_s:.0f} s.")

    def put_file(self, name: str, path: str, content: bytes, mode: int) -> None:
        """A file of the guest's root is there with this content and mode, and its folders."""
        with contextlib.suppress(Absent):  # LXD leaves an existing file the mode it has
            self._raw("DELETE", _file_url(name, path), REQUEST_S)
        try:
            self._put(name, path, "file", mode, content)
        except Refused:  # LXD does not make folders, and says so in many ways
            for folder in reversed(Path(path).parents[:-1]):
                with contextlib.suppress(Exists):
                    self._put(name, str(folder), "directory", 0o755)
            self._put(name, path, "file", mode, content)

    def upload(self, path: str, parts: Mapping[str, Any], timeout_s: float) -> Any:
        """Send files as one form, streamed; like `do`."""
        answer = self._send("POST", path, timeout_s, files=parts)
        return self.wait(answer["metadata"], timeout_s)

    def _put(self, name: str, path: str, kind: str, mode: int, content: bytes = b"") -> None:
        about = {"uid": "0", "gid": "0", "mode": f"{mode:04o}", "type": kind, "write": "overwrite"}
        headers = {f"{who}-{key}": value for who in WHO for key, value in about.items()}
        self._send("POST", _file_url(name, path), REQUEST_S, content=content, headers=headers)

    def _do_once(self, method: str, path: str, json: Any, timeout_s: float) -> Any:
        deadline = time.monotonic() + timeout_s
        # Asked for before the call: an operation may end before we know its name.
        generation = self.events.generation()
        answer = self._send(method, path, min(REQUEST_S, timeout_s), json=json)
        if answer["type"] != "async":
            return answer["metadata"]
        return _result(self._ended(answer["metadata"]["id"], generation, deadline))

    def _ended(self, operation: str, generation: int | None, deadline: float) -> Operation:
        """Return the operation when it has ended: told by the stream, or else by waiting for
        this one alone."""
        told_by = min(deadline, time.monotonic() + STREAM_S)
        ended = self.events.wait(operation, generation, told_by) if generation else None
        while ended is None or ended["status_code"] < ENDED:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Unreachable(2.0, "LXD, which has not finished an operation in time")
            if process.stop.get().is_set():
                raise Stopped(operation)
            slice_s = max(1, min(SLICE_S, int(left_s)))
            url = f"/1.0/operations/{operation}/wait?timeout={slice_s}"
            ended = self._look(url, slice_s + REQUEST_S)
        return ended

    def _look(self, url: str, timeout_s: float) -> Operation:
        try:
            found: Operation = self.request("GET", url, timeout_s=timeout_s)
        except Absent as error:  # ended some time ago, or LXD was restarted: nobody knows how
            raise Unreachable(1.0, "LXD, which has lost sight of an operation") from error
        return found

    def _give_up(self, operation: str) -> None:
        with contextlib.suppress(Refused, Unreachable, Busy):
            self.request("DELETE", f"/1.0/operations/{operation}")

    def _send(self, method: str, path: str, timeout_s: float, **what: Any) -> Any:
        return self._raw(method, path, timeout_s, **what).json()

    def _raw(self, method: str, path: str, timeout_s: float, **what: Any) -> httpx.Response:
        with self._reached():
            answer = self._client().request(method, path, timeout=timeout_s, **what)
        if answer.is_error:
            raise refusal(answer.status_code, _said(answer))
        return answer

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, OSError) as error:
            raise unreachable(error, self._given or find_socket()) from error

    def _client(self) -> httpx.Client:
        """One for all threads, made when LXD's socket is first there."""
        with self._lock:
            if self._http is None:
                transport = self._transport or httpx.HTTPTransport(
                    uds=find_socket(self._given),
                    limits=httpx.Limits(max_connections=64, keepalive_expiry=20.0),
                )
                self._http = httpx.Client(transport=transport, base_url="http://lxd")
            return self._http


def _result(operation: Operation) -> Any:
    if operation["status_code"] != 200:
        raise refusal(operation["status_code"], operation.get("err") or operation["status"])
    return operation.get("metadata") or {}


def _said(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError):
        return answer.text[:200]


def _file_url(name: str, path: str) -> str:
    return f"/1.0/instances/{name}/files?path={quote(path)}"
