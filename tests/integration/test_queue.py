"""The queue: claims, leases, wake-ups, lanes; with 32 threads."""

import threading
import time

import pytest

from daas.errors import LeaseLost
from daas.jobs import queue
from daas.jobs.lanes import Lane, Priority
from daas.jobs.models import Job
from daas.jobs.queue import back_off_s
from support.databases import on_sqlite

LOOK = (Lane.LOOK, Priority.PERSON)


def claim(world, holder="host/1/boot", lane=Lane.LOOK, lease_s=15.0):
    with world.database.transaction() as db:
        return queue.claim(db, lane, holder, lease_s)


def settle(world, job, at, where=LOOK):
    with world.database.transaction() as db:
        queue.settle(db, job, at, *where)


def renew(world, job, lease_s=15.0):
    with world.database.transaction() as db:
        queue.renew(db, job, lease_s)


def test_very_many_are_woken_in_one_transaction(world):
    """Catches: a statement with more parameters than SQLite takes, when a large node is back."""
    with world.database.transaction() as db:
        names = {f"desktop-{n}" for n in range(7000)}
        queue.wake_all(db, "session", names, Lane.LOOK, Priority.PERSON)
    assert len(world.all(Job)) == 7000


def test_32_threads_claim_each_job_once_and_never_hear_nothing_due(world):
    """Catches: a convoy over the first ten due rows, which also answered "nothing due" to
    losers while jobs were due."""
    with world.database.transaction() as db:
        for i in range(320):
            queue.wake(db, "x", str(i), *LOOK)

    out = world.race(32, lambda i: [claim(world) for _ in range(10)])
    keys = [job and job.key for jobs in out for job in jobs]
    assert None not in keys and len(set(keys)) == 320
    assert claim(world) is None


def test_a_key_woken_by_many_at_once_is_woken_once(world):
    """Catches: select-then-insert in wake(), an IntegrityError for a double click."""
    for key in "abc":
        assert world.race(32, lambda i, key=key: world.wake("x", key)) == [None] * 32

    assert sorted((j.key, j.wakes) for j in world.all(Job)) == [(key, 32) for key in "abc"]


def test_two_kinds_may_have_the_same_key(world):
    world.wake("session", "a")
    world.wake("build", "a")
    assert {j.kind for j in world.all(Job)} == {"session", "build"}


def test_a_wake_during_work_wins_over_settle(world):
    for at in (None, world.now() + 99):
        world.wake("x", "a")
        job = claim(world)
        world.wake("x", "a")
        settle(world, job, at)
        again = claim(world)
        assert again and again.wakes > job.wakes
        settle(world, again, None)
        assert world.all(Job) == []


def test_a_wake_during_work_wins_over_a_back_off_too(world):
    world.wake("x", "a")
    for _ in range(5):
        job = claim(world)
        with world.database.transaction() as db:
            queue.retry(db, job)
        world.pass_s(300)
    job = claim(world)
    world.wake("x", "a")
    with world.database.transaction() as db:
        queue.retry(db, job)

    assert claim(world).key == "a"


def test_a_wake_brings_a_job_to_its_lane_and_never_later_than_it_was(world):
    world.wake("x", "a")
    settle(world, claim(world), world.now() - 50, (Lane.BULK, Priority.REFILL))
    (before,) = world.all(Job)
    with world.database.transaction() as db:
        queue.wake(db, "x", "a", Lane.LOOK, Priority.DELETE)
    (job,) = world.all(Job)

    assert (job.lane, job.priority) == ("look", Priority.DELETE)
    assert job.run_at == before.run_at


def test_a_lease_is_by_the_databases_clock(world, monkeypatch):
    """Catches: two workers with one job because a host's clock is 61 s fast."""
    world.wake("x", "a")
    held = claim(world)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert claim(world, "fast-host/1/boot") is None

    world.pass_s(16)
    taken = claim(world, "other/1/boot")
    assert taken.key == held.key and taken.attempts == 2
    for verb in (lambda: settle(world, held, None), lambda: renew(world, held)):
        with pytest.raises(LeaseLost):
            verb()
    assert world.all(Job)[0].lease == taken.lease


def test_a_lease_that_is_renewed_does_not_run_out(world):
    world.wake("x", "a")
    held = claim(world)
    for _ in range(5):
        world.pass_s(10)
        renew(world, held)
        assert claim(world) is None


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_ours(world):
    """Catches: work thrown away because a pause (of the host, of the disk) was long."""
    world.wake("x", "a")
    held = claim(world)
    world.pass_s(100)
    renew(world, held)
    assert claim(world) is None


def test_two_claims_of_one_worker_are_told_apart(world):
    """Catches: a lease that names only the worker: its own late thread could then write."""
    world.wake("x", "a")
    first = claim(world)
    world.pass_s(16)
    second = claim(world)
    with pytest.raises(LeaseLost):
        settle(world, first, None)
    settle(world, second, None)


