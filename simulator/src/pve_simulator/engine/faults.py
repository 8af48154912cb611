"""Faults on demand. Each is armed by a method and then happens by itself."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pve_simulator.api import Request, Response, Steps

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.tasks import Task


@dataclass
class ApiCall:
    """One request as it came in, and its answer once there is one."""

    number: int
    at_s: float
    request: Request
    response: Response | None = None

    def before(self) -> Steps[None]:
        yield from ()

    def after(self) -> Steps[None]:
        yield from ()


class Faults:
    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.server: Any = None
        self.calls: list[ApiCall] = []

    def count(self, request: Request) -> ApiCall:
        call = ApiCall(len(self.calls) + 1, self._cluster.env.now, request)
        self.calls.append(call)
        return call

    def answered(self, call: ApiCall, response: Response) -> None:
        call.response = response

    def storm(self, request: Request) -> None: ...

    def before_task(self, task: "Task") -> Steps[None]:
        yield from ()

    def after_task(self, task: "Task") -> Steps[None]:
        yield from ()
