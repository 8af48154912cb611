"""One world: a database, a cluster with a node, its provider, and Ada, Ben and Eve."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import select

import daas.db
from daas import wiring
from daas.access.actors import Actor, Role
from daas.config import Settings
from daas.crypto import Vault
from daas.db import Database
from daas.events import Event
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import Job
from daas.nodes import refresh
from daas.nodes.models import Cluster, Node
from daas.providers.base import NodeInfo
from daas.sessions import personal, service
from daas.sessions.models import Installation, Session
from daas.sessions.personal import KeyStock
from daas.sessions.service import Limits, Wish
from daas.sessions.states import Desired
from daas.sessions.steps import Tools
from daas.templates.service import Recipe, RecipeSize
from daas.tenants import Tenant
from daas.worker import Worker
from fakes.providers import FakeProvider
from support.waiting import race

ADA, BEN = Actor("ada", "acme"), Actor("ben", "acme")
EVE = Actor("eve", "evil")  # another tenant
BOSS, OPERATOR = Actor("boss", "acme", Role.ADMIN), Actor("op", "default", Role.OPERATOR)

SIZE = RecipeSize(cpus=1, memory_mib=1024, disk_gib=8, reserve_mib=1024)
RECIPE = Recipe("debian", 1, "image-debian-1", "one", "small", SIZE, {})
GENEROUS = Limits(max_sessions=100_000)


def settings(**values: Any) -> Settings:
    """Settings by field name, untouched by the environment of whoever runs the tests."""
    fields = Settings.model_fields
    return Settings.model_validate({fields[k].alias or k: v for k, v in values.items()})


FAST = {"lease_s": 1.5, "heartbeat_s": 0.1, "machine_threads": 4}


class OneKey(KeyStock):
    """A stock that gives the same key each time: making one takes up to 0.3 s."""

    def take(self) -> rsa.RSAPrivateKey:
        return _key()


@cache
def _key() -> rsa.RSAPrivateKey:
    return personal._rsa_key()


@dataclass
class World:
    database: Database
    provider: FakeProvider
    vault: Vault
    data_dir: Path
    settings: Settings
    certificate: str | None = None  # what an RDP port shows; None: nobody looks

    def tools(self) -> Tools:
        providers = {"fake": self.provider}
        return Tools(providers, self.vault, OneKey(), lambda at, timeout_s: self.certificate)

    def worker(self, name: str = "1", database: Database | None = None) -> Worker:
        handlers = wiring.handlers(self.tools(), self.settings)
        return Worker(database or self.database, handlers, self.settings, name)

    # what people do

    def wish(self, owner: str = "ada", *, cluster: str = "one", mib: int = 1024, **kw: Any) -> Wish:
        recipe = kw.pop("recipe", None) or replace(
            RECIPE, cluster=cluster, size=replace(SIZE, memory_mib=mib, reserve_mib=mib)
        )
        return Wish(recipe, owner, **kw)

    def request(
        self, actor: Actor = ADA, limits: Limits = GENEROUS, **wish: Any
    ) -> tuple[Session, bool]:
        owner = wish.pop("owner", actor.name)
        with self.database.transaction() as db:
            return service.request(db, actor, self.wish(owner, **wish), limits, self.vault)

    def ask(self, actor: Actor = ADA, **wish: Any) -> str:
        return self.request(actor, **wish)[0].name

    def want(self, name: str, desired: Desired, actor: Actor = ADA) -> None:
        with self.database.transaction() as db:
            service.want(db, actor, name, desired)

    def delete(self, name: str, actor: Actor = ADA) -> None:
        self.want(name, Desired.DELETED, actor)

    def warm(self, count: int = 1, pool: str = "win", **kw: Any) -> list[str]:
        """That many ready desktops without an owner."""
        tenant = kw.pop("tenant", "acme")
        with self.database.transaction() as db:
            made = [service.refill(db, pool, tenant, RECIPE, **kw).name for _ in range(count)]
        self.drain()
        return made

    # what is there

    def load(self, name: str) -> Session:
        with self.database.reading() as db:
            return db.scalars(select(Session).where(Session.name == name)).one()

    def all(self, table: Any) -> list[Any]:
        with self.database.reading() as db:
            return list(db.scalars(select(table)).all())

    def events(self, name: str) -> list[Event]:
        subject = f"session/{name}"
        with self.database.reading() as db:
            rows = select(Event).where(Event.subject == subject).order_by(Event.id)
            return list(db.scalars(rows))

    def statuses(self, name: str) -> list[str]:
        return [e.after for e in self.events(name) if e.before != e.after]

    def add(self, *rows: Any) -> None:
        with self.database.transaction() as db:
            db.add_all(rows)

    def add_cluster(self, name: str, nodes: Iterable[Node] = (), kind: str = "fake") -> None:
        self.add(Cluster(name=name, kind=kind))
        self.add(*nodes)

    # what makes it move

    def wake(self, kind: str, key: str, lane: Lane = Lane.LOOK) -> None:
        with self.database.transaction() as db:
            queue.wake(db, kind, key, lane, Priority.REFILL)

    def work(self, worker: Worker | None = None) -> bool:
        """Do one job of any lane."""
        worker = worker or self.worker()
        return any(worker.work_once(lane) for lane in Lane)

    def drain(self, worker: Worker | None = None, limit: int = 2000) -> None:
        """Work and let time pass until no session is due for half an hour."""
        worker = worker or self.worker()
        for _ in range(limit):
            if self.work(worker):
                continue
            jobs = [j for j in self.all(Job) if j.kind in ("session", "build")]
            due = [(j.leased_until or j.run_at) - self.now() for j in jobs]
            soon = [s for s in due if s < 1800]
            if not soon:
                return
            self.pass_s(max(min(soon), 0) + 0.01)
        raise AssertionError("never settled")

    def drain_until(self, what: Callable[[], bool], worker: Worker | None = None) -> None:
        """Work and let time pass, a second at a time, until `what()`."""
        worker = worker or self.worker()
        for _ in range(200):
            while self.work(worker):
                pass
            if what():
                return
            self.pass_s(1)
        raise AssertionError("never came to be")

    def now(self) -> float:
        with self.database.reading() as db:
            return float(db.scalar(select(daas.db.now())) or 0)

    def pass_s(self, seconds: float) -> None:
        daas.db.offset_s += seconds

    def look_at_nodes(self, *silent: str, cluster: str = "one") -> None:
        """A look finds all nodes of the cluster as they were, and these silent."""
        with self.database.transaction() as db:
            rows = list(db.scalars(select(Node).where(Node.cluster == cluster)))
            infos = [_as_found(row, row.name not in silent) for row in rows]
            refresh.store(db, cluster, infos)

    race = staticmethod(race)


def _as_found(row: Node, is_online: bool) -> NodeInfo:
    range_ = (row.first_address, row.last_address)
    return NodeInfo(
        row.name,
        is_online,
        addresses=range_ if range_[0] and range_[1] else None,  # type: ignore[arg-type]
        images=row.images,
        why="" if is_online else "no route to host",
        **{column: getattr(row, column) for column in refresh.COLUMNS},
    )


def furnish(world: World) -> None:
    """The installation, a cluster of one big node, and the tenants."""
    world.add(Installation(id=world.vault.instance), Cluster(name="one", kind="fake"))
    world.add(
        Node(
            name="pve1",
            cluster="one",
            memory_mib=1 << 30,
            subnet="10.9.0.1/16",
            first_address="10.9.1.0",
            last_address="10.9.255.254",
        )
    )
    world.add(Tenant(name="acme"), Tenant(name="evil"), Tenant(name="default"))
