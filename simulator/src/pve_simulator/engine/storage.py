"""Storages: every allocation, clone and removal of a volume happens under the storage's lock.

The lock of a local storage is a file of its node, that of a shared one is the whole cluster's: so
clones on one storage go one after the other, and who waits for 10 s fails.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pve_simulator.api import Failed, Steps
from pve_simulator.engine.locks import STORAGE_TIMEOUT_S
from pve_simulator.engine.volumes import (
    CAN_LINK,
    FILE_TYPES,
    Volume,
    format_of,
    owner_of,
    parse_parent,
    parse_size,
    volume_id,
)

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster

CLOUDINIT_SIZE = 4 << 20


@dataclass
class Storage:
    """One entry of storage.cfg. A local one has volumes of its own on each node."""

    id: str
    type: str
    content: list[str]
    is_shared: bool
    total: int
    base_used: int = 0
    nodes: list[str] = field(default_factory=list)  # [] is all
    is_enabled: bool = True
    is_full: bool = False
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Volumes are files, which may be of several formats; a new disk is raw all the same."""
        return self.type in FILE_TYPES

    def format_for(self, wanted: str | None) -> str:
        """The format a copy gets: the wanted one where that can be."""
        return wanted if wanted and self.is_file else "raw"

    @property
    def can_link(self) -> bool:
        return self.type in CAN_LINK

    def is_on(self, node: str) -> bool:
        return not self.nodes or node in self.nodes


