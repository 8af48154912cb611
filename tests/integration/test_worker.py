"""Real threads: lanes, bells, heartbeats, errors that no handler expected."""

import logging
import threading
import time
from collections import Counter

from daas import db as database_module
from daas import worker as worker_module
from daas.errors import Stopped
from daas.events import Event
from daas.jobs import queue
from daas.jobs.lanes import Lane
from daas.jobs.models import Job
from daas.sessions import service
from daas.sessions.models import Session
from daas.worker import Worker
from fakes.providers import FakeProvider, Hangs, Slow
from support.waiting import until
from support.world import FAST, RECIPE
from support.world import settings as make_settings

HOUR = 3600.0


def leased(world):
    return [j.key for j in world.all(Job) if j.leased_until]


def test_an_error_no_handler_expected_backs_off_and_kills_no_thread(world, running, caplog):
    """Catches: an exception that leaves the loop, and with it the thread."""
    running()
    world.wake("no-such-kind", "x")
    until(lambda: world.all(Job)[0].attempts >= 2)  # tried again after a second
    name = world.ask()

    until(lambda: world.load(name).status in ("booting", "ready"))
    errors = [r for r in caplog.records if r.levelno >= logging.ERROR]
    (job,) = [j for j in world.all(Job) if j.kind == "no-such-kind"]
    assert len(errors) == job.attempts


def test_a_delete_behind_200_refills_starts_at_once(world, running):
    """Catches: one FIFO for quick and slow work. The refills hang in all bulk threads."""
    mine = world.ask()
    world.provider = Hangs(world.vault.instance, only=lambda name: name != mine)
    world.drain()
    with world.database.transaction() as db:
        for _ in range(200):
            service.refill(db, "win", "acme", RECIPE)
    running()
    assert world.provider.is_hanging.wait(8)
    world.delete(mine)

    assert until(lambda: world.load(mine).status == "deleted") < 1


def test_nobody_waits_for_a_poll(world, running):
    """Catches: workers that only look each second; here each hour."""
    world.provider.poll_s = 0.1  # one look finds the guest not there yet
    running(poll_s=HOUR)
    time.sleep(0.2)
    name = world.ask()

    until(lambda: world.load(name).status == "ready", 4)
    until(lambda: all(e.seq for e in world.all(Event)), 4)


def test_without_bells_they_would(world, running, monkeypatch):
    """The control of the test above, and of the safety net: a lost ring costs one poll."""
    monkeypatch.setattr(queue, "ring_on_commit", lambda db, name: None)
    world.provider.boots_after = 0
    running(poll_s=1.5)
    time.sleep(0.3)
    name = world.ask()
    assert until(lambda: world.load(name).status == "ready", 20) > 0.5


def test_the_heartbeat_keeps_the_lease_of_a_long_step(world, running):
    """Catches: no renewal, so that a second worker does the step, too."""
    world.provider = Hangs(world.vault.instance)
    running()
    running(name="2")
    name = world.ask()
    assert world.provider.is_hanging.wait(5)
    time.sleep(2 * FAST["lease_s"])

    assert world.provider.count("ensure") == 1
    assert world.load(name).status == "provisioning" and world.all(Job)[0].attempts == 1
    world.delete(name)
    until(lambda: world.load(name).status == "deleted")


def test_a_delete_during_a_step_that_hangs_is_acted_on(world, running):
    """Catches: a step that nobody can interrupt; the delete would wait for its end."""
    world.provider = Hangs(world.vault.instance)
    running()
    name = world.ask()
    assert world.provider.is_hanging.wait(5)
    world.delete(name)

    assert until(lambda: world.load(name).status == "deleted", 5) < 10 * FAST["heartbeat_s"] + 1
    assert world.provider.machines == {}


def test_a_session_whose_time_is_over_during_a_step_that_hangs_goes_too(world, running):
    world.provider = Hangs(world.vault.instance)
    running()
    name = world.ask(life_s=100.0)
    assert world.provider.is_hanging.wait(5)
    world.pass_s(101)
    until(lambda: world.load(name).status == "deleted")


def test_a_worker_that_lost_its_lease_is_told_to_stop(world, running):
    told = threading.Event()

    class Told(Hangs):
        def _before(self, verb, name):
            try:
                super()._before(verb, name)
            except Stopped:
                told.set()
                self.is_over.set()
                raise

    world.provider = Told(world.vault.instance)
    running()
    world.ask()
    assert world.provider.is_hanging.wait(5)
    with world.database.transaction() as db:
        db.query(Job).update({"lease": "thief/1/boot/x", "leased_until": 0.0})
    assert told.wait(5)


