"""Migrations lead from nothing to exactly the tables of the code, and back."""

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

import daas.db
from daas.db import Database
from daas.tables import METADATA
from support.waiting import race


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


def test_the_migrated_tables_are_the_models(database):
    """Catches: a column in a model that no migration makes, or the other way round."""
    assert difference(database) == []


def test_the_migrated_indexes_are_the_models(database):
    """Catches: a partial index that lost its condition: 100,000 deleted rows in it."""
    migrated = {k: v for k, v in indexes(database).items() if not k.endswith("_key")}
    migrate(database, "downgrade", "base")
    METADATA.create_all(database.engine)
    made = {k: v for k, v in indexes(database).items() if not k.endswith("_key")}

    assert migrated == made
    assert made["builds_one_at_a_time"] == (True, True) and made["jobs_due"] == (False, True)


def test_a_difference_would_be_seen(database):
    """The control of the tests above."""
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE tenants ADD COLUMN colour VARCHAR"))
        connection.execute(text("DROP INDEX jobs_due"))
    assert {d[0] for d in difference(database)} == {"remove_column", "add_index"}


def test_every_step_back_works_and_forward_again(database):
    migrate(database, "downgrade", "base")
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    assert database.revision()[0] is None

    migrate(database, "upgrade", "head")
    assert difference(database) == []


def test_migrating_again_changes_nothing(world):
    name = world.ask()
    world.database.migrate()
    assert world.load(name).name == name and difference(world.database) == []


def test_the_revision_says_whether_it_is_this_codes(database):
    is_at, needs = database.revision()
    assert is_at == needs is not None


def test_some_that_migrate_at_once_do_not_break_it(tmp_path):
    """Catches: `daas init` and `daas serve` started together on a new machine."""

    def deed(_):
        database = Database(f"sqlite:///{tmp_path}/new/daas.db", threads=1)
        database.migrate()
        database.dispose()

    assert race(4, deed) == [None] * 4
