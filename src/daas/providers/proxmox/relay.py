"""A door to Proxmox's API for Terraform, on loopback. Whoever comes through it shows a secret that
is good for one run; the token itself never leaves us. And who asks whether a task still runs gets
the answer when it has ended: providers look each second or two, which was half of their time."""

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain, repeat
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from daas.providers.base import nothing
from daas.providers.proxmox import certificate, errors
from daas.providers.proxmox.client import ANSWER_S, CONNECT_S, Client, was_never_sent

HOLD_S = 20.0  # that a question about a task may take
STEPS_S = (0.05, *repeat(0.1, 15), 0.3)  # between looks; a linked clone ends within the first
IDLE_S = 120.0  # a connection without a question
AWAY = 596  # Proxmox's own word for a node that does not answer
TASK_END = "/status"
STARTS = "/status/start"
# Of one hop, or said anew by us.
NOT_PASSED_ON = {"authorization", "host", "connection", "content-length", "accept-encoding"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Door:
    """What Terraform is told in place of the cluster's address and token."""

    url: str
    secret: str = field(repr=False)


class Relay:
    """One for all runs of a process; `folder` keeps the certificate that Terraform trusts."""

    def __init__(self, client: Client, folder: Path):
        self._client, self._folder = client, folder
        self._admitted: dict[str, Callable[[], None]] = {}
        self._starting = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._local = threading.local()

    @property
    def ca_file(self) -> Path:
        """Where the certificate is once a door was opened."""
        return self._folder / certificate.FILE

    @contextmanager
    def door(self, on_disks: Callable[[], None] = nothing) -> Iterator[Door]:
        """Open for one run. When it is closed nobody comes through any more, not even a provider
        that outlived its Terraform. `on_disks` is called before a machine is started: all that is
        made under a storage's lock is made by then."""
        secret = str(uuid4())  # the providers want a token's secret to look like one
        self._admitted[secret] = on_disks
        try:
            yield Door(f"https://127.0.0.1:{self._port()}", secret)
        finally:
            self._admitted.pop(secret)

    def admits(self, authorization: str) -> bool:
        return _secret(authorization) in self._admitted

    def tell(self, authorization: str, method: str, path: str) -> None:
        """Whoever waits for the disks of that run hears of them."""
        if method == "POST" and path.endswith(STARTS):
            try:
                self._admitted.get(_secret(authorization), nothing)()
            except Exception:  # others wait a little longer; the run must not end for that
                log.exception("nobody was told that a machine's disks are made")

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> requests.Response:
        """What Proxmox answers; of a running task only once it has ended, or after HOLD_S."""
        deadline = time.monotonic() + HOLD_S
        for step_s in chain(STEPS_S, repeat(STEPS_S[-1])):
            answer = self._ask(method, path, headers, body)
            is_asked = method == "GET" and "/tasks/UPID:" in path and path.endswith(TASK_END)
            if not is_asked or not _runs(answer) or time.monotonic() > deadline:
                return answer
            time.sleep(step_s)
        raise AssertionError("steps never end")

    def _ask(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> requests.Response:
        """Another API node is asked where the first cannot have heard the question."""
        last: requests.RequestException | None = None
        for url in self._client.in_order():
            try:
                return self._send(method, url + path, headers, body)
            except requests.RequestException as error:
                self._client.is_silent(url)
                last = error
                if method != "GET" and not was_never_sent(error):
                    break
        assert last
        raise last

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes
    ) -> requests.Response:
        access = self._client.access
        return self._session().request(
            method,
            url,
            data=body or None,
            headers=headers,
            auth=self._login,
            verify=not access.is_insecure and (access.ca_file or True),
            timeout=(CONNECT_S, ANSWER_S),
            allow_redirects=False,
        )

    def _login(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        access = self._client.access
        request.headers["Authorization"] = f"PVEAPIToken={access.token_id}={access.token_secret}"
        return request

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        session: requests.Session = self._local.session
        return session

    def _port(self) -> int:
        with self._starting:
            if self._server is None:
                self._server = self._started()
            return int(self._server.server_address[1])

    def _started(self) -> ThreadingHTTPServer:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.at(self._folder))
        server = _Server(("127.0.0.1", 0), _Handler)
        server.relay = self
        # The handshake is the connection's own thread's: one who is slow holds nobody up.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, name="proxmox-relay", daemon=True).start()
        return server


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    relay: Relay

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a connection of %s broke", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    disable_nagle_algorithm = True
    server: _Server

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.server.relay.admits(self.headers.get("Authorization") or ""):
            self._say(401, "No ticket")
            return
        headers = {k: v for k, v in self.headers.items() if k.lower() not in NOT_PASSED_ON}
        self.server.relay.tell(self.headers.get("Authorization") or "", self.command, self.path)
        try:
            answer = self.server.relay.answer(self.command, self.path, headers, body)
        except requests.RequestException as error:
            self._say(AWAY, " ".join(errors.short(str(error)).split()))
            return
        self._say(
            answer.status_code, answer.reason, answer.content, answer.headers.get("Content-Type")
        )

    def _say(self, status: int, reason: str, body: bytes = b"", kind: str | None = None) -> None:
        self.send_response(status, reason.encode("latin-1", "replace").decode("latin-1"))
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: a request may hold what nobody is to read."""


def _secret(authorization: str) -> str:
    return authorization.rpartition("=")[2]


def _runs(answer: requests.Response) -> bool:
    try:
        data = json.loads(answer.content)["data"]
        return bool(answer.status_code == 200 and data["status"] == "running")
    except (ValueError, KeyError, TypeError):
        return False
