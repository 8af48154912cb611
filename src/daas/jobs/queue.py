"""The durable queue: wake a key, claim a due key under a lease, settle it."""

import os
import socket
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, case, delete, func, select, update
from sqlalchemy.engine import CursorResult
from sqlalchemy.orm import Session as Db

from daas.db import now, upsert
from daas.errors import LeaseLost
from daas.jobs.bell import ring_on_commit
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import FREE, LEASED, Job

BACK_OFF_MAX_S = 300.0
CHUNK = 1000  # of jobs in one statement: parameters are limited, with SQLite to 32,766
DIRECT = {"synchronize_session": False}


def _first(column: Any, *where: ColumnElement[bool], by: Any) -> Select[Any]:
    mine = (Job.lane == bindparam("lane_"), *where)
    return select(column).where(*mine).order_by(by).limit(1)


def _free(column: Any, priority: Priority, *where: ColumnElement[bool]) -> Select[Any]:
    return _first(column, FREE, Job.priority == priority, *where, by=Job.run_at)


# Built once: making these statements costs more than running them.
# A COALESCE stops at its first answer, so each priority costs one search of an index, and only
# if those before it were empty; one ORDER BY over all would walk past everything at rest.
# SKIP LOCKED (SQLite has one writer and leaves it out) steps over what others just claim.
_dead = _first(Job.id, LEASED, Job.leased_until <= now(), by=Job.leased_until)
_due = (_free(Job.id, priority, Job.run_at <= now()) for priority in Priority)
_locked = [s.with_for_update(skip_locked=True).scalar_subquery() for s in (_dead, *_due)]
_lease: dict[str, Any] = {
    "leased_until": now() + bindparam("lease_s"),
    "lease": bindparam("token"),
}
CLAIM = (
    update(Job)
    .where(Job.id == func.coalesce(*_locked))
    .values(attempts=Job.attempts + 1, **_lease)
    .returning(Job)
)
_waiting = [_free(Job.run_at - now(), p).scalar_subquery() for p in Priority]
_held = _first(Job.leased_until - now(), LEASED, by=Job.leased_until).scalar_subquery()
DUE_IN_S = select(*_waiting, _held)


def wake(db: Db, kind: str, key: str, lane: Lane, priority: Priority) -> None:
    """Ask for `key` to be looked at now. Asking twice is asking once, and there is no "later":
    a time to act at is a column of the thing itself, or it would be lost with the job."""
    wake_all(db, kind, [key], lane, priority)


def wake_all(db: Db, kind: str, keys: Collection[str], lane: Lane, priority: Priority) -> None:
    """The same for many. In order, so that two who wake the same ones do not deadlock."""
    ordered = sorted(keys)
    for start in range(0, len(ordered), CHUNK):
        _wake_some(db, kind, ordered[start : start + CHUNK], lane, priority)
    if keys:
        ring_on_commit(db, lane)


def _wake_some(db: Db, kind: str, keys: Collection[str], lane: Lane, priority: Priority) -> None:
    alike = {"kind": kind, "lane": lane, "priority": priority, "run_at": now(), "wakes": 1}
    ask = upsert(db, Job).values([{**alike, "key": key} for key in keys])
    sooner = case((Job.run_at < ask.excluded.run_at, Job.run_at), else_=ask.excluded.run_at)
    again = {"run_at": sooner, "wakes": Job.wakes + 1, "lane": lane, "priority": priority}
    db.execute(ask.on_conflict_do_update(index_elements=["kind", "key"], set_=again))


def claim(db: Db, lane: Lane, holder: str, lease_s: float) -> Job | None:
    """Take the first due job of `lane`, or None when nothing is due."""
    lease = {"lane_": lane, "token": f"{holder}/{uuid.uuid4().hex}", "lease_s": lease_s}
    return db.scalars(CLAIM, lease, execution_options=DIRECT).one_or_none()


def due_in_s(db: Db, lane: Lane) -> float | None:
    """How long until a job of `lane` is due, or a lease in it has run out; None if there is
    neither."""
    answers = db.execute(DUE_IN_S, {"lane_": lane}).one()
    return min((s for s in answers if s is not None), default=None)


def renew(db: Db, job: Job, lease_s: float) -> None:
    """Hold the job for another `lease_s`; LeaseLost if it is no longer ours."""
    _write_mine(db, job, leased_until=now() + lease_s)


def progress(db: Db, job: Job, lease_s: float) -> None:
    """Hold the job on for its next step, whose attempts start anew."""
    job.attempts = 1
    _write_mine(db, job, leased_until=now() + lease_s, attempts=1)


def settle(db: Db, job: Job, at: float | None, lane: Lane, priority: Priority) -> None:
    """Give the job back, to be looked at again `at`; None forgets it. Its attempts start anew.

    A wake() that came while we worked wins over both.
    """
    is_mine = (Job.id == job.id, Job.lease == job.lease, Job.wakes == job.wakes)
    if at is None and _rows(db, delete(Job).where(*is_mine)):
        return
    _give_back(
        db, job, attempts=0, run_at=at if at is not None else now(), lane=lane, priority=priority
    )


def retry(db: Db, job: Job) -> None:
    """Give the job back after an error: the more attempts, the later it is looked at again."""
    _give_back(db, job, run_at=now() + back_off_s(job.attempts), lane=job.lane)


def back_off_s(attempts: int) -> float:
    return float(min(BACK_OFF_MAX_S, 2.0 ** min(max(attempts, 1) - 1, 10)))


def holder(worker: str) -> str:
    """Name this process. Not by its pid alone: in a container that is the same each time."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{socket.gethostname()}/{worker}/{boot}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def free_predecessor(db: Db, holder: str) -> int:
    """Free what a worker of our host and name held before it died; return how many jobs."""
    host_and_worker = holder.rsplit("/", 1)[0] + "/"
    was_before = Job.lease.startswith(host_and_worker, autoescape=True)
    is_ours = Job.lease.startswith(holder + "/", autoescape=True)
    return _free_all(db, was_before & ~is_ours)


def free_own(db: Db, holder: str) -> int:
    """Free what this process still holds, so that another need not wait for its leases."""
    return _free_all(db, Job.lease.startswith(holder + "/", autoescape=True))


def _free_all(db: Db, which: ColumnElement[bool]) -> int:
    for lane in Lane:
        ring_on_commit(db, lane)
    return _rows(db, update(Job).where(LEASED, which).values(leased_until=0.0, lease=""))


def _give_back(db: Db, job: Job, **unless_woken: Any) -> None:
    attempts = unless_woken.pop("attempts", Job.attempts)
    woken = Job.wakes != job.wakes
    kept = {k: case((woken, getattr(Job, k)), else_=v) for k, v in unless_woken.items()}
    _write_mine(db, job, leased_until=0.0, lease="", attempts=attempts, **kept)
    ring_on_commit(db, unless_woken["lane"])
    ring_on_commit(db, Lane.LOOK)  # where one that was woken meanwhile goes on


def _write_mine(db: Db, job: Job, **values: Any) -> None:
    mine = update(Job).where(Job.id == job.id, Job.lease == job.lease)
    if not _rows(db, mine.values(**values)):
        raise LeaseLost(f"{job.kind} {job.key}")


def _rows(db: Db, statement: Any) -> int:
    result = db.execute(statement, execution_options=DIRECT)
    assert isinstance(result, CursorResult)
    return result.rowcount
