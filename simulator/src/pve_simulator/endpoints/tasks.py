"""Tasks of a node: whether one still runs, how it ended, what it said; and lists of them."""

import re
from typing import Any

from pve_simulator.api import Invalid, Page
from pve_simulator.dispatch import Call
from pve_simulator.engine.tasks import Task
from pve_simulator.router import endpoint

Row = dict[str, Any]
TASK = "/nodes/{node}/tasks/{upid}"
RECENT = 25
UPID = re.compile(
    r"UPID:[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?:[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:[0-9A-Fa-f]{8}"
    r":[^:\s]+:[^:\s]*:[^:\s]+:"
)


@endpoint("GET", "/nodes/{node}/tasks")
def list_tasks(call: Call) -> Page:
    """Newest first; those that still run only with `source=active` or `all`."""
    given = call.params.get
    source = given("source", "archive")
    tasks = [t for t in reversed(list(call.cluster.tasks)) if t.node == call.node.name]
    running = [t for t in tasks if not t.is_archived and source in ("active", "all")]
    ended = [t for t in tasks if t.is_archived and source != "active"]
    found = [t for t in running + ended if _is_wanted(call, t)]
    start, limit = int(given("start", 0)), int(given("limit", 50))
    return Page([_row(task) for task in found[start : start + limit]], len(found))


@endpoint("GET", "/cluster/tasks")
def cluster_tasks(call: Call) -> list[Row]:
    """The recent tasks of all nodes."""
    sees_all = call.cluster.access.has(call.identity, "/", "Sys.Audit")
    found = reversed(list(call.cluster.tasks))
    tasks = [t for t in found if sees_all or t.user == call.identity.name]
    return [_recent(task) for task in tasks[:RECENT]]


def _recent(task: Task) -> Row:
    row = _facts(task)
    del row["pstart"]
    if not task.is_archived:
        return row | {"saved": "0"}
    del row["pid"]
    return row | {"endtime": task.ended_at, "status": task.exit_status, "saved": "1"}


@endpoint("GET", TASK)
def index(call: Call) -> list[Row]:
    return [{"name": name} for name in ("status", "log")]


@endpoint("GET", f"{TASK}/status", protected=True)
def status(call: Call) -> Row:
    task = _task(call)
    row: Row = _facts(task) | {"status": "running" if task.is_running else "stopped"}
    if task.exit_status is not None:
        row["exitstatus"] = task.exit_status
    return row


@endpoint("GET", f"{TASK}/log", protected=True)
def log(call: Call) -> Page:
    task = _task(call)
    start, limit = int(call.params.get("start", 0)), int(call.params.get("limit", 50))
    lines = [{"n": number, "t": text} for number, text in enumerate(task.log or ["no content"], 1)]
    return Page(lines[start : start + limit] if limit else lines[start:], len(lines))


@endpoint("DELETE", TASK, protected=True)
def stop(call: Call) -> None:
    task = _task(call, needs="Sys.Modify")
    call.cluster.tasks.stop(task)


def _row(task: Task) -> Row:
    row = _facts(task)
    if not task.is_archived:
        return row | {"status": "RUNNING"}
    return row | {"endtime": task.ended_at, "status": task.exit_status}


def _facts(task: Task) -> Row:
    row: Row = {
        "upid": task.upid,
        "node": task.node,
        "pid": task.pid,
        "pstart": task.pstart,
        "starttime": task.started_at,
        "type": task.type,
        "id": task.id,
        "user": task.user,
    }
    return row | ({"tokenid": task.token} if task.token else {})


def _is_wanted(call: Call, task: Task) -> bool:
    given = call.params.get
    kind = "ok" if task.exit_status in (None, "OK") else "error"
    if task.exit_status and task.exit_status.startswith("WARNINGS"):
        kind = "warning"
    kinds = str(given("statusfilter", "")).split(",") if given("statusfilter") else None
    return (
        _may_see(call, task)
        and given("userfilter", "").lower() in task.user.lower()
        and given("typefilter", task.type) == task.type
        and str(given("vmid", task.id)) == task.id
        and int(given("since", 0)) <= task.started_at <= int(given("until", task.started_at))
        and (kind != "ok" or not given("errors"))
        and (kinds is None or kind in kinds)
    )


def _may_see(call: Call, task: Task) -> bool:
    is_own = call.identity.name in (task.user, f"{task.user}!{task.token}")
    path = f"/nodes/{task.node}"
    return is_own or call.cluster.access.has(call.identity, path, "Sys.Audit")


def _task(call: Call, needs: str = "Sys.Audit") -> Task:
    upid = str(call.params["upid"])
    if not UPID.fullmatch(upid):
        raise Invalid(upid="unable to parse worker upid")
    task = call.cluster.tasks.find(upid)
    # What a task said is kept on its own node.
    if task is None or task.node != call.node.name:
        raise Invalid(upid="no such task")
    if call.identity.name not in (task.user, f"{task.user}!{task.token}"):
        call.cluster.access.require(call.identity, f"/nodes/{task.node}", needs)
    return task
