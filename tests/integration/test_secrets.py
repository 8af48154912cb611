"""Nothing secret reaches a log, an event, an error, a call's arguments or the database in clear."""

import logging
import subprocess

import pytest
from sqlalchemy import text

from daas import log
from daas.db import Base
from daas.events import Event
from daas.sessions import service
from fakes.providers import Fails
from support.databases import on_postgresql, on_sqlite
from support.world import ADA

GIVEN = "hunter2-é-given-by-ada"


def everything_stored(world):
    """Every cell of every table, as text."""
    with world.database.reading() as db:
        rows = [db.execute(text(f"SELECT * FROM {t}")).all() for t in Base.metadata.tables]
    return repr(rows)


def live(world, **wish):
    name = world.ask(local_user="ada", **wish)
    world.drain()
    return name


def private_keys(world, name):
    personal = world.provider.specs[name].personal
    return [personal["tls.key"].decode(), personal["ssh_host_ed25519_key"].decode()]


@pytest.mark.parametrize("password", [GIVEN, None])
def test_no_secret_is_stored_in_clear(world, password):
    """Catches: a column that keeps a password, a key or a hash as it is."""
    name = world.ask(local_user="ada", password=password)
    stored = everything_stored(world)
    world.drain()
    stored += everything_stored(world)
    if password is None:
        with world.database.transaction() as db:
            _, password = service.credential(db, ADA, name, world.vault)
    hashed = world.provider.specs[name].personal["user"].decode().strip()

    assert password not in stored and hashed not in stored and hashed[4:] not in stored
    for key in private_keys(world, name):
        assert key.splitlines()[1] not in stored


def test_no_secret_is_in_what_is_said(world, capsys, caplog):
    """Catches: a log line, an event, a reason or an error with a password in it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log.setup("json", "debug")
    root.addHandler(caplog.handler)
    try:
        name = live(world, password=GIVEN)
        world.delete(name)
        world.drain()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    said = capsys.readouterr().err + caplog.text + repr([vars(e) for e in world.all(Event)])

    assert name in said  # it was not silent
    assert GIVEN not in said and "$2b$" not in said and "PRIVATE KEY" not in said


def test_no_secret_is_among_the_arguments_of_a_call(world):
    """Catches: `chpasswd ada:secret`, which `ps` shows to everybody."""
    (warm,) = world.warm()
    with world.database.transaction() as db:
        db.query(service.Session).filter_by(name=warm).update(
            {"local_user": "ada", "password": world.vault.seal(GIVEN)}
        )
    world.ask(pool="win")
    world.drain()

    assert world.provider.told[warm].startswith("ada:$2b$")
    assert "$2b$" not in repr(world.provider.calls) and GIVEN not in repr(world.provider.calls)


def test_a_spec_that_is_printed_shows_no_personal_file(world):
    name = live(world)
    said = repr(world.provider.specs[name])
    assert "PRIVATE KEY" not in said and "$2b$" not in said


def test_an_error_that_carries_a_secret_keeps_it_from_the_person(world):
    world.provider = Fails(world.vault.instance, "ensure", RuntimeError(f"password={GIVEN}"))
    name = live(world)
    assert world.load(name).status == "failed"
    assert GIVEN not in everything_stored(world)


def test_two_sessions_share_no_password(world):
    passwords = set()
    for _ in range(5):
        name = live(world)
        with world.database.transaction() as db:
            passwords.add(service.credential(db, ADA, name, world.vault)[1])
    assert len(passwords) == 5


def test_after_deletion_nothing_of_a_secret_is_left_encrypted_either(world):
    name = live(world)
    sealed = [world.load(name).password, world.load(name).personal]
    world.delete(name)
    world.drain()
    stored = everything_stored(world)
    assert all(sealed) and not [s for s in sealed if s in stored]


@on_sqlite
def test_the_database_file_is_nobody_elses(world):
    live(world)
    modes = {p.name: p.stat().st_mode & 0o777 for p in world.data_dir.glob("daas.db.lock")}
    assert modes == {"daas.db.lock": 0o600}


@on_postgresql
def test_the_password_of_the_database_is_not_in_the_list_of_processes(world):
    """The url travels by environment or file, and psycopg takes it in memory."""
    live(world)
    listed = subprocess.run(["ps", "axww"], capture_output=True, text=True, check=True).stdout
    assert "postgresql+psycopg://" not in listed
