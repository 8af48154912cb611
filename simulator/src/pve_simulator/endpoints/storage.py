"""Storages: storage.cfg, what is on them, and what is put there."""

import re
from typing import Any

from pve_simulator.api import Failed, Invalid, Steps
from pve_simulator.dispatch import Call
from pve_simulator.endpoints import rights
from pve_simulator.engine.stock import refuse_open_images
from pve_simulator.engine.storage import Storage
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.volumes import Volume, owner_of, parse_size
from pve_simulator.router import endpoint

Row = dict[str, Any]
CFG = "/storage"
ON_NODE = "/nodes/{node}/storage"
ONE = f"{ON_NODE}/{{storage}}"
CONTENT = f"{ONE}/content"
VOLUME = f"{CONTENT}/{{volume}}"
FORMATS = ("raw", "qcow2", "vmdk")
REQUIRED = {
    "dir": ["path"],
    "nfs": ["server", "export"],
    "cifs": ["server", "share"],
    "lvm": ["vgname"],
    "lvmthin": ["vgname", "thinpool"],
    "zfspool": ["pool"],
    "rbd": ["pool"],
    "btrfs": ["path"],
}
DEFAULT_CONTENT = {
    "dir": "images,rootdir",
    "lvmthin": "images,rootdir",
    "zfspool": "images,rootdir",
    "btrfs": "images,rootdir",
    "pbs": "backup",
}


# -- storage.cfg -------------------------------------------------------------------------------


@endpoint("GET", CFG)
def list_configs(call: Call) -> list[Row]:
    kind = call.params.get("type")
    return [
        _config(storage)
        for storage in call.cluster.storages
        if kind in (None, storage.type) and _may_see(call, storage)
    ]


@endpoint("POST", CFG, protected=True)
def add(call: Call) -> Row:
    given = call.given()
    storage_id, kind = str(given["storage"]), str(given["type"])
    call.cluster.need_quorum()
    if call.cluster.storages.find(storage_id):
        raise Failed(f"create storage failed: storage ID '{storage_id}' already defined")
    for name in REQUIRED.get(kind, ()):
        if name not in given:
            raise Failed(f"missing value for required option '{name}'")
    known = ("storage", "type", "content", "shared", "nodes", "disable")
    size = call.node.disk
    call.cluster.storages.add(
        Storage(
            storage_id,
            kind,
            _split(given.get("content", DEFAULT_CONTENT.get(kind, "images"))),
            bool(int(given.get("shared", 0))) or kind in ("nfs", "cifs", "cephfs", "rbd"),
            size,
            nodes=_split(given.get("nodes", "")),
            is_enabled=not int(given.get("disable", 0)),
            options={key: str(value) for key, value in given.items() if key not in known},
        )
    )
    return {"storage": storage_id, "type": kind}


@endpoint("GET", f"{CFG}/{{storage}}")
def read_config(call: Call) -> Row:
    return _config(call.cluster.storages.get(str(call.params["storage"])))


@endpoint("PUT", f"{CFG}/{{storage}}", protected=True)
def update_config(call: Call) -> Row:
    storage = _configured(call, "update")
    given = call.given()
    for name in REQUIRED.get(storage.type, ()):
        if name in given:
            raise Failed(f"update storage failed: can't change value of fixed parameter '{name}'")
    call.cluster.need_quorum()
    if "content" in given:
        storage.content = _split(given["content"])
    if "nodes" in given:
        storage.nodes = _split(given["nodes"])
    if "disable" in given:
        storage.is_enabled = not int(given["disable"])
    return {"storage": storage.id, "type": storage.type}


@endpoint("DELETE", f"{CFG}/{{storage}}", protected=True)
def remove_config(call: Call) -> None:
    call.cluster.need_quorum()
    storage = _configured(call, "delete")
    call.cluster.storages.remove(storage.id)
    call.cluster.access.storage_removed(storage.id)


# -- on a node ---------------------------------------------------------------------------------


