"""Which node takes a desktop, and which address it gets there. Pure."""

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from itertools import chain


def choose_node(
    capacity: Mapping[str, int], reserved: Mapping[str, int], memory_mib: int
) -> str | None:
    """Return the node with most free memory (all in MiB), or None if the desktop fits on none."""
    free = {node: mib - reserved.get(node, 0) for node, mib in capacity.items()}
    best = max(free, key=lambda node: (free[node], node), default=None)
    return best if best and free[best] >= memory_mib else None


def choose_address(
    first: str, last: str, used: Collection[str], after: str | None = None
) -> str | None:
    """Return a free address of the range, the next one after `after` round about, so that one
    just given back rests a while; None if all are used."""
    low, high = int(IPv4Address(first)), int(IPv4Address(last))
    start = int(IPv4Address(after)) + 1 if after else low
    if not low <= start <= high:
        start = low
    for number in chain(range(start, high + 1), range(low, start)):
        if (address := str(IPv4Address(number))) not in used:
            return address
    return None