@on_sqlite
def test_a_lease_is_counted_from_when_the_lock_was_had(world):
    """Catches: `now` read before the wait for the write lock: a lease born expired."""
    world.wake("x", "a")
    got = []
    with world.database.transaction():
        thread = threading.Thread(target=lambda: got.append(claim(world, lease_s=0.5)))
        thread.start()
        time.sleep(0.6)
    thread.join()

    assert got[0].leased_until > world.now() + 0.2


def test_a_starting_worker_frees_its_predecessors_leases_only(world):
    """Catches: each crash costs a whole lease; or: a restart that takes others' work."""
    first, other = queue.holder("1"), queue.holder("11")
    for key, holder in [("a", first), ("b", other), ("c", "elsewhere/1/boot")]:
        world.wake("x", key)
        assert claim(world, holder).key == key
    again = queue.holder("1")
    assert first.rsplit("/", 1)[0] == again.rsplit("/", 1)[0] and first != again
    with world.database.transaction() as db:
        assert queue.free_predecessor(db, first) == 0  # its own are not a predecessor's
        assert queue.free_predecessor(db, again) == 1

    assert claim(world, again).key == "a" and claim(world, again) is None


@pytest.mark.parametrize("odd", ["%", "_", "a%", "1_1"])
def test_the_name_of_a_worker_is_no_pattern(world, odd):
    """Catches: a LIKE without escapes: worker `_` frees what worker `1` holds."""
    world.wake("x", "a")
    assert claim(world, queue.holder("111"))
    with world.database.transaction() as db:
        assert queue.free_predecessor(db, queue.holder(odd)) == 0


def test_a_worker_that_leaves_frees_its_own_leases_only(world):
    mine, other = queue.holder("1"), queue.holder("2")
    for key, holder in [("a", mine), ("b", other)]:
        world.wake("x", key)
        assert claim(world, holder).key == key
    with world.database.transaction() as db:
        assert queue.free_own(db, mine) == 1
    assert claim(world).key == "a" and claim(world) is None


def test_within_a_lane_delete_goes_before_a_person_before_a_refill(world):
    with world.database.transaction() as db:
        for key, priority in zip("abc", reversed(Priority), strict=True):
            queue.wake(db, "x", key, Lane.LOOK, priority)
        queue.wake(db, "x", "slow", Lane.BULK, Priority.DELETE)

    assert [claim(world).key for _ in range(3)] == ["c", "b", "a"]
    assert claim(world) is None and claim(world, lane=Lane.BULK).key == "slow"


def test_of_equal_ones_the_one_due_longest_goes_first(world):
    for key in "abc":
        world.wake("x", key)
        world.pass_s(1)
    assert [claim(world).key for _ in range(3)] == ["a", "b", "c"]


def test_what_is_not_due_is_not_claimed(world):
    world.wake("x", "a")
    settle(world, claim(world), world.now() + 30)
    assert claim(world) is None
    world.pass_s(31)
    assert claim(world).key == "a"


def test_due_in_says_how_long_there_is_nothing_to_do(world):
    with world.database.reading() as db:
        assert queue.due_in_s(db, Lane.LOOK) is None
    world.wake("x", "a")
    settle(world, claim(world), world.now() + 30)
    with world.database.reading() as db:
        assert 25 < queue.due_in_s(db, Lane.LOOK) <= 30
        assert queue.due_in_s(db, Lane.BULK) is None


def test_due_in_counts_the_leases_of_those_who_died(world):
    """Catches: workers that sleep while a dead one's job waits to be taken over."""
    world.wake("x", "a")
    claim(world, lease_s=10)
    with world.database.reading() as db:
        assert 5 < queue.due_in_s(db, Lane.LOOK) <= 10


def test_settling_starts_the_attempts_anew_and_a_retry_does_not(world):
    world.wake("x", "a")
    with world.database.transaction() as db:
        queue.retry(db, queue.claim(db, Lane.LOOK, "h/1/b", 15.0))
    world.pass_s(2)
    again = claim(world)
    assert again.attempts == 2
    settle(world, again, world.now())
    assert claim(world).attempts == 1


def test_back_off_doubles_from_a_second_to_five_minutes():
    assert [back_off_s(n) for n in (0, 1, 2, 3, 9, 10, 99, 10**6)] == [
        *(1, 1, 2, 4, 256, 300, 300, 300)
    ]


def test_a_retry_waits_longer_each_time(world):
    world.wake("x", "a")
    waits = []
    for _ in range(4):
        job = claim(world)
        with world.database.transaction() as db:
            queue.retry(db, job)
        waits.append(round(world.all(Job)[0].run_at - world.now()))
        world.pass_s(waits[-1] + 0.5)
    assert waits == [1, 2, 4, 8]


def test_without_its_lease_guard_a_late_worker_writes(world, monkeypatch):
    """The control: with the guard off, the test of leases above fails."""

    def unguarded(db, job, **values):
        db.query(Job).filter_by(id=job.id).update(values)

    monkeypatch.setattr(queue, "_write_mine", unguarded)
    with pytest.raises(pytest.fail.Exception):
        test_a_lease_is_by_the_databases_clock(world, monkeypatch)
