"""Which storage can hold a template that desktops are cloned from in a moment. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

# "Linked clone": a new disk that only holds what differs from the template's.
CAN_LINK = frozenset(
    {"btrfs", "cephfs", "cifs", "dir", "glusterfs", "lvmthin", "nfs", "rbd", "zfspool"}
)
# These hold files. Only a qcow2 file knows snapshots.
OF_FILES = frozenset({"btrfs", "cephfs", "cifs", "dir", "glusterfs", "nfs"})


def why_not(row: Mapping[str, Any], needs_link: bool = True) -> str:
    """Return why no template can be on that storage of a node; "" where one can."""
    if not row.get("enabled", 1):
        return "it is disabled"
    if not row.get("active", 1):
        return "it is not active"
    if "images" not in str(row.get("content", "")).split(","):
        return "it does not take disk images"
    if needs_link and row.get("type") not in CAN_LINK:
        return f"a storage of type {row.get('type')} cannot make linked clones"
    return ""


def choose(
    rows: Iterable[Mapping[str, Any]], wanted: str = "", needs_link: bool = True
) -> Mapping[str, Any] | None:
    """Return the storage that is wanted, or else, of those that can clone, one that all nodes
    share, and then the one with the most room."""
    usable = [
        row
        for row in rows
        if not why_not(row, needs_link) and (not wanted or row["storage"] == wanted)
    ]
    return max(usable, key=_worth, default=None)


def _worth(row: Mapping[str, Any]) -> tuple[bool, int]:
    return bool(row.get("shared")), int(row.get("avail") or 0)


def disk(row: Mapping[str, Any], source: str) -> str:
    """Return the order for a disk on that storage, copied from a volume."""
    kind = ",format=qcow2" if row.get("type") in OF_FILES else ""
    return f"{row['storage']}:0,import-from={source}{kind},discard=on"
