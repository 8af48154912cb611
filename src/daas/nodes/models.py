"""Clusters, their nodes, the room on them that is promised, and who may clone just now."""

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from daas.db import Base


class Cluster(Base):
    """`first_number` to `last_number` are the machine numbers (VMIDs) that are ours to lease;
    None where machines have no numbers."""

    __tablename__ = "clusters"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  # which provider drives it
    first_number: Mapped[int | None]
    last_number: Mapped[int | None]
    newest_number: Mapped[int | None]  # the last one leased: the next search begins after it


class Node(Base):
    """A host as it was when it last answered, and what its operator says of it."""

    __tablename__ = "nodes"

    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    is_online: Mapped[bool] = mapped_column(default=True)
    offline_since: Mapped[float | None]  # epoch seconds
    why: Mapped[str] = mapped_column(default="")  # why it is not
    cpus: Mapped[int] = mapped_column(default=0)
    memory_mib: Mapped[int] = mapped_column(default=0)
    subnet: Mapped[str | None]  # "10.88.0.1/24": gateway and prefix; None: its own DHCP
    first_address: Mapped[str | None]
    last_address: Mapped[str | None]
    taken: Mapped[list[str]] = mapped_column(JSON, default=list)  # addresses others use
    foreign_mib: Mapped[int] = mapped_column(default=0)  # of machines that are not ours
    foreign_cpus: Mapped[int] = mapped_column(default=0)
    foreign_numbers: Mapped[list[int]] = mapped_column(JSON, default=list)
    # image -> storage, as in NodeInfo; None: every image, and no lock worth a queue
    images: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    is_maintenance: Mapped[bool] = mapped_column(default=False)  # takes no new desktop
    max_desktops: Mapped[int | None]


class Reservation(Base):
    """Room promised to a session, from before its machine exists until after it is gone. One
    without a node waits in line, in order of `id`."""

    __tablename__ = "reservations"
    # One row per address: two sessions can never be promised the same one.
    __table_args__ = (UniqueConstraint("cluster", "address"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    session: Mapped[str] = mapped_column(unique=True)
    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name"))
    node: Mapped[str | None]
    memory_mib: Mapped[int]
    cpus: Mapped[int] = mapped_column(default=0)
    image: Mapped[str] = mapped_column(default="")
    tenant: Mapped[str] = mapped_column(default="")
    address: Mapped[str | None]  # without its prefix


class Number(Base):
    """A machine number that may not be given now: a session leases it, or somebody else's
    machine was seen to have it, or (neither) it was just given back and rests."""

    __tablename__ = "numbers"
    __table_args__ = (UniqueConstraint("session"),)

    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    session: Mapped[str | None]
    is_foreign: Mapped[bool] = mapped_column(default=False)
    since: Mapped[float]  # epoch seconds


class Gate(Base):
    """How many may clone onto a storage at once: what is measured of it, shared by all workers.
    See pace.py for what the figures mean."""

    __tablename__ = "gates"

    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name"), primary_key=True)
    storage: Mapped[str] = mapped_column(primary_key=True)
    slots: Mapped[float]
    clone_s: Mapped[float]
    alone_s: Mapped[float | None]
    ceiling: Mapped[float]


class Pass(Base):
    """A session that clones, or (without a lease) waits until it may, in order of `id`."""

    __tablename__ = "passes"

    id: Mapped[int] = mapped_column(primary_key=True)
    session: Mapped[str] = mapped_column(unique=True)
    cluster: Mapped[str]
    storage: Mapped[str]
    lease: Mapped[str] = mapped_column(default="")  # of the job of who entered with it
    entered_at: Mapped[float | None]


Index("reservations_node", Reservation.cluster, Reservation.node)
Index("passes_gate", Pass.cluster, Pass.storage, Pass.id)
