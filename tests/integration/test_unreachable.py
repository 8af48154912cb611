"""Nodes that fall silent: their desktops say so, nobody else is delayed, and nothing runs twice."""

import pytest

from daas.errors import QuotaExceeded, Unreachable
from daas.jobs.models import Job
from daas.nodes.models import Node, Pass, Reservation
from daas.sessions import queries
from daas.sessions.service import Limits
from daas.sessions.states import Desired, Status
from fakes.providers import FakeProvider
from support.world import ADA, BEN, settings


@pytest.fixture
def two(world):
    """Two nodes, of which the first is taken first; guests answer at once."""
    world.add(Node(name="pve2", cluster="one", memory_mib=1 << 29))
    world.provider = FakeProvider(world.vault.instance, boots_after=0)
    return world


def policy(world, **values):
    world.settings = settings(data_dir=world.data_dir, **values)


def ready(world, **kw):
    name = world.ask(**kw)
    world.drain_until(lambda: world.load(name).status == "ready")
    return name


def lost(world, name=None, after_s=121):
    """pve1 is silent for so long, and everybody has looked."""
    world.look_at_nodes("pve1")
    settle(world)
    world.pass_s(after_s)
    settle(world)


def comes_to(world, name, status):
    """The session is in that status, and nothing more is done for now."""
    while world.load(name).status != status:
        assert world.work()


def settle(world):
    worker = world.worker()
    for _ in range(60):
        if not world.work(worker):
            return
    raise AssertionError("it never rests")


def machines(world):
    return sorted(world.provider.machines)


def test_a_ready_desktop_of_a_silent_node_says_so_at_once_and_is_unreachable_after_a_while(two):
    name = ready(two)
    lost(two, after_s=60)
    before = two.load(name)
    two.pass_s(61)
    settle(two)
    after = two.load(name)

    assert (before.status, before.waiting_for) == ("ready", "node pve1 to answer")
    assert (after.status, after.waiting_for) == ("unreachable", "node pve1 to answer")
    assert two.statuses(name)[-1] == "unreachable"


def test_how_long_a_node_may_be_silent_is_a_setting(two):
    policy(two, unreachable_s=10)
    name = ready(two)
    lost(two, after_s=11)
    assert two.load(name).status == "unreachable"


def test_nobody_polls_a_ready_desktop_for_that(two):
    """Rest has an end: the moment at which its node will have been silent for too long."""
    name = ready(two)
    two.look_at_nodes("pve1")
    settle(two)
    (job,) = [j for j in two.all(Job) if j.key == name]
    assert job.run_at - two.now() == pytest.approx(120, abs=5)


def test_when_its_node_is_back_it_is_ready_again(two):
    name = ready(two)
    endpoints = two.load(name).endpoints
    lost(two)
    two.look_at_nodes()
    settle(two)

    session = two.load(name)
    assert (session.status, session.waiting_for) == ("ready", None)
    assert session.endpoints == endpoints and machines(two) == [name]


def test_a_machine_that_went_down_with_its_node_is_started(two):
    name = ready(two)
    lost(two)
    two.provider.power_of[name] = "off"
    two.look_at_nodes()
    settle(two)
    assert two.load(name).status == "ready" and two.provider.power_of[name] == "on"


def test_a_desktop_that_does_not_come_up_again_fails_but_not_for_the_time_of_the_outage(two):
    name = ready(two)
    lost(two, after_s=50_000)
    assert two.load(name).status == "unreachable"
    two.provider.boots_after = 10**6
    two.look_at_nodes()
    two.drain_until(lambda: two.load(name).status == "failed" or two.pass_s(20))
    assert "unreachable took too long" in two.load(name).failure


def test_a_node_that_flaps_disturbs_nobody(two):
    name = ready(two)
    for _ in range(5):
        lost(two, after_s=30)
        two.look_at_nodes()
        settle(two)
    assert two.load(name).status == "ready" and two.load(name).waiting_for is None
    assert "unreachable" not in two.statuses(name)


def test_the_others_are_not_delayed(two):
    """Catches: threads that wait for a dead node's timeouts while others have work to do."""
    names = [ready(two) for _ in range(5)]
    lost(two)
    calls = len(two.provider.calls)
    for name in names:
        two.delete(name)
    other = ready(two, actor=BEN)

    assert two.load(other).node == "pve2"
    asked = {call[1] for call in two.provider.calls[calls:] if call[0] != "nodes"}
    assert asked == {other}  # nothing was asked of the silent one


def test_it_is_skipped_by_placement(two):
    two.look_at_nodes("pve1")
    assert two.load(ready(two)).node == "pve2"


@pytest.mark.parametrize("status", ["provisioning", "booting"])
def test_a_node_that_dies_under_a_desktop_that_is_being_made_makes_it_wait(two, status):
    two.provider.boots_after = 1
    name = two.ask()
    comes_to(two, name, status)
    lost(two, after_s=9999)
    session = two.load(name)
    assert (session.status, session.waiting_for) == (status, "node pve1 to answer")

    two.look_at_nodes()
    two.drain_until(lambda: two.load(name).status == "ready")
    assert machines(two) == [name]


def test_one_whose_node_is_silent_does_not_stand_in_others_way_at_the_door(two):
    with two.database.transaction() as db:
        for node in ("pve1", "pve2"):
            db.get_one(Node, ("one", node)).images = {"image-debian-1": "ceph"}
    name = two.ask()
    comes_to(two, name, "provisioning")
    two.add(Pass(session=name, cluster="one", storage="ceph"))
    lost(two)
    assert two.all(Pass) == []


