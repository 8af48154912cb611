"""Room on nodes: reserved under the cluster's lock, so that many at once never over-commit;
first come, first served, as placement.py has it."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, delete, func, select
from sqlalchemy.orm import Session as Db

from daas.db import upsert
from daas.errors import NoCapacity
from daas.nodes import numbers
from daas.nodes.models import Cluster, Node, Reservation
from daas.nodes.placement import (
    DEFAULT,
    Host,
    Need,
    Policy,
    awaits_turn,
    choose_address,
    choose_node,
    why_not,
)

ROOM_POLL_S = 15.0  # a release wakes who waits; this is for what nobody tells us of
WAITS = Reservation.node.is_(None)


@dataclass(frozen=True)
class Room:
    node: str
    address: str | None = None  # with its prefix: "10.88.0.50/24"
    gateway: str | None = None
    number: int | None = None  # of the machine, where machines have numbers
    storage: str | None = None  # whose lock a clone of its image takes there, if any


def reserve(
    db: Db, session: str, cluster: str, need: Need, policy: Policy = DEFAULT
) -> Room | NoCapacity:
    """The room that is kept for `session`; NoCapacity (a value: the place in line that comes
    with it is to be committed) while there is none."""
    lock(db, cluster)
    mine = _ticket(db, session, cluster, need)
    if mine.node is None:
        node = _choose(db, mine, need, policy)
        if isinstance(node, NoCapacity):
            return node
        lacking = _number_and_address(db, mine, node)
        if lacking:
            return lacking
        mine.node = node.name
        db.flush()
    return _room(db, mine)


def lock(db: Db, cluster: str) -> Cluster | None:
    """One chooser per cluster at a time: what it counts cannot change under it."""
    row = select(Cluster).where(Cluster.name == cluster).with_for_update(key_share=True)
    return db.scalar(row)


def kept(db: Db, session: str) -> Room | None:
    """The room that `session` has, if it has."""
    mine = db.scalar(select(Reservation).where(Reservation.session == session))
    return _room(db, mine) if mine and mine.node else None


def release(db: Db, session: str) -> None:
    """The session holds no room, number, nor a place in line."""
    db.execute(delete(Reservation).where(Reservation.session == session))
    numbers.release(db, session)


def leave_line(db: Db, session: str) -> None:
    """The session waits for no room; what it holds it keeps."""
    db.execute(delete(Reservation).where(Reservation.session == session, WAITS))


def next_in_line(db: Db, cluster: str, limit: int = 4) -> list[str]:
    """The sessions that should look for room now that there is some: the first of each need,
    for what one cannot use may be another's."""
    alike = (Reservation.memory_mib, Reservation.cpus, Reservation.image)
    place = func.row_number().over(partition_by=alike, order_by=Reservation.id).label("place")
    waiting = select(Reservation.session, Reservation.id, place)
    line = waiting.where(Reservation.cluster == cluster, WAITS).subquery()
    first = select(line.c.session).where(line.c.place <= limit).order_by(line.c.id)
    return list(db.scalars(first))


def on_node(db: Db, cluster: str, node: str) -> list[str]:
    """The sessions that have their room on that node."""
    here = (Reservation.cluster == cluster, Reservation.node == node)
    return list(db.scalars(select(Reservation.session).where(*here)))


def outage(db: Db, cluster: str, node: str | None) -> float | None:
    """Since when that node does not answer; None if it does."""
    where = (Node.cluster == cluster, Node.name == node, Node.is_online.is_(False))
    return db.scalar(select(Node.offline_since).where(*where)) if node else None


def position(db: Db, mine: Reservation) -> int:
    """Place in line, from 1."""
    return 1 + (db.scalar(select(func.count()).where(*_before(mine))) or 0)


def position_of(db: Db, session: str) -> int | None:
    """Place in line of `session`; None when it does not wait in one."""
    mine = db.scalar(select(Reservation).where(Reservation.session == session, WAITS))
    return position(db, mine) if mine else None


def has_room(db: Db, cluster: str, need: Need, policy: Policy = DEFAULT) -> bool:
    """Would such a desktop find room now? (A guess: nothing is reserved.)"""
    line = _line(db, Reservation.cluster == cluster, WAITS)
    return choose_node(hosts(db, cluster, need.tenant), need, policy, line) is not None


