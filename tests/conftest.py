"""Fixtures for all: the PostgreSQL server, a database of each kind, the world, a running worker."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import daas.db
from daas import crypto
from daas.db import Database
from daas.worker import Worker
from fakes.providers import FakeProvider
from support import postgres
from support.databases import THREADS, PostgresDatabases, SqliteFiles
from support.world import FAST, World, furnish
from support.world import settings as make_settings


@pytest.fixture(autouse=True)
def _nothing_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of whoever runs the tests are not the tests' business."""
    for name in list(os.environ):
        if name.startswith("DAAS_") and not name.startswith(("DAAS_TEST_", "DAAS_CONTRACT")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("DAAS_ENV_FILE", "/nonexistent")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresDatabases]:
    """A server for the whole run. Missing ones are an error where CI says `required`."""
    if why := postgres.missing():
        if os.environ.get("DAAS_TEST_POSTGRES") == "required":
            pytest.fail(f"DAAS_TEST_POSTGRES=required, but {why}")
        pytest.skip(why)
    server = postgres.Server()
    try:
        server.init()
        server.start()
        yield PostgresDatabases(server)
        server.stop()
    finally:
        server.remove()


@pytest.fixture(scope="session")
def sqlite_files(tmp_path_factory: pytest.TempPathFactory) -> SqliteFiles:
    return SqliteFiles(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database with all tables, of each kind."""
    if request.param == "sqlite":
        made = Database(request.getfixturevalue("sqlite_files").url(tmp_path), THREADS)
        yield made
        made.dispose()
        return
    made = Database(request.getfixturevalue("postgresql").emptied(), THREADS)
    yield made
    made.dispose()


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> crypto.Vault:
    folder = tmp_path_factory.mktemp("secrets")
    crypto.make_secrets(folder)
    return crypto.Vault(folder)


@pytest.fixture
def world(database: Database, vault: crypto.Vault, tmp_path: Path) -> Iterator[World]:
    daas.db.offset_s = 0.0
    settings = make_settings(data_dir=tmp_path, provider="simulated")
    world = World(database, FakeProvider(vault.instance), vault, tmp_path, settings)
    furnish(world)
    yield world
    daas.db.offset_s = 0.0


@pytest.fixture
def running(world: World) -> Iterator[Callable[..., Worker]]:
    """Start a real worker; it is stopped after the test."""
    workers: list[Worker] = []

    def start(name: str = "1", **values: object) -> Worker:
        world.settings = make_settings(data_dir=world.data_dir, **{**FAST, **values})
        workers.append(world.worker(name))
        workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()