def test_a_delete_waits_for_the_node_and_then_leaves_nothing(two):
    name = ready(two)
    lost(two)
    two.delete(name)
    settle(two)
    assert (two.load(name).status, two.load(name).waiting_for) == (
        "deleting",
        "node pve1 to answer",
    )
    assert machines(two) == [name]

    two.look_at_nodes()
    settle(two)
    assert two.load(name).status == "deleted"
    assert machines(two) == [] and two.all(Reservation) == []


def test_its_owner_may_stop_it(two):
    name = ready(two)
    lost(two)
    two.want(name, Desired.STOPPED)
    settle(two)
    assert two.load(name).status == "stopping"
    two.look_at_nodes()
    settle(two)
    assert two.load(name).status == "stopped"


def test_a_machine_of_a_silent_node_is_not_taken_for_one_that_its_user_stopped(two):
    """Catches: a sweep that finds machines off because nobody can say whether they are on."""
    name = ready(two)
    two.provider.power_of[name] = "off"
    two.provider.online = False
    two.wake("sweep", "fake")
    settle(two)
    assert two.load(name).desired == "running"


def test_a_warm_desktop_that_cannot_be_reached_is_given_to_nobody(two):
    (name,) = two.warm()
    lost(two)
    got = two.ask(pool="win")
    assert two.load(name).status == "unreachable" and got != name


def test_it_is_listed_among_those_of_version_1(two):
    name = ready(two)
    lost(two)
    with two.database.reading() as db:
        assert [s.name for s in queries.handed_out(db, ADA)] == [name]


# ---- DAAS_UNREACHABLE=replace


@pytest.fixture
def replacing(two):
    policy(two, unreachable="replace")
    return two


def replaced(world, **kw):
    """A desktop that was lost, and the one its owner got."""
    old = ready(world, **kw)
    lost(world)
    return old, world.load(old).replaced_by


def test_its_owner_gets_another_like_it(replacing):
    old, new = replaced(replacing, local_user="ada")
    first, second = replacing.load(old), replacing.load(new)

    alike = ("owner", "tenant", "template", "size", "memory_mib", "image", "local_user", "password")
    assert all(getattr(first, c) == getattr(second, c) for c in alike)
    assert (second.node, second.status, second.desired) == ("pve2", "ready", "running")
    assert first.desired == "deleted" and first.nonce != second.nonce


def test_the_record_leads_from_one_to_the_other(replacing):
    old, new = replaced(replacing)
    assert f"replaced by {new}: node pve1 does not answer" in [
        e.reason for e in replacing.events(old)
    ]
    assert replacing.events(new)[0].reason == f"in place of {old}: node pve1 does not answer"
    assert replacing.statuses(old)[-2:] == ["unreachable", "deleting"]


def test_the_old_one_is_destroyed_when_its_node_returns_before_anything_else(replacing):
    old, new = replaced(replacing)
    assert (replacing.load(old).status, machines(replacing)) == ("deleting", sorted([old, new]))
    calls = len(replacing.provider.calls)
    replacing.look_at_nodes()
    settle(replacing)

    assert replacing.load(old).status == "deleted" and machines(replacing) == [new]
    asked = [call[0] for call in replacing.provider.calls[calls:] if call[1] == old]
    assert asked == ["destroy"]


def test_it_is_replaced_once_however_often_one_looks(replacing):
    old, new = replaced(replacing)
    for _ in range(3):
        replacing.look_at_nodes()
        lost(replacing)
    assert replacing.load(old).replaced_by == new
    assert replacing.load(new).replaced_by is None  # it is on the other node


def test_the_quota_counts_both_once(replacing):
    limits = Limits(max_sessions=2)
    replaced(replacing)
    replacing.request(ADA, limits)
    with pytest.raises(QuotaExceeded):
        replacing.request(ADA, limits)


def test_who_asked_with_a_key_finds_the_new_one_by_it(replacing):
    _, new = replaced(replacing, key="k")
    assert replacing.ask(key="k") == new


def test_it_ends_when_the_old_one_would_have(replacing):
    old, new = replaced(replacing, life_s=9999)
    assert replacing.load(new).expires_at == replacing.load(old).expires_at


def test_a_desktop_on_its_way_is_replaced_too(replacing):
    replacing.provider.boots_after = 2
    name = replacing.ask()
    comes_to(replacing, name, "booting")
    lost(replacing, after_s=200)
    settle(replacing)
    assert replacing.load(name).desired == "deleted"
    assert replacing.load(replacing.load(name).replaced_by).node == "pve2"


def test_one_that_is_to_go_or_to_stop_or_is_nobodys_is_not_replaced(replacing):
    gone, stopped = ready(replacing), ready(replacing)
    (warm,) = replacing.warm()
    replacing.want(stopped, Desired.STOPPED)
    replacing.drain_until(lambda: replacing.load(stopped).status == "stopped")
    replacing.look_at_nodes("pve1")
    replacing.delete(gone)
    lost(replacing)
    assert [replacing.load(n).replaced_by for n in (gone, stopped, warm)] == [None] * 3


def test_where_policy_keeps_it_nothing_is_replaced(two):
    name = ready(two)
    lost(two, after_s=9999)
    assert two.load(name).replaced_by is None and two.load(name).status is Status.UNREACHABLE


def test_an_outage_that_only_the_provider_sees_changes_no_status(two):
    """The node's row is what counts; a call that fails makes a step wait, as before."""
    name = two.ask()

    def away(*args):
        raise Unreachable(60.0, "pve1 to answer")

    two.provider.endpoints = away
    two.drain_until(lambda: two.load(name).waiting_for == "pve1 to answer")
    assert two.load(name).status == "booting"
