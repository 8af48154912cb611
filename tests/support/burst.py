"""A burst of desktops in virtual time: our own placement and admission on a real database, the
simulator's engine as Proxmox VE, and Terraform as the calls that a run of it makes."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simpy
from pve_simulator import VirtualSimulator
from pve_simulator.api import Response
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

import daas.db
from daas.db import Database
from daas.errors import NoCapacity
from daas.jobs.models import Job
from daas.nodes import admission, reservations
from daas.nodes.admission import Door
from daas.nodes.models import Cluster, Gate, Node
from daas.nodes.placement import Need

Steps = Generator[simpy.Event, Any, Any]

IMAGE, NEED = "desk", Need(1024, 2, "desk", "acme")
CLONE_S, CONFIG_S = 0.9, 0.4  # under the storage's lock, in the profile `measured`
LOOKS_S = 1.0  # between two looks at a task, as the provider does it
AGAIN_S = 2.0  # before one that was refused a lock tries again
LOCK_WORDS = ("got timeout", "got lock request timeout")


@dataclass
class Outcome:
    """What a burst came to. Times are virtual seconds from its start."""

    count: int
    lock_errors: int = 0
    failed: list[str] = field(default_factory=list)  # what Proxmox said
    lost_or_doubled: int = 0
    ended: list[float] = field(default_factory=list)  # each one's last need of the lock
    per_storage: dict[str, int] = field(default_factory=dict)
    slots: dict[str, float] = field(default_factory=dict)  # at the end

    @property
    def took_s(self) -> float:
        return max(self.ended)

    @property
    def allowed_s(self) -> float:
        """What the locks alone would take, one after the other, where most had to go."""
        return max(self.per_storage.values()) * (CLONE_S + CONFIG_S)

    @property
    def share(self) -> float:
        """The rate of clones, of what the locks allow."""
        return self.allowed_s / self.took_s


@dataclass
class Burst:
    """`nodes` with a local storage each, or one that all of them share. `is_admitted` and
    `is_leased` are what the negative controls leave out; `fixed` is a number of slots that
    nothing changes, for comparison; `rest_s` what else a run of Terraform takes of its own."""

    folder: Path
    nodes: int = 1
    is_shared: bool = False
    is_admitted: bool = True
    is_leased: bool = True
    fixed: int = 0
    rest_s: float = 0.0
    seed: int = 1
    woken: dict[str, simpy.Event] = field(default_factory=dict)
    cloned: set[str] = field(default_factory=set)

    def run(self, *counts: int) -> list[Outcome]:
        """One burst after the other, on the same cluster."""
        self.sim = VirtualSimulator(_world(self.nodes, self.is_shared), seed=self.seed)
        self.database = Database(f"sqlite:///{self.folder}/burst-{time.monotonic_ns()}.db", 2)
        self.database.migrate()
        self._began_s = time.monotonic()
        try:
            with self._db() as db:
                db.add(Cluster(name="pve", kind="proxmox", first_number=20000, last_number=29999))
                db.flush()
                db.add_all(self._nodes())
            return [self._burst(count, n) for n, count in enumerate(counts)]
        finally:
            daas.db.offset_s = 0.0
            self.database.dispose()
            self.sim.close()

    def _burst(self, count: int, wave: int) -> Outcome:
        outcome, self._from_s = Outcome(count), self.sim.now_s
        names = [f"desktop-{wave}{n:05}" for n in range(count)]
        sessions = [self.sim.spawn(self._session(name, outcome)) for name in names]
        self.sim.env.run(until=self.sim.env.all_of(sessions))
        outcome.lost_or_doubled = self._lost_or_doubled(names)
        with self._db() as db:
            outcome.slots = {g.storage: g.slots for g in db.query(Gate)}
        return outcome

    # one session, as reconcile.py takes it through `requested` and `provisioning`

    def _session(self, name: str, outcome: Outcome) -> Steps:
        with self._db() as db:
            if self.fixed and not db.query(Gate).count():
                words = {"cluster": "pve", "clone_s": 1.0, "ceiling": 99.0}
                storages = {w for n in self._nodes() for w in (n.images or {}).values()}
                db.add_all(Gate(storage=w, slots=self.fixed, **words) for w in storages)
            db.add(Job(kind="session", key=name, lane="machine", priority=1, run_at=0.0))
            db.flush()
            job = db.query(Job).filter(Job.key == name).one()
            job.lease, job.leased_until = f"w/{name}", 1e12
        place = lambda db: reservations.reserve(db, name, "pve", NEED)  # noqa: E731
        room = yield from self._until(name, place)
        outcome.per_storage[room.storage] = outcome.per_storage.get(room.storage, 0) + 1
        door, lease = Door("pve", room.storage), f"w/{name}"
        while True:
            if self.is_admitted:
                yield from self._until(name, lambda db: admission.enter(db, door, name, lease))
            refused = yield from self._terraform(name, room, outcome)
            is_congested = any(words in refused for words in LOCK_WORDS)
            outcome.lock_errors += is_congested
            if self.is_admitted:
                self._leave(name, lease, not refused, is_congested)
            if not refused:
                return
            outcome.failed.append(refused)
            if not self.is_admitted:
                return
            yield self.sim.env.timeout(AGAIN_S)

    def _until(self, name: str, ask: Callable[[Any], Any]) -> Steps:
        """Ask until the answer is not to wait: after a while, or when woken."""
        while True:
            with self._db() as db:
                answer = ask(db)
            if not isinstance(answer, NoCapacity):
                return answer
            self.woken[name] = self.sim.env.event()
            yield self.woken[name] | self.sim.env.timeout(answer.after_s)

    def _leave(self, name: str, lease: str, is_made: bool, is_congested: bool) -> None:
        with self._db() as db:
            for other in admission.leave(db, name, lease, is_made, is_congested):
                if not self.woken[other].triggered:
                    self.woken[other].succeed()
            if self.fixed:
                db.query(Gate).update({"slots": float(self.fixed)})

    # a run of Terraform

    def _terraform(self, name: str, room: Any, outcome: Outcome) -> Steps:
        """Clone, configure, start, unless it is done; return what Proxmox refused, or nothing."""
        node = room.node
        home = "pve1" if self.is_shared else node
        source = f"/nodes/{home}/qemu/{_template_of(home)}"
        number = room.number if self.is_leased else (yield from self._next_id())
        yield self.sim.env.timeout(self.rest_s * self.sim.cluster.dice.uniform(0.8, 1.2))
        wanted = {"newid": number, "name": name, "full": 0, "target": node}
        refused = ""
        if name not in self.cloned:  # what a run left before it was refused is gone on with
            refused = yield from self._task("POST", f"{source}/clone", wanted)
        if not refused:
            self.cloned.add(name)
            drive = {"ide2": f"{self._storage}:cloudinit", "tags": f"daas;{name}"}
            answer = yield from self._ask("PUT", f"/nodes/{node}/qemu/{number}/config", drive)
            refused = "" if answer.status == 200 else answer.reason
            outcome.ended.append(self.sim.now_s - self._from_s)
        if not refused:
            start = f"/nodes/{node}/qemu/{number}/status/start"
            refused = yield from self._task("POST", start, {})
        return refused

    def _next_id(self) -> Steps:
        answer = yield from self._ask("GET", "/cluster/nextid", {})
        return int(answer.data)

    def _task(self, method: str, path: str, wanted: dict[str, Any]) -> Steps:
        answer = yield from self._ask(method, path, wanted)
        if answer.status != 200:
            return str(answer.reason)
        node = answer.data.split(":")[1]
        while True:
            yield self.sim.env.timeout(LOOKS_S)
            found = yield from self._ask("GET", f"/nodes/{node}/tasks/{answer.data}/status", {})
            if found.data["status"] == "stopped":
                ended = str(found.data["exitstatus"])
                return "" if ended == "OK" else ended

    def _ask(self, method: str, path: str, wanted: dict[str, Any]) -> Steps:
        answer: Response = yield from self.sim.asking(method, path, wanted)
        return answer

    # the cluster

    @property
    def _storage(self) -> str:
        return "ceph" if self.is_shared else "local"

    def _nodes(self) -> list[Node]:
        word = "{storage}" if self.is_shared else "{node}/{storage}"
        return [
            Node(
                name=name,
                cluster="pve",
                cpus=64,
                memory_mib=1 << 20,
                images={IMAGE: word.format(node=name, storage=self._storage)},
            )
            for name in self.sim.cluster.nodes
        ]

    def _lost_or_doubled(self, names: list[str]) -> int:
        """How many sessions have not exactly one machine, at the number that they lease."""
        by_name: dict[str, list[int]] = {}
        for vm in self.sim.cluster.vms.values():
            by_name.setdefault(str(vm.config.get("name")), []).append(vm.vmid)
        with self._db() as db:
            rooms = {name: reservations.kept(db, name) for name in names}
        own = {name: [room.number] for name, room in rooms.items() if room}
        return sum(1 for name in names if by_name.get(name) != own.get(name))

    @contextmanager
    def _db(self) -> Generator[Any]:
        """A transaction in which it is as late as in the simulation."""
        daas.db.offset_s = self.sim.now_s - (time.monotonic() - self._began_s)
        with self.database.transaction() as db:
            yield db


def _world(nodes: int, is_shared: bool) -> World:
    names = [f"pve{n + 1}" for n in range(nodes)]
    storage = (
        StorageSpec("ceph", type="nfs", content=["images"], shared=True, size_gib=1e6)
        if is_shared
        else StorageSpec("local", size_gib=1e6)
    )
    homes = names[:1] if is_shared else names
    return World(
        cluster="lab" if nodes > 1 else None,
        nodes=[NodeSpec(name, cpus=64, memory_mib=1 << 20) for name in names],
        storages=[storage],
        vms=[_template(home, storage.id) for home in homes],
        latencies={"profile": "measured", "spread": 0.1},
    )


def _template(node: str, storage: str) -> VmSpec:
    number = _template_of(node)
    config = {
        "name": IMAGE,
        "template": 1,
        "agent": "1",
        "cores": 2,
        "memory": "1024",
        "scsihw": "virtio-scsi-pci",
        "boot": "order=scsi0",
        "scsi0": f"{storage}:{number}/base-{number}-disk-0.qcow2,size=8G",
        "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0",
    }
    return VmSpec(_template_of(node), node, config)


def _template_of(node: str) -> int:
    return 9000 + int(node.removeprefix("pve"))
