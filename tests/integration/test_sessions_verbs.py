"""Who may ask for what: Ada owns, Ben is of her tenant, Eve of another."""

import pytest

from daas.access.actors import Actor
from daas.errors import (
    BadRequest,
    Forbidden,
    KeyReused,
    NoRoom,
    NotFound,
    QuotaExceeded,
    WrongState,
)
from daas.events import Event
from daas.nodes.models import Node
from daas.sessions import queries, service
from daas.sessions.models import IdempotencyKey, Session
from daas.sessions.service import Limits
from daas.sessions.states import Desired, Status
from daas.tenants import Tenant
from support.waiting import race
from support.world import ADA, BEN, BOSS, EVE, GENEROUS, OPERATOR

NOT_HERS = [(BEN, Forbidden), (EVE, NotFound)]


def credential(world, actor, name):
    with world.database.transaction() as db:
        return service.credential(db, actor, name, world.vault)


def extend(world, actor, name):
    with world.database.transaction() as db:
        service.extend(db, actor, name, 60.0, Limits())


def show(world, actor, name):
    with world.database.reading() as db:
        return queries.shown(db, actor, name)


VERBS = {
    "delete": lambda world, actor, name: world.delete(name, actor),
    "stop": lambda world, actor, name: world.want(name, Desired.STOPPED, actor),
    "extend": extend,
    "credential": credential,
    "show": show,
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("actor, error", NOT_HERS)
def test_nobody_else_does_anything_with_adas_session(world, verb, actor, error):
    """Catches: a verb that believes any caller; or one that tells Eve that it exists."""
    name = world.ask(ADA, local_user="ada")
    world.drain()
    before = world.load(name).version
    with pytest.raises(error):
        VERBS[verb](world, actor, name)
    assert world.load(name).version == before


@pytest.mark.parametrize("verb", VERBS)
def test_what_does_not_exist_and_what_is_invisible_are_one_answer(world, verb):
    name = world.ask(ADA, local_user="ada")
    said = []
    for which in (name, "desktop-aaaaaa"):
        with pytest.raises(NotFound) as error:
            VERBS[verb](world, EVE, which)
        said.append(str(error.value).replace(which, "X"))
    assert said[0] == said[1]


@pytest.mark.parametrize("actor", [BOSS, OPERATOR])
def test_administrators_delete_what_is_in_their_reach(world, actor):
    name = world.ask(ADA)
    world.delete(name, actor)
    assert world.load(name).desired == "deleted"
    assert [e.actor for e in world.events(name)] == ["ada", actor.name]


def test_an_administrator_of_another_tenant_sees_nothing(world):
    name = world.ask(ADA)
    with pytest.raises(NotFound):
        world.delete(name, Actor("mallory", "evil", BOSS.role))


def test_nobody_requests_a_desktop_for_somebody_else(world):
    with pytest.raises(Forbidden):
        world.ask(BEN, owner="ada")
    name = world.ask(BOSS, owner="ada")
    assert (world.load(name).owner, world.load(name).created_by) == ("ada", "boss")


def test_a_request_in_a_tenant_that_does_not_exist_is_refused(world):
    with pytest.raises(NotFound):
        world.ask(Actor("zoe", "no-such"))
    assert world.all(Session) == []


def test_lists_show_to_each_what_is_theirs(world):
    hers, his, theirs = world.ask(ADA), world.ask(BEN), world.ask(EVE)
    with world.database.reading() as db:
        seen = {
            actor.name: {s.name for s in queries.listed(db, actor)}
            for actor in (ADA, BEN, EVE, BOSS, OPERATOR)
        }
    assert seen == {
        "ada": {hers},
        "ben": {his},
        "eve": {theirs},
        "boss": {hers, his},
        "op": {hers, his, theirs},
    }


def test_lists_go_on_where_they_stopped_and_can_be_narrowed(world):
    names = [world.ask(ADA) for _ in range(7)]
    world.delete(names[0])
    world.drain()
    with world.database.reading() as db:
        first = queries.listed(db, ADA, limit=4)
        second = queries.listed(db, ADA, limit=4, after=first[-1].id)
        gone = queries.listed(db, ADA, status=[Status.DELETED])
        assert [s.name for s in (*first, *second)] == names[:0:-1]
        assert [s.name for s in gone] == names[:1]
        assert queries.listed(db, ADA, template="other") == []
        assert len(queries.listed(db, BOSS, owner="ada", status=[Status.READY])) == 6
        assert queries.count_by_status(db) == {"ready": 6}
        assert [s.name for s in queries.handed_out(db, ADA)] == names[1:]


# quota


def test_the_quota_of_a_tenant_counts_live_owned_sessions(world):
    two = Limits(max_sessions=2)
    first = world.request(limits=two)[0].name
    world.request(BEN, limits=two)
    with pytest.raises(QuotaExceeded, match=r"acme already has 2 sessions.*delete one first"):
        world.request(limits=two)
    world.request(EVE, limits=two)  # another tenant's
    world.delete(first)
    world.drain()
    world.request(limits=two)


def test_a_tenants_own_limit_goes_before_the_general_one(world):
    world.add(Tenant(name="tiny", max_sessions=0))
    with pytest.raises(QuotaExceeded):
        world.ask(Actor("tim", "tiny"))


def over_the_quota(world):
    out = world.race(16, lambda i: world.request(limits=Limits(max_sessions=5))[1])
    assert len([o for o in out if isinstance(o, QuotaExceeded)]) == 11
    assert len(world.all(Session)) == 5


def test_16_at_once_do_not_get_past_the_quota(world):
    """Catches: count, then insert, without the tenant's lock."""
    over_the_quota(world)


# idempotency and reuse


def test_the_same_key_is_the_same_session(world):
    first, is_new = world.request(key="k1", digest="d")
    again, is_new_again = world.request(key="k1", digest="d")

    assert (first.name, is_new, is_new_again) == (again.name, True, False)
    assert len(world.all(Session)) == 1 and len(world.all(IdempotencyKey)) == 1


def test_16_at_once_with_one_key_make_one_session(world):
    """Catches: a double click, or a client's retry while the first try still runs."""
    out = race(16, lambda i: world.request(key="k1", digest="d")[0].name)
    assert len(set(out)) == 1 and len(world.all(Session)) == 1


def test_a_key_with_another_request_is_refused(world):
    world.request(key="k1", digest="d")
    with pytest.raises(KeyReused):
        world.request(key="k1", digest="other")


@pytest.mark.parametrize("other", [BEN, EVE])
def test_a_key_of_one_is_not_the_key_of_another(world, other):
    """Catches: Eve guesses a key and is shown Ada's session."""
    hers = world.request(ADA, key="k1", digest="d")[0].name
    assert world.request(other, key="k1", digest="d")[0].name != hers


def test_the_same_key_after_its_session_is_gone_makes_a_new_one(world):
    first = world.request(key="k1", digest="d")[0].name
    world.delete(first)
    world.drain()
    assert world.request(key="k1", digest="d")[0].name != first


def test_a_repeated_request_is_answered_even_at_the_quota(world):
    """Catches: the retry of a request that went through is told 429."""
    one = Limits(max_sessions=1)
    first = world.request(limits=one, key="k1", digest="d")[0].name
    assert world.request(limits=one, key="k1", digest="d")[0].name == first


def test_reuse_returns_the_running_desktop_of_that_owner_and_template(world):
    first = world.ask()
    assert world.request(reuse=True)[0].name == first
    assert world.request(BEN, reuse=True)[0].name != first
    world.want(first, Desired.STOPPED)
    assert world.request(reuse=True)[1] is True


def test_reuse_makes_one_where_there_is_none(world):
    name = world.ask()
    world.delete(name)
    again, is_new = world.request(reuse=True)
    assert is_new and again.name != name
    assert world.request(reuse=True)[0].name == again.name


# room, password


def test_with_no_room_policy_may_refuse_instead_of_queue(world):
    world.add_cluster("small", [Node(name="n0", cluster="small", memory_mib=1024)])
    refusing = Limits(max_sessions=100, refuses_when_full=True)
    world.request(limits=refusing, cluster="small")
    world.drain()
    with pytest.raises(NoRoom):
        world.request(limits=refusing, cluster="small")
    world.request(limits=GENEROUS, cluster="small")


def test_only_its_owner_reads_the_password_and_each_look_is_recorded(world):
    name = world.ask(local_user="ada")
    world.drain()
    user, password = credential(world, ADA, name)

    assert user == "ada" and len(password) == 16
    looks = [e for e in world.all(Event) if "one-time password" in e.reason]
    assert [(e.actor, e.tenant) for e in looks] == [("ada", "acme")]
    with pytest.raises(Forbidden):
        credential(world, BOSS, name)  # may delete it, but not be her


def test_who_asked_for_somebody_may_hand_over_the_password(world):
    name = world.ask(BOSS, owner="ben", local_user="ben")
    world.drain()

    assert credential(world, BOSS, name) == credential(world, BEN, name)


def test_a_password_that_was_given_is_wiped_once_it_is_in_the_guest(world):
    name = world.ask(local_user="ada", password="hunter2")
    assert world.load(name).password
    world.drain()

    assert world.load(name).password is None
    with pytest.raises(WrongState):
        credential(world, ADA, name)


def test_a_password_that_was_given_is_not_handed_out_before_either(world):
    name = world.ask(local_user="ada", password="hunter2")
    with pytest.raises(WrongState):
        credential(world, ADA, name)


def test_a_password_for_nobody_is_refused(world):
    with pytest.raises(BadRequest):
        world.ask(password="hunter2")
    assert world.all(Session) == []


def test_a_deleted_session_has_no_password(world):
    name = world.ask(local_user="ada")
    world.drain()
    world.delete(name)
    world.drain()
    with pytest.raises(WrongState):
        credential(world, ADA, name)
