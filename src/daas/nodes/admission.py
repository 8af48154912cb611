"""Who may clone onto a storage now: so few at once that nobody waits for its lock in vain. The
passes are rows, shared by all workers; one whose holder lost its job's lease does not count."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session as Db

from daas.db import now, upsert
from daas.errors import Congested, NoCapacity
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import Job
from daas.jobs.work import Work
from daas.nodes.models import Gate, Pass
from daas.nodes.pace import MAX, Pace
from daas.providers.base import nothing

POLL_S, POLL_MAX_S = 5.0, 60.0  # who leaves wakes the next; this is for one that died inside

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Door:
    """Where a session clones. `is_new`: nothing was made of it yet, so that the time it takes
    is that of a clone."""

    cluster: str
    storage: str
    is_new: bool = True


class Admission(Protocol):
    def inside(self, work: Work, door: Door | None) -> AbstractContextManager[Callable[[], None]]:
        """The session of `work` clones meanwhile; NoCapacity if it is not its turn. Gives what to
        call once it needs the storage's lock no more; then others enter before it is through."""


class Gates:
    """The admission of the product."""

    @contextmanager
    def inside(self, work: Work, door: Door | None) -> Iterator[Callable[[], None]]:
        if door is None:  # no lock there that is worth a queue
            yield nothing
            return
        self._enter(work, door)
        # What a killed worker cannot do is not in a `finally`: its pass ends with its lease.
        leave = partial(self._leave, work, is_made=door.is_new)
        try:
            # At a lock that is no queue each one more who asks makes it likelier that one misses
            # all its tries; so there the pause in which a machine starts is not given away.
            yield nothing if _is_polled(door.storage) else leave
        except Exception as error:
            self._leave(work, is_congested=isinstance(error, Congested))
            raise
        leave()  # who has left already cannot leave again

    def _enter(self, work: Work, door: Door) -> None:
        with work.transaction() as db:
            wait = enter(db, door, work.job.key, work.job.lease)
        if wait:
            raise wait

    def _leave(self, work: Work, *, is_made: bool = False, is_congested: bool = False) -> None:
        with work.database.transaction() as db:
            woken = leave(db, work.job.key, work.job.lease, is_made, is_congested)
        # Each by itself: jobs of two sessions in one transaction could deadlock with others.
        for name in woken:
            with work.database.transaction() as db:
                queue.wake(db, "session", name, Lane.LOOK, Priority.PERSON)


class Open:
    """Lets everybody in at once: for tests of what happens then."""

    def inside(self, work: Work, door: Door | None) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(nothing)


def enter(db: Db, door: Door, session: str, lease: str) -> NoCapacity | None:
    """The session is inside, or stands in line and is told when to ask again."""
    gate = _lock(db, door.cluster, door.storage)
    mine = _pass(db, door, session)
    if mine.lease == lease:
        return None
    in_front = (Pass.lease == "", Pass.id < mine.id)
    before = db.scalar(select(func.count()).where(*_here(gate), *in_front)) or 0
    if before >= pace(gate).open - _inside(db, gate, but=session):
        return _wait(gate, before)
    mine.lease, mine.entered_at = lease, db.scalar(select(now()))
    db.flush()
    return None


def leave(
    db: Db, session: str, lease: str, is_made: bool = False, is_congested: bool = False
) -> list[str]:
    """The session is outside, and what it saw is learnt; return who may enter now."""
    mine = db.scalar(select(Pass).where(Pass.session == session, Pass.lease == lease))
    if mine is None:  # somebody else has taken over meanwhile, and entered in its stead
        return []
    gate = _lock(db, mine.cluster, mine.storage)
    others, waiting = _inside(db, gate, but=session), _first(db, gate)
    if is_congested:
        _keep(gate, pace(gate).after_congestion())
        log.warning("%s: a lock was not to be had; %d at once", gate.storage, pace(gate).open)
    elif is_made and mine.entered_at is not None:
        took_s = (db.scalar(select(now())) or 0.0) - mine.entered_at
        _keep(gate, pace(gate).after_clone(took_s, others + 1, is_loaded=bool(waiting)))
    forget(db, session)
    return waiting[: max(0, pace(gate).open - others)]


def forget(db: Db, session: str) -> None:
    """The session is neither inside nor in line."""
    db.execute(delete(Pass).where(Pass.session == session))


def pace(gate: Gate) -> Pace:
    # HOST/STORAGE is a host's own, locked by a file; others share a lock of the whole cluster.
    polled = _is_polled(gate.storage)
    return Pace(gate.slots, gate.clone_s, gate.alone_s, gate.ceiling, polled)


def _is_polled(storage: str) -> bool:
    """Is its lock the whole cluster's? One host's own bears the name of the host."""
    return "/" not in storage


def _keep(gate: Gate, p: Pace) -> None:
    gate.slots, gate.clone_s, gate.alone_s, gate.ceiling = p.slots, p.clone_s, p.alone_s, p.ceiling


def _wait(gate: Gate, before: int) -> NoCapacity:
    # At half of the time it should take: so nobody at the front has long to his next look.
    after_s = min(max(POLL_S, before * gate.clone_s / 2), POLL_MAX_S)
    why = f"its turn to be cloned onto {gate.storage}: {before} before it"
    return NoCapacity(after_s, why)


def _lock(db: Db, cluster: str, storage: str) -> Gate:
    """The gate, locked: those at one door come and go one by one."""
    here = (Gate.cluster == cluster, Gate.storage == storage)
    locked = select(Gate).where(*here).with_for_update()
    if gate := db.scalar(locked):
        return gate
    start = Pace()
    row = upsert(db, Gate).values(
        cluster=cluster,
        storage=storage,
        slots=start.slots,
        clone_s=start.clone_s,
        ceiling=start.ceiling,
    )
    db.execute(row.on_conflict_do_nothing(index_elements=["cluster", "storage"]))
    return db.scalars(locked).one()


def _pass(db: Db, door: Door, session: str) -> Pass:
    """Its place in line: the one it has; at the end if that was at another door."""
    mine = db.scalar(select(Pass).where(Pass.session == session))
    if mine and (mine.cluster, mine.storage) == (door.cluster, door.storage):
        return mine
    forget(db, session)
    mine = Pass(session=session, cluster=door.cluster, storage=door.storage, lease="")
    db.add(mine)
    db.flush()
    return mine


# Inside are those whose job is still held under the lease they entered with. A worker that was
# killed leaves its pass behind: until the lease has run out, and no longer.
_IS_HELD = (
    select(Job.id)
    .where(
        Job.kind == "session",
        Job.key == Pass.session,
        Job.lease == Pass.lease,
        Job.leased_until > now(),
    )
    .exists()
)


def _inside(db: Db, gate: Gate, but: str) -> int:
    held = (*_here(gate), Pass.session != but, Pass.lease != "", _IS_HELD)
    return db.scalar(select(func.count()).where(*held)) or 0


def _first(db: Db, gate: Gate) -> list[str]:
    """The first in line, as many as could ever enter at once."""
    line = select(Pass.session).where(*_here(gate), Pass.lease == "").order_by(Pass.id)
    return list(db.scalars(line.limit(MAX)))


def _here(gate: Gate) -> tuple[ColumnElement[bool], ...]:
    return (Pass.cluster == gate.cluster, Pass.storage == gate.storage)
