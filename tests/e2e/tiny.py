"""Images of two megabytes that boot in a moment, made known to an installation as a template that
was built: for tests in which the desktop itself does not matter."""

import contextlib
import sqlite3
from typing import Any

import httpx

from contract import lxd_lab
from daas.errors import DaasError
from daas.providers.lxd.client import LxdClient, find_socket
from daas.providers.lxd.errors import Absent
from daas.providers.lxd.machine import INSTANCE, SEALED, TEMPLATE
from e2e.product import Product

DOCUMENT = {
    "name": "tiny",
    "base": {"kind": "mmdebstrap", "suite": "bookworm"},
    "sizes": {"small": {"cpus": 1, "memory_mib": 256, "disk_gib": 2, "reserve_mib": 16}},
    "default_size": "small",
}
INITTAB = "etc/inittab"
LISTENS = lxd_lab.FILES[INITTAB]
NEVER_BOOTS = "null::respawn:/bin/sleep 3600\n"
DIES = "null::sysinit:/bin/busybox poweroff -f\n"


class Image:
    """A sealed image whose init does what `inittab` says."""

    def __init__(self, name: str, pool: str, inittab: str = LISTENS):
        self.name, self._client = name, LxdClient()
        self.remove()
        self._make(pool, inittab)

    def remove(self) -> None:
        with contextlib.suppress(Absent):
            self._stop()
            self._client.do("DELETE", f"/1.0/instances/{self.name}")

    def close(self) -> None:
        self.remove()
        self._client.close()

    def _make(self, pool: str, inittab: str) -> None:
        files = dict(lxd_lab.FILES)
        lxd_lab.FILES[INITTAB] = inittab
        try:
            fingerprint = self._upload(lxd_lab._tarball())
        finally:
            lxd_lab.FILES.update(files)
        order: dict[str, Any] = {
            "name": self.name,
            "profiles": [],
            "config": {INSTANCE: "e2e-tiny", TEMPLATE: "tiny", SEALED: "true"},
            "devices": {"root": {"type": "disk", "path": "/", "pool": pool}},
            "source": {"type": "image", "fingerprint": fingerprint},
        }
        self._client.do("POST", "/1.0/instances", order)
        # Started once, its files get the owners that they have in all copies.
        self._client.do("PUT", f"/1.0/instances/{self.name}/state", {"action": "start"})
        self._stop()
        self._client.do("DELETE", f"/1.0/images/{fingerprint}")

    def _stop(self) -> None:
        order = {"action": "stop", "force": True, "timeout": -1}
        with contextlib.suppress(DaasError):  # it is stopped already, or not there
            self._client.do("PUT", f"/1.0/instances/{self.name}/state", order)

    def _upload(self, tarball: bytes) -> str:
        transport = httpx.HTTPTransport(uds=find_socket())
        with httpx.Client(transport=transport, timeout=60.0) as http:
            answer = http.post("http://lxd/1.0/images", content=tarball).raise_for_status().json()
        return str(self._client.wait(answer["metadata"])["fingerprint"])


def offer(product: Product, image: str, template: str = "tiny") -> None:
    """Sessions of `template` are made from `image`, as if a build had made it."""
    product.call("POST", "/api/v1/templates", {**DOCUMENT, "name": template})
    with sqlite3.connect(product.data_dir / "daas.db", timeout=30) as db:
        db.execute("DELETE FROM builds WHERE template = ?", (template,))
        db.execute(
            "INSERT INTO builds (name, template, version, cluster, status, image, created_at, "
            "ended_at) VALUES (?, ?, 1, 'local', 'built', ?, 1, 1)",
            (f"build-{template}", template, image),
        )
