"""The floor: a desktop made by nothing but requests to LXD's socket. None of the product's code
takes part, so that what it wastes cannot hide."""

import http.client
import ipaddress
import json
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SOCKETS = ("/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket")
SOCKETS += ("/run/incus/unix.socket", "/var/lib/incus/unix.socket")
LOOK_S = 0.01  # between two looks at the RDP port
REQUEST = bytes.fromhex("030000130ee000000000000100080001000000")  # X.224, TLS asked for
RDP = 3389
USER, PASSWORD = "ada", "Raw-Floor-42"

Json = dict[str, Any]


class Lxd:
    """One connection a call; an operation is waited for."""

    def __init__(self, path: str | None = None):
        self._path = path or next(p for p in SOCKETS if Path(p).exists())

    def call(self, method: str, url: str, body: Any = None) -> Any:
        answer = self._send(method, url, body)
        if answer["type"] == "async":
            operation = answer["metadata"]["id"]
            answer = self._send("GET", f"/1.0/operations/{operation}/wait", None)
            ended = answer["metadata"]
            if ended["status_code"] != 200:
                raise RuntimeError(f"{method} {url}: {ended['err']}")
        return answer["metadata"]

    def exists(self, name: str) -> bool:
        return f"/1.0/instances/{name}" in self.call("GET", "/1.0/instances")

    def memory_mb(self, name: str) -> float:
        state = self.call("GET", f"/1.0/instances/{name}/state")
        return float(state["memory"]["usage"]) / 1e6

    def remove(self, name: str) -> None:
        if self.exists(name):
            if self.call("GET", f"/1.0/instances/{name}")["status"] == "Running":
                self.call("PUT", f"/1.0/instances/{name}/state", {"action": "stop", "force": True})
            self.call("DELETE", f"/1.0/instances/{name}")

    def _send(self, method: str, url: str, body: Any) -> Json:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, url, json.dumps(body) if body is not None else None)
            answer: Json = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        if answer["type"] == "error":
            raise RuntimeError(f"{method} {url}: {answer['error']}")
        return answer


class RawDesktop:
    """A copy of a sealed image with personal files that were made before. `start()` is what is
    measured; everything around it is not."""

    def __init__(
        self,
        lxd: Lxd,
        image: str,
        name: str,
        address: str,
        files: Mapping[str, str],
        fingerprint: str = "",
    ):
        self.lxd, self.name, self.address = lxd, name, address.partition("/")[0]
        self.fingerprint = fingerprint
        self._folder = Path(tempfile.mkdtemp(prefix="daas-raw-"))
        sealed = lxd.call("GET", f"/1.0/instances/{image}")
        _write(self._folder, files, _root_on_host(sealed))
        lxd.remove(name)
        self._order = _order(image, name, address, self._folder, sealed["devices"]["eth0"])

    def start(self) -> dict[str, float]:
        """Seconds from the copy request to: copied, started, TLS accepted."""
        begun = time.monotonic()
        self.lxd.call("POST", "/1.0/instances", self._order)
        copied = time.monotonic() - begun
        self.lxd.call("PUT", f"/1.0/instances/{self.name}/state", {"action": "start"})
        started = time.monotonic() - begun
        wait_for_tls(self.address, RDP)
        return {"copied": copied, "started": started, "tls": time.monotonic() - begun}

    def remove(self) -> None:
        self.lxd.remove(self.name)
        shutil.rmtree(self._folder, ignore_errors=True)


def wait_for_tls(host: str, port: int, timeout_s: float = 120.0) -> bytes:
    """The certificate (DER) that the RDP port shows, as soon as it shows one."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return certificate(host, port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S)


def certificate(host: str, port: int) -> bytes:
    """The certificate (DER) that the RDP port shows; OSError while there is none."""
    with socket.create_connection((host, port), 0.2) as plain:
        plain.settimeout(5)
        plain.sendall(REQUEST)
        if len(plain.recv(64)) < 19:
            raise ConnectionError("no answer to the connection request")
        with _any().wrap_socket(plain) as tls:
            return tls.getpeercert(binary_form=True) or b""


def _any() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _order(image: str, name: str, address: str, folder: Path, card: Json) -> Json:
    network = ipaddress.ip_interface(address).network
    # One card for one address: else the host, which has the last one in mind, sends to nobody.
    hwaddr = "02:be:" + ipaddress.ip_interface(address).packed.hex(":")
    lines = [f"lxc.net.0.ipv4.address={address}", f"lxc.net.0.ipv4.gateway={network[1]}"]
    personal = {"type": "disk", "source": str(folder), "path": "/var/lib/daas/personal"}
    return {
        "name": name,
        "profiles": [],
        "config": {"raw.lxc": "\n".join(lines), "user.daas.instance": "", "user.daas.sealed": ""},
        "devices": {
            "personal": {**personal, "readonly": "true"},
            "eth0": {**card, "hwaddr": hwaddr},
        },
        "source": {"type": "copy", "source": image, "instance_only": True},
    }


def _write(folder: Path, files: Mapping[str, str], owner: int) -> None:
    for name, text in files.items():
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(text)
        os.chown(path, owner, owner)
    os.chmod(folder, 0o700)
    os.chown(folder, owner, owner)


def _root_on_host(image: Json) -> int:
    idmap = json.loads(image["config"].get("volatile.last_state.idmap") or "[]")
    return next((int(m["Hostid"]) for m in idmap if m["Isuid"]), 0)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("lxd", timeout=300)
        self._unix = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._unix)
