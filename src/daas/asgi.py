"""The web process. Flask answers requests in threads; what lasts is carried on here without one.
A body is read before a thread sees it, so that nobody holds one by being slow."""

import asyncio
import json
import logging
import resource
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import Any

import uvicorn
from a2wsgi import WSGIMiddleware
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount

from daas import installation, log
from daas.api import create_app
from daas.api.core import THREADS, Core
from daas.api.errors import CODES, PROBLEM
from daas.api.hub import Hub
from daas.api.requests import BODY_MAX
from daas.api.streams import HEADERS, SLOT, Feed, Slot, Wait
from daas.config import Settings
from daas.db import Database
from daas.jobs import bell

BODY_S = 20.0  # a body that takes longer is not sent by a person we know
DRAIN_MAX = 8 * 1024 * 1024  # read and thrown away, so that the refusal can be heard
GRACE_S = 3  # for answers under way when we are told to stop
HEALTH_THREADS = 2
REQUEST_THREADS = 8
SWITCH_S = 0.0005  # or the loop waits 5 ms for each busy thread whenever it wants its turn
RETRY = {"retry-after": "2"}

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)


class Shell:
    """Flask behind; what it holds is carried on by the hub."""

    def __init__(self, flask: Any, hub: Hub):
        self._requests = WSGIMiddleware(flask, workers=REQUEST_THREADS)
        # Its own threads: health is told even when all others wait for the database.
        self._health = WSGIMiddleware(flask, workers=HEALTH_THREADS)
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None or len(body) > BODY_MAX:
            await _refusal(body)(scope, receive, send)
            return
        slot = Slot()
        started: list[Message] = []

        async def pass_on(message: Message) -> None:
            if slot.held is None:
                await send(message)
            elif message["type"] == "http.response.start":
                started.append(message)

        is_health = scope["path"].startswith("/health")
        inner = self._health if is_health else self._requests
        await inner(_with(scope, body, slot), _replay(body), pass_on)  # type: ignore[arg-type]
        if slot.held is not None:
            await self._carry_on(slot, _kept(started[0]), scope, receive, send)

    async def _carry_on(
        self, slot: Slot, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        gone = asyncio.ensure_future(_disconnected(receive))
        work = asyncio.ensure_future(self._last(slot.held, headers, scope, receive, send))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            work.cancel()
        if work.done():
            work.result()

    async def _last(
        self,
        held: Feed | Wait | None,
        headers: dict[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if isinstance(held, Feed):
            await self._stream(held, headers, send)
        elif held:
            found = await self._hub.answer(held)
            response = _stopping()
            if found:
                response = Response(found.body, found.status, {**headers, **found.headers})
            await response(scope, receive, send)

    async def _stream(self, feed: Feed, headers: dict[str, str], send: Send) -> None:
        said = {**headers, **HEADERS, "Content-Type": feed.content_type}
        raw = [(k.lower().encode(), v.encode()) for k, v in said.items()]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        async with aclosing(self._hub.stream(feed)) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def build(settings: Settings, database: Database | None = None, **options: Any) -> Starlette:
    """The web app as ASGI, on the database of `settings`; ConfigError if it is not installed."""
    flask = create_app(settings, database, **options)
    core: Core = flask.extensions["daas"]
    hub = Hub(core.database)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        rope = bell.connect(core.database.url)
        await hub.start()
        try:
            yield
        finally:
            hub.close()
            rope.close()

    app = Starlette(routes=[Mount("/", Shell(flask, hub))], lifespan=lifespan)
    app.state.hub = hub
    return app


class Server(uvicorn.Server):
    """Streams end when we are told to stop, not when their readers are done."""

    async def shutdown(self, sockets: Any = None) -> None:
        app: Any = self.config.app
        app.state.hub.close()
        await super().shutdown(sockets)


def server(app: Starlette, host: str, port: int) -> Server:
    return Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=GRACE_S,
            backlog=2048,
        )
    )


def run(settings: Settings) -> None:
    """Serve until told to stop."""
    sys.setswitchinterval(SWITCH_S)
    _allow_many_streams()
    log.setup(settings.log_format, settings.log_level)
    database = installation.open_database(settings, THREADS)
    installation.check_token(database, settings)
    if settings.auth == "none":
        logger.warning(
            "DAAS_AUTH=none: WHOEVER REACHES %s:%s MAY DO EVERYTHING. This is version 1.0's "
            "trusted network; unset DAAS_AUTH to ask for tokens.",
            settings.listen,
            settings.orchestrator_port,
        )
    app = build(settings, database)
    server(app, settings.listen, settings.orchestrator_port).run()


def _allow_many_streams() -> None:
    """Each stream is an open file, and the usual limit is 1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _body(receive: Receive) -> bytes | None:
    """The whole body, or what of it shows that it is too long; None if it does not come."""
    body, is_more, drained = b"", True, 0
    try:
        async with asyncio.timeout(BODY_S):
            while is_more and drained < DRAIN_MAX:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                drained += len(message.get("body", b""))
                body = (body + message.get("body", b""))[: BODY_MAX + 1]
                is_more = message.get("more_body", False)
    except TimeoutError:
        return None
    return body


def _with(scope: Scope, body: bytes, slot: Slot) -> Scope:
    """The scope with the slot; the length of the body is known now, also of a chunked one."""
    kept = [h for h in scope["headers"] if h[0] not in (b"content-length", b"transfer-encoding")]
    length = [(b"content-length", str(len(body)).encode())] if body else []
    return {**scope, "headers": [*kept, *length], SLOT: slot}


def _replay(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _kept(start: Message) -> dict[str, str]:
    """What the view said besides: the request's id, for one. The length and type are not it."""
    lost = (b"content-length", b"content-type", b"cache-control")
    return {k.decode(): v.decode() for k, v in start["headers"] if k not in lost}


def _refusal(body: bytes | None) -> Response:
    if body is None:
        return _problem(408, "The body did not come in time.")
    return _problem(413, "The body is too large: 64 KiB at most.")


def _stopping() -> Response:
    detail = "This server is being restarted; what you asked for goes on. Ask again for its state."
    return _problem(503, detail)


def _problem(status: int, detail: str) -> Response:
    title = HTTPStatus(status).phrase
    problem = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": CODES.get(status, "not-ready"),
        "detail": detail,
        "request_id": "",
        "error": title,  # for who speaks version 1.0
        "details": detail,
    }
    headers = {"connection": "close"} if status != HTTPStatus.SERVICE_UNAVAILABLE else RETRY
    return Response(json.dumps(problem), status, headers, media_type=PROBLEM)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