@endpoint("GET", ON_NODE, protected=True)
def list_storages(call: Call) -> list[Row]:
    given = call.params.get
    wanted = set(_split(given("content", "")))
    rows = []
    here = {storage.id for storage in call.cluster.storages.on(call.node.name)}
    _need_listed(call, given("storage"), wanted)
    for storage in call.cluster.storages:
        if given("storage") not in (None, storage.id) or not _may_see(call, storage):
            continue
        # Asked for a content, one that is disabled or elsewhere is no answer; else it is a row.
        is_usable = storage.is_enabled and storage.id in here
        if wanted and not (wanted & set(storage.content) and is_usable):
            continue
        if given("target") and not (storage.is_shared and storage.is_on(str(given("target")))):
            continue
        if given("enabled") and not storage.is_enabled:
            continue
        rows.append({"storage": storage.id} | _status(call, storage, is_usable))
    return rows


def _need_listed(call: Call, name: str | None, wanted: set[str]) -> None:
    found = call.cluster.storages.find(name) if name else None
    if name and (found is None or (wanted and not wanted & set(found.content))):
        raise Invalid(storage="No such storage.")


@endpoint("GET", ONE)
def index(call: Call) -> list[Row]:
    return [{"subdir": name} for name in ("status", "content", "upload", "download-url")]


@endpoint("GET", f"{ONE}/status", protected=True)
def status(call: Call) -> Row:
    storage = call.cluster.storages.find(str(call.params["storage"]))
    if storage is None:
        raise Invalid(storage="No such storage.")
    row = _status(call, storage, storage.is_enabled and storage.is_on(call.node.name))
    row.pop("used_fraction", None)
    return row


@endpoint("GET", CONTENT, protected=True)
def content(call: Call) -> list[Row]:
    storage = call.cluster.storages.usable(str(call.params["storage"]), call.node.name)
    kind, vmid = call.params.get("content"), call.params.get("vmid")
    found = [
        volume
        for volume in call.cluster.storages.volumes(storage.id, call.node.name)
        if kind in (None, volume.content) and volume.content in storage.content
        if vmid in (None, volume.vmid)
    ]
    refuse_open_images(call.cluster, found)
    return [_volume(volume) for volume in found if _may_use(call, volume)]


@endpoint("POST", CONTENT, protected=True)
def allocate(call: Call) -> Steps[str]:
    given, text, name = call.params, str(call.params["size"]), str(call.params["filename"])
    storage = call.cluster.storages.usable(str(given["storage"]), call.node.name)
    size = int(text) << 10 if text.isdigit() else parse_size(text)  # kilobytes without a unit
    if size is None or not re.fullmatch(r"\d+[MG]?", text):
        raise Invalid(size=f"unable to parse size '{text}'")
    stem, _, ending = name.rpartition(".")
    if ending in FORMATS and given.get("format") not in (None, ending):
        raise Invalid(format=f"different storage formats ({given['format']} != {ending})")
    fmt = ending if ending in FORMATS else given.get("format")
    volume = yield from call.cluster.storages.allocate(
        storage,
        call.node.name,
        int(given["vmid"]),
        size,
        fmt,
        name=stem if ending in FORMATS else name,
    )
    return volume.id


@endpoint("GET", VOLUME, protected=True)
def read_volume(call: Call) -> Row:
    volume = _find(call)
    storage = call.cluster.storages.get(volume.storage)
    path = call.cluster.storages.path(storage, volume.id)
    refuse_open_images(call.cluster, [volume])
    row = {"path": path, "size": volume.size, "used": volume.used, "format": volume.format}
    return row | ({"protected": 0, "notes": ""} if volume.content == "backup" else {})


@endpoint("DELETE", VOLUME, protected=True, latency="fork")
def delete_volume(call: Call) -> str:
    volume_id = _full_id(call)
    storage = call.cluster.storages.usable(volume_id.split(":")[0], call.node.name)
    owner = owner_of(volume_id)
    subject = f"{owner}@{storage.id}" if owner is not None else storage.id
    rights.on_storage(call, storage.id, "Datastore.Allocate")

    def work(task: Task) -> Steps[None]:
        volume = call.cluster.storages.volume(volume_id, call.node.name)
        if volume is None:
            path = call.cluster.storages.path(storage, volume_id)
            task.log.append(f"disk image '{path}' does not exist")
        yield from call.cluster.storages.free(volume_id, call.node.name)
        task.log.append(f"Removed volume '{volume_id}'")

    return call.start("imgdel", subject, work)


