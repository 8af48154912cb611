"""Machine numbers (VMIDs): leased from a range of ours, each to one session at a time. Only
under the cluster's lock; the primary key makes sure even without it."""

from collections.abc import Iterable

from sqlalchemy import and_, case, delete, select, update
from sqlalchemy.orm import Session as Db

from daas.db import now
from daas.errors import NoCapacity
from daas.nodes.models import Cluster, Node, Number
from daas.nodes.placement import choose_number

POLL_S = 15.0
REST_S = 60.0  # of a number just given back: what Proxmox lists lags 10 s, and people read logs
FOREIGN_S = 86_400.0  # then a number that was somebody else's is tried again

FREE_AGAIN = and_(
    Number.session.is_(None),
    Number.since < now() - case((Number.is_foreign, FOREIGN_S), else_=REST_S),
)


def lease(db: Db, cluster: Cluster, session: str) -> int | NoCapacity | None:
    """The number that `session` leases; None where machines have none."""
    if cluster.first_number is None or cluster.last_number is None:
        return None
    if (number := of(db, session)) is not None:
        return number
    first, last = cluster.first_number, cluster.last_number
    db.execute(delete(Number).where(Number.cluster == cluster.name, FREE_AGAIN))
    number = choose_number(first, last, _used(db, cluster.name), cluster.newest_number)
    if number is None:
        why = f"a free VMID: all of {first}-{last} are in use (DAAS_PROXMOX_VMIDS)"
        return NoCapacity(POLL_S, why)
    db.add(Number(cluster=cluster.name, number=number, session=session, since=now()))
    cluster.newest_number = number
    db.flush()
    return number


def of(db: Db, session: str) -> int | None:
    """The number that `session` leases, if it does."""
    return db.scalar(select(Number.number).where(Number.session == session))


def release(db: Db, session: str) -> None:
    """The session leases no number; the one it had rests."""
    mine = update(Number).where(Number.session == session)
    db.execute(mine.values(session=None, since=now()))


def give_up(db: Db, session: str) -> None:
    """The number that `session` leases is somebody else's: it leases none."""
    mine = update(Number).where(Number.session == session)
    db.execute(mine.values(session=None, is_foreign=True, since=now()))


def forget(db: Db, cluster: str, gone: Iterable[int]) -> None:
    """Machines of others that had these numbers were seen, and are not there any more."""
    theirs = (Number.cluster == cluster, Number.is_foreign, Number.session.is_(None))
    db.execute(delete(Number).where(*theirs, Number.number.in_(sorted(gone))))


def left(db: Db, cluster: Cluster) -> int | None:
    """How many are free; None where machines have none."""
    if cluster.first_number is None or cluster.last_number is None:
        return None
    ours = range(cluster.first_number, cluster.last_number + 1)
    return len(ours) - len([n for n in _used(db, cluster.name) if n in ours])


def _used(db: Db, cluster: str) -> set[int]:
    ours = select(Number.number).where(Number.cluster == cluster, ~FREE_AGAIN)
    seen = db.scalars(select(Node.foreign_numbers).where(Node.cluster == cluster))
    return set(db.scalars(ours)).union(*seen)
