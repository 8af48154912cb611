"""Who may clone onto a storage now: shared by all workers, and not wedged by one that dies."""

import threading
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
from sqlalchemy import Select, select

from daas.db import now
from daas.errors import Congested, NoCapacity, NumberTaken, StepFailed
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import Job
from daas.nodes import admission
from daas.nodes.admission import Door, Open, enter, leave
from daas.nodes.models import Cluster, Gate, Node, Number, Pass, Reservation
from daas.providers.base import silent
from daas.sessions.states import Desired
from fakes.dying import Crash, CrashesIn, DyingDatabase
from fakes.providers import Fails, FakeProvider, Hangs
from support.databases import on_postgresql
from support.waiting import until
from support.world import ADA

DOOR = Door("one", "pve1/local")
IMAGE = "image-debian-1"  # what the world's desktops are made of


def holds(world, session, lease="w/1", lease_s=60.0):
    """The session's job is in hand, under that lease."""
    with world.database.transaction() as db:
        queue.wake(db, "session", session, Lane.MACHINE, Priority.PERSON)
        job = db.query(Job).filter(Job.key == session).one()
        job.lease, job.leased_until = lease, (db.scalar(select(now())) or 0.0) + lease_s


def goes_in(world, session, lease="w/1", door=DOOR):
    with world.database.transaction() as db:
        return enter(db, door, session, lease)


def comes_out(world, session, lease="w/1", **kw):
    with world.database.transaction() as db:
        return leave(db, session, lease, **kw)


def names(count, start=0):
    return [f"desktop-{n}" for n in range(start, start + count)]


def fill(world, count=5):
    """So many are inside, as many as the door lets in at first."""
    for name in names(count):
        holds(world, name)
        assert goes_in(world, name) is None
    return names(count)


def inside(world):
    return sorted(p.session for p in world.all(Pass) if p.lease)


def test_as_many_as_the_gate_has_slots_go_in_and_the_next_is_told_its_place(world):
    fill(world)
    holds(world, "sixth"), holds(world, "seventh")
    assert goes_in(world, "sixth").why == "its turn to be cloned onto pve1/local: 0 before it"
    assert goes_in(world, "seventh").why == "its turn to be cloned onto pve1/local: 1 before it"


def test_who_leaves_lets_the_first_in_line_in(world):
    first, *_ = fill(world)
    for name in ("sixth", "seventh"):
        holds(world, name)
        goes_in(world, name)
    world.pass_s(6)
    assert comes_out(world, first, is_made=True) == ["sixth"]
    assert isinstance(goes_in(world, "seventh"), NoCapacity)  # though it asks first
    assert goes_in(world, "sixth") is None


def test_asked_again_one_who_is_inside_is_inside_once(world):
    fill(world, 1)
    assert goes_in(world, "desktop-0") is None and len(world.all(Pass)) == 1


def test_each_storage_has_a_door_of_its_own(world):
    fill(world)
    holds(world, "other")
    assert goes_in(world, "other", door=Door("one", "ceph")) is None


def test_a_lock_of_the_whole_cluster_is_no_queue_so_few_wait_for_it(world):
    for name in names(3):
        holds(world, name)
        assert goes_in(world, name, door=Door("one", "ceph")) is None
    holds(world, "fourth")
    assert goes_in(world, "fourth", door=Door("one", "ceph"))


def test_a_lock_that_was_not_to_be_had_halves_the_slots(world):
    first, *_ = fill(world)
    comes_out(world, first, is_congested=True)
    assert world.all(Gate)[0].slots == 2.5


def test_a_session_that_was_made_before_teaches_nothing(world):
    """Catches: a step that is run again after a crash finds its machine in a moment, and is taken
    for a clone of 0.1 s."""
    first, second, *_ = fill(world)
    comes_out(world, first, is_made=False)
    assert world.all(Gate)[0].alone_s is None
    world.pass_s(5)
    comes_out(world, second, is_made=True)
    assert world.all(Gate)[0].alone_s == pytest.approx(5, abs=1)


# ---- workers that die


def test_the_pass_of_a_worker_that_was_killed_does_not_count_once_its_lease_is_over(world):
    fill(world)
    holds(world, "waits")
    assert goes_in(world, "waits")
    world.pass_s(61)
    holds(world, "waits")
    assert goes_in(world, "waits") is None


def test_who_takes_a_job_over_enters_in_the_dead_ones_stead(world):
    first, *_ = fill(world)
    holds(world, first, "w/2")
    assert goes_in(world, first, "w/2") is None
    assert len(world.all(Pass)) == 5


