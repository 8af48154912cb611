"""The append-only record of what happened. Audit, notifications, metrics and the live view
all read this table, by `seq` only; nothing else tells them."""

import hashlib
import json

from sqlalchemy import Index, func, select, update
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as Db

from daas.db import Base, Database, now
from daas.jobs.bell import EVENTS, SEALED, ring_on_commit

SEALER = 0x5EA1  # the advisory lock of the one who seals
BATCH = 500


class Event(Base):
    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)  # order of insertion, not of commit
    seq: Mapped[int | None] = mapped_column(unique=True)  # None until sealed
    hash: Mapped[str | None]  # over this row and the hash before it
    at: Mapped[float]  # epoch seconds
    tenant: Mapped[str]  # who may read it; "" for what concerns the installation
    subject: Mapped[str]  # "session/desktop-k3x9qa"
    before: Mapped[str]
    after: Mapped[str]
    actor: Mapped[str]  # a user name, or "system"
    reason: Mapped[str]


UNSEALED = Event.seq.is_(None)
Index("events_subject", Event.subject, Event.seq)
Index("events_tenant", Event.tenant, Event.seq)
Index("events_unsealed", Event.id, sqlite_where=UNSEALED, postgresql_where=UNSEALED)


def record(
    db: Db, subject: str, before: str, after: str, actor: str, reason: str, tenant: str = ""
) -> None:
    """This happened, if `db` commits."""
    words = {"subject": subject, "before": before, "after": after, "actor": actor}
    db.add(Event(at=now(), reason=reason, tenant=tenant, **words))
    ring_on_commit(db, EVENTS)


def seal(database: Database) -> bool:
    """Number and chain what has been committed since; return False if there was nothing.

    Ids are drawn at insert and seen at commit, so a reader by id would pass over a row that
    commits late. A `seq` is given only to what all can see already.
    """
    with database.reading() as db:  # an idle sealer takes no lock
        if db.scalar(select(Event.id).where(UNSEALED).limit(1)) is None:
            return False
    with database.transaction() as db:
        # SQLite's writer is alone anyway.
        is_alone = database.is_sqlite or db.scalar(select(func.pg_try_advisory_xact_lock(SEALER)))
        return bool(is_alone) and _seal_batch(db)


def _seal_batch(db: Db) -> bool:
    last = db.scalars(select(Event).order_by(Event.seq.desc()).where(~UNSEALED).limit(1)).first()
    seq, chain = (last.seq or 0, last.hash or "") if last else (0, "")
    sealed = []
    for event in db.scalars(select(Event).where(UNSEALED).order_by(Event.id).limit(BATCH)):
        seq, chain = seq + 1, _hash(chain, seq + 1, event)
        sealed.append({"id": event.id, "seq": seq, "hash": chain})
    if sealed:
        db.execute(update(Event), sealed)
        ring_on_commit(db, SEALED)
    return bool(sealed)


def after(
    db: Db, seq: int, limit: int = 100, subject: str | None = None, tenant: str | None = None
) -> list[Event]:
    """What follows `seq`, in order; the last one's `seq` is the next cursor."""
    wanted = [Event.seq > seq]
    if subject is not None:
        wanted.append(Event.subject == subject)
    if tenant is not None:
        wanted.append(Event.tenant == tenant)
    return list(db.scalars(select(Event).where(*wanted).order_by(Event.seq).limit(limit)))


def last_seq(db: Db) -> int:
    return db.scalar(select(func.max(Event.seq))) or 0


def verify(db: Db) -> int | None:
    """Return the first `seq` at which the record was changed or cut, or None if it is whole.
    (A tail that was cut off shows only against a `seq` noted elsewhere.)"""
    chain = ""
    rows = select(Event).where(~UNSEALED).order_by(Event.seq)
    for seq, event in enumerate(db.scalars(rows.execution_options(yield_per=1000)), start=1):
        chain = _hash(chain, seq, event)
        if (event.seq, event.hash) != (seq, chain):
            return seq
    return None


def _hash(chain: str, seq: int, e: Event) -> str:
    words = [e.tenant, e.subject, e.before, e.after, e.actor, e.reason]
    return hashlib.sha256(json.dumps([chain, seq, e.at, *words]).encode()).hexdigest()
