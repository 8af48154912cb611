"""Desktops on Proxmox VE as it is simulated with measured times: what the orchestrator adds to a
create, and whether a burst gets all that the storage's lock allows, without an error.

The product, Terraform and its provider are real, and so is the time."""

import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxmoxer import ProxmoxAPI, ResourceException
from tests.e2e.cloud import TEMPLATE, Cloud, cloud

from benchmarks import burst, plain_terraform, seed
from benchmarks.frame import Row

# With no spread at all, who waits for a shared lock would look for it at always the wrong moment.
MEASURED = {"profile": "measured", "spread": 0.1}
CLONE_S, CLOUDINIT_S = 0.9, 0.4  # of that profile, under the storage's lock
CREATES = 5
BURSTS = (1, 10, 30)
TELMATE = "registry.terraform.io/telmate/proxmox"
LOCK_ERROR = re.compile("got timeout|got lock request timeout")
LOOK_S = 0.01
LIVE = 1000
REFRESHES_S = 65.0  # two refreshes of the nodes, and what else asks meanwhile


def own_share() -> list[Row]:
    """A cold create, less the same calls to Proxmox VE by hand until the guest's agent is up."""
    rows = [*_own_share("bpg", "ephemeral-bpg", 1.0)]
    mirror = os.environ.get("DAAS_TF_MIRROR", "")
    if mirror and Path(mirror, TELMATE).is_dir():
        return [*rows, *_own_share("telmate", "ephemeral", 2.0, DAAS_TF_MIRROR=mirror)]
    why = "DAAS_TF_MIRROR names no mirror that has telmate/proxmox"
    print(f"# proxmox_own_share_telmate is left out: {why}", file=sys.stderr)
    return rows


def bursts_1_node() -> list[Row]:
    """So many at once on the storage of one node."""
    return _bursts("1_node", lambda count: count * (CLONE_S + CLOUDINIT_S), nodes=1)


def bursts_4_nodes() -> list[Row]:
    """The same on four nodes that share one storage. What such a lock allows is what the best
    constant number of clones at once makes of it."""
    return _bursts("4_nodes", lambda count: burst.shared_allows_s(count, 4), nodes=4, shared=True)


def refresh_calls() -> list[Row]:
    """What Proxmox VE is asked in a minute in which nobody wants anything: with a thousand
    desktops as often as with one."""
    with _site(nodes=4, shared=True) as site:
        like = site.product.create(120, template="tiny")["id"]
        one = _calls(site)
        seed.ready(site.product.data_dir, like, LIVE)
        site.populate(f"ready-0-{n + 1}" for n in range(LIVE))
        return [Row("cluster_refresh_calls", _calls(site), "calls", one, 1.1)]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "proxmox_own_share": own_share,
    "burst_real_1_node": bursts_1_node,
    "burst_real_4_nodes": bursts_4_nodes,
    "cluster_refresh_calls": refresh_calls,
}


def _own_share(name: str, module: str, goal_s: float, **settings: str) -> Iterator[Row]:
    with _site(module=module, **settings) as site:
        _ready(site)  # the first one initialises Terraform
        took = [_ready(site) for _ in range(CREATES)]
        floor = [_by_hand(site, 29000 + n) for n in range(CREATES)]
    created_s, floor_s = statistics.median(took), statistics.median(floor)
    yield Row(f"proxmox_cold_create_{name}", created_s, "s", floor_s)
    yield Row(f"proxmox_own_share_{name}", created_s - floor_s, "s", goal=goal_s)


def _bursts(place: str, allows_s: Callable[[int], float], **shape: Any) -> list[Row]:
    rows: list[Row] = []
    for count in BURSTS:
        with _site(**shape) as site:
            _ready(site)
            rows += _burst(site, f"{count}_on_{place}", count, allows_s)
    return rows