def test_a_worker_that_comes_to_late_does_not_take_its_successors_pass(world):
    first, *_ = fill(world)
    holds(world, first, "w/2")
    goes_in(world, first, "w/2")
    assert comes_out(world, first, "w/1", is_congested=True) == []
    assert first in inside(world) and world.all(Gate)[0].slots == 5.0


class Storage:
    """A door with people at it: never more inside than it has slots, though workers die."""

    def __init__(self, world):
        self.world, self.lock = world, threading.Lock()
        self.alive, self.most, self.made = set(), 0, []

    def session(self, n):
        name, lease, dies = f"desktop-{n}", f"w/{n}", n % 5 == 0
        holds(self.world, name, lease, lease_s=1.0 if dies else 60.0)
        until(lambda: goes_in(self.world, name, lease) is None, 30)
        with self.lock:
            self.alive.add(name)
            self.most = max(self.most, len(self.alive))
        time.sleep(0.02)
        with self.lock:
            self.alive.remove(name)
            self.made.append(name)
        if not dies:
            comes_out(self.world, name, lease, is_made=True)


@on_postgresql
def test_32_at_once_are_never_more_than_the_slots_though_every_fifth_dies_inside(world):
    storage = Storage(world)
    out = world.race(32, storage.session)

    assert [e for e in out if e] == [] and len(storage.made) == 32
    assert storage.most <= admission.Pace().open + 4  # it may grow meanwhile, one a round
    assert {int(p.session.partition("-")[2]) % 5 for p in world.all(Pass)} == {0}  # the dead


@on_postgresql
def test_without_the_lock_of_the_gate_more_would_get_in(world, monkeypatch):
    """The control of the test above."""
    storage = Storage(world)
    monkeypatch.setattr(Select, "with_for_update", lambda self, **kw: self)
    world.race(32, storage.session)
    assert storage.most > admission.Pace().open + 4


# ---- in a session's life


@pytest.fixture
def locked(world):
    """The world's node clones from a storage with a lock."""
    with world.database.transaction() as db:
        db.get_one(Node, ("one", "pve1")).images = {IMAGE: "pve1/local"}
    return world


def test_a_session_goes_through_the_door_and_leaves_no_pass(locked):
    name = locked.ask()
    locked.drain()
    assert locked.load(name).status == "ready" and locked.all(Pass) == []
    assert locked.all(Gate)[0].storage == "pve1/local"


def test_one_that_waits_at_the_door_says_so_has_no_deadline_and_is_woken(locked):
    fill(locked)
    name = locked.ask()
    locked.drain_until(lambda: locked.load(name).waiting_for)
    assert locked.load(name).waiting_for == "its turn to be cloned onto pve1/local: 0 before it"
    assert locked.load(name).paused_at

    for held in names(5):
        holds(locked, held, lease_s=9e9)
    locked.pass_s(4000)
    while locked.work():
        pass
    assert locked.load(name).status == "provisioning"
    comes_out(locked, "desktop-0", is_made=True)
    locked.pass_s(61)
    locked.drain_until(lambda: locked.load(name).status == "ready")


def test_who_has_made_its_disks_lets_the_next_in_before_it_is_through(locked):
    """Catches: a pass that is held while a machine starts, and the storage's lock lies idle."""
    passes = []

    class SaysSo(FakeProvider):
        def ensure(self, name, spec, state, save, note=silent):
            state = super().ensure(name, spec, state, save, note)
            passes.append(inside(locked))
            spec.on_disks()
            passes.append(inside(locked))
            return state

    locked.provider = SaysSo(locked.vault.instance)
    name = locked.ask()
    locked.drain()

    assert passes == [[name], []]
    assert locked.load(name).status == "ready"
    assert locked.all(Gate)[0].alone_s is not None  # and it was learnt once


@pytest.mark.parametrize("error", [StepFailed("no"), Congested(1.0, "the lock"), ValueError("x")])
def test_a_step_that_goes_wrong_leaves_the_door_free(locked, error):
    locked.provider = Fails(locked.vault.instance, "ensure", error, times=1)
    locked.ask()
    locked.drain()
    assert locked.all(Pass) == []


def test_a_lock_that_was_not_to_be_had_is_no_failure_however_often(locked):
    locked.provider = Fails(locked.vault.instance, "ensure", Congested(1.0, "the lock"), times=20)
    name = locked.ask()
    locked.drain()
    assert locked.load(name).status == "ready"
    assert "failed" not in locked.statuses(name)


