"""Names of volumes, per kind of storage, and what each kind can do with them. Pure."""

import re
from dataclasses import dataclass, field

# Files below a directory, or block devices by name.
FILE_TYPES = {"dir", "nfs", "cifs", "cephfs", "btrfs", "glusterfs"}
# A clone's volume id names its base too.
NAMES_BASE = FILE_TYPES | {"rbd", "zfspool"}
CAN_LINK = FILE_TYPES | {"rbd", "zfspool", "lvmthin"}
CAN_SNAPSHOT = {"rbd", "zfspool", "lvmthin"}

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass
class Volume:
    """One disk, image or file. `used` is what it takes away from the storage."""

    id: str
    size: int
    format: str
    content: str = "images"
    vmid: int | None = None
    parent: str | None = None  # volume id of the base it is a linked clone of
    used: int = 0
    created: int = 0
    snapshots: list[str] = field(default_factory=list)
    checksum: str = ""  # of a file that was downloaded: what was said of it

    @property
    def storage(self) -> str:
        return self.id.split(":", 1)[0]

    @property
    def name(self) -> str:
        """`base-9000-disk-0.qcow2` of `local:9000/base-9000-disk-0.qcow2`."""
        return self.id.split(":", 1)[1].rsplit("/", 1)[-1]

    @property
    def is_base(self) -> bool:
        return self.name.startswith("base-")


def volume_id(
    kind: str, storage: str, vmid: int, name: str, fmt: str, base: Volume | None = None
) -> str:
    """How a storage of this kind calls a volume; `base` for a linked clone."""
    is_file = kind in FILE_TYPES
    own = f"{vmid}/{name}.{fmt}" if is_file else name
    if base is None or kind not in NAMES_BASE:
        return f"{storage}:{own}"
    return f"{storage}:{base.id.split(':', 1)[1].split('/vm-')[0]}/{own}"


def parse_parent(volid: str) -> str | None:
    """The base's volume id, if this id names one."""
    storage, _, path = volid.partition(":")
    match = re.fullmatch(r"((?:\d+/)?base-[^/]+)/(?:\d+/)?(?:vm|base)-[^/]+", path)
    return f"{storage}:{match.group(1)}" if match else None


def owner_of(volid: str) -> int | None:
    match = re.search(r"(?:vm|base|subvol)-(\d+)-[^/]*$", volid)
    return int(match.group(1)) if match else None


def format_of(volid: str, kind: str) -> str:
    match = re.search(r"\.(qcow2|raw|vmdk|subvol|iso|img|ova|ovf)$", volid)
    return match.group(1) if match and kind in FILE_TYPES else "raw"


def parse_size(text: str) -> int | None:
    """`1G`, `4M`, `512` (bytes), `2.5G`. None where it is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    return int(float(match.group(1)) * _UNITS[match.group(2)]) if match else None


def print_size(size: int) -> str:
    """The largest unit that leaves no fraction, as in a configuration."""
    for unit in "TGMK":
        if size >= _UNITS[unit] and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)
