"""What readers want to know of sessions: lists by cursor, the place in line, the time left."""

import math
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session as Db

from daas.access.actors import Actor
from daas.nodes import reservations
from daas.sessions.models import LIVE, Session
from daas.sessions.service import allowed
from daas.sessions.states import COMING, Desired, Status

RECENT = 20  # creates that an estimate is made from
GUESS_S = 5.0  # before anything was measured


def shown(db: Db, actor: Actor, name: str) -> Session:
    """The session, also once deleted; NotFound or Forbidden as for every verb."""
    return allowed(db.scalar(select(Session).where(Session.name == name)), actor, name)


def listed(
    db: Db,
    actor: Actor,
    *,
    after: int = 0,
    limit: int = 50,
    status: Sequence[Status] = (),
    owner: str | None = None,
    template: str | None = None,
) -> list[Session]:
    """The sessions that `actor` sees, newest first, older than row `after` (0: from the newest).
    Deleted ones only if asked for by status."""
    rows = select(Session).order_by(Session.id.desc()).limit(limit)
    if Status.DELETED not in status:
        rows = rows.where(LIVE)
    if status:
        rows = rows.where(Session.status.in_(status))
    if not actor.is_operator:
        rows = rows.where(Session.tenant == actor.tenant)
    if not actor.is_admin:
        rows = rows.where(Session.owner == actor.name)
    if owner is not None:
        rows = rows.where(Session.owner == owner)
    if template is not None:
        rows = rows.where(Session.template == template)
    if after:
        rows = rows.where(Session.id < after)
    return list(db.scalars(rows))


def handed_out(db: Db, actor: Actor) -> list[Session]:
    """Owned desktops that can be connected to, or could until their node fell silent, oldest
    first: what version 1.0 lists."""
    up = Session.status.in_((Status.READY, Status.UNREACHABLE))
    fit = (LIVE, up, Session.owner.is_not(None))
    rows = select(Session).where(*fit).order_by(Session.id)
    if not actor.is_operator:
        rows = rows.where(Session.tenant == actor.tenant)
    if not actor.is_admin:
        rows = rows.where(Session.owner == actor.name)
    return list(db.scalars(rows))


def is_taken_for_running(db: Db, name: str) -> bool:
    fit = (Session.status == Status.READY, Session.desired == Desired.RUNNING)
    return db.scalar(select(Session.id).where(Session.name == name, *fit)) is not None


def count_by_status(db: Db) -> dict[str, int]:
    rows = select(Session.status, func.count()).where(LIVE).group_by(Session.status)
    return {str(status.value): n for status, n in db.execute(rows)}


def create_s(db: Db) -> float:
    """How long a create takes of late: the median of the last ones, in seconds."""
    took = (Session.ready_at - Session.created_at).label("took")
    recent = select(took).where(Session.ready_at.is_not(None))
    newest = recent.order_by(Session.ready_at.desc()).limit(RECENT)
    values = sorted(s for s in db.scalars(newest) if s is not None)
    return values[len(values) // 2] if values else GUESS_S


def outlook(
    db: Db, session: Session, now_s: float, each_s: float | None = None
) -> tuple[int | None, int | None]:
    """Place in line (None: it does not wait in one) and seconds until it is ready, as far as
    measured creates tell (`each_s`, if the caller has it already); None when it is not on its
    way."""
    if session.status not in COMING:
        return None, None
    each_s = create_s(db) if each_s is None else each_s
    position = reservations.position_of(db, session.name)
    if position is None:
        return None, max(1, math.ceil(each_s - (now_s - session.created_at)))
    return position, math.ceil(each_s * position)
