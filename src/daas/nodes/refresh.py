"""Copy what providers say of their nodes into our table; write only what changed."""

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas import events
from daas.db import now, upsert
from daas.errors import Unreachable
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.work import Work
from daas.nodes.models import Cluster, Node
from daas.providers.base import NodeInfo, Provider

EACH_S = 30.0
COLUMNS = ("is_online", "why", "cpus", "memory_mib", "subnet", "first_address", "last_address")


def refresh(work: Work, providers: Mapping[str, Provider]) -> None:
    """One look at the nodes of the cluster that the job names."""
    with work.database.reading() as db:
        cluster = db.get(Cluster, work.job.key)
        at = (db.scalar(select(now())) or 0.0) + EACH_S
    with work.heartbeat(lambda db: True):  # one that hangs is not asked by all workers in turn
        found, why = _look(providers[cluster.kind]) if cluster else ([], "")
    with work.database.transaction() as db:
        if cluster:
            store(db, cluster.name, found, why)
        queue.settle(db, work.job, at if cluster else None, Lane.LOOK, Priority.REFILL)


def store(db: Db, cluster: str, found: list[NodeInfo], why: str = "") -> None:
    """The table says what `found` says; nodes that were not found are offline because of `why`."""
    known = {n.name: n for n in db.scalars(select(Node).where(Node.cluster == cluster))}
    for info in found:
        _note(db, known.get(info.name), cluster, info)
    for name in known.keys() - {info.name for info in found}:
        node = known[name]
        if node.is_online:
            node.is_online, node.why = False, why or "it is not there any more"
            events.record(db, f"node/{name}", "online", "offline", "system", node.why)


def _note(db: Db, node: Node | None, cluster: str, info: NodeInfo) -> None:
    values = {c: getattr(info, c, None) for c in COLUMNS}
    values["first_address"], values["last_address"] = info.addresses or (None, None)
    values["taken"] = sorted(info.taken)
    if node is None:
        row = upsert(db, Node).values(cluster=cluster, name=info.name, **values)
        db.execute(row.on_conflict_do_nothing(index_elements=["cluster", "name"]))
        return
    if node.is_online != info.is_online:
        before, after = (_word(n.is_online) for n in (node, info))
        events.record(db, f"node/{info.name}", before, after, "system", info.why or "looked at")
    for column, value in values.items():
        if getattr(node, column) != value:
            setattr(node, column, value)


def _word(is_online: bool) -> str:
    return "online" if is_online else "offline"


def _look(provider: Provider) -> tuple[list[NodeInfo], str]:
    try:
        return provider.nodes(), ""
    except Unreachable as error:
        return [], error.why
