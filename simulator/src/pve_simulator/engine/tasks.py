"""Tasks: what a UPID names. A task's failure is told nowhere but in its exit status."""

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import simpy

from pve_simulator.api import ApiError, Steps

if TYPE_CHECKING:
    from pve_simulator.engine.cluster import Cluster
    from pve_simulator.engine.node import Node


NODE_DIED = "node died"


@dataclass
class Task:
    """A worker process of a node. `exit_status` is None while it runs."""

    upid: str
    node: str
    pid: int
    pstart: int
    started_at: int
    type: str
    id: str
    user: str  # root@pam
    token: str | None  # tf
    log: list[str] = field(default_factory=list)
    warnings: int = 0
    exit_status: str | None = None
    ended_at: int | None = None
    is_archived: bool = False  # in the node's index of ended tasks
    process: simpy.Process | None = None

    @property
    def is_running(self) -> bool:
        return self.exit_status is None

    def warn(self, text: str) -> None:
        """Something is not as it should be, and the task goes on: `WARNINGS: n` at its end."""
        self.log.append(f"WARN: {text}")
        self.warnings += 1


class Tasks:
    """All tasks of the cluster, newest last."""

    def __init__(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        self._by_upid: dict[str, Task] = {}
        self.on_start: Callable[[Task], None] = lambda task: None

    def __iter__(self) -> Iterator[Task]:
        return iter(self._by_upid.values())

    def find(self, upid: str) -> Task | None:
        return self._by_upid.get(upid)

    def start(
        self,
        node: "Node",
        kind: str,
        subject: str,
        user: str,
        work: Callable[[Task], Steps[Any]],
    ) -> Task:
        """Fork a worker. `user` may name a token: `root@pam!tf`."""
        pid, pstart, now = node.next_pid(), node.pstart(), int(self._cluster.unix_time)
        upid = f"UPID:{node.name}:{pid:08X}:{pstart:08X}:{now:08X}:{kind}:{subject}:{user}:"
        owner, _, token = user.partition("!")
        task = Task(upid, node.name, pid, pstart, now, kind, subject, owner, token or None)
        self.archive(node.name)
        self._by_upid[upid] = task
        task.process = self._cluster.env.process(self._run(task, work))
        self.on_start(task)
        return task

    def adopt(self, upid: str, exit_status: str, ended_at: int | None) -> None:
        """A task that ended before the simulation began."""
        _, node, pid, pstart, began, kind, subject, user, _ = upid.split(":")
        owner, _, token = user.partition("!")
        start = int(began, 16)
        task = Task(
            upid, node, int(pid, 16), int(pstart, 16), start, kind, subject, owner, token or None
        )
        task.exit_status, task.ended_at = exit_status, ended_at or start
        task.is_archived = True
        task.log.append(f"TASK {'' if exit_status == 'OK' else 'ERROR: '}{exit_status}")
        self._by_upid[upid] = task

    def archive(self, node: str) -> None:
        """Move ended tasks to the index: each start of a task does it, and pvestatd."""
        for task in self._by_upid.values():
            if task.node == node and not task.is_running:
                task.is_archived = True

    def stop(self, task: Task) -> None:
        """Kill the worker, as `DELETE …/tasks/UPID` does."""
        if task.is_running and task.process is not None:
            task.process.interrupt("received interrupt")

    def _run(self, task: Task, work: Callable[[Task], Steps[Any]]) -> Steps[None]:
        try:
            yield self._cluster.wait("fork")
            yield from self._cluster.faults.before_task(task)
            yield from work(task)
            yield from self._cluster.faults.after_task(task)
            status = f"WARNINGS: {task.warnings}" if task.warnings else "OK"
        except ApiError as error:
            status = error.message.replace("\n", " ")
        except simpy.Interrupt as stopped:
            status = str(stopped.cause)
        except Exception as error:
            self._cluster.crashed(traceback.format_exc())
            status = f"simulator error: {error!r}"
        if status.startswith(("OK", "WARNINGS")):
            task.log.append(f"TASK {status}")
        else:
            task.log.append(f"TASK ERROR: {status}")
        task.exit_status = status
        task.ended_at = int(self._cluster.unix_time)