class Storages:
    """storage.cfg and all volumes."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._by_id: dict[str, Storage] = {}
        # Local storages of two nodes may hold volumes of the same id.
        self._volumes: dict[tuple[str, str], Volume] = {}

    # -- storage.cfg ---------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Storage]:
        return iter(self._by_id.values())

    def add(self, storage: Storage) -> None:
        self._by_id[storage.id] = storage

    def remove(self, storage_id: str) -> None:
        del self._by_id[storage_id]

    def get(self, storage_id: str) -> Storage:
        if storage_id not in self._by_id:
            raise Failed(f"storage '{storage_id}' does not exist")
        return self._by_id[storage_id]

    def find(self, storage_id: str) -> Storage | None:
        return self._by_id.get(storage_id)

    def usable(self, storage_id: str, node: str) -> Storage:
        """The storage, if it is enabled and there on this node."""
        storage = self.get(storage_id)
        if not storage.is_enabled:
            raise Failed(f"storage '{storage_id}' is disabled")
        if not storage.is_on(node):
            raise Failed(f"storage '{storage_id}' is not available on node '{node}'")
        return storage

    def on(self, node: str) -> list[Storage]:
        return [storage for storage in self._by_id.values() if storage.is_on(node)]

    # -- volumes -------------------------------------------------------------------------------

    def put(self, volume: Volume, node: str) -> None:
        volume.created = volume.created or int(self._cluster.unix_time)
        self._volumes[self._key(volume.id, node)] = volume

    def drop(self, volid: str, node: str) -> None:
        self._volumes.pop(self._key(volid, node), None)

    def volume(self, volid: str, node: str) -> Volume | None:
        return self._volumes.get(self._key(volid, node))

    def volumes(self, storage_id: str, node: str) -> list[Volume]:
        place = self._key(f"{storage_id}:", node)[0]
        return [
            volume
            for (where, _), volume in self._volumes.items()
            if where == place and volume.storage == storage_id
        ]

    def used(self, storage: Storage, node: str) -> int:
        volumes = sum(volume.used for volume in self.volumes(storage.id, node))
        return min(storage.base_used + volumes, storage.total)

    def available(self, storage: Storage, node: str) -> int:
        return 0 if storage.is_full else max(storage.total - self.used(storage, node), 0)

    def children(self, base: Volume, node: str) -> list[Volume]:
        return [v for v in self.volumes(base.storage, node) if v.parent == base.id]

    def size_from(self, volid: str, node: str, size: str | None) -> int:
        volume = self.volume(volid, node)
        return volume.size if volume else (parse_size(size or "") or 0)

    # -- under the lock ------------------------------------------------------------------------

    def locked(
        self, storage: Storage, node: str, work: Callable[[], Steps[Volume]]
    ) -> Steps[Volume]:
        """Do `work` as Proxmox VE does: under this storage's lock."""
        locks = self._cluster.locks
        if storage.is_shared:
            lock = locks.shared_storage(storage.id)
            with (yield from lock.hold(STORAGE_TIMEOUT_S)):
                result: Volume = yield from lock.limit(work())
                return result
        with (yield from locks.local_storage(node, storage.id).hold(STORAGE_TIMEOUT_S)):
            return (yield from work())

    def allocate(
        self,
        storage: Storage,
        node: str,
        vmid: int,
        size: int,
        fmt: str | None = None,
        *,
        name: str = "",
        used: int = 0,
    ) -> Steps[Volume]:
        """A new volume; without `name` the next free `vm-N-disk-M`."""
        fmt = fmt or "raw"

        def work() -> Steps[Volume]:
            latency = "alloc.cloudinit" if name.endswith("-cloudinit") else "alloc"
            yield self._cluster.wait(latency)
            chosen = name or self._free_name(storage, node, vmid)
            volid = volume_id(storage.type, storage.id, vmid, chosen, fmt)
            self._fits(storage, node, used, volid)
            if self.volume(volid, node):
                raise Failed(f"disk image '{self.path(storage, volid)}' already exists")
            volume = Volume(volid, size, fmt, vmid=vmid, used=used)
            self.put(volume, node)
            return volume

        return (yield from self.locked(storage, node, work))

    def link(self, base: Volume, node: str, vmid: int) -> Steps[Volume]:
        """A linked clone of a base volume."""
        storage = self.usable(base.storage, node)

        def work() -> Steps[Volume]:
            yield self._cluster.wait("clone.linked")
            if self.volume(base.id, node) is None:
                raise Failed(f"volume '{base.id}' does not exist")
            name = self._free_name(storage, node, vmid)
            # A linked clone in a file is a qcow2 whatever its base is.
            fmt = "qcow2" if storage.is_file else "raw"
            volid = volume_id(storage.type, storage.id, vmid, name, fmt, base)
            self._fits(storage, node, 0, volid)
            volume = Volume(volid, base.size, fmt, vmid=vmid, parent=base.id, used=1 << 18)
            self.put(volume, node)
            return volume

        return (yield from self.locked(storage, node, work))

    def free(self, volid: str, node: str) -> Steps[None]:
        """Remove a volume. One that is gone already is not an error; a base in use is."""
        volume = self.volume(volid, node)
        storage = self.usable(volid.split(":", 1)[0], node)

        def work() -> Steps[Volume]:
            yield self._cluster.wait("free")
            if volume and self.children(volume, node):
                name = volid.split(":", 1)[1]
                raise Failed(f"base volume '{name}' is still in use by linked clones")
            self.drop(volid, node)
            return volume or Volume(volid, 0, "raw")

        yield from self.locked(storage, node, work)

    def base_from(self, volume: Volume, node: str) -> Volume:
        """Rename `vm-N-disk-M` to `base-N-disk-M`: it becomes read-only."""
        storage = self.get(volume.storage)
        name = volume.name.replace("vm-", "base-", 1)
        if storage.type in FILE_TYPES:
            name = name.rsplit(".", 1)[0]
        self.drop(volume.id, node)
        parent = self.volume(volume.parent, node) if volume.parent else None
        volume.id = volume_id(
            storage.type, storage.id, volume.vmid or 0, name, volume.format, parent
        )
        self.put(volume, node)
        return volume

    def path(self, storage: Storage, volid: str) -> str:
        name = volid.split(":", 1)[1]
        if base := parse_parent(volid):
            name = name.removeprefix(f"{base.split(':', 1)[1]}/")
        if storage.type in FILE_TYPES:
            return f"{storage.options.get('path', '/var/lib/vz')}/images/{name}"
        return f"/dev/{storage.options.get('vgname', storage.id)}/{name}"

    def _fits(self, storage: Storage, node: str, needed: int, volid: str) -> None:
        if storage.is_full or self.available(storage, node) < needed:
            path = self.path(storage, volid)
            raise Failed(
                f"unable to create image: qemu-img: {path}: Could not resize file: "
                "No space left on device"
            )

    def _free_name(self, storage: Storage, node: str, vmid: int) -> str:
        taken = {v.name.split(".")[0] for v in self.volumes(storage.id, node) if v.vmid == vmid}
        number = 0
        while {f"vm-{vmid}-disk-{number}", f"base-{vmid}-disk-{number}"} & taken:
            number += 1
        return f"vm-{vmid}-disk-{number}"

    def _key(self, volid: str, node: str) -> tuple[str, str]:
        storage = self.get(volid.split(":", 1)[0])
        return ("" if storage.is_shared else node), volid


def adopt(storages: Storages, volid: str, size: int, node: str) -> None:
    """Make the volume that a configuration names exist, as when a world is loaded."""
    storage = storages.get(volid.split(":", 1)[0])
    storages.put(
        Volume(
            volid,
            size,
            format_of(volid, storage.type),
            vmid=owner_of(volid),
            parent=parse_parent(volid),
        ),
        node,
    )
