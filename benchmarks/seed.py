"""Rows put into the database directly: lives that nobody has the time to wait for."""

import sqlite3
import time
from pathlib import Path

NUMBERS = "WITH RECURSIVE k(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM k WHERE i < {count})"
EVENTS_EACH = 9  # a life leaves so many


def deleted(data_dir: Path, like: str, count: int) -> None:
    """`count` more sessions, deleted as `like` is, with the events they leave."""
    with _open(data_dir) as db:
        _copy(db, like, count, "gone")
        db.execute(
            "INSERT INTO events (seq, hash, at, tenant, subject, before, after, actor, reason) "
            f"{NUMBERS.format(count=count * EVENTS_EACH)} "
            "SELECT (SELECT max(seq) FROM events) + i, 'seeded', 0, 'default', "
            f"'session/gone-' || (i / {EVENTS_EACH}), 'a', 'b', 'system', 'step finished' FROM k"
        )


def ready(data_dir: Path, like: str, count: int) -> None:
    """There are `count` sessions as ready as `like` is, each with its room and its job at rest."""
    with _open(data_dir) as db:
        have = db.execute("SELECT count(*) FROM sessions WHERE name LIKE 'ready-%'").fetchone()[0]
        _copy(db, like, count - have, f"ready-{have}")
        fresh = f"FROM sessions WHERE name LIKE 'ready-{have}-%'"
        room = "cluster, memory_mib, node"
        db.execute(
            f"INSERT INTO reservations (session, {room}) "
            f"SELECT name, cluster, reserve_mib, node {fresh}"
        )
        db.execute(
            "INSERT INTO jobs (kind, key, lane, priority, run_at, leased_until, lease, wakes, "
            "attempts) SELECT 'session', name, 'look', 1, ?, 0, '', 1, 0 " + fresh,
            (time.time() + 3600,),
        )


def _copy(db: sqlite3.Connection, like: str, count: int, prefix: str) -> None:
    about = db.execute("PRAGMA table_info(sessions)").fetchall()
    columns = ", ".join(row[1] for row in about if row[1] not in ("id", "name"))
    db.execute(
        f"INSERT INTO sessions (name, {columns}) {NUMBERS.format(count=count)} "
        f"SELECT '{prefix}-' || i, {columns} FROM k, (SELECT * FROM sessions WHERE name = ?)",
        (like,),
    )


def _open(data_dir: Path) -> sqlite3.Connection:
    return sqlite3.connect(data_dir / "daas.db", timeout=60)
