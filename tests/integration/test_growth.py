"""Age does not slow us down."""

import time

import pytest
from sqlalchemy import text

from daas.jobs.lanes import Lane
from daas.sessions import queries
from support.databases import on_sqlite
from support.world import ADA

OLD = 100_000
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows)"
SESSIONS = f"""
INSERT INTO sessions (name, nonce, tenant, owner, created_by, pool, is_shared, cluster, template,
    template_version, image, size, cpus, memory_mib, disk_gib, reserve_mib, options, status,
    status_since, desired, created_at, version, provider_state, is_password_given)
{NUMBERS} SELECT 'old-' || i, 'n', 'acme', 'ada', 'ada', 'win', :no, 'one', 'debian',
    1, 'i', 'small', 1, 1024, 8, 1024, '{{}}', 'deleted',
    0, 'deleted', 0, 1, '{{}}', :no FROM n"""
EVENTS = f"""
INSERT INTO events (seq, hash, at, tenant, subject, before, after, actor, reason)
{NUMBERS} SELECT i, 'x', 0, 'acme', 'session/old-' || i, '', 'deleted', 'ada', '' FROM n"""


def median_ms(deed, count=25):
    times = []
    for _ in range(count):
        began = time.perf_counter()
        deed()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[count // 2]


def grow(world, rows=OLD):
    """That many sessions were here once, each with an event."""
    with world.database.transaction() as db:
        db.execute(text("UPDATE events SET seq = NULL, hash = NULL"))
        db.execute(text(SESSIONS), {"rows": rows, "no": False})
        db.execute(text(EVENTS), {"rows": rows})
        db.execute(text("ANALYZE sessions"))  # as autovacuum does, or `PRAGMA optimize`


def verbs(world):
    """What people and workers do all day, by name."""
    worker = world.worker()

    def listed():
        with world.database.reading() as db:
            queries.listed(db, ADA, limit=50)

    def counted():
        with world.database.reading() as db:
            queries.count_by_status(db)

    return {
        "request": lambda: world.ask(pool="win"),
        "list": listed,
        "count": counted,
        "claim and look": lambda: worker.work_once(Lane.LOOK),
        "reuse": lambda: world.request(reuse=True),
    }


def measure(world):
    for verb in verbs(world).values():
        verb()  # the first of each builds its statements
    return {name: median_ms(verb) for name, verb in verbs(world).items()}


def test_nothing_slows_down_with_100_000_deleted_sessions(world):
    """Catches: counting, claiming or listing over all rows that ever were: 2 ms became 13."""
    before = measure(world)
    grow(world)
    after = measure(world)

    print({name: (round(before[name], 1), round(after[name], 1)) for name in before})
    slower = {n: (before[n], after[n]) for n in before if after[n] > 3 * before[n] + 3}
    assert slower == {}


@on_sqlite
def test_without_the_partial_indexes_it_would(world):
    """The control of the test above."""
    with world.database.transaction() as db:
        for name in ("sessions_tenant", "sessions_owner", "sessions_pool", "sessions_live"):
            db.execute(text(f"DROP INDEX {name}"))
    before = measure(world)
    grow(world, 60_000)
    after = measure(world)
    assert [n for n in before if after[n] > 3 * before[n] + 3]


PLANNED = {
    "quota": "SELECT count(*) FROM sessions WHERE tenant = 'acme' AND status != 'deleted'",
    "list": "SELECT id FROM sessions WHERE status != 'deleted' ORDER BY id DESC LIMIT 20",
    "due": "SELECT id FROM jobs WHERE lane = 'look' AND leased_until = 0 AND priority = 1 "
    "ORDER BY run_at LIMIT 1",
}


@on_sqlite
@pytest.mark.parametrize("what", PLANNED)
def test_the_queries_that_matter_search_an_index(database, what):
    """Catches: a condition that the planner cannot match with its partial index."""
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {PLANNED[what]}")
        plan = " ".join(str(row) for row in rows)
    assert "INDEX sessions_" in plan or "INDEX jobs_due" in plan, plan
