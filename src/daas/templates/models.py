"""What a desktop is made from. A version never changes once it is written."""

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Index, UniqueConstraint, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from daas.db import Base


class BuildStatus(StrEnum):
    QUEUED = "queued"
    BUILDING = "building"
    BUILT = "built"
    FAILED = "failed"


class Template(Base):
    """One version of a template."""

    __tablename__ = "templates"
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    version: Mapped[int]
    tenant: Mapped[str | None]  # None: everybody's
    document: Mapped[dict[str, Any]] = mapped_column(JSON)
    digest: Mapped[str]  # of the document: the same one again is not a new version
    created_at: Mapped[float]
    created_by: Mapped[str]


class Build(Base):
    """The making of one version's image on one cluster."""

    __tablename__ = "builds"

    name: Mapped[str] = mapped_column(primary_key=True)  # "build-k3x9qa"
    template: Mapped[str]
    version: Mapped[int]
    cluster: Mapped[str]
    status: Mapped[str] = mapped_column(default=BuildStatus.QUEUED.value)
    image: Mapped[str | None]
    failure: Mapped[str | None]
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]


PENDING = Build.status.in_([literal_column("'queued'"), literal_column("'building'")])
Index(
    "builds_one_at_a_time",
    Build.template,
    Build.version,
    Build.cluster,
    unique=True,
    sqlite_where=PENDING,
    postgresql_where=PENDING,
)
