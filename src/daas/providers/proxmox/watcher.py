"""One thread looks at all machines every few seconds and tells of those that stopped or vanished:
Proxmox has no stream of such news, and a look for each session would be a storm."""

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from daas.errors import DaasError, NotYet
from daas.providers.proxmox.cluster import Cluster

EACH_S = 3.0  # what Proxmox shows is up to 10 s old

log = logging.getLogger(__name__)
Listener = Callable[[str], None]


class Watcher:
    def __init__(self, cluster: Cluster, instance: str, each_s: float = EACH_S):
        self._cluster, self._instance, self._each_s = cluster, instance, each_s
        self._listeners: list[Listener] = []
        self._on: set[str] = set()
        self._missed = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)
        if self._thread is None:
            with suppress(DaasError, NotYet):
                self._on = self._running()
            self._thread = threading.Thread(target=self._run, name="proxmox-watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self._each_s):
            try:
                self._look()
            except (DaasError, NotYet) as error:
                if not self._missed:
                    log.warning("watching the machines: %s", error)
                self._missed = True
            except Exception:  # this thread is the only one that would notice
                log.exception("watching the machines")

    def _look(self) -> None:
        on = self._running()
        ended, self._on = self._on - on, on
        if self._missed:
            self._missed = False
            self._tell("")
        for name in sorted(ended):
            self._tell(name)

    def _running(self) -> set[str]:
        """Of ours; one whose state nobody knows (a young one, a dead node's) counts as running."""
        return {
            vm.tag.session
            for vm in self._cluster.vms()
            if vm.tag and vm.tag.instance == self._instance and vm.status != "stopped"
        }

    def _tell(self, name: str) -> None:
        for listener in self._listeners:
            try:
                listener(name)
            except Exception:  # a listener's fault must not end the watch for all others
                log.exception("a listener to the machines of Proxmox failed")
