"""Faults on demand. Each is armed by a method and then happens by itself, as often as was said.

Every public method with `@control` is also a call of the HTTP control API, by the same name with
dashes. They may be called from any thread.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pve_simulator.api import ApiError, Failed, Request, Response, Steps
from pve_simulator.engine import nodes
from pve_simulator.engine.holds import ApiCall, Hold
from pve_simulator.engine.locks import CONFIG_TIMEOUT_S

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.tasks import Task

F = TypeVar("F", bound=Callable[..., Any])
FOREVER = 10**9


def control(method: F) -> F:
    """Run in the simulation's own thread, and be reachable over HTTP."""

    @functools.wraps(method)
    def run(self: "Faults", *args: Any, **options: Any) -> Any:
        if self.server is None:
            return method(self, *args, **options)
        return self.server.in_thread(lambda: method(self, *args, **options))

    run.is_control = True  # type: ignore[attr-defined]
    return cast(F, run)


@dataclass
class TaskFault:
    """What happens to the next `times` tasks of a type (of one VM's, or of any)."""

    kind: str  # "fail", "hang", "warn", "leave_disk"
    task_type: str
    vmid: int | None
    times: int
    text: str = ""
    is_late: bool = False  # after the work is done, not instead of it

    def matches(self, task: "Task") -> bool:
        is_wanted = self.task_type == task.type and self.vmid in (None, _number(task.id))
        return self.times > 0 and is_wanted


@dataclass
class Storm:
    """Answers that say nothing: the next `times`, or those until a moment."""

    status: int
    text: str
    path: re.Pattern[str]
    method: str
    times: int
    until_s: float


