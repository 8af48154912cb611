"""The simulator inside a test: `Simulator` in real time over HTTPS, `VirtualSimulator` without.

Closing one raises when the simulator itself had a fault: an answer it made up is no answer.
"""

import secrets
import tempfile
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import simpy

from pve_simulator import endpoints, world
from pve_simulator.api import Request, Response, Steps
from pve_simulator.dispatch import answer
from pve_simulator.engine.cluster import Cluster
from pve_simulator.engine.faults import Faults
from pve_simulator.guests import Guests
from pve_simulator.latency import PROFILES
from pve_simulator.server import Server
from pve_simulator.world import World

TOKEN_ID = "root@pam!simulator"

__all__ = ["Simulator", "SimulatorFault", "VirtualSimulator", "endpoints"]


class SimulatorFault(Exception):
    """The simulator broke while it answered; the traceback is in the message."""


class _Simulation:
    """What both kinds have: a cluster made from a world, and a token that may do all."""

    def __init__(
        self,
        start: World | str | Path | None = None,
        *,
        latencies: str | Mapping[str, Any] | None = None,
        guests: str | Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        chosen = start if isinstance(start, World) else world.load(start) if start else World()
        self.cluster: Cluster = world.build(_timed(chosen, latencies), seed=seed)
        if guests is not None:
            options = {"kind": guests} if isinstance(guests, str) else dict(guests)
            self.cluster.guests = Guests(options.pop("kind", "plain"), options)
        self.token_id = TOKEN_ID
        self.token_secret = secrets.token_hex(16)
        self.cluster.access.add_token(self.token_id, self.token_secret)

    @property
    def faults(self) -> Faults:
        return self.cluster.faults

    @property
    def calls(self) -> list[Any]:
        """Every API request so far, with its answer."""
        return self.cluster.faults.calls

    def _raise_faults(self) -> None:
        if self.cluster.crashes:
            raise SimulatorFault("\n".join(self.cluster.crashes))


class Simulator(_Simulation):
    """In real time, with a thread and an HTTPS port on 127.0.0.1 of its own."""

    def __init__(self, start: World | str | Path | None = None, **options: Any) -> None:
        port, host = options.pop("port", 0), options.pop("host", "127.0.0.1")
        super().__init__(start, **options)
        self._folder = tempfile.TemporaryDirectory(prefix="pve-simulator-")
        self._server = Server(self.cluster, Path(self._folder.name), port=port, host=host)
        self.cluster.faults.server = self._server
        self._server.start()

    @property
    def url(self) -> str:
        """Of the first node: https://127.0.0.1:PORT"""
        return self.url_of(next(iter(self.cluster.nodes)))

    def url_of(self, node: str) -> str:
        """Each node has an API port; that of a dead one refuses connections."""
        return f"https://127.0.0.1:{self._server.ports[node]}"

    @property
    def ca_file(self) -> str:
        return str(self._server.ca_file)

    def close(self) -> None:
        self._server.stop()
        self._folder.cleanup()
        self._raise_faults()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VirtualSimulator(_Simulation):
    """In virtual time and without a port: hours pass in the moment that their events take."""

    @property
    def env(self) -> simpy.Environment:
        return self.cluster.env

    @property
    def now_s(self) -> float:
        return float(self.cluster.env.now)

    def call(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        token: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        node: str = "",
    ) -> Response:
        """Ask, and let time pass until the answer is there."""
        asked = self.spawn(
            self.asking(method, path, params, token=token, headers=headers, node=node)
        )
        answered: Any = self.cluster.env.run(until=asked)
        self._raise_faults()
        assert isinstance(answered, Response)
        return answered

    def asking(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        token: tuple[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        node: str = "",
    ) -> Steps[Response]:
        """The same for a process of the simulation: `response = yield from sim.asking(…)`."""
        token_id, secret = token or (self.token_id, self.token_secret)
        login = (
            {"authorization": f"PVEAPIToken={token_id}={secret}"} if headers is None else headers
        )
        entry = node or next(iter(self.cluster.nodes))
        given = {key: _as_form(value) for key, value in (params or {}).items()}
        request = Request(method, path, given, login, entry)
        return answer(self.cluster, request)

    def spawn(self, steps: Generator[simpy.Event, Any, Any]) -> simpy.Process:
        """Let a process of the caller run beside the simulation's own."""
        return self.cluster.env.process(steps)

    def run(self, until_s: float) -> None:
        self.cluster.env.run(until=until_s)
        self._raise_faults()

    def close(self) -> None:
        self._raise_faults()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _as_form(value: Any) -> Any:
    """As it would come in a form: text, or a list of it."""
    if isinstance(value, bool):
        return str(int(value))
    return [str(one) for one in value] if isinstance(value, list) else str(value)


def _timed(chosen: World, latencies: str | Mapping[str, Any] | None) -> World:
    if latencies is not None:
        if isinstance(latencies, str) and latencies not in PROFILES:
            raise ValueError(f"no latency profile {latencies!r}; there are {', '.join(PROFILES)}")
        chosen.latencies = {"profile": latencies} if isinstance(latencies, str) else dict(latencies)
    return chosen
