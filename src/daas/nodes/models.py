"""Clusters, their nodes, and the room on them that is promised."""

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from daas.db import Base


class Cluster(Base):
    __tablename__ = "clusters"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  # which provider drives it


class Node(Base):
    """A host as it was when last looked at."""

    __tablename__ = "nodes"

    cluster: Mapped[str] = mapped_column(ForeignKey("clusters.name"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    is_online: Mapped[bool] = mapped_column(default=True)
    why: Mapped[str] = mapped_column(default="")  # why it is not
    cpus: Mapped[int] = mapped_column(default=0)
    memory_mib: Mapped[int] = mapped_column(default=0)
    subnet: Mapped[str | None]  # "10.88.0.1/24": gateway and prefix; None: its own DHCP
    first_address: Mapped[str | None]
    last_address: Mapped[str | None]
    taken: Mapped[list[str]] = mapped_column(JSON, default=list)  # addresses others use


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
    address: Mapped[str | None]  # without its prefix


Index("reservations_node", Reservation.cluster, Reservation.node)
