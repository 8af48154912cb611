"""Hypervisors that misbehave on purpose. Every call asserts that no transaction is open around it
and that no other worker is busy with the same machine."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from daas import db, process
from daas.errors import NotOurs, NotYet, Refused, StepFailed, Stopped, Unreachable
from daas.providers.base import Baking, Machine, NodeInfo, Progress, Spec, State, Tag, silent

Save = Callable[[State], None]


class FakeProvider:
    """Makes machines in a dict. `boots_after` looks pass before a guest answers."""

    poll_s = 5.0

    def __init__(self, instance: str = "here", boots_after: int = 1):
        self.instance, self.boots_after = instance, boots_after
        self.machines: dict[str, Tag] = {}
        self.specs: dict[str, Spec] = {}
        self.told: dict[str, str] = {}  # by stdin; `calls` hold what could be seen by others
        self.born: dict[str, float] = {}
        self.watchers: list[Callable[[str], None]] = []
        self.power_of: dict[str, str] = {}
        self.calls: list[tuple[str, ...]] = []
        self.looks: dict[str, int] = {}
        self.collisions: list[str] = []
        self.online = True
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def ensure(
        self, name: str, spec: Spec, state: State, save: Save, note: Progress = silent
    ) -> State:
        with self._called("ensure", name):
            state = {**state, "name": name, "address": spec.address or "10.9.9.9/16"}
            save(state)
            if name in self.machines and self.machines[name] != spec.tag:
                raise NotOurs(f"There is a machine {name} already; it is not this session's.")
            self.machines[name], self.power_of[name] = spec.tag, "on"
            self.specs[name] = spec
        return self._after("ensure", {**state, "node": spec.node})

    def endpoints(
        self, state: State, timeout_s: float, personal: Mapping[str, bytes]
    ) -> dict[str, str]:
        with self._called("endpoints", state["name"]):
            looks = self.looks[state["name"]] = self.looks.get(state["name"], 0) + 1
            if looks <= self.boots_after:
                raise NotYet(self.poll_s, "RDP to answer")
            host = state["address"].partition("/")[0]
        return self._after("endpoints", {"rdp": f"{host}:3389", "ssh": f"{host}:22"})

    def run(self, state: State, args: list[str], stdin: str = "") -> str:
        with self._called("run", state["name"], *args):
            self.told[state["name"]] = stdin
        return self._after("run", "")

    def put(self, state: State, path: str, content: bytes, mode: int) -> None:
        with self._called("put", state["name"], path):
            pass

    def power(self, state: State, on: bool) -> None:
        verb = "on" if on else "off"
        with self._called(verb, state["name"]):
            self.power_of[state["name"]] = verb
        self._after(verb, None)

    def snapshot(self, state: State, name: str) -> None:
        raise Refused("no snapshots here")

    restore = delete_snapshot = snapshot

    def destroy(self, name: str, state: State) -> None:
        with self._called("destroy", name):
            if name in self.machines and self.machines[name].instance != self.instance:
                raise NotOurs(f"{name} does not bear our tag.")
            self.machines.pop(name, None)
        self._after("destroy", None)

    def owned(self) -> list[Machine]:
        with self._called("owned", ""), self._lock:
            tags = list(self.machines.items())
        return [
            Machine(n, t, self.born.get(n, 0.0), is_on=self.power_of.get(n) != "off")
            for n, t in tags
            if t.instance == self.instance
        ]

    def watch(self, on_change: Callable[[str], None]) -> None:
        self.watchers.append(on_change)

    def nodes(self) -> list[NodeInfo]:
        with self._called("nodes", ""):
            return [NodeInfo("pve1", self.online, 8, 1 << 30, why="" if self.online else "off")]

    def bake(self, baking: Baking, progress: Progress) -> str:
        with self._called("bake", f"{baking.template}-{baking.version}"):
            progress("installing the desktop")
        return str(self._after("bake", f"image-{baking.template}-{baking.version}"))

    def images(self) -> list[str]:
        return []

    def delete_image(self, image: str) -> None:
        pass

    def count(self, verb: str) -> int:
        return len([c for c in self.calls if c[0] == verb])

    def _after(self, verb: str, result: Any) -> Any:
        return result

    @contextmanager
    def _called(self, *call: str) -> Iterator[None]:
        verb, name = call[:2]
        assert not db.is_open(), f"{call} inside a transaction"
        with self._lock:
            if name and name in self._busy:
                self.collisions.append(f"{verb} {name}")
            self._busy.add(name)
            self.calls.append(call)
        try:
            self._before(verb, name)
            yield
        finally:
            with self._lock:
                self._busy.discard(name)

    def _before(self, verb: str, name: str) -> None:
        pass


class Slow(FakeProvider):
    """Each verb takes `takes_s`, so that two who do the same thing meet."""

    def __init__(self, instance: str, takes_s: float = 0.01, **kw: Any):
        super().__init__(instance, **kw)
        self.takes_s = takes_s

    def _before(self, verb: str, name: str) -> None:
        time.sleep(self.takes_s)


class NeverBoots(FakeProvider):
    def endpoints(
        self, state: State, timeout_s: float, personal: Mapping[str, bytes]
    ) -> dict[str, str]:
        raise NotYet(5.0, "RDP to answer")


class Away(FakeProvider):
    """Does not answer `verb` while `is_away`."""

    def __init__(self, instance: str, verb: str = "endpoints", **kw: Any):
        super().__init__(instance, **kw)
        self.verb, self.is_away = verb, True

    def _before(self, verb: str, name: str) -> None:
        if self.is_away and verb == self.verb:
            raise Unreachable(60.0, "pve1 to answer")


class Fails(FakeProvider):
    """Raises `error` the first `times` times that `verb` is called."""

    def __init__(self, instance: str, verb: str, error: Exception, times: float = float("inf")):
        super().__init__(instance)
        self.verb, self.error, self.times = verb, error, times

    def _before(self, verb: str, name: str) -> None:
        if verb == self.verb and self.times > 0:
            self.times -= 1
            raise self.error


class Hangs(FakeProvider):
    """`verb` hangs for good, as a child process might, unless it is told to stop."""

    def __init__(
        self, instance: str, only: Callable[[str], bool] = lambda name: True, verb: str = "ensure"
    ):
        super().__init__(instance, boots_after=0)
        self.is_hanging, self.only, self.verb = threading.Event(), only, verb
        self.ignores_stop = False
        self.is_over = threading.Event()  # lets go of one that ignores being told

    def _before(self, verb: str, name: str) -> None:
        if verb != self.verb or not self.only(name) or self.is_over.is_set():
            return
        self.is_hanging.set()
        if self.ignores_stop:
            self.is_over.wait(20)
            return
        assert process.stop.get().wait(20), "nobody told us to stop"
        raise Stopped(name)


class Meanwhile(FakeProvider):
    """While `verb` is done, `deed` happens, once; then the step fails if `fails`."""

    def __init__(
        self,
        instance: str,
        deed: Callable[[], object],
        fails: bool = False,
        verb: str = "endpoints",
    ):
        super().__init__(instance, boots_after=0)
        self.deed, self.fails, self.verb, self.is_done = deed, fails, verb, False

    def _before(self, verb: str, name: str) -> None:
        if verb != self.verb or self.is_done:
            return
        self.is_done = True
        self.deed()
        if self.fails:
            raise StepFailed("the guest said no")


class TwoByTwo(FakeProvider):
    """Does each verb twice, as if its worker had died after the first time."""

    def ensure(
        self, name: str, spec: Spec, state: State, save: Save, note: Progress = silent
    ) -> State:
        super().ensure(name, spec, state, save)
        return super().ensure(name, spec, state, save)

    def destroy(self, name: str, state: State) -> None:
        with suppress(NotOurs):
            super().destroy(name, state)
        super().destroy(name, state)
