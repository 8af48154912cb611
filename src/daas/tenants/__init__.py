"""Who may have how many."""

from sqlalchemy import select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.orm import Session as Db

from daas.db import Base, upsert
from daas.errors import NotFound

DEFAULT = "default"


class Tenant(Base):
    __tablename__ = "tenants"

    name: Mapped[str] = mapped_column(primary_key=True)
    max_sessions: Mapped[int | None]  # None: MAX_CONCURRENT_SESSIONS


def lock(db: Db, name: str) -> Tenant:
    """Return the tenant, locked: concurrent requests are then counted one by one."""
    # key_share: a row that merely refers to the tenant can be inserted meanwhile.
    mine = select(Tenant).where(Tenant.name == name).with_for_update(key_share=True)
    if tenant := db.scalar(mine):
        return tenant
    raise NotFound(f"There is no tenant {name}.")


def make(db: Db, name: str, max_sessions: int | None = None) -> None:
    """The tenant exists; one that did already stays as it is."""
    row = upsert(db, Tenant).values(name=name, max_sessions=max_sessions)
    db.execute(row.on_conflict_do_nothing(index_elements=["name"]))
