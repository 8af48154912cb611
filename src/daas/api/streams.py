"""What lasts: feeds of events and lines, and answers that wait. A view returns one by `hold()`;
the ASGI shell carries it on without a thread, a plain WSGI server by blocking the one it has."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Response, request
from sqlalchemy import select
from sqlalchemy.orm import Session as Db

from daas import events, logs
from daas.api.core import core
from daas.api.render import when
from daas.db import Database
from daas.events import Event
from daas.jobs.bell import BELLS, SEALED

SLOT = "daas.slot"  # in the ASGI scope, where no client can put anything
SSE, PLAIN = "text/event-stream", "text/plain; charset=utf-8"
PAGE = 200
HEARTBEAT_S = 15.0
POLL_S = 1.0
PING = b": ping\n\n"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass
class Slot:
    """Where the view leaves what the shell is to carry on."""

    held: "Feed | Wait | None" = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Wait:
    """One answer about `subject`: as soon as `look(False)` has one, at the latest `look(True)`
    after `limit_s`. `look` is called in any thread, with no request around it, and only when an
    event led to one of `words`: a look costs a query, and two hundred may wait."""

    subject: str
    look: Callable[[bool], Answer | None]
    limit_s: float
    words: frozenset[str] = frozenset(("ready", "failed", "deleting", "deleted"))


class Feed:
    """Bytes from a cursor on. `read` asks the database; `take` is handed what was just sealed."""

    content_type = SSE
    is_over = False
    has_lines = False

    def __init__(self, database: Database, subject: str | None, cursor: int, limit_s: float):
        self.database, self.subject, self.cursor = database, subject, cursor
        self.limit_s = limit_s

    def read(self) -> bytes:
        """The next page; empty when all is told. Sets `is_over` when no more will come."""
        raise NotImplementedError

    def take(self, event: Event, rendered: bytes) -> bytes:
        """What to say of a live event."""
        raise NotImplementedError


class EventFeed(Feed):
    """Events as Server-Sent Events; their ids are `seq`. One of a session ends with it."""

    def __init__(
        self,
        database: Database,
        subject: str | None,
        cursor: int,
        limit_s: float,
        tenant: str | None = None,
    ):
        super().__init__(database, subject, cursor, limit_s)
        self.tenant = tenant

    def read(self) -> bytes:
        with self.database.reading() as db:
            page = events.after(db, self.cursor, PAGE, self.subject, self.tenant)
            self.is_over = not page and self._has_ended(db)
        return b"".join(self.take(event, rendered(event)) for event in page)

    def take(self, event: Event, rendered: bytes) -> bytes:
        seq = event.seq or 0
        is_ours = self.subject in (None, event.subject) and self.tenant in (None, event.tenant)
        if not is_ours or seq <= self.cursor or self.is_over:
            return b""
        self.cursor = seq
        self.is_over = self.subject is not None and event.after == "deleted"
        return rendered

    def _has_ended(self, db: Db) -> bool:
        mine = (Event.subject == self.subject, Event.seq.is_not(None))
        last = select(Event.after).where(*mine).order_by(Event.seq.desc()).limit(1)
        return self.subject is not None and db.scalar(last) == "deleted"


class LogFeed(Feed):
    """Log lines, as plain text or Server-Sent Events. Unless it follows it ends with the last
    line there is; if it does, when `is_done` says that no more will come."""

    has_lines = True

    def __init__(
        self,
        database: Database,
        subject: str,
        cursor: int,
        limit_s: float,
        is_done: Callable[[Db], bool],
        is_plain: bool,
    ):
        super().__init__(database, subject, cursor, limit_s)
        self._is_done, self._is_plain = is_done, is_plain
        self.content_type = PLAIN if is_plain else SSE

    def read(self) -> bytes:
        assert self.subject is not None
        with self.database.reading() as db:
            is_done = self._is_done(db)
            page = logs.after(db, self.subject, self.cursor, PAGE)
        if page:
            self.cursor = page[-1].id
        self.is_over = is_done and not page
        return b"".join(self._line(line) for line in page)

    def take(self, event: Event, rendered: bytes) -> bytes:
        return b""

    def _line(self, line: logs.LogLine) -> bytes:
        if self._is_plain:
            return f"{line.text}\n".encode()
        return _sse(line.id, "line", {"at": when(line.at), "text": line.text})


def rendered(event: Event) -> bytes:
    return _sse(event.seq or 0, "event", as_dict(event))


def as_dict(event: Event) -> dict[str, Any]:
    words = ("seq", "tenant", "subject", "before", "after", "actor", "reason")
    return {word: getattr(event, word) for word in words} | {"at": when(event.at)}


def wants_sse() -> bool:
    """Does the caller ask for Server-Sent Events by name? (`*/*` is no such wish.)"""
    return any(mime == SSE for mime, _ in request.accept_mimetypes)


def hold(held: Feed | Wait) -> Response:
    """The response that the shell, or else this thread, makes of it."""
    slot = request.environ.get("asgi.scope", {}).get(SLOT)
    if isinstance(slot, Slot):
        slot.held = held
        return Response(status=204)
    if isinstance(held, Wait):
        answer = _await(held)
        return Response(answer.body, answer.status, answer.headers)
    response = Response(_blocking(held), content_type=held.content_type, headers=HEADERS)
    response.direct_passthrough = True
    return response


def feed_limit_s() -> float:
    return core().stream_max_s


def _await(wait: Wait) -> Answer:
    end = time.monotonic() + wait.limit_s
    while True:
        heard = BELLS[SEALED].rings
        left_s = end - time.monotonic()
        if answer := wait.look(left_s <= 0):
            return answer
        BELLS[SEALED].wait(heard, min(POLL_S, max(left_s, 0.01)))


def _blocking(feed: Feed) -> Iterator[bytes]:
    end, said = time.monotonic() + feed.limit_s, time.monotonic()
    while True:
        heard = BELLS[SEALED].rings
        chunk = feed.read()
        if chunk:
            said = time.monotonic()
            yield chunk
        if feed.is_over or time.monotonic() > end:
            return
        if not chunk:
            BELLS[SEALED].wait(heard, min(POLL_S, max(end - time.monotonic(), 0.01)))
        if feed.content_type == SSE and time.monotonic() > said + HEARTBEAT_S:
            said = time.monotonic()
            yield PING


def _sse(number: int, kind: str, data: dict[str, Any]) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
