"""While Terraform runs, somebody looks whether the node is still there: a provider asks a dead one
for half an hour, and holds a slot that others wait for."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from daas import process
from daas.errors import DaasError, NotYet, Stopped, Unreachable
from daas.providers.proxmox.cluster import Cluster
from daas.providers.proxmox.errors import RETRY_S

EACH_S = 5.0  # longer than most runs: as a rule nobody looks at all
STEP_S = 0.2  # how soon a step that is told to stop does


@contextmanager
def node_is_there(cluster: Cluster, node: str, each_s: float = EACH_S) -> Iterator[None]:
    """What runs inside is stopped when the step is, or when the cluster says that the node is
    offline; then it is Unreachable."""
    outer, stop, is_over = process.stop.get(), threading.Event(), threading.Event()
    lost: list[str] = []

    def is_lost() -> bool:
        with suppress(DaasError, NotYet):
            return not cluster.look().is_online(node)
        return False

    watch = threading.Thread(
        target=_watch, args=(outer, stop, is_over, is_lost, lost, each_s), daemon=True
    )
    watch.start()
    token = process.stop.set(stop)
    try:
        yield
    except Stopped:
        if lost:
            raise Unreachable(RETRY_S, f"node {node}, which went offline meanwhile") from None
        raise
    finally:
        process.stop.reset(token)
        is_over.set()


def _watch(
    outer: threading.Event,
    stop: threading.Event,
    is_over: threading.Event,
    is_lost: Callable[[], bool],
    lost: list[str],
    each_s: float,
) -> None:
    """In steps that are short enough for `outer`, of which one cannot wait for two."""
    left_s = each_s
    while not is_over.wait(STEP_S):
        left_s -= STEP_S
        if not outer.is_set() and left_s > 0:
            continue
        if not outer.is_set() and not is_lost():
            left_s = each_s
            continue
        if not outer.is_set():
            lost.append("offline")
        stop.set()
        return
