"""How many desktops still fit, and what stands against more. Pure, and by placement's own rules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from daas.nodes.placement import CPU, LIMIT, MEMORY, Host, Need, Policy, lack

ADDRESSES, NUMBERS = "addresses", "VMIDs"
Range = tuple[str, str]


@dataclass(frozen=True)
class Fit:
    """One node. `limited_by` is what ends first there, or why it takes none at all."""

    node: str
    fits: int
    limited_by: str
    desktops: int


@dataclass(frozen=True)
class Capacity:
    """`fits_one_lost`: how many more, after the node whose loss hurts most is lost and its
    desktops were made again on the others. None of it if they would not even find room."""

    nodes: tuple[Fit, ...]
    fits: int
    limited_by: str
    fits_one_lost: int
    lost: str | None


def capacity(
    hosts: Sequence[Host],
    need: Need,
    policy: Policy,
    addresses: Mapping[Range, int],
    numbers: int | None,
) -> Capacity:
    """`addresses` and `numbers` are those left; a range is shared by all nodes that name it."""
    fits, limited_by = _total(hosts, need, policy, addresses, numbers)
    worst, lost = fits if not hosts else 0, None
    for host in (h for h in hosts if h.is_online):
        others = [h for h in hosts if h is not host]
        left = max(0, _total(others, need, policy, addresses, numbers)[0] - host.desktops)
        if lost is None or left < worst:
            worst, lost = left, host.name
    nodes = tuple(_fit(host, need, policy, addresses) for host in hosts)
    return Capacity(nodes, fits, limited_by, worst, lost)


def _total(
    hosts: Sequence[Host],
    need: Need,
    policy: Policy,
    addresses: Mapping[Range, int],
    numbers: int | None,
) -> tuple[int, str]:
    room = {host.name: _room(host, need, policy) for host in hosts}
    total, short = 0, not hosts
    for range_ in {host.addresses for host in hosts}:
        here = sum(room[h.name][0] for h in hosts if h.addresses == range_)
        free = here if range_ is None else addresses.get(range_, 0)
        total, short = total + min(here, free), short or free < here
    if numbers is not None and numbers < total:
        return numbers, NUMBERS
    if short:
        return total, ADDRESSES if hosts else "no node"
    # What ends where there is still most room is what the next one will be told.
    return total, max(room.values(), key=lambda one: one[0])[1]


def _fit(host: Host, need: Need, policy: Policy, addresses: Mapping[Range, int]) -> Fit:
    fits, limited_by = _room(host, need, policy)
    if host.addresses and addresses.get(host.addresses, 0) < fits:
        fits, limited_by = addresses.get(host.addresses, 0), ADDRESSES
    return Fit(host.name, fits, limited_by, host.desktops)


def _room(host: Host, need: Need, policy: Policy) -> tuple[int, str]:
    """How many the host itself takes, and what ends first."""
    if word := lack(host, need, policy):
        return 0, word
    ends = {MEMORY: float(host.free_mib // need.memory_mib) if need.memory_mib else float("inf")}
    ends[CPU] = host.free_cpus(policy) // need.cpus if need.cpus else float("inf")
    if host.max_desktops is not None:
        ends[LIMIT] = host.max_desktops - host.desktops
    word = min(ends, key=lambda one: ends[one])
    return int(ends[word]), word