class Faults:
    """Armed faults, and the log of all calls."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self.server: Any = None  # set when there is one
        self.calls: list[ApiCall] = []
        self.holds: list[Hold] = []
        self._tasks: list[TaskFault] = []
        self._storms: list[Storm] = []
        self._unhang = cluster.env.event()
        self._dead_agents: set[int | None] = set()
        self._glitches = 0

    # -- tasks ---------------------------------------------------------------------------------

    @control
    def fail_task(
        self,
        type: str,
        vmid: int | None = None,
        text: str = "simulated failure",
        times: int = 1,
        late: bool = False,
    ) -> None:
        """The next tasks of this type end with `text`: instead of their work, or `late` after it.

        The VM of a `qmclone` is the one that is cloned.
        """
        self._tasks.append(TaskFault("fail", type, vmid, times, text, late))

    @control
    def hang_task(self, type: str, vmid: int | None = None, times: int = 1) -> None:
        """The next tasks of this type never end, and hold their VM's lock, until `unhang_tasks`."""
        self._tasks.append(TaskFault("hang", type, vmid, times))

    @control
    def unhang_tasks(self) -> None:
        """What hangs goes on with its work."""
        self._unhang.succeed()
        self._unhang = self._cluster.env.event()

    @control
    def warn_task(
        self, type: str, vmid: int | None = None, text: str = "simulated warning", times: int = 1
    ) -> None:
        """The next tasks of this type do their work and end with `WARNINGS: 1`."""
        self._tasks.append(TaskFault("warn", type, vmid, times, text, True))

    @control
    def leave_disk(self, vmid: int | None = None, times: int = 1) -> None:
        """The next destroys leave a disk behind and end with `WARNINGS: 1`."""
        self._tasks.append(TaskFault("leave_disk", "qmdestroy", vmid, times))

    @control
    def glitch_destroys(self, times: int = 2) -> None:
        """What happens under parallel destroys: by turns no task at all, and one that fails."""
        self._glitches = times

    # -- nodes and the cluster -----------------------------------------------------------------

    @control
    def kill_node(self, node: str) -> None:
        """A node loses power: its VMs and tasks end, it answers nothing, its port is closed."""
        nodes.kill(self._cluster, self._cluster.nodes[node])
        self._node_changed(node)

    @control
    def revive_node(self, node: str) -> None:
        """It boots, and starts the VMs that have `onboot`."""
        nodes.revive(self._cluster, self._cluster.nodes[node])
        self._node_changed(node)

    @control
    def lose_quorum(self) -> None:
        self._cluster.has_lost_quorum = True

    @control
    def regain_quorum(self) -> None:
        self._cluster.has_lost_quorum = False

    # -- answers -------------------------------------------------------------------------------

    @control
    def storm(
        self,
        times: int = 0,
        seconds: float = 0,
        path: str = "",
        method: str = "",
        status: int = 500,
        text: str = "simulated storm",
    ) -> None:
        """The next `times` calls, or those of the next `seconds`, that match get this answer."""
        until_s = self._cluster.env.now + seconds if seconds else float("inf")
        found = re.compile(path)
        self._storms.append(Storm(status, text, found, method, times or FOREVER, until_s))

    @control
    def stop_at(
        self, number: int = 1, when: str = "before", path: str = "", method: str = ""
    ) -> Hold:
        """Hold the N-th call from now (of those that match), before or after it takes effect."""
        if when not in ("before", "after"):
            raise ValueError("when must be 'before' or 'after'")
        pattern = re.compile(path)
        hold = Hold(len(self.holds) + 1, number, when, method, pattern, self._cluster.env)
        self.holds.append(hold)
        return hold

    @control
    def release(self, hold: Hold | int | None = None, drop: bool = False) -> None:
        """Let a held call (or all) go on; `drop`: as if it had never come in."""
        number = hold.id if isinstance(hold, Hold) else hold
        for one in self.holds:
            if number in (None, one.id) and not one.released.triggered:
                one.is_dropped = drop
                one.released.succeed()

    @control
    def change_certificate(self) -> None:
        """Show a certificate of another authority from now on."""
        if self.server is not None:
            self.server.change_certificate()

    @control
    def expire_token(self, token: str) -> None:
        """A token (`root@pam!tf`) is no longer accepted."""
        user, _, name = token.partition("!")
        self._cluster.access.directory.users[user].tokens[name].expire = 1

    # -- VMs and storages ----------------------------------------------------------------------

    @control
    def vanish_vm(self, vmid: int) -> None:
        """A VM is gone with all its disks, and no task tells of it."""
        nodes.vanish(self._cluster, self._cluster.vms[vmid])

    @control
    def keep_agent_down(self, vmid: int | None = None) -> None:
        """The guest agent of a VM (or of all) never answers, until `let_agents_up`."""
        self._dead_agents.add(vmid)

    @control
    def let_agents_up(self) -> None:
        self._dead_agents.clear()

    @control
    def fill_storage(self, storage: str) -> None:
        """No allocation on it succeeds, until `empty_storage`."""
        self._cluster.storages.get(storage).is_full = True

    @control
    def empty_storage(self, storage: str) -> None:
        self._cluster.storages.get(storage).is_full = False

    @control
    def set_latency(self, name: str, seconds: float) -> None:
        self._cluster.latencies.set(name, seconds)

    @control
    def clear(self) -> None:
        """Disarm everything, and let everything that is held or hangs go on."""
        self._tasks.clear()
        self._storms.clear()
        self._dead_agents.clear()
        self._glitches = 0
        self._cluster.has_lost_quorum = False
        for storage in self._cluster.storages:
            storage.is_full = False
        self.release()
        self.unhang_tasks()

    # -- asked by the rest of the engine -------------------------------------------------------

    def count(self, request: Request) -> ApiCall:
        call = ApiCall(len(self.calls) + 1, self._cluster.env.now, request)
        self.calls.append(call)
        for hold in self.holds:
            if hold.catches(request):
                hold.call = call
                call.hold = hold
        return call

    def answered(self, call: ApiCall, response: Response) -> None:
        call.response = response

    def raise_storm(self, request: Request) -> None:
        now = self._cluster.env.now
        self._storms = [s for s in self._storms if s.times > 0 and s.until_s > now]
        for storm in self._storms:
            if storm.method in ("", request.method) and storm.path.search(request.path):
                storm.times -= 1
                raise ApiError(storm.status, storm.text, has_body=storm.status < 590)

    def before_task(self, task: "Task") -> Steps[None]:
        if self._take("hang", task):
            yield from self._hang(task)
        fault = self._take("fail", task, is_late=False)
        if fault:
            raise Failed(fault.text)

    def after_task(self, task: "Task") -> Steps[None]:
        if fault := self._take("warn", task):
            task.warn(fault.text)
        if fault := self._take("fail", task, is_late=True):
            raise Failed(fault.text)
        yield from ()

    def is_disk_left(self, task: "Task") -> bool:
        return self._take("leave_disk", task) is not None

    def is_agent_kept_down(self, vmid: int) -> bool:
        return not self._dead_agents.isdisjoint({None, vmid})

    def glitch_destroy(self) -> None:
        """One of the two glitches, by turns, while any are armed."""
        if self._glitches <= 0:
            return
        self._glitches -= 1
        if self._glitches % 2:
            raise Failed("got no worker upid - start worker failed")
        text = "unable to open file - No such file or directory"
        self._tasks.append(TaskFault("fail", "qmdestroy", None, 1, text))

    def _take(self, kind: str, task: "Task", is_late: bool | None = None) -> TaskFault | None:
        for fault in self._tasks:
            is_due = is_late is None or fault.is_late == is_late
            if fault.kind == kind and is_due and fault.matches(task):
                fault.times -= 1
                return fault
        return None

    def _hang(self, task: "Task") -> Steps[None]:
        vmid = _number(task.id)
        if vmid is None:
            yield self._unhang
            return
        lock = self._cluster.locks.config(task.node, vmid)
        with (yield from lock.hold(CONFIG_TIMEOUT_S, is_shared=task.type == "qmclone")):
            yield self._unhang

    def _node_changed(self, node: str) -> None:
        if self.server is not None:
            self.server.node_changed(node)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


__all__ = ["Faults", "Hold", "control"]
