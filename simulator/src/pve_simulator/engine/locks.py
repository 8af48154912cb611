"""Proxmox VE's locks, with their timeouts. Two kinds: files (flock) and the cluster's (cfs).

A file lock is granted in the order of asking, and may be shared. A cluster lock is a directory
that everyone tries to make once a second, so who is first is luck; and what holds one for 60 s is
aborted.
"""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import simpy

from pve_simulator.api import Failed, Steps

CONFIG_TIMEOUT_S = 10
CREATE_TIMEOUT_S = 5
STORAGE_TIMEOUT_S = 10
CFS_HELD_LIMIT_S = 60


@dataclass
class Waiter:
    is_shared: bool
    granted: simpy.Event


class FileLock:
    """A lock file. `got timeout` after the time one is ready to wait."""

    def __init__(self, env: simpy.Environment, path: str) -> None:
        self._env = env
        self._path = path
        self._holders: list[Waiter] = []
        self._queue: list[Waiter] = []

    @property
    def is_held(self) -> bool:
        return bool(self._holders)

    def hold(
        self, timeout_s: float, *, is_shared: bool = False
    ) -> Steps[AbstractContextManager[None]]:
        """Wait for the lock; use as `with (yield from lock.hold(10)):`."""
        waiter = Waiter(is_shared, self._env.event())
        self._queue.append(waiter)
        self._grant()
        try:
            if not waiter.granted.triggered:
                yield waiter.granted | self._env.timeout(timeout_s)
        except BaseException:
            self._leave(waiter)
            raise
        if not waiter.granted.triggered:
            self._leave(waiter)
            raise Failed(f"can't lock file '{self._path}' - got timeout")
        return self._release_later(waiter)

    @contextmanager
    def _release_later(self, waiter: Waiter) -> Generator[None]:
        try:
            yield
        finally:
            self._leave(waiter)

    def _grant(self) -> None:
        while self._queue:
            first = self._queue[0]
            if self._holders and not (first.is_shared and self._holders[0].is_shared):
                return
            self._holders.append(self._queue.pop(0))
            first.granted.succeed()

    def _leave(self, waiter: Waiter) -> None:
        for place in (self._holders, self._queue):
            if waiter in place:
                place.remove(waiter)
        self._grant()


class CfsLock:
    """A lock of the whole cluster, as `mkdir` in /etc/pve/priv/lock."""

    def __init__(self, env: simpy.Environment, name: str, poll_s: Callable[[], float]) -> None:
        self._env = env
        self._name = name
        self._poll_s = poll_s
        self.is_held = False

    def hold(self, timeout_s: float) -> Steps[AbstractContextManager[None]]:
        left_s = timeout_s
        while self.is_held:
            # The waiting itself is not counted against the limit, but a second for each round is.
            left_s -= 1
            if left_s <= 0:
                raise Failed(f"cfs-lock '{self._name}' error: got lock request timeout")
            yield self._env.timeout(self._poll_s())
        self.is_held = True
        return self._release_later()

    @contextmanager
    def _release_later(self) -> Generator[None]:
        try:
            yield
        finally:
            self.is_held = False

    def limit(self, work: Steps[Any]) -> Steps[Any]:
        """Run what is done under the lock, and abort it when it takes too long."""
        running = self._env.process(work)
        yield running | self._env.timeout(CFS_HELD_LIMIT_S)
        if running.triggered:
            return running.value
        running.defused = True
        running.interrupt("aborted")
        raise Failed(f"cfs-lock '{self._name}' error: got lock timeout - aborting command")


class Locks:
    """All locks of a cluster, made when first asked for."""

    def __init__(self, env: simpy.Environment, cfs_poll_s: Callable[[], float]) -> None:
        self._env = env
        self._cfs_poll_s = cfs_poll_s
        self._files: dict[tuple[str, str], FileLock] = {}
        self._cfs: dict[str, CfsLock] = {}

    def config(self, node: str, vmid: int) -> FileLock:
        """The lock of one VM's configuration. It is a file of the node."""
        return self._file(node, f"/var/lock/qemu-server/lock-{vmid}.conf")

    def local_storage(self, node: str, storage: str) -> FileLock:
        return self._file(node, f"/var/lock/pve-manager/pve-storage-{storage}")

    def shared_storage(self, storage: str) -> CfsLock:
        name = f"storage-{storage}"
        if name not in self._cfs:
            self._cfs[name] = CfsLock(self._env, name, self._cfs_poll_s)
        return self._cfs[name]

    def _file(self, node: str, path: str) -> FileLock:
        key = (node, path)
        if key not in self._files:
            self._files[key] = FileLock(self._env, path)
        return self._files[key]
