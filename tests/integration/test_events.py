"""The record: complete, in order, and tamper-evident."""

import threading

import pytest
from sqlalchemy import update

from daas import events
from daas.events import Event
from support.databases import on_postgresql

CHANGES = {
    "actor": "eve",
    "reason": "x",
    "at": 1.0,
    "subject": "x",
    "after": "x",
    "before": "x",
    "tenant": "evil",
    "hash": "0" * 64,
}


def say(db, reason, subject="session/desktop-a", tenant="acme"):
    events.record(db, subject, "", "requested", "ada", reason, tenant)


def say_all(world, *reasons, **kw):
    for reason in reasons:
        with world.database.transaction() as db:
            say(db, reason, **kw)


def read_on(world, seq, **kw):
    with world.database.reading() as db:
        return [(e.seq, e.reason) for e in events.after(db, seq, **kw)]


def verify(world):
    with world.database.reading() as db:
        return events.verify(db)


def seal_all(world):
    while events.seal(world.database):
        pass


@on_postgresql
def test_a_reader_misses_no_event_that_commits_late(world):
    """Catches: a cursor over ids, which passes over a row that is committed after a younger
    one. (SQLite has one writer: there the late one simply comes second.)"""
    inside, may_commit = threading.Event(), threading.Event()

    def late():
        with world.database.transaction() as db:
            say(db, "late")
            db.flush()  # draws the smaller id
            inside.set()
            may_commit.wait(5)

    thread = threading.Thread(target=late)
    thread.start()
    inside.wait(5)
    say_all(world, "early")
    assert events.seal(world.database)
    assert read_on(world, 0) == [(1, "early")]
    may_commit.set()
    thread.join()
    assert events.seal(world.database)

    assert read_on(world, 1) == [(2, "late")]
    assert not events.seal(world.database)
    assert verify(world) is None


def test_many_writers_and_sealers_leave_one_whole_chain(world):
    """Catches: two sealers that give one `seq` twice, or leave a gap."""

    def deed(i):
        for n in range(6):
            if i % 4:
                say_all(world, f"{i}.{n}")
            else:
                events.seal(world.database)

    assert world.race(32, deed) == [None] * 32
    seal_all(world)
    assert [seq for seq, _ in read_on(world, 0, limit=1000)] == list(range(1, 145))
    assert verify(world) is None


@pytest.mark.parametrize("column", CHANGES)
def test_verify_names_a_row_that_was_changed(world, column):
    """Catches: a hash that leaves a column out."""
    say_all(world, *"abcdef")
    seal_all(world)
    assert verify(world) is None
    with world.database.transaction() as db:
        db.execute(update(Event).where(Event.seq == 4).values({column: CHANGES[column]}))
    assert verify(world) == 4


def test_verify_names_a_row_that_was_taken_out_and_two_that_changed_places(world):
    """Catches: a chain that does not depend on the past."""
    say_all(world, *"abcdef")
    seal_all(world)
    with world.database.transaction() as db:
        for seq, other in ((2, 99), (3, 2), (99, 3)):
            db.execute(update(Event).where(Event.seq == seq).values(seq=other))
    assert verify(world) == 2
    with world.database.transaction() as db:
        db.query(Event).filter_by(seq=2).delete()
    assert verify(world) == 2


def test_readers_do_not_see_what_is_not_sealed(world):
    say_all(world, "new")
    assert read_on(world, 0) == []


def test_events_are_sealed_in_the_order_in_which_they_were_written(world):
    say_all(world, *"abc")
    seal_all(world)
    say_all(world, *"de")
    seal_all(world)
    assert read_on(world, 0) == list(enumerate("abcde", 1))
    assert read_on(world, 3) == [(4, "d"), (5, "e")]
    assert read_on(world, 0, limit=2) == [(1, "a"), (2, "b")]


def test_each_tenant_reads_its_own(world):
    """Catches: Eve reads who works at Ada's."""
    say_all(world, "hers")
    say_all(world, "theirs", tenant="evil")
    say_all(world, "of the installation", tenant="")
    seal_all(world)

    assert read_on(world, 0, tenant="evil") == [(2, "theirs")]
    assert read_on(world, 0, subject="session/desktop-a", tenant="acme") == [(1, "hers")]
    assert len(read_on(world, 0)) == 3


def test_what_is_rolled_back_did_not_happen(world):
    with pytest.raises(ZeroDivisionError), world.database.transaction() as db:
        say(db, "never")
        1 / 0
    assert world.all(Event) == []


def test_a_long_queue_is_sealed_in_pieces(world, monkeypatch):
    monkeypatch.setattr(events, "BATCH", 4)
    say_all(world, *"abcdefghij")
    count = 0
    while events.seal(world.database):
        count += 1
    assert count == 3 and verify(world) is None
    with world.database.reading() as db:
        assert events.last_seq(db) == 10


def test_text_in_any_script_is_sealed_and_verified(world):
    say_all(world, "éèçà €", "日本", "\u2028", "a\x7fb")
    seal_all(world)
    assert verify(world) is None


def test_a_whole_life_is_on_record_with_who_and_why(world):
    name = world.ask()
    world.drain()
    world.delete(name)
    world.drain()
    seal_all(world)

    told = [(e.after, e.actor) for e in world.events(name)]
    assert told[0] == ("requested", "ada") and ("ready", "ada") in told
    assert told[-1] == ("deleted", "system")
    assert {e.tenant for e in world.events(name)} == {"acme"}
    assert verify(world) is None
