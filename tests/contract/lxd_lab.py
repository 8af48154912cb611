"""A real LXD or Incus, with a guest of two megabytes: busybox that listens on the RDP port."""

import contextlib
import io
import os
import platform
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from contract.labs import OURS, THEIRS, KillPoint, Lab, NotHere
from daas.errors import DaasError, NotYet
from daas.providers.base import Provider, Size, Spec, State, Tag
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.errors import Absent
from daas.providers.lxd.machine import INSTANCE, NONCE, SEALED, SESSION, TEMPLATE, Place
from daas.providers.lxd.provider import LxdProvider

BUSYBOX = "/bin/busybox"
TOOLS = ["sh", "ls", "cat", "nc", "stat", "sleep", "true", "fallocate", "setuidgid", "rm"]
FILES = {
    "etc/inittab": "null::respawn:/bin/nc -ll -p 3389 -e /bin/true\n",
    "etc/passwd": "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\n",
    "etc/group": "root:x:0:\nada:x:1000:\n",
}
FOLDERS = ("proc", "sys", "dev", "tmp", "run", "root", "var", "var/lib", "var/lib/daas", "etc")
OS = "daas-contract"
MADE = ("contract-", "tmpl-contract")


class KilledTransport(httpx.BaseTransport):
    """Hands each call on to LXD, and dies when it has been heard."""

    def __init__(self, socket: str, point: KillPoint):
        self._real, self._point = httpx.HTTPTransport(uds=socket), point

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._real.handle_request(request)
        response.read()
        self._point(f"{request.method} {request.url.path}")
        return response


