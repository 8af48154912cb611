"""Tasks of a node: whether one still runs, how it ended, what it said."""

from typing import Any

from pve_simulator.api import Invalid
from pve_simulator.dispatch import Call
from pve_simulator.engine.tasks import Task
from pve_simulator.router import endpoint

Row = dict[str, Any]


@endpoint("GET", "/nodes/{node}/tasks/{upid}/status")
def task_status(call: Call) -> Row:
    task = _task(call)
    row: Row = {
        "upid": task.upid,
        "node": task.node,
        "pid": task.pid,
        "pstart": task.pstart,
        "starttime": task.started_at,
        "type": task.type,
        "id": task.id,
        "user": task.user,
        "status": "running" if task.is_running else "stopped",
    }
    if task.token:
        row["tokenid"] = task.token
    if task.exit_status is not None:
        row["exitstatus"] = task.exit_status
    return row


def _task(call: Call) -> Task:
    upid = str(call.params["upid"])
    if not upid.startswith("UPID:"):
        raise Invalid(upid="unable to parse worker upid")
    task = call.cluster.tasks.find(upid)
    if task is None:
        raise Invalid(upid="no such task")
    return task