def _find(call: Call) -> Volume:
    volume_id = _full_id(call)
    volume = call.cluster.storages.volume(volume_id, call.node.name)
    if volume is None:
        raise Failed(f"volume_size_info on '{volume_id}' failed - no format")
    return volume


def _full_id(call: Call) -> str:
    volume = str(call.params["volume"])
    return volume if ":" in volume else f"{call.params['storage']}:{volume}"


def _configured(call: Call, what: str) -> Storage:
    name = str(call.params["storage"])
    found = call.cluster.storages.find(name)
    if found is None:
        raise Failed(f"{what} storage failed: storage '{name}' does not exist")
    return found


def _may_use(call: Call, volume: Volume) -> bool:
    """Whether a volume is listed for this one."""
    has, path = call.cluster.access.has, f"/storage/{volume.storage}"
    if has(call.identity, path, "Datastore.Allocate"):
        return True
    if volume.content in ("iso", "vztmpl", "import"):
        return bool(has(call.identity, path, "Datastore.AllocateSpace", "Datastore.Audit"))
    if volume.vmid is None:
        return False
    is_backup = volume.content == "backup"
    of_storage = "Datastore.AllocateSpace" if is_backup else "Datastore.Audit"
    of_vm = "VM.Backup" if is_backup else "VM.Config.Disk"
    return bool(
        has(call.identity, path, of_storage) and has(call.identity, f"/vms/{volume.vmid}", of_vm)
    )


def _status(call: Call, storage: Storage, is_usable: bool) -> Row:
    if not is_usable:
        row: Row = dict.fromkeys(("enabled", "active", "total", "used", "avail"), 0)
        facts = {"type": storage.type, "content": ",".join(storage.content)}
        return row | facts | {"shared": int(storage.is_shared)}
    used = call.cluster.storages.used(storage, call.node.name)
    available = call.cluster.storages.available(storage, call.node.name)
    return {
        "type": storage.type,
        "content": ",".join(storage.content),
        "shared": int(storage.is_shared),
        "enabled": int(storage.is_enabled),
        "active": int(storage.is_enabled),
        "total": storage.total,
        "used": storage.total if storage.is_full else used,
        "avail": available,
        "used_fraction": (storage.total - available) / storage.total if storage.total else 0,
    }


def _volume(volume: Volume) -> Row:
    row: Row = {
        "volid": volume.id,
        "content": volume.content,
        "format": volume.format,
        "size": volume.size,
        "ctime": volume.created,
    }
    if volume.content not in ("images", "rootdir"):
        return row | ({"vmid": volume.vmid} if volume.vmid is not None else {})
    parent = f"../{volume.parent.split(':')[1]}" if volume.parent else None
    return row | {"used": volume.used, "vmid": volume.vmid, "parent": parent}


def _config(storage: Storage) -> Row:
    row: Row = {
        "storage": storage.id,
        "type": storage.type,
        "content": ",".join(storage.content),
        "digest": "0" * 40,
        **storage.options,
    }
    if storage.type == "dir":
        row.setdefault("path", "/var/lib/vz")
        row |= {"shared": 1} if storage.is_shared else {}
    if storage.nodes:
        row["nodes"] = ",".join(storage.nodes)
    return row | ({} if storage.is_enabled else {"disable": 1})


def _may_see(call: Call, storage: Storage) -> bool:
    path = f"/storage/{storage.id}"
    return any(
        call.cluster.access.has(call.identity, path, privilege)
        for privilege in ("Datastore.Audit", "Datastore.AllocateSpace")
    )


def _split(text: Any) -> list[str]:
    return [part for part in str(text).replace(";", ",").split(",") if part]
