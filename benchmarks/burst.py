"""Bursts in virtual time: our placement and admission, and the simulator as Proxmox VE."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.burst import Burst, Outcome

from benchmarks.frame import Row

SHARE = 0.9  # of the clone rate that the locks allow


def virtual_50() -> list[Row]:
    return _local("burst_virtual_50", 50, 16)


def virtual_200() -> list[Row]:
    return _local("burst_virtual_200", 200, 16)


def shared_1() -> list[Row]:
    return _shared("burst_virtual_shared_1", 1)


def shared_4() -> list[Row]:
    return _shared("burst_virtual_shared_4", 4)


def _local(name: str, count: int, nodes: int) -> list[Row]:
    """Local storages: locks are queues, and allow one clone after the other."""
    burst = _burst(count, nodes)
    return _rows(name, burst, burst.allowed_s)


def _shared(name: str, nodes: int) -> list[Row]:
    count = 50
    return _rows(name, _burst(count, nodes, is_shared=True), shared_allows_s(count, nodes))


def shared_allows_s(count: int, nodes: int) -> float:
    """Return what the lock of a storage that all nodes share allows: who waits for it tries once
    a second, so that is what the best of all constant numbers of slots makes of it."""
    constant = [_burst(count, nodes, is_shared=True, fixed=slots) for slots in range(1, 7)]
    return min(one.took_s for one in constant if not one.lock_errors)


def _burst(count: int, nodes: int, *, is_shared: bool = False, fixed: int = 0) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        return Burst(Path(folder), nodes, is_shared=is_shared, fixed=fixed).run(count)[0]


def _rows(name: str, burst: Outcome, allowed_s: float) -> list[Row]:
    rate, allowed = burst.count / burst.took_s, burst.count / allowed_s
    return [
        Row(f"{name}_lock_errors", burst.lock_errors, "errors", goal=0),
        Row(f"{name}_lost_or_doubled", burst.lost_or_doubled, "VMs", goal=0),
        Row(f"{name}_clone_rate", rate, "1/s", baseline=allowed, goal=SHARE, is_least=True),
    ]


BENCHMARKS: dict[str, Callable[[], list[Row]]] = {
    "burst_virtual_50": virtual_50,
    "burst_virtual_200": virtual_200,
    "burst_virtual_shared_1": shared_1,
    "burst_virtual_shared_4": shared_4,
}
