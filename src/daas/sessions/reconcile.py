"""Move one session one step closer to what is wanted. The only writer of `status`, except for
the claim of a warm desktop in service.py."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session as Db

from daas import events, logs, process
from daas.config import Settings
from daas.db import now
from daas.errors import (
    Congested,
    DaasError,
    LeaseLost,
    NoCapacity,
    NotReady,
    NotYet,
    Stopped,
    Unreachable,
)
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.work import Work
from daas.log import bind
from daas.nodes import admission, reservations
from daas.nodes.models import Cluster
from daas.sessions import service
from daas.sessions.models import IdempotencyKey, Session
from daas.sessions.states import (
    DEADLINE_S,
    NEXT,
    Desired,
    Status,
    after_error,
    turn,
    urgency,
    wanted,
)
from daas.sessions.steps import AWAY_S, STEPS, Step, Tools, await_node

REST_S = 3600.0  # a session at rest is looked at this often even if nothing happens

log = logging.getLogger(__name__)

Found = tuple[Session, str]  # a copy of the session to work on; the kind of its provider


@dataclass(frozen=True)
class Outcome:
    """What came of a step: it is done, or waits, or went wrong, or (none of these) was stopped."""

    after: Status | None = None  # where the finished step leads
    learned: Mapping[str, Any] = field(default_factory=dict)  # column: value
    wait: NotYet | None = None
    error: str = ""
    is_final: bool = False  # trying again would not help


def reconcile(work: Work, tools: Tools) -> None:
    """Steps of one session, until it is at rest, waits, or its next step is another lane's."""
    with bind(session=work.job.key):
        found = _look(work)
        while found:
            found = _one_step(work, tools, *found)


def _one_step(work: Work, tools: Tools, session: Session, kind: str) -> Found | None:
    """Do the step of the session's status; return what the next one needs, if it is ours."""
    lines: list[str] = []
    # No transaction is open here: a step may take minutes.
    outcome = _attempt(work, session, kind, tools, lines)
    with work.database.transaction() as db:
        row, now_s = _lock(db, work.job.key)
        if row is None:
            raise LeaseLost(work.job.key)
        logs.write(db, f"session/{row.name}", lines)
        return (row, kind) if _conclude(db, work, row, outcome, now_s) else None


def _look(work: Work) -> Found | None:
    """Turn or rest, and return None; or return the session to work on and its provider's kind."""
    with work.database.transaction() as db:
        session, now_s = _lock(db, work.job.key)
        if session is None:
            queue.settle(db, work.job, None, Lane(work.job.lane), Priority(work.job.priority))
            return None
        goal = wanted(session.desired, session.expires_at, now_s)
        reason = f"to be {goal}" if goal is session.desired else "its time is over"
        if goal is not session.desired:
            session.desired = goal
        _note_outage(db, work.settings, session, now_s)
        if after := turn(session.status, session.desired):
            _move(db, session, after, reason, now_s, work.settings)
        if session.status in STEPS and _lane(session) == work.job.lane:
            return session, db.get_one(Cluster, session.cluster).kind
        _settle(db, work, session, now_s)
        return None


def _note_outage(db: Db, settings: Settings, session: Session, now_s: float) -> None:
    """One whose node is silent says so; after a while it is not ready any more, and where policy
    wants that, its owner gets another."""
    since = reservations.outage(db, session.cluster, session.node)
    if session.status is Status.READY:
        is_away = since is not None
        wait = Unreachable(AWAY_S, f"node {session.node} to answer") if is_away else None
        _note_wait(db, session, wait, now_s)
    if since is None or now_s < since + settings.unreachable_s:
        return
    why = f"node {session.node} does not answer"
    if turn(session.status, session.desired, is_lost=True) is Status.UNREACHABLE:
        _move(db, session, Status.UNREACHABLE, why, now_s, settings)
    if settings.unreachable == "replace" and service.may_be_replaced(session):
        service.replace(db, session, why)


def _attempt(work: Work, session: Session, kind: str, tools: Tools, lines: list[str]) -> Outcome:
    """Do the step of the session's status. Exceptions that come out are not the step's: the lease
    was lost, or the database is away."""
    is_last = work.job.attempts >= work.settings.max_attempts
    if work.job.attempts > work.settings.max_attempts and session.status in DEADLINE_S:
        return Outcome(
            error=f"the worker died again and again while {session.status}", is_final=True
        )
    stop = process.stop.set(work.stop)
    try:
        with work.heartbeat(lambda db: _is_wanted(db, session)):
            step = Step(work, session, tools.providers[kind], tools, lines.append)
            await_node(step)
            return Outcome(NEXT[session.status], STEPS[session.status](step))
    except (LeaseLost, NotReady):
        raise
    except Stopped:
        return Outcome()
    except NotYet as wait:
        return Outcome(wait=wait)
    except DaasError as error:
        return Outcome(error=str(error), is_final=True)
    except Exception as error:  # its text may hold anything, secrets too: that is for the log
        log.exception("unexpected error while %s", session.status)
        return Outcome(error=f"internal error ({type(error).__name__})", is_final=is_last)
    finally:
        process.stop.reset(stop)


