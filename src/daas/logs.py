"""The log lines of a session or a build, in the database so that any process can stream them.
They go with what they are about."""

import threading
import time

from sqlalchemy import Index, delete, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as Db

from daas.db import Base, Database, now
from daas.jobs.bell import SEALED, ring_on_commit

FLUSH_S = 0.5
LINE_MAX = 2000


class LogLine(Base):
    __tablename__ = "log_lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]  # "session/desktop-k3x9qa", "build/build-k3x9qa"
    at: Mapped[float]
    text: Mapped[str]


Index("log_lines_subject", LogLine.subject, LogLine.id)


def write(db: Db, subject: str, lines: list[str]) -> None:
    if lines:
        # An insert of one transaction shares its time; the id keeps the order.
        db.add_all([LogLine(subject=subject, at=now(), text=_clean(line)) for line in lines])
        ring_on_commit(db, SEALED)


def _clean(line: str) -> str:
    return line[:LINE_MAX].replace("\0", "")  # which PostgreSQL does not take in a text


def after(db: Db, subject: str, line_id: int, limit: int = 500) -> list[LogLine]:
    """What follows line `line_id` (0: from the start), in order."""
    wanted = (LogLine.subject == subject, LogLine.id > line_id)
    return list(db.scalars(select(LogLine).where(*wanted).order_by(LogLine.id).limit(limit)))


def forget(db: Db, subject: str) -> None:
    db.execute(delete(LogLine).where(LogLine.subject == subject))


class LogWriter:
    """Writes the lines of long work a few times a second. A line that cannot be written (the
    database is away) is kept for the next time; it never stops the work."""

    def __init__(self, database: Database, subject: str):
        self._database, self._subject = database, subject
        self._lines: list[str] = []
        self._lock, self._written = threading.Lock(), 0.0

    def __call__(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)
            is_due = time.monotonic() > self._written + FLUSH_S
        if is_due:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
            self._written = time.monotonic()
        if not lines:
            return
        try:
            with self._database.transaction() as db:
                write(db, self._subject, lines)
        except Exception:
            with self._lock:
                self._lines = lines + self._lines
