"""Which node takes a desktop, and which address and number it gets. Pure.

The rule of the line: a node is kept for the first of those who wait that it could ever take.
So nobody is overtaken on a node of use to him, and one whom no node could take delays nobody."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from itertools import chain

NAMED = 4  # nodes a reason names; a person does not read sixteen

OFFLINE, MAINTENANCE = "offline", "in maintenance"
TEMPLATE, LIMIT, MEMORY, CPU = "template not reachable", "limit", "memory", "cpu"


@dataclass(frozen=True)
class Need:
    """What a desktop takes of a node."""

    memory_mib: int
    cpus: int = 0
    image: str = ""
    tenant: str = ""


@dataclass(frozen=True)
class Host:
    """A node, with what is promised of it already."""

    name: str
    memory_mib: int
    cpus: int = 0
    is_online: bool = True
    is_maintenance: bool = False
    max_desktops: int | None = None
    images: Mapping[str, str] | None = None  # None: every image
    foreign_mib: int = 0
    foreign_cpus: int = 0
    held_mib: int = 0
    held_cpus: int = 0
    desktops: int = 0
    of_tenant: int = 0  # how many of them are of the tenant who asks
    addresses: tuple[str, str] | None = None  # the range to give out there; None: its own DHCP

    @property
    def free_mib(self) -> int:
        return self.memory_mib - self.foreign_mib - self.held_mib

    def free_cpus(self, policy: "Policy") -> float:
        # A container's cores are a ceiling and no claim, and where they are not known there is
        # nothing to count with: such a node is filled by memory alone.
        if self.images is None or not self.cpus:
            return float("inf")
        return self.cpus * policy.cpu_overcommit - self.foreign_cpus - self.held_cpus

    def emptied(self) -> "Host":
        """The host without any desktop of ours."""
        return replace(self, held_mib=0, held_cpus=0, desktops=0, of_tenant=0)


@dataclass(frozen=True)
class Policy:
    cpu_overcommit: float = 8.0  # virtual cores for each real one
    spread_tenants: bool = False


DEFAULT = Policy()


def choose_node(
    hosts: Sequence[Host], need: Need, policy: Policy, line: Collection[Need] = ()
) -> Host | None:
    """Return the host with most free memory that takes it and is kept for none of the `line`
    before it; None if there is none."""
    fit = [h for h in hosts if not lack(h, need, policy) and not is_kept(h, line, policy)]
    return max(fit, key=lambda h: _rank(h, policy), default=None)


def lack(host: Host, need: Need, policy: Policy) -> str:
    """Return why the host does not take it now; "" if it does."""
    if not host.is_online:
        return OFFLINE
    if host.is_maintenance:
        return MAINTENANCE
    if host.images is not None and need.image not in host.images:
        return TEMPLATE
    if host.max_desktops is not None and host.desktops >= host.max_desktops:
        return LIMIT
    if host.free_mib < need.memory_mib:
        return MEMORY
    return CPU if host.free_cpus(policy) < need.cpus else ""


def is_kept(host: Host, line: Iterable[Need], policy: Policy) -> bool:
    """Does one of the `line` wait for room that this host could ever give?"""
    return any(not lack(host.emptied(), need, policy) for need in line)


def awaits_turn(hosts: Iterable[Host], need: Need, policy: Policy, line: Collection[Need]) -> bool:
    """Is there a host that could ever take it and is kept for one before it?"""
    own = [h for h in hosts if not lack(h.emptied(), need, policy)]
    return any(is_kept(h, line, policy) for h in own)


def why_not(hosts: Iterable[Host], need: Need, policy: Policy) -> str:
    """Say why none takes it: "memory (pve1, pve2); in maintenance (pve3)"."""
    reasons: dict[str, list[str]] = {}
    for host in hosts:
        if reason := lack(host, need, policy):
            reasons.setdefault(reason, []).append(host.name)
    return "; ".join(f"{reason} ({_names(found)})" for reason, found in reasons.items())


def choose_address(
    first: str, last: str, used: Collection[str], after: str | None = None
) -> str | None:
    """Return a free address of the range, the next one after `after` round about, so that one
    just given back rests a while; None if all are used."""
    low, high = int(IPv4Address(first)), int(IPv4Address(last))
    for number in _round(low, high, int(IPv4Address(after)) if after else None):
        if (address := str(IPv4Address(number))) not in used:
            return address
    return None


def choose_number(
    first: int, last: int, used: Collection[int], after: int | None = None
) -> int | None:
    """The same for the numbers of machines."""
    return next((n for n in _round(first, last, after) if n not in used), None)


def _round(low: int, high: int, after: int | None) -> Iterable[int]:
    start = low if after is None else after + 1
    if not low <= start <= high:
        start = low
    return chain(range(start, high + 1), range(low, start))


def _rank(host: Host, policy: Policy) -> tuple[int, int, str]:
    # The name last: workers must not choose by the order in which rows came.
    return (-host.of_tenant if policy.spread_tenants else 0, host.free_mib, host.name)


def _names(found: list[str]) -> str:
    shown = ", ".join(sorted(found)[:NAMED])
    return shown if len(found) <= NAMED else f"{shown} and {len(found) - NAMED} more"
