"""Proxmox's tasks. An answer with a task's id says nothing: whether the thing was done is in the
task's `exitstatus`, and only there."""

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from daas import process
from daas.errors import NotYet, Stopped
from daas.providers.proxmox import errors
from daas.providers.proxmox.client import Client

TASK_S = 120.0
STEPS_S = (0.05, 0.1, 0.2, 0.3)  # between looks; then the last one again and again
WARNINGS = re.compile(r"WARNINGS: \d+")
UPID = re.compile(r"UPID:(?P<node>[^:]+):[^:]+:[^:]+:[^:]+:(?P<type>[^:]*):(?P<id>[^:]*):")


def wait(client: Client, upid: str, timeout_s: float = TASK_S) -> str:
    """Return the exit status of a task that did its work: "OK", or "WARNINGS: n", after which
    something may be left. Otherwise the error that it amounts to; NotYet at the time limit."""
    about = UPID.match(upid)
    if about is None:
        raise errors.meaning(f"no task, but {upid!r}")
    deadline, path = time.monotonic() + timeout_s, f"nodes/{about['node']}/tasks/{upid}/status"
    for step_s in _steps():
        found = client.get(path)
        if found.get("status") == "stopped":
            return _ended(found.get("exitstatus", "unknown"), f"task {about['type']}")
        if time.monotonic() > deadline:
            raise NotYet(
                errors.RETRY_S,
                f"the task {about['type']} of {about['id']} on {about['node']}, "
                f"which has not ended in {timeout_s:.0f} s",
            )
        if process.stop.get().wait(step_s):
            raise Stopped(upid)
    raise AssertionError("steps never end")


def post(
    client: Client, path: str, data: Mapping[str, Any] | None = None, timeout_s: float = TASK_S
) -> str:
    """Do what the call asks for, to its end; return the exit status."""
    return wait(client, client.post(path, data), timeout_s)


def delete(
    client: Client, path: str, params: Mapping[str, Any] | None = None, timeout_s: float = TASK_S
) -> str:
    """Like `post`; some things are deleted without a task."""
    upid = client.delete(path, params)
    return wait(client, upid, timeout_s) if upid else "OK"


def is_warned(exit_status: str) -> bool:
    return exit_status != "OK"


def active(client: Client, node: str, kind: str) -> list[dict[str, Any]]:
    """Return the tasks of a kind ("qmclone") that run on a node now."""
    found: list[dict[str, Any]] = client.get(
        f"nodes/{node}/tasks", source="active", typefilter=kind
    )
    return [one for one in found if not one.get("endtime")]


def _ended(exit_status: str, what: str) -> str:
    if exit_status == "OK" or WARNINGS.fullmatch(exit_status):
        return exit_status
    raise errors.meaning(exit_status, what)


def _steps() -> Iterator[float]:
    yield from STEPS_S
    while True:
        yield STEPS_S[-1]
