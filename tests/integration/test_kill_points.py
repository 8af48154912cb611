"""A worker that is killed, wherever that may be, is replaced: what was wanted comes to be, with
exactly one machine or none. The list of points is checked against what a life really passes."""

import pytest

from daas.jobs.models import Job
from daas.nodes.models import Reservation
from daas.sessions.states import Desired
from fakes.dying import Crash, CrashesIn, DyingDatabase

LIFE = [Desired.RUNNING, Desired.STOPPED, Desired.RUNNING, Desired.DELETED]
VERBS = ["ensure", "endpoints", "off", "on", "destroy"]
# Each transaction of a life, by who opens it and the status that is then found.
COMMITS = [
    "claim requested",
    "look requested",
    "place requested",
    "conclude requested",
    "claim provisioning",
    "look provisioning",
    "save provisioning",
    "conclude provisioning",
    "claim booting",
    "look booting",
    "conclude booting",
    "conclude personalizing",
    "conclude assigning",
    "claim ready",
    "look ready",
    "claim stopping",
    "look stopping",
    "conclude stopping",
    "claim stopped",
    "look stopped",
    "claim starting",
    "look starting",
    "conclude starting",
    "claim deleting",
    "look deleting",
    "conclude deleting",
]
WRITES = [p for p in COMMITS if p.startswith(("place", "save", "conclude"))]
# A claim or a look that is rolled back is one that never was.
POINTS = [(p, "after") for p in COMMITS] + [(p, "before") for p in WRITES]


@pytest.fixture
def dying(world):
    """Workers of this world use a database of their own, which dies where it is told to."""
    made = []

    def make(point="", when="after"):
        made.append(DyingDatabase(world.database.url, point, when))
        return made[-1]

    yield make
    for database in made:
        database.dispose()


def live_until_death(world, worker, name):
    """Become ready, stop, start, go: until the worker dies. Then its lease runs out."""
    for desired in LIFE:
        world.want(name, desired)
        try:
            world.drain(worker)
        except Crash:
            world.pass_s(16)
            return
        check(world, name)


def check(world, name):
    """Nothing is left halfway: status, machine and room are what was wanted."""
    session = world.load(name)
    expected = {"running": "ready", "stopped": "stopped", "deleted": "deleted"}
    assert session.status == expected[session.desired]
    machines = [] if session.status == "deleted" else [name]
    assert list(world.provider.machines) == machines
    assert [r.session for r in world.all(Reservation)] == machines
    assert [j.key for j in world.all(Job)] == machines
    assert world.provider.collisions == []


def test_the_list_has_every_transaction_of_a_life(world, dying):
    """Catches: a new transaction in the middle of a step, which nobody ever died in."""
    database = dying()
    live_until_death(world, world.worker(database=database), world.ask())

    ours = {point for point in database.seen if point}  # the others are heartbeats and tests
    assert ours - {"claim deleted"} == set(COMMITS)


@pytest.mark.parametrize("point, when", POINTS)
def test_a_worker_killed_at_a_commit_is_replaced(world, dying, point, when):
    database, name = dying(point, when), world.ask()
    live_until_death(world, world.worker(database=database), name)
    assert database.has_died, "the kill point was never hit"
    world.drain()
    check(world, name)

    world.delete(name)
    world.drain()
    check(world, name)


@pytest.mark.parametrize("point", WRITES)
def test_delete_right_after_a_worker_was_killed_leaves_nothing(world, dying, point):
    database, name = dying(point, "before"), world.ask()
    live_until_death(world, world.worker(database=database), name)
    assert database.has_died, "the kill point was never hit"
    world.delete(name)
    world.drain()

    check(world, name)
    assert world.load(name).status == "deleted"


@pytest.mark.parametrize("goes", [False, True])
@pytest.mark.parametrize("verb", VERBS)
def test_a_worker_killed_after_a_verb_of_the_provider_is_replaced(world, verb, goes):
    """The machine is there, and nobody has written that down."""
    world.provider, name = CrashesIn(world.vault.instance, verb), world.ask()
    live_until_death(world, world.worker(), name)
    assert world.provider.has_died, "the kill point was never hit"
    if goes:
        world.delete(name)
    world.drain()

    check(world, name)


def test_the_next_worker_of_that_name_need_not_wait_for_the_lease(world):
    world.provider = CrashesIn(world.vault.instance, "ensure")
    name = world.ask()
    with pytest.raises(Crash):
        world.drain()
    assert not world.work()  # still leased by the dead worker
    worker = world.worker()
    worker.start()
    worker.stop()
    world.drain()
    assert world.load(name).status == "ready"


def test_a_point_that_is_never_hit_would_fail(world, dying):
    """The control of the tests above."""
    database = dying("save nowhere")
    live_until_death(world, world.worker(database=database), world.ask())
    assert not database.has_died


def test_a_crash_that_leaves_a_machine_behind_would_be_seen(world):
    """The control: a worker whose `destroy` writes nothing and does nothing."""
    name = world.ask()
    world.drain()
    world.provider.destroy = lambda name, state: None
    world.delete(name)
    world.drain()
    with pytest.raises(AssertionError):
        check(world, name)
