"""The sweep: removes what is ours and unwanted, notes what stopped, and touches nothing else."""

import pytest

from daas.events import Event
from daas.jobs import queue
from daas.jobs.lanes import Lane
from daas.jobs.models import Job
from daas.providers.base import Tag
from daas.sessions import sweep as sweep_module
from daas.sessions.models import Installation
from daas.sessions.sweep import confirm
from fakes.providers import Away, FakeProvider


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(sweep_module, "RESTART_S", 0.01)


def leave(world, name, instance=None, session=None):
    tag = Tag(instance or world.vault.instance, session or name, "n0nce")
    world.provider.machines[name] = tag


def sweep(world, times=1):
    for _ in range(times):
        world.wake("sweep", "fake", Lane.BULK)
        assert world.worker().work_once(Lane.BULK)


def reports(world):
    return [
        (e.subject, e.after)
        for e in world.all(Event)
        if e.actor == "system" and e.after != e.before and not e.subject.startswith("session/")
    ]


def test_what_nobody_wants_goes_in_the_second_sweep_and_nothing_else(world):
    """Catches: a sweep that destroys at first sight, or by name alone."""
    wanted = world.ask()
    world.drain()
    leave(world, "desktop-orphan")
    leave(world, "desktop-theirs", instance="there")
    leave(world, "desktop-renamed", session="desktop-before")
    sweep(world, 3)  # three, but within five minutes
    assert "desktop-orphan" in world.provider.machines
    world.pass_s(301)
    sweep(world)

    assert set(world.provider.machines) == {wanted, "desktop-theirs", "desktop-renamed"}
    assert sorted(reports(world)) == [
        ("machine/desktop-orphan", "unwanted"),
        ("machine/desktop-renamed", "renamed"),
    ]


def test_the_next_sweep_comes_by_itself(world):
    sweep(world)
    (job,) = world.all(Job)
    assert 290 < job.run_at - world.now() <= 300


def test_one_that_is_wanted_again_starts_anew(world):
    """Catches: two sightings with a time in between when it was not there."""
    for _ in range(3):
        leave(world, "desktop-orphan")
        sweep(world)
        world.pass_s(301)
        world.provider.machines.clear()
        sweep(world)

    assert world.provider.count("destroy") == 0


def test_a_machine_whose_session_is_being_worked_on_is_left_alone(world):
    leave(world, "desktop-orphan")
    sweep(world)
    world.pass_s(301)
    world.wake("session", "desktop-orphan")
    with world.database.transaction() as db:
        queue.claim(db, Lane.LOOK, "host/1/boot", 15.0)
    sweep(world)

    assert "desktop-orphan" in world.provider.machines


def test_the_tag_is_read_again_right_before_destroying(world):
    """Catches: a machine destroyed that was replaced by another since it was listed."""

    class Swapped(FakeProvider):
        def owned(self):
            listed = super().owned()
            self.machines["desktop-orphan"] = Tag(self.instance, "desktop-orphan", "another")
            return listed

    leave(world, "desktop-orphan")
    sweep(world)
    world.pass_s(301)
    machines, world.provider = world.provider.machines, Swapped(world.vault.instance)
    world.provider.machines = machines
    sweep(world)

    assert "desktop-orphan" in world.provider.machines


@pytest.mark.parametrize("copy", [True, False])
def test_a_copied_installation_only_reports(world, copy):
    """Catches: a copy that destroys every machine of the original."""
    if copy:
        with world.database.transaction() as db:
            db.query(Installation).update({"id": "copied"})
    leave(world, "desktop-orphan")
    sweep(world)
    world.pass_s(301)
    sweep(world)

    assert ("desktop-orphan" in world.provider.machines) is copy
    doubt = [("installation", "in doubt")] if copy else []
    assert reports(world) == [("machine/desktop-orphan", "unwanted"), *doubt]


@pytest.mark.parametrize("age_s, stays", [(+1000, True), (-1000, False)])
def test_a_restored_backup_only_reports(world, age_s, stays):
    """Catches: a database of yesterday that destroys every machine made since."""
    newest = world.load(world.ask()).created_at
    leave(world, "desktop-orphan")
    world.provider.born["desktop-orphan"] = newest + age_s
    sweep(world)
    world.pass_s(301)
    sweep(world)

    assert ("desktop-orphan" in world.provider.machines) is stays


def test_a_restored_backup_stays_in_doubt_until_somebody_confirms(world):
    """Catches: a doubt that the next new session clears, and with it the machines."""
    newest = world.load(world.ask()).created_at
    leave(world, "desktop-orphan")
    world.provider.born["desktop-orphan"] = newest + 1000
    sweep(world)
    world.pass_s(1301)
    world.ask()  # the newest row is younger than the machine now
    sweep(world)
    world.pass_s(301)
    sweep(world)
    assert "desktop-orphan" in world.provider.machines

    with world.database.transaction() as db:
        confirm(db, world.provider.instance)
    sweep(world)

    assert "desktop-orphan" not in world.provider.machines


def test_machines_are_listed_before_rows_are_read(world):
    """Catches: the other order, in which one just being made looks unwanted."""
    made = []

    class MakesOneAfterListing(FakeProvider):
        def owned(self):
            listed = super().owned()
            name = world.ask()
            self.machines[name] = Tag(self.instance, name, world.load(name).nonce)
            made.append(name)
            return listed + [m for m in super().owned() if m.name == name]

    world.provider = MakesOneAfterListing(world.vault.instance)
    sweep(world)

    assert made and reports(world) == []


def test_one_machine_that_cannot_be_destroyed_does_not_save_the_others(world):
    class Stubborn(FakeProvider):
        def destroy(self, name, state):
            if name == "desktop-a":
                raise ConnectionResetError("peer")
            super().destroy(name, state)

    world.provider = Stubborn(world.vault.instance)
    leave(world, "desktop-a")
    leave(world, "desktop-b")
    sweep(world)
    world.pass_s(301)
    sweep(world)

    assert set(world.provider.machines) == {"desktop-a"}


def test_a_provider_that_is_away_is_swept_the_next_time(world):
    world.provider = Away(world.vault.instance, "owned")
    leave(world, "desktop-orphan")
    sweep(world)
    assert world.all(Job)[0].run_at > world.now() and reports(world) == []
    world.provider.is_away = False
    sweep(world)
    assert reports(world) == [("machine/desktop-orphan", "unwanted")]


def test_a_desktop_that_its_user_shut_down_is_noted_as_stopped(world):
    """Catches: `ready` for a desktop that is off, and a client that cannot connect."""
    name = world.ask()
    world.drain()
    world.provider.power_of[name] = "off"
    sweep(world)
    world.drain()

    assert world.load(name).status == "stopped"
    assert "stopped by itself" in world.events(name)[-3].reason


def test_a_desktop_that_merely_restarts_stays_ready(world):
    name = world.ask()
    world.drain()

    class Restarting(FakeProvider):
        def owned(self):
            listed = super().owned()
            self.power_of[name] = "on"
            return listed

    machines, world.provider = world.provider.machines, Restarting(world.vault.instance)
    world.provider.machines, world.provider.power_of[name] = machines, "off"
    sweep(world)
    world.drain()
    assert world.load(name).status == "ready"


def test_the_sweep_of_a_provider_that_is_no_longer_used_ends(world):
    """Catches: a job that fails for ever after DAAS_PROVIDER was changed."""
    world.wake("sweep", "another", Lane.BULK)

    assert world.worker().work_once(Lane.BULK)

    assert not any(job.key == "another" for job in world.all(Job))
