"""Warm desktops: who may have them, and who may take them away."""

import time

import pytest

from daas.sessions import service
from daas.sessions.models import Session
from daas.sessions.states import Status
from support.world import ADA, BEN, EVE


def discard(world, name, reason="surplus"):
    with world.database.transaction() as db:
        return service.discard(db, name, reason)


def test_a_claim_is_ready_only_when_the_guest_knows_its_owner(world):
    """Catches: `ready` at once, with a guest that knows nobody."""
    (warm,) = world.warm()
    claimed = world.ask(pool="win")

    assert claimed == warm and world.load(warm).status == "assigning"
    world.drain()
    assert (world.load(warm).status, world.load(warm).owner) == ("ready", "ada")


def test_claims_by_many_at_once_give_each_desktop_once(world):
    """Catches: select, then update: one desktop for two people."""
    warm = world.warm(6)
    out = world.race(16, lambda i: world.ask(BEN if i % 2 else ADA, pool="win"))

    assert len(set(out)) == 16 and set(warm) <= set(out)


def test_a_doomed_warm_desktop_is_not_handed_out(world):
    """Catches: a claim that does not ask for desired=running."""
    (warm,) = world.warm()
    assert discard(world, warm, "too old")
    assert world.ask(pool="win") != warm


def test_a_pool_does_not_remove_one_claimed_after_it_looked(world):
    """Catches: a delete by name from a snapshot, without asking again."""
    world.warm()
    claimed = world.ask(pool="win")
    assert not discard(world, claimed)
    world.drain()
    assert world.load(claimed).status == "ready" and world.load(claimed).desired == "running"


def test_claim_and_discard_at_once_leave_one_winner(world):
    for name in world.warm(4):
        out = world.race(2, lambda i, n=name: world.ask(pool="win") if i else discard(world, n))
        assert (world.load(name).owner is None) is out[0]
        assert (out[1] == name) <= (out[0] is False)


def test_other_tenants_do_not_get_a_pools_desktops_unless_it_is_shared(world):
    """Catches: a claim that looks at the pool's name only."""
    (own,) = world.warm(pool="own")
    (shared,) = world.warm(pool="shared", is_shared=True)

    assert world.ask(EVE, pool="own") != own
    assert world.ask(EVE, pool="shared") == shared
    assert world.load(shared).tenant == "evil"


def test_one_that_is_not_ready_is_not_handed_out(world):
    with world.database.transaction() as db:
        coming = service.refill(db, "win", "acme", world.wish().recipe).name
    assert world.ask(pool="win") != coming


def test_warm_ones_do_not_count_against_the_quota(world):
    world.warm(3)
    limits = service.Limits(max_sessions=1)
    assert world.request(limits=limits)[1]


@pytest.mark.parametrize("actor", [ADA, EVE])
def test_nobody_deletes_a_desktop_of_a_pool_by_its_name(world, actor):
    (warm,) = world.warm()
    with pytest.raises(Exception, match=warm):
        world.delete(warm, actor)


def test_a_refill_waits_behind_a_person(world):
    with world.database.transaction() as db:
        for _ in range(5):
            service.refill(db, "win", "acme", world.wish().recipe)
    hers = world.ask()
    worker = world.worker()
    began = time.monotonic()
    while world.load(hers).status is Status.REQUESTED:
        world.work(worker)
        assert time.monotonic() - began < 5
    assert {s.status for s in world.all(Session) if s.owner is None} == {"requested"}
