"""API tokens: shown once, stored hashed, and of no use once revoked."""

import pytest

from daas.access import tokens
from daas.access.actors import Role
from daas.access.tokens import Token
from daas.errors import Forbidden, NotFound, Unauthorized
from daas.events import Event
from support.world import ADA, BEN, BOSS, EVE, OPERATOR


def create(world, name="ada", tenant="acme", role=Role.USER):
    with world.database.transaction() as db:
        token, text = tokens.create(db, name, tenant, role, "op")
        return token.id, text


def actor_of(world, text):
    with world.database.reading() as db:
        return tokens.actor_of(db, text)


def revoke(world, actor, token_id):
    with world.database.transaction() as db:
        tokens.revoke(db, actor, token_id)


def test_a_token_says_who_is_asking(world):
    _, text = create(world)
    assert actor_of(world, text) == ADA
    assert actor_of(world, create(world, "op", "default", Role.OPERATOR)[1]) == OPERATOR


def test_the_text_of_a_token_is_nowhere_but_with_its_owner(world):
    """Catches: a stolen backup that opens every desktop."""
    token_id, text = create(world)
    (row,) = world.all(Token)
    stored = repr([vars(row), [vars(e) for e in world.all(Event)]])

    assert text not in stored and text.removeprefix("daas_") not in stored
    assert token_id not in text and len(text) > 40


@pytest.mark.parametrize("text", ["", "daas_", "daas_x", "x" * 100_000, "é", "daas_%"])
def test_what_is_no_token_opens_nothing(world, text):
    create(world)
    with pytest.raises(Unauthorized):
        actor_of(world, text)


def test_a_revoked_token_opens_nothing_and_says_the_same(world):
    token_id, text = create(world)
    said = []
    revoke(world, ADA, token_id)
    for tried in (text, "daas_unknown"):
        with pytest.raises(Unauthorized) as error:
            actor_of(world, tried)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_revoking_again_changes_nothing(world):
    token_id, _ = create(world)
    revoke(world, ADA, token_id)
    (before,) = world.all(Token)
    world.pass_s(100)
    revoke(world, ADA, token_id)
    assert world.all(Token)[0].revoked_at == before.revoked_at


@pytest.mark.parametrize("actor, error", [(BEN, Forbidden), (EVE, NotFound)])
def test_nobody_else_revokes_adas_token(world, actor, error):
    token_id, text = create(world)
    with pytest.raises(error):
        revoke(world, actor, token_id)
    assert actor_of(world, text) == ADA


@pytest.mark.parametrize("actor", [ADA, BOSS, OPERATOR])
def test_its_owner_and_administrators_do(world, actor):
    token_id, text = create(world)
    revoke(world, actor, token_id)
    with pytest.raises(Unauthorized):
        actor_of(world, text)


def test_lists_show_to_each_what_is_theirs(world):
    hers, his, theirs = (
        create(world, name, tenant)[0]
        for name, tenant in (("ada", "acme"), ("ben", "acme"), ("eve", "evil"))
    )
    with world.database.reading() as db:
        seen = {a.name: {t.id for t in tokens.mine(db, a)} for a in (ADA, BEN, EVE, BOSS, OPERATOR)}
    assert seen == {
        "ada": {hers},
        "ben": {his},
        "eve": {theirs},
        "boss": {hers, his},
        "op": {hers, his, theirs},
    }


def test_making_and_revoking_are_on_record(world):
    token_id, _ = create(world)
    revoke(world, ADA, token_id)
    told = [(e.subject, e.after, e.actor, e.tenant) for e in world.all(Event)]
    assert told == [(token_id, "created", "op", "acme"), (token_id, "revoked", "ada", "acme")]


def test_an_installation_knows_whether_anybody_can_log_in(world):
    with world.database.reading() as db:
        assert not tokens.has_any(db)
    create(world)
    with world.database.reading() as db:
        assert tokens.has_any(db)
