"""Copy what providers say of their nodes into our table; write only what changed. A node that
does not answer keeps what it said last."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas import events
from daas.db import now, upsert
from daas.errors import Unreachable
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.work import Work
from daas.nodes import numbers, reservations
from daas.nodes.models import Cluster, Node
from daas.providers.base import NodeInfo, Provider

EACH_S = 30.0
AWAITED_EACH_S = 5.0  # while a node is away: what waits for it is not to wait much longer
AWAITED_S = 600.0  # then it is away for long
COLUMNS = (
    "cpus",
    "memory_mib",
    "subnet",
    "foreign_mib",
    "foreign_cpus",
)


def refresh(work: Work, providers: Mapping[str, Provider]) -> None:
    """One look at the nodes of the cluster that the job names."""
    with work.database.reading() as db:
        cluster = db.get(Cluster, work.job.key)
    with work.heartbeat(lambda db: True):  # one that hangs is not asked by all workers in turn
        found, why = _look(providers[cluster.kind]) if cluster else ([], "")
    with work.database.transaction() as db:
        at = None
        if cluster:
            store(db, cluster.name, found, why)
            at = _next_look(db, cluster.name)
        queue.settle(db, work.job, at, Lane.LOOK, Priority.REFILL)


def store(db: Db, cluster: str, found: Sequence[NodeInfo], why: str = "") -> None:
    """The table says what `found` says; nodes that were not found are offline because of `why`.
    Who is concerned by a node that went or came is woken."""
    known = {n.name: n for n in db.scalars(select(Node).where(Node.cluster == cluster))}
    before = {n for node in known.values() for n in node.foreign_numbers}
    turned = [info.name for info in found if _note(db, known.get(info.name), cluster, info)]
    for name in sorted(known.keys() - {info.name for info in found}):
        if found and not reservations.on_node(db, cluster, name):
            db.delete(known.pop(name))  # taken out of the cluster, and nothing of ours is on it
        elif _turn(db, known[name], False, why or "it is not there any more"):
            turned.append(name)
    db.flush()
    after = {n for node in known.values() for n in node.foreign_numbers}
    if gone := before - after:
        numbers.forget(db, cluster, gone)
    _wake(db, cluster, turned, any(known[name].is_online for name in turned if name in known))


def _note(db: Db, node: Node | None, cluster: str, info: NodeInfo) -> bool:
    """Write down what changed; return whether the node went or came back."""
    values = _values(info)
    if node is None:
        row = upsert(db, Node).values(
            cluster=cluster,
            name=info.name,
            is_online=info.is_online,
            offline_since=None if info.is_online else now(),
            why=info.why,
            **values,
        )
        db.execute(row.on_conflict_do_nothing(index_elements=["cluster", "name"]))
        return False
    for column, value in values.items() if info.is_online else ():
        if getattr(node, column) != value:
            setattr(node, column, value)
    return _turn(db, node, info.is_online, info.why)


def _values(info: NodeInfo) -> dict[str, Any]:
    values = {column: getattr(info, column) for column in COLUMNS}
    values["first_address"], values["last_address"] = info.addresses or (None, None)
    values["taken"] = sorted(info.taken)
    values["foreign_numbers"] = sorted(info.foreign_numbers)
    values["images"] = None if info.images is None else dict(sorted(info.images.items()))
    return values


def _turn(db: Db, node: Node, is_online: bool, why: str) -> bool:
    """The node is online or not, because of `why`; return whether that is news."""
    if node.why != why and not is_online:
        node.why = why
    if node.is_online is is_online:
        return False
    words = ("online", "offline") if node.is_online else ("offline", "online")
    events.record(db, f"node/{node.name}", *words, "system", why or "looked at")
    node.is_online, node.why = is_online, why
    node.offline_since = None if is_online else db.scalar(select(now()))
    return True


def _wake(db: Db, cluster: str, turned: Sequence[str], is_back: bool) -> None:
    """The sessions of nodes that turned look at once what that means for them. With one that is
    back there is room for who waits, and machines on it that nobody may want any more."""
    names = {s for node in turned for s in reservations.on_node(db, cluster, node)}
    if is_back:
        names |= set(reservations.next_in_line(db, cluster))
        kind = db.get_one(Cluster, cluster).kind
        queue.wake(db, "sweep", kind, Lane.BULK, Priority.REFILL)
    queue.wake_all(db, "session", names, Lane.LOOK, Priority.PERSON)


def _next_look(db: Db, cluster: str) -> float:
    newly = (Node.cluster == cluster, Node.offline_since > now() - AWAITED_S)
    is_awaited = db.scalar(select(Node.name).where(*newly).limit(1))
    each_s = AWAITED_EACH_S if is_awaited else EACH_S
    return (db.scalar(select(now())) or 0.0) + each_s


def _look(provider: Provider) -> tuple[list[NodeInfo], str]:
    try:
        return provider.nodes(), ""
    except Unreachable as error:
        return [], error.why