def _burst(site: Cloud, name: str, count: int, allows_s: Callable[[int], float]) -> Iterator[Row]:
    tasks, calls, begun = len(site.tasks()), len(site.sim.calls), time.monotonic()
    with ThreadPoolExecutor(count) as people:
        asked = [people.submit(site.product.create, 600, template="tiny") for _ in range(count)]
    took_s = time.monotonic() - begun
    made = [one.result() for one in asked]
    there = site.machines()
    wrong = [m for m in made if m["status"] != "ready" or there.count(m["id"]) != 1]
    errors = _lock_errors(site.tasks()[tasks:])
    yield Row(f"burst_lock_errors_{name}", errors, "errors", goal=0)
    yield Row(f"burst_lost_or_doubled_{name}", len(wrong), "VMs", goal=0)
    if count > 1:
        rate, allowed = count / _cloning_s(site.sim.calls[calls:]), count / allows_s(count)
        yield Row(f"burst_clone_rate_{name}", rate, "1/s", allowed, burst.SHARE, is_least=True)
    site.product.clear()
    tasks = len(site.tasks())
    plain_s = plain_terraform.apply(site, count)
    yield Row(f"burst_took_{name}", took_s, "s", plain_s)
    errors = _lock_errors(site.tasks()[tasks:])
    yield Row(f"burst_plain_terraform_lock_errors_{name}", errors, "errors")


@contextmanager
def _site(nodes: int = 1, shared: bool = False, **settings: Any) -> Iterator[Cloud]:
    with (
        tempfile.TemporaryDirectory(prefix="daas-bench-") as folder,
        cloud(Path(folder), nodes, shared, MEASURED, **settings) as site,
    ):
        yield site


def _ready(site: Cloud) -> float:
    """Seconds from the request until it is ready; then it is gone again."""
    begun = time.monotonic()
    made = site.product.create(120, template="tiny")
    took_s = time.monotonic() - begun
    if made["status"] != "ready":
        raise RuntimeError(f"{made['id']} is {made['status']}: {made['failure']}")
    site.product.delete(made["id"])
    site.product.wait_for(made["id"], "deleted")
    return took_s


def _by_hand(site: Cloud, number: int) -> float:
    """Seconds that Proxmox VE and the boot take: what a provider asks, asked without a pause."""
    pve = site.api()
    template, vm = (pve.nodes("pve1").qemu(n) for n in (TEMPLATE, number))
    begun = time.monotonic()
    _await(pve, template.clone.post(newid=number, name=f"hand-{number}", full=0))
    vm.config.put(ide2="local:cloudinit", ipconfig0="ip=dhcp", tags="by-hand")
    _await(pve, vm.status.start.post())
    while not _has_agent(vm):
        time.sleep(LOOK_S)
    took_s = time.monotonic() - begun
    _await(pve, vm.status.stop.post())
    _await(pve, vm.delete())
    return took_s


def _await(pve: ProxmoxAPI, upid: str) -> None:
    task = pve.nodes(upid.split(":")[1]).tasks(upid)
    while (found := task.status.get())["status"] == "running":
        time.sleep(LOOK_S)
    if found["exitstatus"] != "OK":
        raise RuntimeError(f"{upid}: {found['exitstatus']}")


def _has_agent(vm: Any) -> bool:
    try:
        return bool(vm.agent("network-get-interfaces").get())
    except ResourceException:
        return False


def _lock_errors(tasks: Sequence[Any]) -> int:
    return sum(1 for task in tasks if LOCK_ERROR.search(task.exit_status or ""))


def _cloning_s(calls: Sequence[Any]) -> float:
    """From the first clone until the last machine had all that is made under the lock."""
    clones = [call.at_s for call in calls if call.request.path.endswith("/clone")]
    starts = [call.at_s for call in calls if call.request.path.endswith("/status/start")]
    return float(max(starts) - min(clones))


def _calls(site: Cloud) -> int:
    before = len(site.sim.calls)
    time.sleep(REFRESHES_S)
    return len(site.sim.calls) - before