def test_a_worker_that_is_told_to_stop_gives_its_leases_back(world, running):
    """Catches: a restart after which each session waits out a lease."""
    world.provider = Hangs(world.vault.instance)
    worker = running(lease_s=HOUR)
    name = world.ask()
    assert world.provider.is_hanging.wait(5) and leased(world) == [name]
    began = time.monotonic()
    worker.stop()

    assert time.monotonic() - began < 5
    assert leased(world) == [] and world.load(name).status == "provisioning"
    world.provider.is_over.set()
    running(name="2")
    until(lambda: world.load(name).status == "ready")


def test_a_step_that_does_not_leave_off_does_not_keep_its_lease(
    world, running, monkeypatch, caplog
):
    """Catches: stop() that waits for ever; or a lease that dies with the process. The late step
    then writes nothing."""
    assert worker_module.STOP_S == 5.0
    monkeypatch.setattr(worker_module, "STOP_S", 0.5)
    world.provider = Hangs(world.vault.instance)
    world.provider.ignores_stop = True
    worker = running(lease_s=HOUR)
    name = world.ask()
    assert world.provider.is_hanging.wait(5)
    began = time.monotonic()
    worker.stop()

    assert 0.4 < time.monotonic() - began < 3
    assert leased(world) == []
    world.provider.is_over.set()
    until(lambda: "dropped" in caplog.text)
    world.drain()
    assert world.load(name).status == "ready" and list(world.provider.machines) == [name]


def test_a_worker_that_starts_again_goes_on_at_once(world, running):
    """Catches: a restart that waits out the leases of the process before it."""
    name = world.ask()
    before = world.worker(name="7")
    with world.database.transaction() as db:
        assert queue.claim(db, Lane.LOOK, before.holder, HOUR)
    running(name="7")

    assert until(lambda: world.load(name).status != "requested") < 2


def test_a_worker_at_rest_hardly_asks_the_database(world, running):
    """Catches: every thread of every lane that looks each second: with 60 threads, 60 queries."""
    running(poll_s=0.5, machine_threads=30, look_threads=20, bulk_threads=10)
    time.sleep(0.6)
    count, reading = Counter(), database_module.Database.reading

    def counted(self):
        count["reading"] += 1
        return reading(self)

    database_module.Database.reading = counted
    try:
        time.sleep(2)
    finally:
        database_module.Database.reading = reading
    assert 3 <= count["reading"] <= 2 / 0.5 * 4 + 4  # three lanes and the sealer


def two_workers(world, sessions=32):
    """Two workers, each of 24 threads, on one database."""
    world.provider = Slow(world.vault.instance, takes_s=0.02, boots_after=0)
    settings = make_settings(
        data_dir=world.data_dir, look_threads=8, machine_threads=14, bulk_threads=2, poll_s=0.1
    )
    world.settings = settings
    workers: list[Worker] = [world.worker(name) for name in "ab"]
    names = [world.ask() for _ in range(sessions)]
    for worker in workers:
        worker.start()
    try:
        until(lambda: {s.status for s in world.all(Session)} == {"ready"}, 40)
        for name in names:
            world.delete(name)
        until(lambda: {s.status for s in world.all(Session)} == {"deleted"}, 40)
    finally:
        for worker in workers:
            worker.stop()


def test_two_workers_never_do_the_same_step(world):
    """Catches: a claim that two get; each call of the provider asserts that it is alone."""
    two_workers(world)

    assert world.provider.collisions == []
    calls = Counter((c[0], c[1]) for c in world.provider.calls if c[1])
    assert set(calls.values()) == {1} and len(calls) == 32 * 3
    assert world.provider.machines == {} and world.all(Job) == []


def test_32_threads_never_do_the_same_step_twice(world):
    """The whole loop under load: every session gets through, every step is done once."""
    world.provider = FakeProvider(world.vault.instance, boots_after=0)
    names = [world.ask() for _ in range(32)]
    worker = world.worker()

    def run(i):
        idle = 0
        while idle < 10:
            if not any(worker.work_once(lane) for lane in Lane):
                idle += 1
                time.sleep(0.01)

    assert world.race(32, run) == [None] * 32
    assert {world.load(n).status for n in names} == {"ready"}
    assert set(Counter(world.provider.calls).values()) == {1}
    assert world.provider.collisions == []


def test_a_double_click_on_delete_is_no_error(world):
    names = [world.ask() for _ in range(3)]
    world.drain()
    for name in names:
        assert world.race(8, lambda i, name=name: world.delete(name)) == [None] * 8
    world.drain()

    assert world.provider.machines == {}
