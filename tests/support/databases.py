"""An empty, migrated database for each test, copied from one that was migrated once."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from daas.db import Database
from support.postgres import Server

THREADS = 64
TEMPLATE = "empty"
_numbers = itertools.count(1)

# For a test that is about one of them only.
on_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


class SqliteFiles:
    """Copies of one migrated file."""

    def __init__(self, folder: Path):
        self._template = folder / "empty.db"
        made = Database(f"sqlite:///{self._template}", threads=1)
        made.migrate()
        made.dispose()  # the last connection writes the log back into the file

    def url(self, folder: Path) -> str:
        shutil.copyfile(self._template, folder / "daas.db")
        return f"sqlite:///{folder}/daas.db"


class PostgresDatabases:
    """Copies of one migrated database, in one server."""

    def __init__(self, server: Server):
        self.server = server
        self._admin = server.url("postgres").replace("+psycopg", "")
        self._sql(f"CREATE DATABASE {TEMPLATE}")
        made = Database(server.url(TEMPLATE), threads=1)
        made.migrate()
        made.dispose()

    @contextmanager
    def one(self) -> Iterator[str]:
        name = f"test_{next(_numbers)}"
        self._sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
        try:
            yield self.server.url(name)
        finally:
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _sql(self, statement: str) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(statement.encode())
