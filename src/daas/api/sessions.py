"""/api/v1/sessions"""

import hashlib
import json
from typing import Any

from flask import Response, current_app
from flask_openapi3.blueprint import APIBlueprint
from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas import events
from daas.access.actors import Actor
from daas.api import streams
from daas.api.auth import actor
from daas.api.core import Core, core
from daas.api.openapi import GUARDED, TAGS, answers
from daas.api.render import cursor_of, maybe_when, preferences, reply, row_of, tagged, when
from daas.api.schemas import (
    Certificate,
    CreateHeader,
    CredentialOut,
    Endpoint,
    EventHeader,
    EventList,
    EventOut,
    EventQuery,
    ExtendIn,
    ListQuery,
    LogQuery,
    SessionIn,
    SessionList,
    SessionOut,
    SessionPath,
)
from daas.db import now
from daas.sessions import queries, service
from daas.sessions.models import Session
from daas.sessions.names import local_user_of
from daas.sessions.states import Desired, Status
from daas.templates import service as templates

WAIT_MAX_S = 600
SETTLED = (Status.READY, Status.FAILED, Status.DELETED)
LINES = {"text/plain": {"type": "string"}, "text/event-stream": {"type": "string"}}

bp = APIBlueprint(
    "sessions",
    __name__,
    url_prefix="/api/v1/sessions",
    abp_tags=[TAGS["sessions"]],
    abp_security=GUARDED,
)


@bp.post(
    "",
    responses=answers(401, 403, 404, 409, 413, 415, 429, 503, ok=SessionOut, accepted=SessionOut),
)
def create(header: CreateHeader, body: SessionIn) -> Response:
    """Request a desktop

    Answers 202 at once, or 200 if there is nothing to make: it was asked for before under this
    Idempotency-Key, or `reuse` found one. `Prefer: wait=20` answers when it is ready."""
    session, is_new = request_one(actor(), body, header.key)
    wait_s = _wait_s(header.prefer)
    if wait_s:
        return streams.hold(_until_settled(core(), actor(), session.name, wait_s))
    status = 202 if is_new else 200
    return reply(show(session.name), status, _location(session.name))


@bp.get("", responses=answers(401, ok=SessionList, same=None))
def list_all(query: ListQuery) -> Response:
    """The sessions you may see, newest first"""
    with core().database.reading() as db:
        rows = queries.listed(
            db,
            actor(),
            after=row_of(query.cursor),
            limit=query.limit + 1,
            status=[Status(word) for word in query.status],
            owner=query.owner,
            template=query.template,
        )
        page = rows[: query.limit]
        items = views(db, actor(), page)
    more = cursor_of(page[-1].id) if len(rows) > query.limit else None
    return tagged(SessionList(items=items, next=more))


@bp.get("/<id>", responses=answers(401, 403, 404, ok=SessionOut, same=None))
def get(path: SessionPath) -> Response:
    """One session, also for a while after it was deleted"""
    return tagged(show(path.id))


@bp.delete("/<id>", responses=answers(401, 403, 404, accepted=SessionOut))
def delete(path: SessionPath) -> Response:
    """Have it deleted: access ends at once, the machine goes behind it"""
    return _want(path.id, Desired.DELETED)


@bp.post("/<id>/actions/stop", responses=answers(401, 403, 404, 409, accepted=SessionOut))
def stop(path: SessionPath) -> Response:
    """Have it stopped; its disk is kept"""
    return _want(path.id, Desired.STOPPED)


@bp.post("/<id>/actions/start", responses=answers(401, 403, 404, 409, accepted=SessionOut))
def start(path: SessionPath) -> Response:
    """Have it started again"""
    return _want(path.id, Desired.RUNNING)


@bp.post("/<id>/actions/extend", responses=answers(401, 403, 404, 409, 413, 415, ok=SessionOut))
def extend(path: SessionPath, body: ExtendIn) -> Response:
    """Let it end by itself so many seconds from now, within what policy allows"""
    with core().database.transaction() as db:
        service.extend(db, actor(), path.id, body.life_s, core().limits)
    return reply(show(path.id))


@bp.get("/<id>/credential", responses=answers(401, 403, 404, 409, ok=CredentialOut))
def credential(path: SessionPath) -> Response:
    """The one-time password that was made up for it; each look is recorded"""
    with core().database.transaction() as db:
        user, password = service.credential(db, actor(), path.id, core().vault)
    no_store = {"Cache-Control": "no-store"}
    return reply(CredentialOut(user=user, password=password), headers=no_store)


