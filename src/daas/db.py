"""The engine, the clock, `reading()` and `transaction()`. The rule: a thread has at most one
of them open, and never while it does slow work."""

import fcntl
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    ColumnElement,
    Float,
    bindparam,
    create_engine,
    event,
    func,
    literal_column,
    select,
)
from sqlalchemy import inspect as inspect_engine
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.functions import FunctionElement

from daas.errors import NotReady

UPSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000")
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATOR = 0x5CE3A  # the advisory lock of the one who migrates
ALONE = 0xA10E  # the class of those of alone()

offset_s = 0.0  # tests move time here, for every reader of the clock at once


class Base(DeclarativeBase):
    pass


class Database:
    """One engine. `threads` is how many of ours will use it at the same time."""

    def __init__(self, url: str, threads: int = 8):
        parsed = make_url(url)
        options: dict[str, Any] = {"pool_size": threads + 4, "max_overflow": 0}
        if parsed.get_backend_name() == "postgresql":
            # A server that was restarted is noticed at check-out, not by the request.
            options |= {"pool_pre_ping": True, "connect_args": {"connect_timeout": 5}}
        self.url = url
        self.engine = create_engine(url, **options)
        self._reader = self.engine.execution_options(reading=True, postgresql_readonly=True)
        self._writer: AbstractContextManager[None] = nullcontext()
        if self.is_sqlite:
            self._writer = FairLock(Path(f"{parsed.database}.lock"))
            event.listen(self.engine, "connect", _prepare)
            event.listen(self.engine, "begin", _begin)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Commit on success, roll back on any exception. NotReady when the database is away."""
        with (
            _outermost(),
            _away_is_not_ready(),
            self._writer,
            Session(self.engine, expire_on_commit=False) as db,
            db.begin(),
        ):
            yield db

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A snapshot to read from; it waits for no writer, and no writer waits for it."""
        with (
            _outermost(),
            _away_is_not_ready(),
            Session(self._reader, expire_on_commit=False) as db,
            db.begin(),
        ):
            yield db

    def migrate(self) -> None:
        """The schema is the one of this code. Again changes nothing."""
        if self.is_sqlite and (file := self.engine.url.database):
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        with _away_is_not_ready(), self._writer:
            config = _alembic()
            with self.engine.connect() as connection:
                config.attributes["connection"] = connection
                if not self.is_sqlite:  # whose writers stand in line already
                    connection.execute(select(func.pg_advisory_xact_lock(MIGRATOR)))
                command.upgrade(config, "head")

    def revision(self) -> tuple[str | None, str | None]:
        """The schema's revision as it is, and as this code needs it."""
        head = ScriptDirectory.from_config(_alembic()).get_current_head()
        with _away_is_not_ready(), self._reader.connect() as connection:
            if not inspect_engine(connection).has_table("alembic_version"):
                return None, head
            return MigrationContext.configure(connection).get_current_revision(), head

    def dispose(self) -> None:
        self.engine.dispose()


def now() -> ColumnElement[float]:
    """The database's clock in epoch seconds: hosts disagree about the time, it does not."""
    return _epoch_s() + bindparam(None, callable_=lambda: offset_s, type_=Float())


def upsert(db: Session, table: type[Base]) -> Any:
    """Return an INSERT that knows ON CONFLICT, which both dialects spell the same."""
    return UPSERTS[db.get_bind().dialect.name](table)


def alone(db: Session, what: str) -> None:
    """Until `db` ends nobody else does `what`: for a choice that no row's lock could guard,
    because its row is yet to come. (SQLite's writer is alone anyway.)"""
    if db.get_bind().dialect.name == "postgresql":
        db.execute(select(func.pg_advisory_xact_lock(ALONE, func.hashtext(what))))


def is_open() -> bool:
    """Is a transaction open in this thread?"""
    return getattr(_thread, "is_open", False)


def literal(word: str) -> ColumnElement[Any]:
    """A constant of ours inside the statement: with a parameter in its place the planners
    cannot tell that a query is covered by a partial index."""
    return literal_column(f"'{word}'")


class FairLock:
    """Goes to those who wait in order of arrival, and (by a file) to one process at a time.
    SQLite's own busy wait sleeps and retries: under load it starves some writers for seconds."""

    def __init__(self, path: Path) -> None:
        self._guard = threading.Lock()
        self._queue: deque[Any] = deque()
        self._is_held = False
        self._path = path
        self._file: int | None = None

    def __enter__(self) -> None:
        turn = threading.Lock()
        turn.acquire()
        with self._guard:
            is_mine = not self._is_held
            self._is_held = True
            if not is_mine:
                self._queue.append(turn)
        if not is_mine:
            turn.acquire()  # released by the one before us
        try:
            self._flock()
        except BaseException:
            self._pass_on()
            raise

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        self._pass_on()

    def _flock(self) -> None:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError:
                return  # a read-only place: SQLite itself will say so, better than we could
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def _pass_on(self) -> None:
        with self._guard:
            if self._queue:
                self._queue.popleft().release()  # stays held, by the next
            else:
                self._is_held = False


_thread = threading.local()


@contextmanager
def _outermost() -> Iterator[None]:
    if is_open():
        raise RuntimeError("a transaction is already open in this thread")
    _thread.is_open = True
    try:
        yield
    finally:
        _thread.is_open = False


@contextmanager
def _away_is_not_ready() -> Iterator[None]:
    """The database is away, full or read-only: for whoever asked that is a 503, not a 500."""
    try:
        yield
    except OperationalError as error:
        raise NotReady(f"The database does not answer as it should: {_why(error)}") from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise NotReady("The database went away; try again.") from error


def _why(error: OperationalError) -> str:
    text = str(error.orig).lower()
    for word, said in (
        ("readonly", "its file is read-only. Give the service's user write access to it."),
        ("full", "the disk is full. Free some room."),
        (
            "unable to open",
            "its file cannot be opened. Run `daas init` if there is none; if there is, give the "
            "service's user write access to it and its folder.",
        ),
        ("no such table", "it has no tables yet. Run `daas init`."),
        ("locked", "another program holds it."),
    ):
        if word in text:
            return said
    return "is it running? See `daas doctor`."


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


class _epoch_s(FunctionElement[float]):  # noqa: N801 (reads as a function of SQL)
    type = Float()
    inherit_cache = True


@compiles(_epoch_s, "sqlite")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(_epoch_s, "postgresql")
def _(element: Any, compiler: Any, **kw: Any) -> str:
    # Not clock_timestamp(): it is volatile, so no index could be searched with it.
    return "CAST(extract(epoch FROM statement_timestamp()) AS double precision)"


def _prepare(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves, below
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    # A writer takes the lock at once: a read lock that must be upgraded later fails with
    # "database is locked" instead of waiting. A reader takes none.
    is_reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql(f"PRAGMA query_only={'ON' if is_reading else 'OFF'}")
    connection.exec_driver_sql("BEGIN" if is_reading else "BEGIN IMMEDIATE")
