"""Files of ours on a storage of Proxmox's: cloud images (`import`) and the CD of a build (`iso`).
All are called daas-…; nothing else is ever replaced or deleted."""

import hashlib
import io
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import httpx

from daas import process
from daas.errors import NotYet, Refused, Stopped
from daas.providers.base import Progress
from daas.providers.proxmox import errors, tasks
from daas.providers.proxmox.client import Client
from daas.providers.proxmox.recipe import Recipe

Content = Literal["import", "iso"]
PREFIX = "daas-"
CONNECT_S, FETCH_S = 10.0, 3600.0
CHUNK = 1 << 20
QCOW2 = b"QFI\xfb"
WEEK_S = 7 * 86400


class Files:
    """Those that `node` reaches. `wanted` names the storage; else the first that takes them."""

    def __init__(self, client: Client, node: str, wanted: str | None = None):
        self._client, self._node, self._wanted = client, node, wanted

    def cloud_image(self, recipe: Recipe, progress: Progress) -> str:
        """Return the volume to start from, brought to the cluster unless it is there. One without
        a checksum is fetched anew each week: a template has its day's fixes."""
        if recipe.volume:
            return recipe.volume
        storage = self.storage("import")
        if recipe.path:
            name = f"{PREFIX}{_digest(recipe.path)[:16]}.{_format(recipe.path)}"
            return self._there(storage, name) or self._upload(storage, recipe.path, name, progress)
        kept = recipe.sha256 or hashlib.sha256(str(recipe.url).encode()).hexdigest()
        week = "" if recipe.sha256 else f"-{int(time.time() // WEEK_S)}"
        ending = "raw" if str(recipe.url).endswith(".raw") else "qcow2"
        name = f"{PREFIX}{kept[:16]}{week}.{ending}"
        return self._there(storage, name) or self._download(storage, recipe, name, progress)

    def put(self, content: bytes, name: str) -> str:
        """Return the volume of a CD with that content."""
        storage = self.storage("iso")
        self._send(storage, "iso", name, io.BytesIO(content), len(content))
        return f"{storage}:iso/{name}"

    def remove(self, volume: str, progress: Progress) -> None:
        """A file of ours is gone. Without the privilege it stays, and somebody is told."""
        storage, _, path = volume.partition(":")
        if not path.rpartition("/")[2].startswith(PREFIX):
            return
        try:
            where = f"nodes/{self._node}/storage/{storage}/content/{volume}"
            tasks.delete(self._client, where)
        except errors.Absent:
            pass
        except (Refused, NotYet) as error:
            progress(f"{volume} could not be removed; it is of no use any more: {error}")

    def ours(self, content: Content, prefix: str) -> list[str]:
        """Return the volumes whose name begins so, on all storages that take such files."""
        found = []
        for storage in self._storages(content):
            path = f"nodes/{self._node}/storage/{storage['storage']}/content"
            for one in self._client.get(path, content=content):
                if str(one["volid"]).rpartition("/")[2].startswith(prefix):
                    found.append(str(one["volid"]))
        return found

    def storage(self, content: Content) -> str:
        """Return the storage of this node that takes such files. Refused, with what to do."""
        usable = [str(one["storage"]) for one in self._storages(content)]
        if usable:
            return usable[0]
        named = f"Storage {self._wanted}" if self._wanted else f"No storage of {self._node}"
        raise Refused(
            f"{named} takes files of content type {content}. Allow it where there is room, for "
            f"example: pvesm set local --content iso,vztmpl,backup,import"
        )

    def _storages(self, content: Content) -> list[dict[str, Any]]:
        rows = self._client.get(f"nodes/{self._node}/storage", content=content)
        return [
            one
            for one in rows
            if one.get("active", 1)
            and one.get("enabled", 1)
            and content in str(one.get("content", "")).split(",")
            and self._wanted in (None, one["storage"])
        ]

    def _there(self, storage: str, name: str) -> str | None:
        path = f"nodes/{self._node}/storage/{storage}/content"
        volumes = [str(one["volid"]) for one in self._client.get(path, content="import")]
        return next((one for one in volumes if one == f"{storage}:import/{name}"), None)

    def _download(self, storage: str, recipe: Recipe, name: str, progress: Progress) -> str:
        progress(f"base: {self._node} fetches {recipe.url}")
        order = {"content": "import", "filename": name, "url": recipe.url}
        if recipe.sha256:
            order |= {"checksum": recipe.sha256, "checksum-algorithm": "sha256"}
        path = f"nodes/{self._node}/storage/{storage}/download-url"
        try:
            tasks.post(self._client, path, order, FETCH_S)
        except Refused as error:
            if volume := self._there(storage, name):  # another build was faster
                return volume
            raise Refused(
                f"{self._node} cannot fetch {recipe.url}: {error} Has it a way to the internet? "
                "Else copy the file here and name it: provider.proxmox.image: /path."
            ) from error
        if not recipe.sha256:
            self._forget(storage, name.rpartition("-")[0] + "-", name, progress)
        return f"{storage}:import/{name}"

    def _upload(self, storage: str, path: Path, name: str, progress: Progress) -> str:
        size = path.stat().st_size
        progress(f"base: {size >> 20} MiB go to {storage} on {self._node}")
        with path.open("rb") as file:
            self._send(storage, "import", name, file, size)
        return f"{storage}:import/{name}"

    def _send(self, storage: str, content: Content, name: str, file: Any, size: int) -> None:
        """Not by proxmoxer: it would hold the whole file in memory."""
        access, url = self._client.access, self._client.url
        path = f"nodes/{self._node}/storage/{storage}/upload"
        login = f"PVEAPIToken={access.token_id}={access.token_secret}"
        verify = False if access.is_insecure else ssl.create_default_context(cafile=access.ca_file)
        part: Any = (name, _Stoppable(file, size), "application/octet-stream")
        try:
            answer = httpx.post(
                f"{url}/api2/json/{path}",
                headers={"Authorization": login},
                data={"content": content},
                files={"filename": part},
                timeout=httpx.Timeout(FETCH_S, connect=CONNECT_S),
                verify=verify,
            )
        except httpx.TransportError as error:
            raise NotYet(errors.RETRY_S, f"Proxmox to take a file ({error})") from error
        if answer.is_error:
            what = f"POST {path}"
            raise errors.refusal(answer.status_code, answer.reason_phrase, what)
        tasks.wait(self._client, answer.json()["data"], FETCH_S)

    def _forget(self, storage: str, prefix: str, newest: str, progress: Progress) -> None:
        """What was fetched from the same address in other weeks is gone."""
        path = f"nodes/{self._node}/storage/{storage}/content"
        for one in self._client.get(path, content="import"):
            name = str(one["volid"]).rpartition("/")[2]
            if name.startswith(prefix) and name != newest:
                self.remove(str(one["volid"]), progress)


class _Stoppable:
    """A file whose reader stops with the step that reads it."""

    def __init__(self, file: Any, size: int):
        self._file, self._size = file, size

    def read(self, count: int = -1) -> bytes:
        if process.stop.get().is_set():
            raise Stopped("upload")
        content: bytes = self._file.read(count)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Refused(f"The cloud image {path} cannot be read: {error.strerror}.") from None


def _format(path: Path) -> str:
    with suppress(OSError), path.open("rb") as file:
        return "qcow2" if file.read(4) == QCOW2 else "raw"
    return "raw"
