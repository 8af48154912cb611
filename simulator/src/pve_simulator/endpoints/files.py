"""Files put onto a storage: uploaded, or (as if) downloaded from a URL."""

import hashlib
import struct
from typing import Any

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.dispatch import Call
from pve_simulator.engine.storage import Storage
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.volumes import FILE_TYPES, Volume, parse_size
from pve_simulator.router import endpoint

Row = dict[str, Any]
ONE = "/nodes/{node}/storage/{storage}"
GIB = 1 << 30
UNSIZED = 2 * GIB  # what a download is taken for when nobody says
FOLDERS = {"iso": "template/iso", "vztmpl": "template/cache", "import": "import"}
ENDINGS = {
    "iso": (".iso", ".img"),
    "vztmpl": (".tar.gz", ".tar.xz", ".tar.zst"),
    "import": (".qcow2", ".raw", ".vmdk", ".ova"),
}


@endpoint("POST", f"{ONE}/upload", latency="fork")
def upload(call: Call) -> str:
    """A file in a multipart body, over one of the same name. Only its size and sum are kept."""
    storage, kind, name = _wanted(call)
    if storage.type not in FILE_TYPES:
        raise Failed(f"can't upload to storage type '{storage.type}'")
    _check_name(kind, name, f"upload content type '{kind}' not allowed")
    if kind not in storage.content:
        raise Failed(f"storage '{storage.id}' does not support '{kind}' content")
    data = call.request.files.get("filename", b"")
    if not data:
        raise Failed("missing temporary file name")

    def work(task: Task) -> Steps[None]:
        yield call.cluster.wait("alloc")
        algorithm = call.params.get("checksum-algorithm")
        if algorithm:
            got = hashlib.new(str(algorithm), data).hexdigest()
            _compare(got, str(call.params.get("checksum", "")))
        _keep(call, storage, kind, name, _virtual_size(data), len(data))
        task.log.append("finished file import successfully")

    return call.start("imgcopy", "", work)


@endpoint("POST", f"{ONE}/download-url", protected=True, latency="fork")
def download(call: Call) -> str:
    """Nothing is fetched: the file is there after a while. `#size=3G` in the URL says how large
    the image is; a URL with `missing` in it is not found, any checksum is believed."""
    storage, kind, name = _wanted(call)
    if storage.type not in FILE_TYPES:
        raise Failed(f"can't upload to storage type '{storage.type}', not a file based storage!")
    if kind not in storage.content:
        raise Failed(f"storage '{storage.id}' is not configured for content-type '{kind}'")
    _check_name(kind, name, f"upload content-type '{kind}' is not allowed")
    return call.start("download", name, lambda task: _fetch(call, storage, kind, name, task))


@endpoint("GET", "/nodes/{node}/query-url-metadata")
def query_url(call: Call) -> Row:
    url = str(call.params["url"])
    if "missing" in url:
        raise Failed("invalid server response: '404 Not Found'")
    name = url.split("#")[0].rsplit("/", 1)[-1]
    return {"filename": name, "mimetype": "application/octet-stream", "size": _size(url) // 4}


def _fetch(call: Call, storage: Storage, kind: str, name: str, task: Task) -> Steps[None]:
    url, checksum = str(call.params["url"]), str(call.params.get("checksum", "")).lower()
    path = f"{storage.options.get('path', '/var/lib/vz')}/{FOLDERS[kind]}/{name}"
    task.log.append(f"downloading {url} to {path}")
    there = call.cluster.storages.volume(f"{storage.id}:{kind}/{name}", call.node.name)
    if there is not None:
        if not checksum:
            raise Failed(f"refusing to override existing file '{path}'")
        _compare(there.checksum, checksum, ", aborting")
        task.log.append("OK, got correct file already, no need to download")
        return
    if "missing" in url:
        yield call.cluster.wait("alloc")
        raise Failed(f"download failed: 404 Not Found: {url}")
    yield call.cluster.wait("download_per_gib", _size(url) / GIB)
    _keep(call, storage, kind, name, _size(url), _size(url) // 4, checksum)
    task.log.append(f"download of '{url}' to '{path}' finished")


def _wanted(call: Call) -> tuple[Storage, str, str]:
    storage = call.cluster.storages.usable(str(call.params["storage"]), call.node.name)
    return storage, str(call.params["content"]), str(call.params["filename"])


def _check_name(kind: str, name: str, complaint: str) -> None:
    if kind not in ENDINGS:
        raise Invalid(content=complaint)
    if not name.endswith(ENDINGS[kind]):
        is_import = kind == "import"
        raise Invalid(
            filename="invalid filename or wrong extension" if is_import else "wrong file extension"
        )


def _compare(got: str, expected: str, ending: str = "") -> None:
    if got.lower() != expected.lower():
        raise Failed(f"checksum mismatch: got '{got}' != expect '{expected}'{ending}")


def _keep(
    call: Call, storage: Storage, kind: str, name: str, size: int, used: int, checksum: str = ""
) -> None:
    if call.cluster.storages.available(storage, call.node.name) < used:
        raise Failed("import failed: No space left on device")
    fmt = name.rsplit(".", 1)[-1]
    volume = Volume(f"{storage.id}:{kind}/{name}", size, fmt, kind, used=used, checksum=checksum)
    call.cluster.storages.put(volume, call.node.name)


def _size(url: str) -> int:
    return parse_size(url.partition("#size=")[2]) or UNSIZED


def _virtual_size(data: bytes) -> int:
    """The size of the disk in an image: what a qcow2's header says, else that of the file."""
    if data[:4] == b"QFI\xfb" and len(data) >= 32:
        return int(struct.unpack(">Q", data[24:32])[0])
    return len(data)
