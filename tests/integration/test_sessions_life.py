"""One session through its life when nothing goes wrong."""

import re

import pytest

from daas.errors import WrongState
from daas.jobs.models import Job
from daas.logs import LogLine
from daas.nodes.models import Pass, Reservation
from daas.sessions import reconcile, service
from daas.sessions.service import Limits
from daas.sessions.states import Desired, Status
from daas.sessions.steps import STEPS
from fakes.providers import FakeProvider, TwoByTwo
from support.world import ADA

LIFE = [Desired.RUNNING, Desired.STOPPED, Desired.RUNNING, Desired.DELETED]


def live_through(world, name):
    """Everything a session can do: become ready, stop, start, go."""
    for desired in LIFE:
        world.want(name, desired)
        world.drain()


def nothing_is_left(world):
    jobs = [j for j in world.all(Job) if j.kind == "session"]
    left = (world.provider.machines, jobs, world.all(Reservation), world.all(Pass))
    return left == ({}, [], [], [])


def its_node_goes_and_comes(world, name):
    world.look_at_nodes("pve1")
    world.pass_s(121)
    world.drain_until(lambda: world.load(name).status is Status.UNREACHABLE)
    world.look_at_nodes()
    world.drain()


def test_a_request_becomes_a_ready_desktop(world):
    name = world.ask()
    world.drain()

    session = world.load(name)
    assert session.status == "ready" and session.waiting_for is None
    assert session.endpoints == {"rdp": "10.9.1.0:3389", "ssh": "10.9.1.0:22"}
    assert (session.node, session.image) == ("pve1", "image-debian-1")
    assert session.ready_at and session.ready_at >= session.created_at
    assert world.statuses(name) == [
        "requested",
        "provisioning",
        "booting",
        "personalizing",
        "assigning",
        "ready",
    ]


def test_the_machine_is_tagged_and_gets_what_is_its_own(world):
    name = world.ask(local_user="ada")
    world.drain()

    spec, session = world.provider.specs[name], world.load(name)
    assert (spec.tag.instance, spec.tag.session) == (world.vault.instance, name)
    assert spec.tag.nonce == session.nonce
    assert (spec.address, spec.gateway, spec.node) == ("10.9.1.0/16", "10.9.0.1", "pve1")
    assert spec.personal["hostname"] == f"{name}\n".encode()
    assert spec.personal["user"].startswith(b"ada:$2b$")


def test_a_create_takes_two_claims_not_one_for_each_step(world):
    """Catches: five trips through the queue on the way to each desktop."""
    world.provider.boots_after = 0
    world.ask()
    worker, count = world.worker(), 0
    while world.work(worker):
        count += 1
    assert count <= 4


def test_the_public_id_is_a_name_that_is_unique_for_ever(world, monkeypatch):
    """Catches: `session-7`, an integer key as name; and a collision that is an IntegrityError."""
    drawn = iter("aaaaaa" + "aaaaaa" + "bbbbbb")
    monkeypatch.setattr(service.secrets, "choice", lambda _: next(drawn))

    assert [world.ask(), world.ask()] == ["desktop-aaaaaa", "desktop-bbbbbb"]
    monkeypatch.undo()
    assert re.fullmatch(r"desktop-[a-z2-7]{6}", world.ask())


def test_every_step_may_run_twice(world, monkeypatch):
    """Catches: a step that does something once instead of making something true."""
    for status, step in list(STEPS.items()):
        twice = lambda s, step=step: (step(s), step(s))[1]  # noqa: E731
        monkeypatch.setitem(STEPS, status, twice)
    world.provider = FakeProvider(world.vault.instance, boots_after=0)
    name = world.ask(local_user="ada")
    world.drain()

    assert world.load(name).status == "ready"
    assert list(world.provider.machines) == [name] and len(world.all(Reservation)) == 1
    live_through(world, name)
    assert nothing_is_left(world)


def test_every_verb_of_the_provider_may_run_twice(world):
    world.provider = TwoByTwo(world.vault.instance)
    name = world.ask()
    live_through(world, name)
    assert nothing_is_left(world)


