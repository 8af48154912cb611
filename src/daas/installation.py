"""An installation: its secrets, its database, its first token. Each verb may run again."""

from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session as Db

from daas import crypto, events, tenants
from daas.access import tokens
from daas.access.actors import Role
from daas.config import Settings
from daas.db import Database, upsert
from daas.errors import ConfigError
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.nodes.models import Cluster, Node
from daas.sessions.models import LIVE, Installation, Session
from daas.templates import service as templates
from daas.templates.models import Build

CLUSTER = "local"
FIRST = "admin"


@dataclass(frozen=True)
class Made:
    """What init made: `token` only if there was none yet. It is nowhere else in clear."""

    instance: str
    token: str | None


def init(settings: Settings, with_token: bool = True) -> Made:
    """Secrets, tables, default tenant, cluster, templates and a first token exist."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    instance = crypto.make_secrets(settings.secrets_dir)
    database = Database(settings.database, threads=1)
    try:
        database.migrate()
        with database.transaction() as db:
            if db.scalar(select(Installation.id)) is None:
                db.add(Installation(id=instance))
            prepare(db, settings)
            token = None
            if with_token and not tokens.has_any(db):
                _, token = tokens.create(db, FIRST, tenants.DEFAULT, Role.OPERATOR, "system")
    finally:
        database.dispose()
    return Made(instance, token)


def prepare(db: Db, settings: Settings) -> None:
    """What each start makes sure of: tenant, cluster, templates; and their standing jobs."""
    tenants.make(db, tenants.DEFAULT)
    _leave_other(db, settings.provider)
    has_numbers = settings.provider == "proxmox"
    first, last = settings.proxmox_vmid_range if has_numbers else (None, None)
    known = {"kind": settings.provider, "first_number": first, "last_number": last}
    row = upsert(db, Cluster).values(name=CLUSTER, **known)
    db.execute(row.on_conflict_do_update(index_elements=["name"], set_=known))
    templates.import_folder(db, settings.templates_dir)
    queue.wake(db, "node", CLUSTER, Lane.LOOK, Priority.REFILL)
    queue.wake(db, "sweep", settings.provider, Lane.BULK, Priority.REFILL)


def _leave_other(db: Db, provider: str) -> None:
    """Nothing is known any more of a hypervisor that this installation used before: images and
    nodes were that one's. Refused while it has desktops that nobody else could remove."""
    cluster = db.get(Cluster, CLUSTER)
    if cluster is None or cluster.kind == provider:
        return
    live = db.scalar(select(func.count()).where(Session.cluster == CLUSTER, LIVE))
    if live:
        raise ConfigError(
            f"DAAS_PROVIDER is {provider} now, and {live} desktops of {cluster.kind} are still "
            f"there: set it to {cluster.kind} again and delete them first."
        )
    db.execute(delete(Build).where(Build.cluster == CLUSTER))
    db.execute(delete(Node).where(Node.cluster == CLUSTER))
    words = (cluster.kind, provider, "system", "DAAS_PROVIDER was changed")
    events.record(db, f"cluster/{CLUSTER}", *words)


def open_database(settings: Settings, threads: int) -> Database:
    """The database, checked: ConfigError says what to run if it was not made or is of another
    version."""
    if settings.database_url is None and not (settings.data_dir / "daas.db").exists():
        raise ConfigError(f"Nothing is installed in {settings.data_dir} yet: run `daas init`.")
    database = Database(settings.database, threads)
    is_at, needs = database.revision()
    if is_at is None:
        raise ConfigError("The database has no tables yet: run `daas init`.")
    if is_at != needs:
        raise ConfigError(
            f"The database is at revision {is_at}, this version needs {needs}: "
            "run `daas db upgrade`."
        )
    return database


def check_token(database: Database, settings: Settings) -> None:
    """ConfigError if nobody could log in."""
    with database.reading() as db:
        if settings.auth == "token" and not tokens.has_any(db):
            raise ConfigError("There is no API token yet: run `daas init`.")
