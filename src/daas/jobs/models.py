"""The table of the queue."""

from sqlalchemy import Index, UniqueConstraint, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from daas.db import Base


class Job(Base):
    """A note saying "look at this thing by then". It carries no instructions: what to do
    is worked out from the thing itself, so a repeated or late job is harmless."""

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("kind", "key"),)  # at most one job per thing

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]  # which handler: "session", "build", …
    key: Mapped[str]  # which row it should look at
    lane: Mapped[str]
    priority: Mapped[int]
    run_at: Mapped[float]  # epoch seconds, by the database's clock; so is leased_until
    leased_until: Mapped[float] = mapped_column(default=0.0)  # 0 when free
    lease: Mapped[str] = mapped_column(default="")  # host/worker/boot/claim of the holder
    wakes: Mapped[int] = mapped_column(default=0)  # bumped by every wake()
    attempts: Mapped[int] = mapped_column(default=0)  # claims since the last progress


# Written with a literal, not a parameter: else the planners cannot tell that a query is
# covered by a partial index.
FREE = Job.leased_until == literal_column("0")
LEASED = Job.leased_until > literal_column("0")

Index("jobs_due", Job.lane, Job.priority, Job.run_at, sqlite_where=FREE, postgresql_where=FREE)
Index("jobs_leased", Job.leased_until, sqlite_where=LEASED, postgresql_where=LEASED)