@pytest.mark.parametrize("jobs_before", range(10))
def test_delete_at_any_moment_leaves_nothing(world, jobs_before):
    name = world.ask()
    for _ in range(jobs_before):
        world.work()
        world.pass_s(6)
    world.delete(name)
    world.drain()

    assert world.load(name).status == "deleted"
    assert nothing_is_left(world)


@pytest.mark.parametrize("status", [s for s in STEPS if s is not Status.DELETING])
def test_delete_during_each_step_leaves_nothing(world, monkeypatch, status):
    """The wish comes while the step is being done."""
    step, hit = STEPS[status], []

    def meanwhile(s):
        learned = step(s)
        if not hit:
            hit.append(status)
            world.delete(name)
        return learned

    monkeypatch.setitem(STEPS, status, meanwhile)
    name = world.ask()
    for desired in LIFE:
        if world.load(name).desired is not Desired.DELETED:
            world.want(name, desired)
            world.drain()
        if status is Status.UNREACHABLE and not hit:
            its_node_goes_and_comes(world, name)

    assert hit and world.load(name).status == "deleted"
    assert nothing_is_left(world)


def test_delete_before_anything_was_done_touches_no_other_machine(world):
    name = world.ask()
    world.delete(name)
    world.drain()

    assert world.statuses(name) == ["requested", "deleting", "deleted"]
    assert world.provider.count("ensure") == 0


def test_nothing_of_a_deleted_session_can_be_read_any_more(world):
    name = world.ask(local_user="ada")
    world.drain()
    world.delete(name)
    world.drain()

    session = world.load(name)
    assert (session.password, session.personal, session.endpoints) == (None, None, None)
    assert session.provider_state == {} and session.ended_at
    assert world.all(LogLine) == []


def test_a_session_says_what_it_does_in_its_log(world):
    name = world.ask()
    world.drain()
    said = [line.text for line in world.all(LogLine) if line.subject == f"session/{name}"]

    assert said[0] == "placed on pve1 as 10.9.1.0/16"
    assert said[-1] == "RDP answers at 10.9.1.0:3389"


def test_stop_and_start_again(world):
    name = world.ask()
    world.drain()
    for desired, status, power in [("stopped", "stopped", "off"), ("running", "ready", "on")]:
        world.want(name, Desired(desired))
        world.drain()
        session = world.load(name)
        assert (session.status, world.provider.power_of[name]) == (status, power)
        assert (session.endpoints is None) is (status == "stopped")


def test_a_stop_that_is_taken_back_ends_as_wanted(world):
    name = world.ask()
    world.drain()
    world.want(name, Desired.STOPPED)
    world.want(name, Desired.RUNNING)
    world.drain()
    assert world.load(name).status == "ready" and world.provider.power_of[name] == "on"


def test_a_session_that_is_to_be_stopped_while_it_is_made_stops_when_it_is(world):
    name = world.ask()
    world.want(name, Desired.STOPPED)
    world.drain()
    assert world.load(name).status == "stopped"


def test_ready_at_is_when_it_first_was(world):
    name = world.ask()
    world.drain()
    first = world.load(name).ready_at
    for desired in (Desired.STOPPED, Desired.RUNNING):
        world.pass_s(100)
        world.want(name, desired)
        world.drain()
    assert world.load(name).ready_at == first


def test_a_session_ends_by_itself(world):
    """Catches: a look asked for at +3600 that is dropped when the session comes to rest."""
    name = world.ask(life_s=7200.0)
    world.drain()
    (job,) = world.all(Job)
    assert job.run_at <= world.now() + reconcile.REST_S  # at rest, and yet it is looked at
    world.pass_s(3700)
    world.drain()
    assert world.load(name).status == "ready"
    (job,) = world.all(Job)
    assert job.run_at == world.load(name).expires_at
    world.pass_s(3600)
    world.drain()

    assert world.load(name).status == "deleted" and world.load(name).desired == "deleted"
    assert nothing_is_left(world)
    assert "its time is over" in [e.reason for e in world.events(name)]


