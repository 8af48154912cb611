"""An empty, migrated database for each test, copied from one that was migrated once."""

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from daas.db import Database
from daas.tables import METADATA
from support.postgres import Server

THREADS = 64
SHARED = "shared"
END_OTHERS = b"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""
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
    """One migrated database that is emptied for each test, and new ones for those who ask.
    (CREATE and DROP DATABASE write a checkpoint each: a second on a busy machine.)"""

    def __init__(self, server: Server):
        self.server = server
        self._connect("postgres").execute(f"CREATE DATABASE {SHARED}".encode())
        made = Database(server.url(SHARED), threads=1)
        made.migrate()
        made.dispose()
        self._shared = self._connect(SHARED)

    def emptied(self) -> str:
        """The url of the shared database, without a row or a connection of the test before."""
        try:
            self._empty()
        except psycopg.OperationalError:  # a test restarted the server
            self._shared = self._connect(SHARED)
            self._empty()
        return self.server.url(SHARED)

    @contextmanager
    def new(self) -> Iterator[str]:
        """The url of a database without any table."""
        name = f"test_{next(_numbers)}"
        admin = self._connect("postgres")
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        try:
            yield self.server.url(name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
            admin.close()

    def _empty(self) -> None:
        self._shared.execute(END_OTHERS)
        probes = (f"SELECT '{t}' WHERE EXISTS (SELECT FROM {t})" for t in METADATA.tables)
        used = [row[0] for row in self._shared.execute(" UNION ALL ".join(probes).encode())]
        if used:
            tables = ", ".join(used)
            self._shared.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE".encode())

    def _connect(self, name: str) -> psycopg.Connection[Any]:
        url = self.server.url(name).replace("+psycopg", "")
        return psycopg.connect(url, autocommit=True)
