"""Room on nodes: reserved under the cluster's lock, so that many at once never over-commit;
first come, first served."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as Db

from daas.db import upsert
from daas.errors import NoCapacity
from daas.nodes.models import Cluster, Node, Reservation
from daas.nodes.placement import choose_address, choose_node

ROOM_POLL_S = 15.0  # a release wakes who waits; this is for a node that comes back


@dataclass(frozen=True)
class Room:
    node: str
    address: str | None = None  # with its prefix: "10.88.0.50/24"
    gateway: str | None = None


def reserve(db: Db, session: str, cluster: str, memory_mib: int) -> Room | NoCapacity:
    """The room that is kept for `session`; NoCapacity (a value: the place in line that comes
    with it is to be committed) while there is none."""
    # One chooser per cluster at a time: what it counts below cannot change under it.
    db.execute(select(Cluster).where(Cluster.name == cluster).with_for_update(key_share=True))
    mine = _ticket(db, session, cluster, memory_mib)
    if mine.node is None:
        if before := position(db, mine) - 1:
            return NoCapacity(ROOM_POLL_S, f"its turn: {before} before it wait for room")
        node = _choose(db, cluster, memory_mib)
        if node is None:
            return NoCapacity(ROOM_POLL_S, f"room for {memory_mib} MiB on a node of {cluster}")
        if node.first_address and node.last_address:
            mine.address = _address(db, node)
            if mine.address is None:
                return NoCapacity(ROOM_POLL_S, f"a free address on {node.name}")
        mine.node = node.name
        db.flush()
    return _room(db, mine)


def kept(db: Db, session: str) -> Room | None:
    """The room that `session` has, if it has."""
    mine = db.scalar(select(Reservation).where(Reservation.session == session))
    return _room(db, mine) if mine and mine.node else None


def release(db: Db, session: str) -> None:
    """The session holds no room, nor a place in line."""
    db.execute(delete(Reservation).where(Reservation.session == session))


def leave_line(db: Db, session: str) -> None:
    """The session waits for no room; what it holds it keeps."""
    waits = (Reservation.session == session, Reservation.node.is_(None))
    db.execute(delete(Reservation).where(*waits))


def next_in_line(db: Db, cluster: str, limit: int = 4) -> list[str]:
    """The sessions that should look for room now that there is some."""
    waiting = (Reservation.cluster == cluster, Reservation.node.is_(None))
    rows = select(Reservation.session).where(*waiting).order_by(Reservation.id).limit(limit)
    return list(db.scalars(rows))


def position(db: Db, mine: Reservation) -> int:
    """Place in line, from 1."""
    before = (
        Reservation.cluster == mine.cluster,
        Reservation.node.is_(None),
        Reservation.id < mine.id,
    )
    return 1 + (db.scalar(select(func.count()).where(*before)) or 0)


def position_of(db: Db, session: str) -> int | None:
    """Place in line of `session`; None when it does not wait in one."""
    waiting = (Reservation.session == session, Reservation.node.is_(None))
    mine = db.scalar(select(Reservation).where(*waiting))
    return position(db, mine) if mine else None


def has_room(db: Db, cluster: str, memory_mib: int) -> bool:
    """Would a desktop of that size find room now? (A guess: nothing is reserved.)"""
    return not next_in_line(db, cluster, 1) and _choose(db, cluster, memory_mib) is not None


def _ticket(db: Db, session: str, cluster: str, memory_mib: int) -> Reservation:
    values = {"session": session, "cluster": cluster, "memory_mib": memory_mib}
    row = upsert(db, Reservation).values(**values)
    db.execute(row.on_conflict_do_nothing(index_elements=["session"]))
    return db.scalars(select(Reservation).where(Reservation.session == session)).one()


def _choose(db: Db, cluster: str, memory_mib: int) -> Node | None:
    nodes = {n.name: n for n in db.scalars(select(Node).where(Node.cluster == cluster))}
    capacity = {name: n.memory_mib for name, n in nodes.items() if n.is_online}
    held = (Reservation.cluster == cluster, Reservation.node.is_not(None))
    total = select(Reservation.node, func.sum(Reservation.memory_mib)).where(*held)
    reserved = {str(n): int(mib) for n, mib in db.execute(total.group_by(Reservation.node))}
    best = choose_node(capacity, reserved, memory_mib)
    return nodes[best] if best else None


def _address(db: Db, node: Node) -> str | None:
    assert node.first_address and node.last_address
    held = (Reservation.cluster == node.cluster, Reservation.address.is_not(None))
    newest_first = select(Reservation.address).where(*held).order_by(Reservation.id.desc())
    given = [str(address) for address in db.scalars(newest_first)]
    used = {*given, *node.taken}
    return choose_address(node.first_address, node.last_address, used, given[0] if given else None)


def _room(db: Db, mine: Reservation) -> Room:
    node = db.get_one(Node, (mine.cluster, mine.node))
    if not mine.address or not node.subnet:
        return Room(node.name)
    gateway, _, prefix = node.subnet.partition("/")
    return Room(node.name, f"{mine.address}/{prefix}", gateway)
