"""The way of one request: faults, login, rights, the right node, parameters, the function."""

import contextlib
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pve_simulator import router, schema
from pve_simulator.access import Identity
from pve_simulator.api import (
    ApiError,
    Failed,
    Invalid,
    Lost,
    Request,
    Response,
    Steps,
    Unanswered,
    ok,
    refusal,
)
from pve_simulator.engine.cluster import Cluster
from pve_simulator.engine.holds import Dropped
from pve_simulator.engine.node import Node
from pve_simulator.engine.tasks import Task
from pve_simulator.engine.vm import Vm


@dataclass
class Call:
    """What an endpoint function is given. `params`: of path and request, checked and typed."""

    cluster: Cluster
    request: Request
    endpoint: router.Endpoint
    identity: Identity
    params: dict[str, Any]

    @property
    def node(self) -> Node:
        """The node of the path, else the one that was spoken to."""
        return self.cluster.nodes[str(self.params.get("node") or self.request.entry)]

    @property
    def vmid(self) -> int:
        return int(self.params["vmid"])

    def vm(self) -> Vm:
        return self.cluster.vm_on(self.node.name, self.vmid)

    def given(self) -> dict[str, Any]:
        """The parameters without those of the path."""
        in_path = {part[1:-1] for part in self.endpoint.template.split("/") if part[:1] == "{"}
        return {name: value for name, value in self.params.items() if name not in in_path}

    def start(self, kind: str, subject: object, work: Callable[[Task], Steps[Any]]) -> str:
        """Start a task on the node of the path and give its UPID."""
        tasks = self.cluster.tasks
        return tasks.start(self.node, kind, str(subject), self.identity.name, work).upid


def answer(cluster: Cluster, request: Request) -> Steps[Response]:
    """Take the time that the request takes, and give its answer. Never raises."""
    held = cluster.faults.count(request)
    try:
        yield from held.before()
        cluster.faults.raise_storm(request)
        data = yield from _serve(cluster, request)
        response = data if isinstance(data, Response) else ok(data)
    except Dropped:
        response = refusal(Unanswered("Connection reset"))
    except ApiError as error:
        if error.delay_s:
            yield cluster.wait("auth_delay")
        response = refusal(error)
    except Exception as error:
        cluster.crashed(traceback.format_exc())
        response = refusal(ApiError(500, f"simulator error: {error!r}"))
    cluster.faults.answered(held, response)
    with contextlib.suppress(Dropped):
        yield from held.after()
    return response


def _serve(cluster: Cluster, request: Request) -> Steps[Any]:
    if request.entry in cluster.nodes and not cluster.nodes[request.entry].is_alive:
        raise Unanswered
    is_open = (request.method, request.path) in OPEN
    identity = Identity("") if is_open else cluster.access.authenticate(request)
    match = router.find(request.method, request.path)
    for name, value in match.path_params.items():
        if str(request.params.get(name, value)) != value:
            text = "duplicate parameter (already defined in URI) with conflicting values!"
            raise Invalid(**{name: text})
    call = Call(cluster, request, match.endpoint, identity, {**request.params, **match.path_params})
    cluster.access.authorize(call)
    _reach(call)
    call.params = schema.validate(request.method, match.endpoint.template, call.params)
    node, boot = call.node, call.node.booted_at
    result: Any = None
    refused: ApiError | None = None
    try:
        result = yield from _in_worker(call)
    except ApiError as error:
        refused = error
    if not node.is_alive or node.booted_at != boot:
        raise Lost  # it may have done what was asked; nobody will hear of it
    if refused:
        raise refused
    return result


def _in_worker(call: Call) -> Steps[Any]:
    if not call.endpoint.protected:
        return (yield from _work(call))
    with call.node.workers.request() as worker:
        yield worker
        return (yield from _work(call))


OPEN = {("GET", "/access/ticket"), ("POST", "/access/ticket"), ("GET", "/access/domains")}


def _reach(call: Call) -> None:
    """A node passes on what another is asked: it must know it, and that one must live."""
    name = call.params.get("node")
    if name is None or name in (call.request.entry, "localhost"):
        call.params = call.params | ({"node": call.request.entry} if name else {})
        return
    node = call.cluster.nodes.get(str(name))
    if node is None:
        raise Failed(
            f"hostname lookup '{name}' failed - failed to get address info for: {name}: "
            "Temporary failure in name resolution"
        )
    if not node.is_alive:
        raise Unanswered


def _work(call: Call) -> Steps[Any]:
    # Checks come early, the work after them: between the two another call may win.
    is_task = call.endpoint.latency == "fork"
    yield call.cluster.wait("read" if is_task else call.endpoint.latency)
    result = call.endpoint.function(call)
    if inspect.isgenerator(result):
        result = yield from result
    if is_task:
        yield call.cluster.wait("fork")
    return result