def test_a_stopped_session_ends_by_itself_too(world):
    name = world.ask(life_s=4000.0)
    world.drain()
    world.want(name, Desired.STOPPED)
    world.drain()
    assert world.load(name).status == "stopped"
    world.pass_s(4000)
    world.drain()
    assert world.load(name).status == "deleted"


def test_rest_has_an_end_for_all_but_the_deleted(world):
    """Catches: a job forgotten at rest: nobody would ever look at that session again."""
    names = {world.ask() for _ in range(3)}
    world.drain()
    stopped, gone, _ = sorted(names)
    world.want(stopped, Desired.STOPPED)
    world.delete(gone)
    world.drain()

    assert {job.key for job in world.all(Job)} == names - {gone}
    assert all(job.run_at < world.now() + reconcile.REST_S + 1 for job in world.all(Job))


def test_extending_a_session_moves_its_end(world):
    name = world.ask(life_s=4000.0)
    world.drain()
    with world.database.transaction() as db:
        service.extend(db, ADA, name, 9000.0, Limits())
    world.pass_s(5000)
    world.drain()

    assert world.load(name).status == "ready"
    assert 3900 < world.load(name).expires_at - world.now() < 4001


def test_shortening_a_session_is_acted_on_in_time(world):
    """Catches: an earlier end that is read only at the next hourly look."""
    name = world.ask()
    world.drain()
    with world.database.transaction() as db:
        service.extend(db, ADA, name, 60.0, Limits())
    world.drain()
    assert world.load(name).status == "deleted" and world.now() < world.load(name).created_at + 120


def test_policy_limits_the_life_that_one_can_ask_for(world):
    limits = Limits(max_life_s=3600.0)
    name = world.request(limits=limits, life_s=999_999.0)[0].name
    assert world.load(name).expires_at <= world.load(name).created_at + 3601
    with world.database.transaction() as db:
        service.extend(db, ADA, name, 999_999.0, limits)

    assert world.load(name).expires_at <= world.load(name).created_at + 3601


def test_a_deleted_session_cannot_be_revived(world):
    name = world.ask()
    world.delete(name)
    world.delete(name)  # twice is once
    with pytest.raises(WrongState):
        world.want(name, Desired.RUNNING)
    with pytest.raises(WrongState), world.database.transaction() as db:
        service.extend(db, ADA, name, 60.0, Limits())
    world.drain()
    with pytest.raises(WrongState):
        world.want(name, Desired.RUNNING)
    world.delete(name)  # and that still is no error


def test_asking_for_what_is_wanted_already_writes_nothing(world):
    name = world.ask()
    world.drain()
    before = world.load(name).version, len(world.events(name))
    world.want(name, Desired.RUNNING)

    assert (world.load(name).version, len(world.events(name))) == before


def test_a_look_that_changes_nothing_writes_nothing(world):
    """Catches: an hourly look that bumps the version: each client reloads for nothing."""
    name = world.ask()
    world.drain()
    before = world.load(name).version, len(world.events(name))
    world.pass_s(reconcile.REST_S + 1)
    assert world.work()

    assert (world.load(name).version, len(world.events(name))) == before


def test_each_change_that_a_reader_can_see_bumps_the_version(world):
    """Catches: a stale page, because its ETag still fits."""
    name, worker = world.ask(), world.worker()

    def seen():
        s = world.load(name)
        return s.status, s.desired, s.waiting_for, s.failure, s.endpoints, s.expires_at

    for desired in (None, *LIFE):
        if desired:
            before = seen(), world.load(name).version
            world.want(name, desired)
            assert (seen() == before[0]) or world.load(name).version > before[1]
        for _ in range(8):
            before = seen(), world.load(name).version
            world.work(worker)
            world.pass_s(5)
            assert seen() == before[0] or world.load(name).version > before[1]
    assert world.load(name).status == "deleted"
