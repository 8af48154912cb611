"""Migrations lead from nothing to exactly the tables of the code, and back."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

import daas.db
from daas import tenants
from daas.db import Database
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