class LxdLab(Lab):
    def __init__(self, sockets: tuple[str, ...]):
        self.socket = next((path for path in sockets if Path(path).exists()), "")
        if not self.socket:
            raise NotHere(f"no socket at {' or '.join(sockets)}; run deploy/lxd-up")
        if not Path(BUSYBOX).exists():
            raise NotHere("no /bin/busybox to make a guest of: apt-get install busybox-static")
        self.client = LxdClient(self.socket)
        self.work_dir = tempfile.mkdtemp(prefix="daas-contract-")
        self.place = Place(
            os.environ.get("DAAS_LXD_POOL", "daas"), os.environ.get("DAAS_LXD_BRIDGE", "daasbr0")
        )
        self._must_be_set_up()
        self.ours, self.theirs = self.provider(), self.provider(THEIRS)
        self.clean(MADE)
        self._remove_images()
        node = self.ours.nodes()[0]
        assert node.addresses and node.subnet, node
        self.gateway, _, self.prefix = node.subnet.partition("/")
        self.address = node.addresses[1]  # the last: others count from the first
        self.image = self._sealed("tmpl-contract")

    def provider(
        self, instance: str = OURS, client: LxdClient | None = None, **changes: Any
    ) -> LxdProvider:
        place = Place(**{**vars(self.place), **changes})
        return LxdProvider(client or self.client, instance, place, self.work_dir, stop_s=1)

    def spec(self, name: str, instance: str = OURS, **changes: Any) -> Spec:
        where = {"address": f"{self.address}/{self.prefix}", "gateway": self.gateway}
        return super().spec(name, instance, **{**where, **changes})

    @contextmanager
    def killed_at(
        self, number: int
    ) -> Iterator[tuple[Provider, Callable[[State], None], KillPoint]]:
        point = KillPoint(number)
        client = LxdClient(self.socket, KilledTransport(self.socket, point))
        yield self.provider(client=client), lambda state: point("save"), point
        client.close()

    def found(self, name: str) -> Any:
        return self.client.request("GET", f"/1.0/instances/{name}")

    def names(self) -> set[str]:
        """Of this suite: others may make and remove machines meanwhile."""
        tagged = {
            one["name"]
            for one in self._machines()
            if one["config"].get(INSTANCE, "").startswith("contract-")
        }
        return tagged - {self.image}

    def is_on(self, name: str) -> bool:
        return bool(self.found(name)["status"] == "Running")

    def size(self, name: str) -> Size:
        found = self.found(name)
        config, root = found["config"], found["devices"]["root"]
        memory = int(config["limits.memory"].removesuffix("MiB"))
        return Size(int(config["limits.cpu"]), memory, int(root["size"].removesuffix("GiB")))

    def retag(self, name: str, tag: Tag) -> None:
        keys = {INSTANCE: tag.instance, SESSION: tag.session, NONCE: tag.nonce}
        self.client.do("PATCH", f"/1.0/instances/{name}", {"config": keys})

    def rename(self, name: str, new: str) -> None:
        self.force_stop(name)
        self.client.do("POST", f"/1.0/instances/{name}", {"name": new})

    def shut_down(self, name: str) -> None:
        self.force_stop(name)

    def force_stop(self, name: str) -> None:
        with contextlib.suppress(DaasError):  # stopped already
            order = {"action": "stop", "force": True, "timeout": -1}
            self.client.do("PUT", f"/1.0/instances/{name}/state", order)

    def clean(self, marks: tuple[str, ...] = ("contract-",)) -> None:
        """Only what this suite made: others may have machines on this LXD, too."""
        for one in self._machines():
            if one["config"].get(INSTANCE, "").startswith(marks) and one["name"] != getattr(
                self, "image", ""
            ):
                self.remove(one["name"])

    def close(self) -> None:
        self.remove(self.image)
        self.client.close()
        shutil.rmtree(self.work_dir, ignore_errors=True)

    def remove(self, name: str) -> None:
        self.force_stop(name)
        with contextlib.suppress(Absent):
            self.client.do("DELETE", f"/1.0/instances/{name}")

    def _machines(self) -> list[Any]:
        found: list[Any] = self.client.request("GET", "/1.0/instances?recursion=1")
        return found

    def _remove_images(self) -> None:
        for image in self.client.request("GET", "/1.0/images?recursion=1"):
            if (image["properties"] or {}).get("os") == OS:
                self.client.do("DELETE", f"/1.0/images/{image['fingerprint']}")

    def _must_be_set_up(self) -> None:
        try:
            self.client.request("GET", f"/1.0/storage-pools/{self.place.pool}")
            self.client.request("GET", f"/1.0/networks/{self.place.bridge}")
        except (DaasError, NotYet) as error:
            raise NotHere(
                f"no pool {self.place.pool} or bridge; run deploy/lxd-up ({error})"
            ) from error

    def _sealed(self, name: str) -> str:
        """An image as `bake` leaves it: a stopped container whose user ids are shifted already."""
        with httpx.Client(transport=httpx.HTTPTransport(uds=self.socket)) as http:
            started = (
                http.post("http://lxd/1.0/images", content=_tarball()).raise_for_status().json()
            )
        image = self.client.wait(started["metadata"])["fingerprint"]
        config = {INSTANCE: "contract-image", TEMPLATE: "contract", SEALED: "true"}
        root = {"type": "disk", "path": "/", "pool": self.place.pool}
        self.client.do(
            "POST",
            "/1.0/instances",
            {
                "name": name,
                "profiles": [],
                "config": config,
                "devices": {"root": root},
                "source": {"type": "image", "fingerprint": image},
            },
        )
        self.client.do("PUT", f"/1.0/instances/{name}/state", {"action": "start"})
        self.force_stop(name)
        self._remove_images()
        return name


def _metadata() -> str:
    """Never the same twice: LXD refuses an image it has already, such as a killed run's."""
    about = f"{{os: {OS}, serial: {secrets.token_hex(8)}}}"
    return f"architecture: {platform.machine()}\ncreation_date: 1700000000\nproperties: {about}\n"


def _tarball() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        _add(tar, "metadata.yaml", _metadata().encode())
        for folder in ("", "bin", "sbin", *FOLDERS):
            _add(tar, f"rootfs/{folder}", kind=tarfile.DIRTYPE)
        _add(tar, "rootfs/bin/busybox", Path(BUSYBOX).read_bytes(), 0o755)
        for tool in ("bin/" + tool for tool in TOOLS):
            _add(tar, f"rootfs/{tool}", kind=tarfile.SYMTYPE, link="/bin/busybox")
        _add(tar, "rootfs/sbin/init", kind=tarfile.SYMTYPE, link="/bin/busybox")
        for path, content in FILES.items():
            _add(tar, f"rootfs/{path}", content.encode())
    return file.getvalue()


def _add(
    tar: tarfile.TarFile,
    path: str,
    content: bytes = b"",
    mode: int | None = None,
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
) -> None:
    info = tarfile.TarInfo(path.rstrip("/"))
    info.size, info.type, info.linkname = len(content), kind, link
    info.mode = mode or (0o755 if kind != tarfile.REGTYPE else 0o644)
    tar.addfile(info, io.BytesIO(content))
