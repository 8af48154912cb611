"""HTTPS, one port per node, in one thread: parse a request, let the cluster answer it."""

import asyncio
import functools
import json
import ssl
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web
from multidict import CIMultiDict

from pve_simulator import control
from pve_simulator.api import ApiError, Request, Response, refusal
from pve_simulator.certificates import Authority
from pve_simulator.clockwork import Clockwork
from pve_simulator.dispatch import answer
from pve_simulator.engine.cluster import Cluster

API = "/api2/json"
LARGEST_UPLOAD = 4 << 30
T = TypeVar("T")


class Server:
    """Owns the thread in which everything of this cluster happens."""

    def __init__(
        self, cluster: Cluster, folder: Path, *, port: int = 0, host: str = "127.0.0.1"
    ) -> None:
        self.cluster = cluster
        self.ports: dict[str, int] = {}
        self.ca_file = folder / "ca.pem"
        self._folder = folder
        self._host = host
        self._wanted_port = port
        self._authority = Authority()
        self._authority.write(self.ca_file)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.num_tickets = 0  # each connection is shown the certificate of its moment
        self._certify(self._authority)
        self._loop = asyncio.new_event_loop()
        self._sites: dict[str, web.TCPSite] = {}
        self._runners: dict[str, web.AppRunner] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clockwork: Clockwork | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    # -- from other threads --------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self._await(self._start())

    def stop(self) -> None:
        self._await(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def in_thread(self, work: Callable[[], T]) -> T:
        """Run something in the server's thread, where alone the cluster may be touched."""

        def do() -> T:
            assert self._clockwork is not None
            self._clockwork.turn()
            result = work()
            self._clockwork.turn()
            return result

        if threading.current_thread() is self._thread:
            return do()
        result: T = self._await(self._settled(do))
        return result

    def change_certificate(self) -> None:
        """From now on another authority's certificate is shown; `ca_file` stays the old one."""
        self._certify(Authority())
        self._spawn(self._drop_connections())

    def _await(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    # -- in the server's thread ----------------------------------------------------------------

    def node_changed(self, node: str) -> None:
        """Called by the cluster when a node died or came back: its port does the same."""
        self._spawn(self._open(node) if self._lives(node) else self._shut(node))

    async def _settled(self, work: Callable[[], T]) -> T:
        """The result of some work, once ports that it opens or closes are."""
        result = work()
        await asyncio.gather(*self._tasks)
        return result

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # The loop itself keeps only a weak reference.
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self) -> None:
        self._clockwork = Clockwork(self.cluster)
        self._clockwork.turn()
        for node in self.cluster.nodes:
            await self._open(node)

    async def _stop(self) -> None:
        for node in list(self._sites):
            await self._shut(node)
        if self._clockwork:
            self._clockwork.stop()

    async def _open(self, node: str) -> None:
        if node in self._sites:
            return
        app = web.Application(client_max_size=LARGEST_UPLOAD)
        app.router.add_route("*", "/{path:.*}", functools.partial(self._serve, node))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        is_first = node == next(iter(self.cluster.nodes))
        port = self.ports.get(node) or (self._wanted_port if is_first else 0)
        site = web.TCPSite(runner, self._host, port, ssl_context=self._tls, reuse_address=True)
        await site.start()
        self._runners[node], self._sites[node] = runner, site
        self.ports[node] = runner.addresses[0][1]

    async def _shut(self, node: str) -> None:
        self._sites.pop(node, None)
        runner = self._runners.pop(node, None)
        if runner is not None:
            await runner.cleanup()

    async def _drop_connections(self) -> None:
        await asyncio.sleep(0.05)  # whoever asked for it over HTTP gets an answer first
        for runner in self._runners.values():
            for connection in runner.server.connections if runner.server else ():
                connection.force_close()

    def _lives(self, node: str) -> bool:
        return self.cluster.nodes[node].is_alive

    def _certify(self, authority: Authority) -> None:
        path = self._folder / "server.pem"
        authority.issue([*self.cluster.nodes, "localhost"], path)
        self._tls.load_cert_chain(path)

    async def _serve(self, node: str, request: web.Request) -> web.StreamResponse:
        if request.path.startswith(control.PREFIX):
            return await control.serve(self.cluster.faults, request)
        if not request.path.startswith(API):
            return web.Response(status=404, text="only /api2/json is simulated")
        try:
            parsed = await _parse(node, request)
        except ValueError as error:  # no JSON, no text
            return _render(refusal(ApiError(400, f"bad request: {error}", has_body=False)))
        assert self._clockwork is not None
        return _render(await self._clockwork.run(answer(self.cluster, parsed)))


async def _parse(node: str, request: web.Request) -> Request:
    params: dict[str, Any] = {}
    for name, text in request.query.items():
        _add(params, name, text)
    files: dict[str, bytes] = {}
    if request.content_type == "application/json":
        body = await request.text()
        params |= _flat(json.loads(body)) if body else {}
    elif request.can_read_body:
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                files[name] = value.file.read()
                params[name] = value.filename
            else:
                _add(params, name, value if isinstance(value, str) else bytes(value).decode())
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Request(request.method, request.path[len(API) :] or "/", params, headers, node, files)


def _add(params: dict[str, Any], name: str, value: str) -> None:
    """A name that comes again makes a list."""
    if name not in params:
        params[name] = value
    elif isinstance(params[name], list):
        params[name].append(value)
    else:
        params[name] = [params[name], value]


def _flat(body: Any) -> dict[str, Any]:
    """JSON bodies may have numbers and booleans; forms cannot, and the schema sees strings."""
    if not isinstance(body, dict):
        raise ValueError("a JSON body is an object")
    return {
        name: str(int(value))
        if isinstance(value, bool)
        else value
        if isinstance(value, list)
        else str(value)
        for name, value in body.items()
    }


def _render(response: Response) -> web.Response:
    headers: CIMultiDict[str] = CIMultiDict()
    headers["Server"] = "pve-api-daemon/3.0"
    headers["Cache-Control"] = "max-age=0"
    answered = web.Response(
        status=response.status,
        reason=response.reason,
        headers=headers,
        body=response.body.encode() if response.content_type else None,
    )
    if response.content_type:
        answered.headers["Content-Type"] = response.content_type
    else:
        answered.headers.pop("Content-Type", None)
    return answered
