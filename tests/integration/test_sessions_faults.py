"""What may go wrong in the life of a session, and what comes of it."""

import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest

from daas.errors import NotReady, QuotaExceeded, StepFailed, TemplateMissing, WrongState
from daas.events import Event
from daas.jobs import queue
from daas.jobs.models import Job
from daas.nodes.models import Node, Reservation
from daas.providers.base import Tag, silent
from daas.sessions import service
from daas.sessions.service import Limits
from daas.sessions.states import Desired
from fakes.dying import Crash, CrashesIn
from fakes.providers import Away, Fails, FakeProvider, Meanwhile, NeverBoots
from support.world import ADA, RECIPE


def spoil(world, kind, *args, **kw):
    world.provider = kind(world.vault.instance, *args, **kw)
    return world.provider


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("verb", ["ensure", "endpoints"])
def test_a_wish_made_during_a_step_is_not_lost(world, fails, verb):
    """Also when the step fails: then `failed` is never written over a wish to delete."""
    spoil(world, Meanwhile, lambda: world.delete(name), fails, verb)
    name = world.ask()
    world.drain()

    assert world.load(name).status == "deleted" and world.provider.machines == {}
    assert "failed" not in world.statuses(name)


def test_a_wish_that_commits_while_a_failure_is_written_down_comes_first(world):
    """Catches: a decision on `desired` as it was read, without the row's lock."""
    wished = threading.Event()

    def wish():
        with world.database.transaction() as db:
            service.want(db, ADA, name, Desired.DELETED)
            db.flush()
            wished.set()
            time.sleep(0.3)  # the step fails meanwhile

    thread = threading.Thread(target=wish)
    spoil(world, Meanwhile, lambda: (thread.start(), wished.wait(5)), fails=True)
    name = world.ask()
    world.drain()

    assert world.load(name).status == "deleted" and "failed" not in world.statuses(name)


def outlive_the_lease(world):
    """A first worker hangs in `ensure`; a second one takes over and finishes; then the first
    one comes back with what it has."""

    class Late(FakeProvider):
        def ensure(self, name, spec, state, save, note=silent):
            if not self.calls:
                self.calls.append(("hang",))
                world.pass_s(16)
                world.drain(world.worker("2"))
                return {"name": name, "stale": True}
            return super().ensure(name, spec, state, save)

    spoil(world, Late)
    name = world.ask()
    world.drain()
    assert world.load(name).status == "ready" and world.load(name).provider_state["node"]
    assert "stale" not in world.load(name).provider_state
    assert len(world.statuses(name)) == 6


def test_a_worker_that_outlives_its_lease_writes_nothing(world, caplog):
    outlive_the_lease(world)
    assert "dropped: session" in " ".join(r.getMessage() for r in caplog.records)


def test_without_the_guard_a_worker_that_outlives_its_lease_would_write(world, monkeypatch):
    """The control of the test above."""

    def unguarded(db, job, **values):
        db.query(Job).filter_by(id=job.id).update(values)

    monkeypatch.setattr(queue, "_write_mine", unguarded)
    with pytest.raises(AssertionError):
        outlive_the_lease(world)


@pytest.mark.parametrize("error", [StepFailed("the hypervisor said 500"), ConnectionResetError()])
def test_a_destroy_that_fails_is_tried_until_it_works(world, error):
    """Catches: `failed` with desired=deleted, no job, and the machine on for ever."""
    spoil(world, Fails, "destroy", error, times=12)
    name = world.ask()
    world.drain()
    world.delete(name)
    before = world.now()
    world.drain()

    assert world.load(name).status == "deleted" and world.provider.machines == {}
    tries = [e for e in world.events(name) if (e.before, e.after) == ("deleting", "deleting")]
    assert len(tries) == 12  # each is on record
    waited = world.now() - before  # 1 + 2 + … + 256, then 300 each
    assert 511 + 3 * 300 <= waited < 511 + 3 * 300 + 30


def test_a_destroy_waits_for_a_provider_that_is_away(world):
    name = world.ask()
    world.drain()
    machines = world.provider.machines
    away = spoil(world, Away, "destroy")
    away.machines = machines
    world.delete(name)
    for _ in range(30):
        world.work()
        world.pass_s(61)
    assert (world.load(name).status, world.load(name).waiting_for) == ("deleting", "pve1 to answer")
    away.is_away = False
    world.drain()
    assert world.load(name).status == "deleted" and not machines


