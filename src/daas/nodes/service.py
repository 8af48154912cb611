"""What operators say of nodes, and what is left of them. Each verb is one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas import events
from daas.errors import NotFound
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.nodes import numbers, reservations
from daas.nodes.capacity import Capacity, Range, capacity
from daas.nodes.models import Cluster, Node, Reservation
from daas.nodes.placement import Host, Need, Policy


@dataclass(frozen=True)
class Seen:
    """A node, and what is promised of it."""

    node: Node
    host: Host


def listed(db: Db) -> list[Seen]:
    found = []
    for cluster in db.scalars(select(Cluster.name).order_by(Cluster.name)):
        for host in reservations.hosts(db, cluster):
            found.append(Seen(db.get_one(Node, (cluster, host.name)), host))
    return found


def change(db: Db, actor: str, name: str, changes: Mapping[str, Any]) -> Seen:
    """The node is in maintenance (`is_maintenance`) or not, and takes at most `max_desktops`
    (None: what fits). Its desktops stay where they are."""
    node = db.scalar(select(Node).where(Node.name == name).with_for_update())
    if node is None:
        raise NotFound(f"There is no node {name}.")
    for column, value in changes.items():
        before = getattr(node, column)
        if before != value:
            setattr(node, column, value)
            words = (f"{column}={before}", f"{column}={value}", actor)
            events.record(db, f"node/{name}", *words, "changed by hand")
    db.flush()
    line = reservations.next_in_line(db, node.cluster)
    queue.wake_all(db, "session", line, Lane.LOOK, Priority.PERSON)
    host = next(h for h in reservations.hosts(db, node.cluster) if h.name == name)
    return Seen(node, host)


def left(db: Db, cluster: str, need: Need, policy: Policy) -> Capacity:
    """How many desktops of that need still fit."""
    hosts = reservations.hosts(db, cluster, need.tenant)
    row = db.get_one(Cluster, cluster)
    return capacity(hosts, need, policy, _addresses(db, cluster), numbers.left(db, row))


def _addresses(db: Db, cluster: str) -> dict[Range, int]:
    """How many addresses are left in each range."""
    held = select(Reservation.address).where(Reservation.cluster == cluster)
    given = {str(a) for a in db.scalars(held.where(Reservation.address.is_not(None)))}
    used: dict[Range, set[str]] = {}
    for node in db.scalars(select(Node).where(Node.cluster == cluster)):
        if node.first_address and node.last_address:
            range_ = (node.first_address, node.last_address)
            used.setdefault(range_, set(given)).update(node.taken)
    return {range_: _size(range_) - _within(range_, some) for range_, some in used.items()}


def _size(range_: Range) -> int:
    first, last = (int(IPv4Address(one)) for one in range_)
    return last - first + 1


def _within(range_: Range, addresses: set[str]) -> int:
    first, last = (IPv4Address(one) for one in range_)
    return sum(1 for one in addresses if first <= IPv4Address(one) <= last)
