"""Wake-ups: a ring is not lost, comes with the commit, and reaches other processes."""

import os
import subprocess
import sys
import threading
import time

import pytest

from daas.jobs import bell
from daas.jobs.bell import BELLS, Bell
from daas.jobs.lanes import Lane
from support.databases import on_postgresql, on_sqlite
from support.waiting import until

RING = """
import sys
from daas.db import Database
from daas.jobs import bell, queue
from daas.jobs.lanes import Lane, Priority
database = Database(sys.argv[1], threads=1)
rope = bell.connect(sys.argv[1])
with database.transaction() as db:
    queue.wake(db, "x", "a", Lane.LOOK, Priority.PERSON)
print("rung", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def rope(world):
    rope = bell.connect(world.database.url)
    yield rope
    rope.close()


def other_process(world):
    return subprocess.Popen(
        [sys.executable, "-c", RING, world.database.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_a_ring_before_the_wait_is_heard():
    """Catches: Event.clear() after looking, which forgets what was rung in between."""
    one = Bell()
    heard = one.rings
    one.ring()
    began = time.monotonic()
    one.wait(heard, 5)
    assert time.monotonic() - began < 1


def test_a_ring_wakes_all_who_wait():
    one, woken = Bell(), []

    def wait():
        one.wait(0, 5)
        woken.append(1)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    one.ring()
    for thread in threads:
        thread.join(2)
    assert len(woken) == 8


def test_nobody_rings_is_a_wait_with_an_end():
    began = time.monotonic()
    Bell().wait(0, 0.1)
    assert 0.09 < time.monotonic() - began < 1


def test_a_transaction_that_is_rolled_back_rings_no_bell(world):
    heard = BELLS[Lane.LOOK].rings
    with pytest.raises(ZeroDivisionError), world.database.transaction() as db:
        world_wake(db)
        1 / 0
    assert BELLS[Lane.LOOK].rings == heard
    with world.database.transaction() as db:
        world_wake(db)
        assert BELLS[Lane.LOOK].rings == heard  # not before others can see it
    assert BELLS[Lane.LOOK].rings == heard + 1


def world_wake(db):
    bell.ring_on_commit(db, Lane.LOOK)


def test_a_ring_reaches_the_other_processes(world, rope):
    """Catches: a request in the web process that the worker hears of a second later."""
    time.sleep(0.5)  # until LISTEN is on its way
    heard = BELLS[Lane.LOOK].rings
    with other_process(world) as process:
        assert process.stdout.readline() == b"rung\n"
        until(lambda: BELLS[Lane.LOOK].rings > heard, 3)
        process.stdin.close()
        assert process.wait(10) == 0


def test_our_own_bell_rings_once_for_one_commit(world, rope):
    if world.database.is_sqlite:  # by NOTIFY one hears oneself, which does no harm
        heard = BELLS[Lane.LOOK].rings
        world.wake("x", "a")
        time.sleep(0.2)
        assert BELLS[Lane.LOOK].rings == heard + 1


@on_sqlite
def test_a_socket_left_by_one_that_was_killed_is_cleared_away(world, rope):
    folder = world.data_dir / "bells"
    process = other_process(world)
    process.stdout.readline()
    assert len(os.listdir(folder)) == 2
    process.kill()
    process.communicate()
    world.wake("x", "b")
    assert len(os.listdir(folder)) == 1


@on_sqlite
def test_one_that_does_not_listen_stops_nobody(world, rope):
    """Catches: a full queue of a stopped process that blocks every commit."""
    process = other_process(world)
    process.stdout.readline()
    process.send_signal(19)  # SIGSTOP
    began = time.monotonic()
    for n in range(400):
        rope.after_commit({f"x{n}"})
    assert time.monotonic() - began < 2
    process.kill()
    process.communicate()


@on_sqlite
def test_a_folder_with_a_long_name_is_no_hindrance(world):
    """Catches: AF_UNIX path too long: 107 bytes at most."""
    folder = world.data_dir / ("long" * 50) / "bells"
    ropes = [bell.SocketRope(folder) for _ in range(2)]
    heard = BELLS["events"].rings
    ropes[0].after_commit({"events"})
    until(lambda: BELLS["events"].rings > heard, 3)
    for one in ropes:
        one.close()
    assert os.listdir(folder) == []


@on_sqlite
def test_the_folder_of_the_bells_is_nobody_elses(world, rope):
    assert os.stat(world.data_dir / "bells").st_mode & 0o077 == 0


@on_postgresql
def test_a_ring_that_means_nothing_to_us_is_no_error(world, rope):
    time.sleep(0.5)
    heard = BELLS[Lane.BULK].rings
    with world.database.transaction() as db:
        bell.ring_on_commit(db, "of-a-later-version")
        bell.ring_on_commit(db, Lane.BULK)
        BELLS["of-a-later-version"] = Bell()
    del BELLS["of-a-later-version"]
    until(lambda: BELLS[Lane.BULK].rings >= heard + 2, 3)  # ours, and through the server
