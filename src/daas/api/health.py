"""/health: is it alive, is it ready, and the state of each part. Public: it names no person and
no machine. The worker is known by its standing work: nobody else keeps the nodes' job in time."""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session as Db

from daas.api.core import VERSION, core
from daas.api.openapi import TAGS, answers
from daas.api.render import reply
from daas.api.schemas import HealthOut, LiveOut, Part
from daas.db import now
from daas.errors import NotReady
from daas.jobs.models import Job
from daas.nodes.models import Node

LATE_S = 15.0  # a job that is due and in nobody's hands for so long: nobody works
NEEDED = ("database", "schema", "worker")  # without the nodes requests are taken, and wait

bp = APIBlueprint("health", __name__, url_prefix="/health", abp_tags=[TAGS["health"]])
NO_STORE = {"Cache-Control": "no-store"}


@bp.get("", responses=answers(ok=HealthOut))
def health() -> Response:
    """Each part's state; 200 as long as this process can tell"""
    return reply(_look(), headers=NO_STORE)


@bp.get("/live", responses=answers(ok=LiveOut))
def live() -> Response:
    """Does this process answer? (Restart it if not.)"""
    return reply(LiveOut(status="ok"), headers=NO_STORE)


@bp.get("/ready", responses=answers(503, ok=HealthOut))
def ready() -> Response:
    """Can requests be served here? 503 if not (send none, but do not restart)"""
    found = _look()
    bad = [part.detail for part in found.parts if not part.ok and part.name in NEEDED]
    if bad:
        raise NotReady(" ".join(bad))
    return reply(found, headers=NO_STORE)


def _look() -> HealthOut:
    try:
        with core().database.reading() as db:
            parts = [_database(), _schema(db), _worker(db), _nodes(db)]
    except (NotReady, SQLAlchemyError) as error:
        why = str(error) if isinstance(error, NotReady) else "The database lacks our tables."
        parts = [Part(name="database", ok=False, detail=why)]
    is_down = any(not part.ok for part in parts if part.name in NEEDED[:2])
    is_ok = all(part.ok for part in parts)
    status = "down" if is_down else "ok" if is_ok else "degraded"
    return HealthOut(status=status, version=VERSION, parts=parts)


def _database() -> Part:
    kind = "SQLite" if core().database.is_sqlite else "PostgreSQL"
    return Part(name="database", ok=True, detail=f"{kind} answers.")


def _schema(db: Db) -> Part:
    found, needed = db.scalar(text("SELECT version_num FROM alembic_version")), core().revision
    is_ours = needed is None or found == needed
    said = (
        f"Revision {found}." if is_ours else f"Revision {found}, not {needed}: `daas db upgrade`."
    )
    return Part(name="schema", ok=is_ours, detail=said)


def _worker(db: Db) -> Part:
    since = func.min(Job.run_at)
    late = (Job.kind == "node", Job.run_at < now() - LATE_S, Job.leased_until < now())
    due_at, now_s = db.execute(select(select(since).where(*late).scalar_subquery(), now())).one()
    said = (
        "A worker is at work."
        if due_at is None
        else f"No worker for {now_s - due_at:.0f} s: start `daas worker` (or `daas serve`)."
    )
    return Part(name="worker", ok=due_at is None, detail=said)


def _nodes(db: Db) -> Part:
    rows = list(db.execute(select(Node.is_online, func.count()).group_by(Node.is_online)))
    count = {is_online: n for is_online, n in rows}
    online, total = count.get(True, 0), sum(count.values())
    said = f"{online} of {total} nodes are online."
    return Part(name="nodes", ok=online > 0 and online == total, detail=said)
