"""The tables of a session and of what is found without one."""

import secrets
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Enum, ForeignKey, Index, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from daas.db import Base
from daas.sessions.states import Desired, Status


def _words(kind: type[StrEnum]) -> Enum:
    return Enum(kind, native_enum=False, length=20, values_callable=lambda e: [m.value for m in e])


class Session(Base):
    """One person's desktop, from request to deletion. Times are epoch seconds."""

    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(primary_key=True)  # never leaves the database
    name: Mapped[str] = mapped_column(unique=True)  # its id, host name, computer account
    nonce: Mapped[str] = mapped_column(default=lambda: secrets.token_hex(8))  # on the tag
    tenant: Mapped[str]
    owner: Mapped[str | None]  # None while it waits in a warm pool
    created_by: Mapped[str]
    pool: Mapped[str | None]
    is_shared: Mapped[bool] = mapped_column(default=False)  # may be claimed by other tenants
    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name"))
    template: Mapped[str]
    template_version: Mapped[int]
    image: Mapped[str]  # what the build of that version made on this cluster
    size: Mapped[str]
    cpus: Mapped[int]
    memory_mib: Mapped[int]
    disk_gib: Mapped[int]
    reserve_mib: Mapped[int]  # what placement counts
    options: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # for the provider
    status: Mapped[Status] = mapped_column(_words(Status), default=Status.REQUESTED)
    status_since: Mapped[float]
    deadline: Mapped[float | None]  # when waiting in this status becomes a failure
    paused_at: Mapped[float | None]  # the deadline stands still since
    waiting_for: Mapped[str | None]
    failure: Mapped[str | None]
    desired: Mapped[Desired] = mapped_column(_words(Desired), default=Desired.RUNNING)
    created_at: Mapped[float]
    ready_at: Mapped[float | None]  # when it first was
    ended_at: Mapped[float | None]
    expires_at: Mapped[float | None]
    version: Mapped[int] = mapped_column(default=1)  # bumped by each change that a reader can see
    node: Mapped[str | None]
    replaced_by: Mapped[str | None]  # the session its owner got when its node was lost
    provider_state: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)  # opaque to us
    endpoints: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    fingerprint: Mapped[str | None]  # SHA-256 of the certificate that its RDP port shows
    local_user: Mapped[str | None]  # the account made inside, where there is no directory
    asked_user: Mapped[str | None]  # `session_user` as version 1.0 was given it
    is_password_given: Mapped[bool] = mapped_column(default=False)  # by the caller, not by us
    password: Mapped[str | None]  # encrypted
    personal: Mapped[str | None]  # encrypted JSON: the files of personal.py, until it is gone


class IdempotencyKey(Base):
    """A create that was asked for under a key; asked again, it is the same session."""

    __tablename__ = "idempotency_keys"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    actor: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]  # of what was asked
    session: Mapped[str]
    at: Mapped[float]


class Installation(Base):
    """Who this database says we are. A copy or a restored backup says it, too: see sweep.py."""

    __tablename__ = "installation"

    id: Mapped[str] = mapped_column(primary_key=True)
    is_in_doubt: Mapped[bool] = mapped_column(default=False)  # sweeps only report


class Suspect(Base):
    """A machine of ours that nobody wanted when a sweep last looked."""

    __tablename__ = "suspects"

    kind: Mapped[str] = mapped_column(primary_key=True)  # of the provider
    machine: Mapped[str] = mapped_column(primary_key=True)
    nonce: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[float]


# Deleted rows are kept and cost nothing: every query that matters says LIVE. With a literal,
# not a parameter, or the planners could not use the partial indexes.
LIVE = Session.status != literal_column("'deleted'")

Index("sessions_tenant", Session.tenant, Session.id, sqlite_where=LIVE, postgresql_where=LIVE)
Index("sessions_owner", Session.tenant, Session.owner, sqlite_where=LIVE, postgresql_where=LIVE)
Index("sessions_pool", Session.pool, Session.id, sqlite_where=LIVE, postgresql_where=LIVE)
Index("sessions_live", Session.id, sqlite_where=LIVE, postgresql_where=LIVE)
Index("sessions_ready_at", Session.ready_at)
