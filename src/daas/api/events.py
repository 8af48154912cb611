"""/api/v1/events"""

from flask import Response
from flask_openapi3.blueprint import APIBlueprint

from daas import events
from daas.api import streams
from daas.api.auth import require_admin
from daas.api.core import core
from daas.api.openapi import GUARDED, TAGS, answers
from daas.api.render import reply
from daas.api.schemas import EventHeader, EventList, EventOut, EventQuery

bp = APIBlueprint(
    "events", __name__, url_prefix="/api/v1", abp_tags=[TAGS["events"]], abp_security=GUARDED
)
FEED = {
    "application/json": {"$ref": "#/components/schemas/EventList"},
    "text/event-stream": {"type": "string"},
}


@bp.get("/events", responses=answers(401, 403, ok=FEED))
def list_all(query: EventQuery, header: EventHeader) -> Response:
    """What happened in your tenant, in order; live, with `Accept: text/event-stream`

    It tells who did what, so it is for administrators; an operator sees every tenant's. What
    happened to your own session is at its own address."""
    who = require_admin("The record of all events")
    tenant = None if who.is_operator else who.tenant
    if streams.wants_sse():
        after = int(header.last_id) if header.last_id else query.after
        limit_s = streams.feed_limit_s()
        return streams.hold(streams.EventFeed(core().database, None, after, limit_s, tenant))
    with core().database.reading() as db:
        page = events.after(db, query.after, query.limit, tenant=tenant)
    items = [EventOut(**streams.as_dict(event)) for event in page]
    return reply(EventList(items=items, next=items[-1].seq if items else query.after))