def test_an_unexpected_error_backs_off_and_then_fails_with_a_reason(world, caplog):
    """Catches: an exception that kills the thread and repeats for ever."""
    spoil(world, Fails, "ensure", ConnectionResetError("secret: hunter2"))
    name = world.ask()
    before = world.now()
    world.drain()

    session = world.load(name)
    assert session.status == "failed" and "ConnectionResetError" in session.failure
    assert "hunter2" not in session.failure
    assert world.provider.count("ensure") == world.settings.max_attempts
    assert len(caplog.records) == world.settings.max_attempts  # each logged once
    assert 31 <= world.now() - before < 40  # 1 + 2 + 4 + 8 + 16


def test_an_unexpected_error_that_passes_does_no_harm(world):
    spoil(world, Fails, "ensure", ConnectionResetError("peer"), times=3)
    name = world.ask()
    world.drain()

    assert world.load(name).status == "ready" and world.load(name).failure is None
    assert world.all(Job)[0].attempts == 0


def test_errors_long_ago_do_not_count_against_a_later_step(world):
    """Catches: attempts that are never set back: after five hiccups in a year, `failed`."""
    spoil(world, Fails, "ensure", ConnectionResetError("peer"), times=5)
    name = world.ask()
    world.drain()
    world.provider.verb, world.provider.times = "off", 5
    world.want(name, Desired.STOPPED)
    world.drain()
    assert world.load(name).status == "stopped"


def test_a_step_that_kills_each_worker_is_given_up(world):
    """Catches: `attempts` counted and never read."""
    spoil(world, CrashesIn, "ensure", times=1000)
    name = world.ask()
    for _ in range(30):
        with suppress(Crash):
            world.work()
        world.pass_s(16)

    assert world.load(name).status == "failed" and "died" in world.load(name).failure
    world.delete(name)
    world.drain()
    assert world.load(name).status == "deleted" and world.provider.machines == {}


def test_a_destroy_that_kills_each_worker_is_never_given_up(world):
    spoil(world, CrashesIn, "destroy", times=20)
    name = world.ask()
    world.drain()
    world.delete(name)
    for _ in range(60):
        with suppress(Crash):
            world.work()
        world.pass_s(16)
    assert world.load(name).status == "deleted"


def test_a_guest_that_never_boots_fails_with_a_reason(world):
    spoil(world, NeverBoots)
    name = world.ask()
    world.work(), world.work(), world.work()

    assert world.load(name).waiting_for == "RDP to answer"
    world.drain()
    assert world.load(name).failure == "booting took too long; still waiting for RDP to answer"
    assert world.load(name).waiting_for is None


def test_what_cannot_get_better_fails_at_once(world):
    spoil(world, Fails, "ensure", TemplateMissing("The image is gone; run `daas template build`."))
    name = world.ask()
    world.drain()

    assert world.load(name).failure == "The image is gone; run `daas template build`."
    assert world.provider.count("ensure") == 1


def test_an_outage_of_the_provider_does_not_count_against_the_deadline(world):
    """Catches: a session that fails because its hypervisor was away for longer than 600 s."""
    away = spoil(world, Away, boots_after=10**6)
    name, worker = world.ask(), world.worker()
    for _ in range(60):  # an hour
        world.work(worker)
        world.pass_s(61)

    assert (world.load(name).status, world.load(name).waiting_for) == ("booting", "pve1 to answer")
    away.is_away = False
    before = world.now()
    world.drain()
    assert world.load(name).status == "failed"
    assert 450 < world.now() - before < 700  # what was left of 600 s, and no more


def test_after_an_outage_a_session_goes_on(world):
    away = spoil(world, Away, "ensure")
    name = world.ask()
    for _ in range(40):
        world.work()
        world.pass_s(61)
    assert world.load(name).status == "provisioning"
    away.is_away = False
    world.drain()
    assert world.load(name).status == "ready" and world.load(name).waiting_for is None


def test_a_database_that_went_away_during_a_step_fails_nothing(world):
    """Catches: NotReady taken for an error of the step: one restart of PostgreSQL, and every
    desktop that is being made is `failed`."""
    spoil(world, Fails, "ensure", NotReady("The database went away; try again."), times=2)
    name = world.ask()
    world.drain()
    assert world.load(name).status == "ready"


