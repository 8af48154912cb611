"""As much of LXD's API as a guest needs, over its unix socket. Blocking: for threads."""

import http.client
import json
import socket
import urllib.parse
from pathlib import Path
from typing import Any

SOCKETS = (
    "/var/lib/lxd/unix.socket",  # Debian
    "/var/snap/lxd/common/lxd/unix.socket",  # Ubuntu
    "/run/incus/unix.socket",
    "/var/lib/incus/unix.socket",
)
TIMEOUT_S = 120
OWNER = ("X-LXD", "X-Incus")  # how each calls the headers of a file


class LxdError(OSError):
    """What LXD refused, in its words."""


class Absent(LxdError):
    """The instance or file is not there."""


class LxdApi:
    """Each call has a connection of its own: nothing is shared between threads."""

    def __init__(self, path: str | None = None) -> None:
        self._path = path or next((one for one in SOCKETS if Path(one).exists()), SOCKETS[0])

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's metadata; what was started has ended."""
        raw = None if body is None else json.dumps(body).encode()
        answer = json.loads(self.raw(method, path, raw))
        if answer["type"] != "async":
            return answer["metadata"]
        url = f"/1.0/operations/{answer['metadata']['id']}/wait?timeout={TIMEOUT_S}"
        ended = json.loads(self.raw("GET", url))["metadata"]
        if ended["status_code"] != 200:
            raise LxdError(ended.get("err") or ended["status"])
        return ended["metadata"] or {}

    def raw(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> bytes:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            said = json.loads(data).get("error", "") if data else ""
            raise (Absent if answer.status == 404 else LxdError)(said or f"HTTP {answer.status}")
        return data

    def read_file(self, instance: str, path: str) -> bytes:
        return self.raw("GET", _file_url(instance, path))

    def write_file(self, instance: str, path: str, content: bytes, mode: int = 0o644) -> None:
        about = {"uid": "0", "gid": "0", "mode": f"{mode:04o}", "type": "file"}
        about["write"] = "overwrite"
        headers = {f"{owner}-{key}": value for owner in OWNER for key, value in about.items()}
        self.raw("POST", _file_url(instance, path), content, headers)

    def remove_file(self, instance: str, path: str) -> None:
        self.raw("DELETE", _file_url(instance, path))

    def execute(self, instance: str, args: list[str]) -> tuple[int, bytes, bytes]:
        """Exit code and output of a command run as root."""
        url = f"/1.0/instances/{instance}/exec"
        order = {"command": args, "record-output": True, "interactive": False}
        done = self.ask("POST", url, order)
        texts = []
        for stream in ("1", "2"):
            log = (done.get("output") or {}).get(stream)
            texts.append(self.raw("GET", log) if log else b"")
            if log:
                self.raw("DELETE", log)
        return int(done.get("return", -1)), texts[0], texts[1]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("lxd", timeout=TIMEOUT_S + 10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _file_url(instance: str, path: str) -> str:
    return f"/1.0/instances/{instance}/files?path={urllib.parse.quote(path)}"