def hosts(db: Db, cluster: str, tenant: str = "") -> list[Host]:
    """The nodes with what is promised of them: what every decision about room is made from."""
    theirs = func.count(case((Reservation.tenant == tenant, 1)))
    sums = (func.sum(Reservation.memory_mib), func.sum(Reservation.cpus), func.count(), theirs)
    held = select(Reservation.node, *sums).where(Reservation.cluster == cluster, ~WAITS)
    by_node = {row[0]: row[1:] for row in db.execute(held.group_by(Reservation.node))}
    rows = db.scalars(select(Node).where(Node.cluster == cluster).order_by(Node.name))
    return [_host(node, *by_node.get(node.name, (0, 0, 0, 0))) for node in rows]


def _host(node: Node, held_mib: int, held_cpus: int, desktops: int, of_tenant: int) -> Host:
    first, last = node.first_address, node.last_address
    return Host(
        name=node.name,
        memory_mib=node.memory_mib,
        cpus=node.cpus,
        is_online=node.is_online,
        is_maintenance=node.is_maintenance,
        max_desktops=node.max_desktops,
        images=node.images,
        foreign_mib=node.foreign_mib,
        foreign_cpus=node.foreign_cpus,
        held_mib=int(held_mib),
        held_cpus=int(held_cpus),
        desktops=int(desktops),
        of_tenant=int(of_tenant),
        addresses=(first, last) if first and last else None,
    )


def _ticket(db: Db, session: str, cluster: str, need: Need) -> Reservation:
    values = {
        "session": session,
        "cluster": cluster,
        "memory_mib": need.memory_mib,
        "cpus": need.cpus,
        "image": need.image,
        "tenant": need.tenant,
    }
    row = upsert(db, Reservation).values(**values)
    db.execute(row.on_conflict_do_nothing(index_elements=["session"]))
    return db.scalars(select(Reservation).where(Reservation.session == session)).one()


def _choose(db: Db, mine: Reservation, need: Need, policy: Policy) -> Node | NoCapacity:
    found = hosts(db, mine.cluster, need.tenant)
    line = _line(db, *_before(mine))
    best = choose_node(found, need, policy, line)
    if best:
        return db.get_one(Node, (mine.cluster, best.name))
    if awaits_turn(found, need, policy, line):
        before = position(db, mine) - 1
        return NoCapacity(ROOM_POLL_S, f"its turn: {before} before it wait for room")
    why = why_not(found, need, policy) or "it has none"
    room = f"room for {need.memory_mib} MiB on a node of {mine.cluster}"
    return NoCapacity(ROOM_POLL_S, f"{room}: {why}")


def _before(mine: Reservation) -> tuple[ColumnElement[bool], ...]:
    return (Reservation.cluster == mine.cluster, WAITS, Reservation.id < mine.id)


def _line(db: Db, *which: ColumnElement[bool]) -> list[Need]:
    alike = (Reservation.memory_mib, Reservation.cpus, Reservation.image)
    return [Need(*row) for row in db.execute(select(*alike).where(*which).distinct())]


def _number_and_address(db: Db, mine: Reservation, node: Node) -> NoCapacity | None:
    """Both are held by `mine` from now on, or what is lacking is returned."""
    address = _address(db, node) if node.first_address and node.last_address else None
    if node.first_address and address is None:
        return NoCapacity(ROOM_POLL_S, f"a free address on {node.name}")
    number = numbers.lease(db, db.get_one(Cluster, mine.cluster), mine.session)
    if isinstance(number, NoCapacity):
        return number
    mine.address = address
    return None


def _address(db: Db, node: Node) -> str | None:
    assert node.first_address and node.last_address
    held = (Reservation.cluster == node.cluster, Reservation.address.is_not(None))
    newest_first = select(Reservation.address).where(*held).order_by(Reservation.id.desc())
    given = [str(address) for address in db.scalars(newest_first)]
    used = {*given, *node.taken}
    return choose_address(node.first_address, node.last_address, used, given[0] if given else None)


def _room(db: Db, mine: Reservation) -> Room:
    node = db.get_one(Node, (mine.cluster, mine.node))
    gateway, _, prefix = (node.subnet or "").partition("/")
    has_address = bool(mine.address and node.subnet)
    return Room(
        node.name,
        address=f"{mine.address}/{prefix}" if has_address else None,
        gateway=gateway if has_address else None,
        number=numbers.of(db, mine.session),
        storage=(node.images or {}).get(mine.image),
    )