def test_an_unknown_kind_of_provider_fails_the_session_not_the_worker(world):
    world.add_cluster("two", [Node(name="n2", cluster="two", memory_mib=9999)], kind="no-such")
    name = world.ask(cluster="two")
    world.drain()

    assert world.load(name).status == "failed" and "KeyError" in world.load(name).failure


def test_a_state_saved_before_a_crash_is_there_for_the_next_try(world):
    """Catches: provider_state written only at the end of a step."""

    class DiesAfterSave(FakeProvider):
        def ensure(self, name, spec, state, save, note=silent):
            if state:
                return super().ensure(name, spec, state, save)
            save({"tfstate": 1})
            raise Crash

    spoil(world, DiesAfterSave)
    name = world.ask()
    with pytest.raises(Crash):
        world.drain()
    world.pass_s(16)
    world.drain()

    assert world.load(name).provider_state["tfstate"] == 1


def fail(world, **wish):
    spoil(world, Fails, "endpoints", StepFailed("the guest said no"), times=1)
    name = world.ask(**wish)
    world.drain()
    assert (world.load(name).status, world.load(name).failure) == ("failed", "the guest said no")
    return name


def test_a_failed_session_keeps_its_machine_an_hour_and_then_goes(world):
    name = fail(world)
    assert list(world.provider.machines) == [name]
    world.pass_s(3500)
    world.work()
    assert list(world.provider.machines) == [name]
    world.pass_s(101)
    world.drain()

    assert world.load(name).status == "deleted" and world.provider.machines == {}
    assert world.all(Reservation) == []


def test_a_failed_session_can_be_deleted_and_nothing_else(world):
    name = fail(world)
    for desired in (Desired.STOPPED, Desired.RUNNING):
        if world.load(name).desired is not desired:
            with pytest.raises(WrongState):
                world.want(name, desired)
    with pytest.raises(WrongState), world.database.transaction() as db:
        service.extend(db, ADA, name, 60.0, Limits())
    world.delete(name)
    world.drain()
    assert world.load(name).status == "deleted"


def test_a_failed_session_does_not_count_against_the_quota(world):
    one = Limits(max_sessions=1)
    fail(world)
    second = world.request(limits=one)[0].name
    with pytest.raises(QuotaExceeded):
        world.request(limits=one)
    world.drain()
    assert world.load(second).status == "ready"


def test_a_machine_that_is_not_ours_is_left_alone_and_the_session_ends(world):
    """Catches: destroy by name; or a session that hangs in `deleting` for ever."""
    name = world.ask()
    world.drain()
    tag = world.provider.machines[name]
    world.provider.machines[name] = Tag("another", tag.session, tag.nonce)
    world.delete(name)
    world.drain()

    assert world.load(name).status == "deleted"
    assert list(world.provider.machines) == [name]
    (said,) = [e for e in world.all(Event) if e.subject == f"machine/{name}"]
    assert said.after == "left alone" and "tag" in said.reason


def test_a_machine_of_somebody_else_under_our_name_is_not_taken_over(world):
    """Catches: ensure() that finds a machine of that name and hands it to Ada."""
    name = world.ask()
    world.work()
    theirs = world.provider.machines[name] = Tag("another", "web-server", "")
    world.drain()
    assert world.load(name).status == "failed"
    assert world.provider.machines[name] is theirs


def test_another_machine_at_the_address_of_a_session_is_not_handed_out(world):
    """Catches: two machines with one address: Ada's password goes to whoever answers."""
    world.certificate = "another machine's"
    name = world.ask()
    world.drain()
    assert world.load(name).status == "failed"
    assert "certificate" in world.load(name).failure


def test_a_template_that_is_not_ours_shows_whatever_certificate_it_has(world):
    recipe = replace(RECIPE, cluster="one", options={"personalize": "none"})
    world.certificate = "its own"
    name = world.ask(recipe=recipe)
    world.drain()
    assert world.load(name).status == "ready"


def test_its_own_certificate_is_what_makes_a_session_ready(world):
    name = world.ask()
    world.work()
    world.certificate = world.load(name).fingerprint
    world.drain()
    assert world.certificate and world.load(name).status == "ready"
