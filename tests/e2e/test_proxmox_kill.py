"""kill -9 of the worker, of Terraform, or of both, at every call to Proxmox VE of a create and of a
destroy: the session comes to what was wanted, or fails with a reason; once it is deleted nothing is
left, on the cluster or with us."""

import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from pve_simulator.engine.holds import ApiCall

from e2e.cloud import Cloud, cloud

HELD_S, ENDED_S = 30.0, 90.0
MACHINE = r"/qemu/2\d{4}"
# What lists, and what asks again and again until a task is done, comes as often as it likes.
BACKGROUND = re.compile(r"^/(cluster/resources|nodes|nodes/[^/]+/(qemu|status|storage))$")

Point = tuple[str, str, int]  # method, path, the how-manieth of these in its life


def task(kind: str, subject: str = r"2\d{4}") -> str:
    return f"/tasks/UPID:.*:{kind}:{subject}:.*/status$"


CLONE, MADE, AT_START = "/qemu/9000/clone$", task("qmclone", "9000"), task("qmstart")
CONFIG, CURRENT, START = (
    f"{MACHINE}/config$",
    f"{MACHINE}/status/current$",
    f"{MACHINE}/status/start$",
)
CREATE_BY_TERRAFORM: list[Point] = [
    ("POST", CLONE, 1),
    ("GET", MADE, 1),
    ("GET", CURRENT, 1),
    ("GET", CONFIG, 1),
    ("PUT", CONFIG, 1),
    ("PUT", CONFIG, 2),
    ("GET", CONFIG, 2),
    ("GET", CURRENT, 2),
    ("POST", START, 1),
    ("GET", AT_START, 1),
    ("GET", CURRENT, 3),
    ("GET", CONFIG, 3),
    ("GET", CURRENT, 4),
    ("GET", "^/pools$", 1),
]
CREATE_BY_US: list[Point] = [
    ("GET", CONFIG, 4),
    ("GET", CURRENT, 5),
    ("GET", CONFIG, 5),
    ("POST", f"{MACHINE}/agent/exec$", 1),
    ("GET", f"{MACHINE}/agent/network-get-interfaces$", 1),
]
DESTROY_BY_TERRAFORM: list[Point] = [
    ("GET", CONFIG, 2),
    ("GET", CURRENT, 1),
    ("GET", "^/pools$", 1),
    ("GET", CURRENT, 2),
    ("POST", f"{MACHINE}/status/stop$", 1),
    ("GET", task("qmstop"), 1),
    ("GET", CURRENT, 3),
    ("DELETE", f"{MACHINE}/?$", 1),
    ("GET", task("qmdestroy"), 1),
    ("GET", CURRENT, 4),
]
DESTROY_BY_US: list[Point] = [
    ("GET", CONFIG, 1),
    ("GET", CONFIG, 3),
    ("GET", "/storage/local/content$", 1),
]
CREATE, DESTROY = CREATE_BY_TERRAFORM + CREATE_BY_US, DESTROY_BY_TERRAFORM + DESTROY_BY_US
VICTIMS = ("worker", "terraform", "both")
LIVES = [
    *((victim, point, None) for victim in VICTIMS for point in CREATE_BY_TERRAFORM),
    *((victim, None, point) for victim in VICTIMS for point in DESTROY_BY_TERRAFORM),
    *(("worker", point, None) for point in CREATE_BY_US),
    *(("worker", None, point) for point in DESTROY_BY_US),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with cloud(tmp_path_factory.mktemp("pve")) as made:
        yield made


def test_the_lists_of_kill_points_are_whole(site: Cloud) -> None:
    """A new call to Proxmox VE that is in no list is a kill point that nobody tries."""
    since = len(site.sim.calls)
    name = site.request()
    site.product.wait_for(name, "ready")
    create = _points(site.sim.calls[since:])
    since = len(site.sim.calls)
    site.product.delete(name)
    site.product.wait_for(name, "deleted")

    destroy = _points(site.sim.calls[since:])

    assert _named(create) == _named(CREATE)
    assert _named(destroy) == _named(DESTROY)


@pytest.mark.parametrize(("victim", "create", "destroy"), LIVES)
def test_whoever_is_killed_at_any_call_leaves_what_was_wanted_or_nothing(
    site: Cloud, victim: str, create: Point | None, destroy: Point | None
) -> None:
    volumes = site.volumes()

    with _killing(site, victim, create):
        name = site.request()
    found = site.product.wait_for(name, "ready", "failed", timeout_s=ENDED_S)
    assert found["failure"] or site.machines() == [name]
    assert found["status"] == "ready" or create

    with _killing(site, victim, destroy):
        site.product.delete(name)
    site.product.wait_for(name, "deleted", timeout_s=ENDED_S)

    assert site.machines() == [] and site.volumes() == volumes
    assert site.product.named(name) == []
    for table in ("reservations", "numbers", "passes"):
        assert site.product.rows(f"SELECT * FROM {table} WHERE session = ?", name) == []
    rows = site.product.rows("SELECT provider_state FROM sessions WHERE name = ?", name)
    assert rows == [("{}",)]


@contextmanager
def _killing(site: Cloud, victim: str, point: Point | None) -> Iterator[None]:
    """What is begun inside comes to `point`: the call takes effect, who made it dies before he
    hears of that, and a worker that died has a successor."""
    if point is None:
        yield
        return
    method, path, number = point
    hold = site.sim.faults.stop_at(number, when="after", path=path, method=method)
    yield
    try:
        assert hold.wait(HELD_S), f"never came to {point}; {site.product.tail()}"
        _kill(site, victim)
    finally:
        site.sim.faults.release(hold)
        site.work()


def _kill(site: Cloud, victim: str) -> None:
    if victim != "worker":
        terraforms = site.terraforms()
        assert terraforms, "no Terraform is at work"
        for pid in terraforms:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if victim != "terraform":
        site.kill_worker()


def _points(calls: list[ApiCall]) -> list[Point]:
    """The calls as points; of those that repeat themselves until a task is done, the first."""
    seen: Counter[tuple[str, str]] = Counter()
    found: list[Point] = []
    for call in calls:
        method, path = call.request.method, call.request.path
        if BACKGROUND.search(path):
            continue
        pattern = next(
            (p for m, p, _ in CREATE + DESTROY if m == method and re.search(p, path)), path
        )
        seen[method, pattern] += 1
        if "/tasks/" not in path or seen[method, pattern] == 1:
            found.append((method, pattern, seen[method, pattern]))
    return found


def _named(points: list[Point]) -> list[str]:
    return sorted(map(str, points))
