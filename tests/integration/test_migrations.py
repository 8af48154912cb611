"""Migrations lead from nothing to exactly the tables of the code, and back."""

import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

import daas.db
from daas import tenants
from daas.db import Database
from daas.nodes.models import Cluster, Node, Reservation
from daas.tables import METADATA


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """Not the one that other tests share: here tables come and go."""
    if request.param == "sqlite":
        context = nullcontext(f"sqlite:///{tmp_path}/new/daas.db")
    else:
        context = request.getfixturevalue("postgresql").new()
    with context as url:
        made = Database(url, threads=4)
        yield made
        made.dispose()


@pytest.fixture
def migrated(database):
    database.migrate()
    return database


def difference(database):
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, METADATA)


def indexes(database):
    """Names and conditions: of the latter autogenerate compares nothing."""
    found = {}
    for table in METADATA.tables:
        for index in inspect(database.engine).get_indexes(table):
            options = index.get("dialect_options", {})
            where = [str(v) for k, v in options.items() if k.endswith("_where")]
            found[index["name"]] = (bool(index["unique"]), bool(where and where[0]))
    return found


def migrate(database, verb, revision):
    config = daas.db._alembic()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        getattr(command, verb)(config, revision)


def test_the_migrated_tables_are_the_models(migrated):
    """Catches: a column in a model that no migration makes, or the other way round."""
    assert difference(migrated) == []


def test_the_migrated_indexes_are_the_models(migrated):
    """Catches: a partial index that lost its condition: 100,000 deleted rows in it."""
    by_migration = {k: v for k, v in indexes(migrated).items() if not k.endswith("_key")}
    migrate(migrated, "downgrade", "base")
    METADATA.create_all(migrated.engine)
    made = {k: v for k, v in indexes(migrated).items() if not k.endswith("_key")}

    assert by_migration == made
    assert made["builds_one_at_a_time"] == (True, True) and made["jobs_due"] == (False, True)


def test_a_difference_would_be_seen(migrated):
    """The control of the tests above."""
    with migrated.engine.begin() as connection:
        connection.execute(text("ALTER TABLE tenants ADD COLUMN colour VARCHAR"))
        connection.execute(text("DROP INDEX jobs_due"))
    assert {d[0] for d in difference(migrated)} == {"remove_column", "add_index"}


def test_every_step_back_works_and_forward_again(migrated):
    migrate(migrated, "downgrade", "base")
    assert set(inspect(migrated.engine).get_table_names()) <= {"alembic_version"}
    assert migrated.revision()[0] is None

    migrate(migrated, "upgrade", "head")
    assert difference(migrated) == []


def test_migrating_again_changes_nothing(migrated):
    with migrated.transaction() as db:
        tenants.make(db, "acme", 7)
    migrated.migrate()
    with migrated.transaction() as db:
        assert tenants.lock(db, "acme").max_sessions == 7
    assert difference(migrated) == []


def test_the_revision_says_whether_it_is_this_codes(database):
    database.migrate()
    is_at, needs = database.revision()
    assert is_at == needs is not None


def test_some_that_migrate_at_once_do_not_break_it(database):
    """Catches: `daas init` and `daas serve` started together on a new machine."""
    code = f"from daas.db import Database; Database({database.url!r}, 1).migrate()"
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]

    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert difference(database) == []


ROOM_OF_1_1 = """INSERT INTO clusters (name, kind) VALUES ('local', 'lxd');
INSERT INTO nodes (cluster, name, is_online, why, cpus, memory_mib, taken)
    VALUES ('local', 'here', true, '', 4, 8192, '[]'),
    ('local', 'gone', false, 'away', 4, 8192, '[]');
INSERT INTO reservations (session, cluster, node, memory_mib, address)
    VALUES ('desktop-aaaaaa', 'local', 'here', 1024, '10.0.0.9'), ('lost', 'local', NULL, 1, NULL);
INSERT INTO sessions (name, nonce, tenant, created_by, is_shared, cluster, template,
        template_version, image, size, cpus, memory_mib, disk_gib, reserve_mib, options, status,
        status_since, desired, created_at, version, is_password_given, provider_state)
    VALUES ('desktop-aaaaaa', 'n', 'acme', 'ada', false, 'local', 'debian', 1, 'image-1', 'small',
        2, 1024, 8, 1024, '{}', 'ready', 1.0, 'running', 1.0, 1, false, '{}')"""


def test_an_installation_of_1_1_is_upgraded_with_what_it_holds(database):
    """Catches: NOT NULL columns without a value for the rows that are there already, and desktops
    that take no cores because placement never heard of them."""
    if database.is_sqlite:
        Path(database.engine.url.database).parent.mkdir()
    migrate(database, "upgrade", "0001")
    with database.engine.begin() as connection:
        for statement in ROOM_OF_1_1.split(";"):
            connection.execute(text(statement))
    database.migrate()
    with database.transaction() as db:
        placed = db.scalars(select(Reservation).where(Reservation.node == "here")).one()
        here, gone = (db.get_one(Node, ("local", name)) for name in ("here", "gone"))
        cluster = db.get_one(Cluster, "local")

    assert (placed.cpus, placed.image, placed.tenant) == (2, "image-1", "acme")
    assert (here.foreign_mib, here.foreign_numbers, here.images) == (0, [], None)
    assert here.offline_since is None and gone.offline_since == pytest.approx(time.time(), abs=60)
    assert (here.is_maintenance, cluster.first_number) == (False, None)


def test_a_full_installation_can_go_back_to_1_1(database):
    """Catches: a table made anew in SQLite, whose keys others point at."""
    test_an_installation_of_1_1_is_upgraded_with_what_it_holds(database)
    migrate(database, "downgrade", "0001")
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT name, kind FROM clusters")).one() == ("local", "lxd")