@bp.get(
    "/<id>/events",
    responses=answers(
        401,
        403,
        404,
        ok={
            "application/json": {"$ref": "#/components/schemas/EventList"},
            "text/event-stream": {"type": "string"},
        },
    ),
)
def list_events(path: SessionPath, query: EventQuery, header: EventHeader) -> Response:
    """What happened to it; live, with `Accept: text/event-stream`, until it is deleted"""
    subject = f"session/{path.id}"
    with core().database.reading() as db:
        queries.shown(db, actor(), path.id)
        page = events.after(db, query.after, query.limit, subject)
    if streams.wants_sse():
        after = int(header.last_id) if header.last_id else query.after
        return streams.hold(
            streams.EventFeed(core().database, subject, after, streams.feed_limit_s())
        )
    items = [EventOut(**streams.as_dict(event)) for event in page]
    return reply(EventList(items=items, next=items[-1].seq if items else query.after))


@bp.get("/<id>/logs", responses=answers(401, 403, 404, ok=LINES))
def read_logs(path: SessionPath, query: LogQuery, header: EventHeader) -> Response:
    """Its log lines, as text or as Server-Sent Events; `follow` stays until it is deleted"""
    name = path.id
    with core().database.reading() as db:
        queries.shown(db, actor(), name)

    def is_done(db: Db) -> bool:
        gone = (Session.name == name, Session.status == Status.DELETED)
        return not query.follow or db.scalar(select(Session.id).where(*gone)) is not None

    return streams.hold(log_feed(f"session/{name}", query, header, is_done))


def log_feed(subject: str, query: LogQuery, header: EventHeader, is_done: Any) -> streams.LogFeed:
    after = int(header.last_id) if header.last_id else query.after
    is_plain = not streams.wants_sse()
    limit_s = streams.feed_limit_s()
    return streams.LogFeed(core().database, subject, after, limit_s, is_done, is_plain)


def request_one(
    who: Actor, body: SessionIn, key: str | None = None, asked_user: str | None = None
) -> tuple[Session, bool]:
    """The verb behind every create, of whatever version of the API."""
    owner = body.owner or who.name
    with core().database.transaction() as db:
        template = body.template or core().settings.default_template
        wish = service.Wish(
            templates.recipe(db, who, template, body.size),
            owner=owner,
            local_user=body.local_user or local_user_of(owner),
            asked_user=asked_user,
            password=body.password,
            life_s=body.life_s,
            reuse=body.reuse,
            key=key,
            digest=_digest(body),
        )
        return service.request(db, who, wish, core().limits, core().vault)


def show(name: str) -> SessionOut:
    """The session as the actor of this request sees it."""
    with core().database.reading() as db:
        return views(db, actor(), [queries.shown(db, actor(), name)])[0]


def views(db: Db, who: Actor, rows: list[Session]) -> list[SessionOut]:
    """What `who` sees of them; the time left is estimated once for all."""
    now_s = db.scalar(select(now())) or 0.0
    each_s = queries.create_s(db) if any(r.ready_at is None for r in rows) else None
    return [_view(db, who, row, now_s, each_s) for row in rows]


def _view(db: Db, who: Actor, s: Session, now_s: float, each_s: float | None) -> SessionOut:
    position, eta_s = queries.outlook(db, s, now_s, each_s)
    host, _, port = (s.endpoints or {}).get("rdp", "").rpartition(":")
    is_open = host and s.desired is Desired.RUNNING
    return SessionOut(
        id=s.name,
        owner=s.owner,
        tenant=s.tenant,
        template=s.template,
        template_version=s.template_version,
        size=s.size,
        status=s.status.value,
        desired=s.desired.value,
        waiting_for=s.waiting_for,
        position=position,
        eta_s=eta_s,
        failure=s.failure,
        created_at=when(s.created_at),
        ready_at=maybe_when(s.ready_at),
        ended_at=maybe_when(s.ended_at),
        expires_at=maybe_when(s.expires_at),
        rdp=Endpoint(host=host.strip("[]"), port=int(port)) if is_open else None,
        certificate=Certificate(sha256=s.fingerprint) if s.fingerprint else None,
        local_user=s.local_user,
        node=s.node if who.is_admin else None,
        version=s.version,
    )


def _want(name: str, desired: Desired) -> Response:
    with core().database.transaction() as db:
        service.want(db, actor(), name, desired)
    return reply(show(name), 202, _location(name))


def _location(name: str) -> dict[str, str]:
    return {"Location": f"/api/v1/sessions/{name}"}


def _digest(body: SessionIn) -> str:
    text = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _wait_s(prefer: str | None) -> float:
    asked = preferences(prefer).get("wait", "")
    return min(int(asked), WAIT_MAX_S) if asked.isdecimal() and len(asked) < 10 else 0.0


def _until_settled(base: Core, who: Actor, name: str, wait_s: float) -> streams.Wait:
    dumps = current_app.json.dumps

    def look(is_late: bool) -> streams.Answer | None:
        with base.database.reading() as db:
            session = queries.shown(db, who, name)
            view = views(db, who, [session])[0]
        if session.status not in SETTLED and not is_late:
            return None
        status = 200 if session.status in SETTLED else 202
        headers = {"Content-Type": "application/json", **_location(name)}
        return streams.Answer(status, dumps(view.model_dump(mode="json")).encode(), headers)

    return streams.Wait(f"session/{name}", look, wait_s)
