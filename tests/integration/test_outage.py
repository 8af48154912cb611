"""The database goes away, is full, or may not be written: a sentence, and then all goes on."""

import contextlib
import subprocess
import threading
import time

import pytest

from daas.db import Database
from daas.errors import NotReady
from daas.sessions.models import Session
from support import postgres
from support.databases import THREADS, on_postgresql, on_sqlite
from support.waiting import until
from support.world import furnish


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def mounted(folder, *options):
    """A small file system at `folder`; skipped where one may not mount."""
    done = run("mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(folder))
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield
    finally:
        run("umount", "-l", str(folder))


@contextlib.contextmanager
def bound_read_only(folder):
    done = run("mount", "--bind", folder, folder)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        assert run("mount", "-o", "remount,bind,ro", folder).returncode == 0
        yield
    finally:
        run("umount", "-l", folder)


@pytest.fixture
def small_disk(world, sqlite_files, tmp_path):
    """The world on a disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, "size=4m"):
        database = Database(sqlite_files.url(folder), THREADS)
        before, world.database = world.database, database
        furnish(world)
        yield folder
        database.dispose()
        world.database = before


@on_sqlite
def test_a_full_disk_is_a_503_with_a_sentence_and_passes(world, small_disk):
    """Catches: a traceback, a 500, or a database that is broken afterwards."""
    name = world.ask()
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    with pytest.raises(NotReady, match=r"the disk is full\. Free some room\."):
        for _ in range(2000):
            world.ask()
    assert world.load(name).name == name  # reading still works
    filler.unlink()
    world.drain()

    assert world.load(name).status == "ready"


@on_sqlite
def test_a_worker_outlives_a_full_disk(world, small_disk, running):
    running()
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    names = []
    with pytest.raises(NotReady):
        for _ in range(2000):
            names.append(world.ask())
    time.sleep(1)
    filler.unlink()
    name = world.ask()
    until(lambda: world.load(name).status in ("booting", "ready"), 20)


@on_sqlite
def test_a_read_only_file_is_a_503_with_a_sentence_and_passes(world):
    """Really read-only, for root too: the folder is mounted over itself."""
    name, folder = world.ask(), str(world.data_dir)
    world.database.dispose()
    with bound_read_only(folder):
        with pytest.raises(NotReady, match=r"[Gg]ive the service's user write access"):
            world.ask()
        fresh = Database(world.database.url, threads=1)  # as a process that starts now
        with pytest.raises(NotReady, match=r"read-only|cannot be opened"):
            fresh.migrate()
        fresh.dispose()
        world.database.dispose()
    world.drain()
    assert world.load(name).status == "ready"


@on_sqlite
def test_a_file_that_is_not_there_says_what_to_run(world, tmp_path):
    gone = Database(f"sqlite:///{tmp_path}/no/such/folder/daas.db", threads=1)
    with pytest.raises(NotReady, match="daas init"), gone.reading() as db:
        db.query(Session).all()
    empty = Database(f"sqlite:///{tmp_path}/empty.db", threads=1)
    with pytest.raises(NotReady, match=r"no tables yet\. Run `daas init`"), empty.reading() as db:
        db.query(Session).all()


@pytest.fixture
def server():
    """A server of this test alone: it is stopped in the middle."""
    if why := postgres.missing():
        pytest.skip(why)
    server = postgres.Server()
    try:
        server.init()
        server.start()
        yield server
    finally:
        with contextlib.suppress(AssertionError):
            server.stop()
        server.remove()


@pytest.fixture
def remote(world, server):
    """The world on that server."""
    database = Database(server.url("postgres"), THREADS)
    database.migrate()
    world.database = database
    furnish(world)
    yield world
    database.dispose()


@on_sqlite  # the database of the world itself is not used
def test_postgresql_restarted_under_a_busy_worker_fails_no_session(remote, server, running):
    """Catches: a worker that dies with its connections; a session `failed` by a restart; verbs
    that answer 500, and go on doing so with dead connections out of the pool."""
    world = remote
    world.provider.poll_s = 0.1
    worker = running(lease_s=5.0, heartbeat_s=0.5)
    names, errors, is_over = [], [], threading.Event()

    def people():
        while not is_over.is_set():
            try:
                names.append(world.ask())
            except Exception as error:
                errors.append(error)
            time.sleep(0.05)

    thread = threading.Thread(target=people)
    thread.start()
    until(lambda: len(names) > 10)
    server.stop()
    until(lambda: errors)
    with pytest.raises(NotReady):
        world.ask()
    server.start()
    asked = len(names)
    until(lambda: len(names) > asked + 5, 20)
    is_over.set()
    thread.join()

    assert {type(e) for e in errors} == {NotReady}
    until(lambda: {s.status for s in world.all(Session)} == {"ready"}, 40)
    assert {s.name for s in world.all(Session)} >= set(names)
    assert sorted(world.provider.machines) == sorted(s.name for s in world.all(Session))
    worker.stop()


@on_postgresql
def test_a_deadlock_or_a_broken_connection_is_no_error_of_the_person(world):
    with pytest.raises(NotReady, match=r"try again|doctor"), world.database.transaction() as db:
        pid = db.connection().exec_driver_sql("SELECT pg_backend_pid()").scalar()
        with world.database.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        db.query(Session).all()
    assert world.ask()


@on_postgresql
def test_a_worker_told_to_stop_while_the_database_is_away_stops(world, running, monkeypatch):
    worker = running()
    time.sleep(0.2)

    def away(self):
        raise NotReady("The database went away; try again.")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", away)
        patch.setattr(Database, "reading", away)
        time.sleep(0.3)
        began = time.monotonic()
        worker.stop()
        assert time.monotonic() - began < 5.5