def _conclude(db: Db, work: Work, session: Session, outcome: Outcome, now_s: float) -> bool:
    """Write the outcome, the event and the job's fate together or not at all; return whether
    there is more to do in this lane at once."""
    for column, value in outcome.learned.items():
        setattr(session, column, value)
    _note_wait(db, session, outcome.wait, now_s)
    late = _is_late(session, outcome.wait, now_s)
    error = late or outcome.error
    if error:
        before = session.status
        after = after_error(before, session.desired, bool(late) or outcome.is_final)
        _move(db, session, after, error, now_s, work.settings)
        if after is before:
            queue.retry(db, work.job)
            return False
    elif outcome.after:
        _move(db, session, outcome.after, "step finished", now_s, work.settings)
        if _goes_on(work, session, now_s):
            queue.progress(db, work.job, work.settings.lease_s)
            return True
    after_s = outcome.wait.after_s if outcome.wait else 0.0
    # settle() raises LeaseLost, and so undoes all of this, if another worker took over.
    _settle(db, work, session, now_s, after_s)
    return False


def _goes_on(work: Work, session: Session, now_s: float) -> bool:
    """Is the next step ours, too? Then the lease need not be given up and taken again."""
    is_ours = session.status in STEPS and _lane(session) == work.job.lane
    goal = wanted(session.desired, session.expires_at, now_s)
    return is_ours and turn(session.status, goal) is None and not work.stop.is_set()


def _move(
    db: Db, session: Session, after: Status, reason: str, now_s: float, settings: Settings
) -> None:
    subject = f"session/{session.name}"
    events.record(db, subject, session.status, after, "system", reason, session.tenant)
    session.version += 1
    if after is session.status:
        return
    session.status, session.status_since = after, now_s
    session.deadline = now_s + DEADLINE_S[after] if after in DEADLINE_S else None
    session.waiting_for = session.paused_at = None
    if after in (Status.FAILED, Status.DELETING):
        reservations.leave_line(db, session.name)  # or all behind it would wait with it
        admission.forget(db, session.name)
    if after is Status.READY:
        session.ready_at = session.ready_at or now_s
        if session.is_password_given:
            session.password = None  # its owner knows it; nobody else needs it any more
    elif after is Status.FAILED:
        session.failure = reason
        session.expires_at = now_s + settings.failed_keep_s  # kept a while for a look
    elif after is Status.DELETED:
        _forget(db, session, now_s)


def _forget(db: Db, session: Session, now_s: float) -> None:
    """Nothing secret and nothing held is left of the session."""
    session.ended_at = now_s
    session.password = session.personal = session.endpoints = None
    session.provider_state = {}
    reservations.release(db, session.name)
    logs.forget(db, f"session/{session.name}")
    db.execute(delete(IdempotencyKey).where(IdempotencyKey.session == session.name))
    line = reservations.next_in_line(db, session.cluster)
    queue.wake_all(db, "session", line, Lane.LOOK, Priority.PERSON)


def _settle(db: Db, work: Work, session: Session, now_s: float, after_s: float = 0.0) -> None:
    """Look again at once, or after `after_s`, or when rest ends; never only once deleted."""
    is_at_rest = session.status not in STEPS and not turn(session.status, session.desired)
    at = now_s + (REST_S if is_at_rest else after_s)
    if session.expires_at and session.desired is not Desired.DELETED:
        at = min(at, session.expires_at)
    if session.status is Status.READY:
        since = reservations.outage(db, session.cluster, session.node)
        at = at if since is None else min(at, since + work.settings.unreachable_s)
    look = urgency(session.status, session.desired, session.owner)
    queue.settle(db, work.job, None if session.status is Status.DELETED else at, *look)


def _lane(session: Session) -> Lane:
    return urgency(session.status, session.desired, session.owner)[0]


def _note_wait(db: Db, session: Session, wait: NotYet | None, now_s: float) -> None:
    """Say what the session waits for; its deadline stands still while none could meet it."""
    why = wait.why if wait else None
    if isinstance(wait, Unreachable):  # what cannot come must not stand before who can
        admission.forget(db, session.name)
    if session.waiting_for != why:
        session.waiting_for = why
        session.version += 1
    if isinstance(wait, Unreachable | NoCapacity | Congested):
        session.paused_at = session.paused_at or now_s
    elif session.paused_at:
        session.deadline = session.deadline and session.deadline + now_s - session.paused_at
        session.paused_at = None


def _is_late(session: Session, wait: NotYet | None, now_s: float) -> str:
    if wait and session.deadline and now_s > session.deadline and not session.paused_at:
        return f"{session.status} took too long; still waiting for {wait.why}"
    return ""


def _is_wanted(db: Db, session: Session) -> bool:
    """Would the step still be started, as things are now?"""
    row = select(Session.desired, Session.expires_at, now()).where(Session.id == session.id)
    desired, expires_at, now_s = db.execute(row).one()
    return turn(session.status, wanted(desired, expires_at, now_s)) is None


def _lock(db: Db, name: str) -> tuple[Session, float] | tuple[None, float]:
    row = select(Session, now()).where(Session.name == name).with_for_update()
    found = db.execute(row).one_or_none()
    return (found[0], found[1]) if found else (None, 0.0)