def test_a_session_that_is_deleted_leaves_the_line_and_its_delete_does_not_wait(locked):
    fill(locked)
    name, other = locked.ask(), locked.ask()
    locked.drain_until(lambda: locked.load(other).waiting_for and locked.load(name).waiting_for)
    locked.delete(name)
    locked.drain_until(lambda: locked.load(name).status == "deleted")
    assert name not in {p.session for p in locked.all(Pass)}


def test_no_transaction_is_open_while_a_machine_is_made(locked, running):
    """(FakeProvider asserts it of this thread; this is about the lock of the gate.)"""
    locked.provider = Hangs(locked.vault.instance)
    running()
    name = locked.ask()
    until(lambda: locked.provider.is_hanging.is_set())
    holds(locked, "other")
    began = time.monotonic()
    assert goes_in(locked, "other") is None
    assert time.monotonic() - began < 1
    locked.provider.is_over.set()
    locked.delete(name)
    until(lambda: locked.load(name).status == "deleted")


@pytest.mark.parametrize("point", ["enter provisioning", "leave provisioning"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_killed_at_the_door_is_replaced_and_wedges_nobody(locked, point, when):
    database, name = DyingDatabase(locked.database.url, point, when), locked.ask()
    with suppress(Crash):
        locked.drain(locked.worker(database=database))
    database.dispose()
    assert database.has_died, "the kill point was never hit"
    locked.pass_s(16)
    locked.drain()
    assert locked.load(name).status == "ready"
    assert locked.all(Pass) == [] and list(locked.provider.machines) == [name]


def test_a_worker_killed_while_it_clones_is_replaced_and_wedges_nobody(locked):
    locked.provider, name = CrashesIn(locked.vault.instance, "ensure"), locked.ask()
    with suppress(Crash):
        locked.drain()
    assert inside(locked) == [name]
    locked.pass_s(16)
    locked.drain()
    assert locked.load(name).status == "ready" and locked.all(Pass) == []


def test_with_an_open_door_nobody_waits_and_nothing_is_learnt(locked):
    """What the negative controls of the bursts are made with."""
    with Open().inside(SimpleNamespace(), DOOR):
        pass
    assert locked.all(Gate) == []


# ---- numbers that are somebody else's


class Taken(FakeProvider):
    """Machines of others have these numbers."""

    def __init__(self, instance, *taken):
        super().__init__(instance, boots_after=0)
        self.taken, self.tried = set(taken), []

    def _before(self, verb, name):
        pass

    def ensure(self, name, spec, state, save, note=print):
        self.tried.append(spec.number)
        if spec.number in self.taken:
            save({**state, "tried": spec.number})
            raise NumberTaken(f"VM {spec.number} exists and is not ours.")
        return super().ensure(name, spec, state, save)


@pytest.fixture
def numbered(locked):
    with locked.database.transaction() as db:
        cluster = db.get_one(Cluster, "one")
        cluster.first_number, cluster.last_number = 500, 549
    return locked


def test_a_number_that_is_taken_is_remembered_and_the_next_one_used_at_once(numbered):
    numbered.provider = Taken(numbered.vault.instance, 500, 501)
    name = numbered.ask()
    numbered.drain()

    assert numbered.load(name).status == "ready" and numbered.provider.tried == [500, 501, 502]
    kept = {n.number: (n.session, n.is_foreign) for n in numbered.all(Number)}
    assert kept == {500: (None, True), 501: (None, True), 502: (name, False)}
    assert numbered.load(name).provider_state["tried"] == 501  # what was saved is not lost


def test_more_numbers_taken_than_can_be_chance_is_a_failure_with_a_reason(numbered):
    numbered.provider = Taken(numbered.vault.instance, *range(500, 550))
    name = numbered.ask()
    numbered.drain_until(lambda: numbered.load(name).status == "failed")
    assert "DAAS_PROXMOX_VMIDS" in numbered.load(name).failure
    assert len(numbered.provider.tried) == 10


def test_a_number_is_kept_until_the_machine_is_gone(numbered):
    name = numbered.ask()
    numbered.drain()
    numbered.want(name, Desired.STOPPED)
    numbered.drain()
    assert [n.session for n in numbered.all(Number)] == [name]
    numbered.delete(name, ADA)
    numbered.drain_until(lambda: numbered.load(name).status == "deleted")

    assert [(n.session, n.is_foreign) for n in numbered.all(Number)] == [(None, False)]
    assert numbered.all(Reservation) == []
