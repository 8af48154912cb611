"""Log lines in the database: in order, for any process to stream, gone with their subject."""

import pytest
from sqlalchemy.exc import OperationalError

from daas import logs
from daas.logs import LogLine, LogWriter


def read(world, subject, after=0, **kw):
    with world.database.reading() as db:
        return [line.text for line in logs.after(db, subject, after, **kw)]


def write(world, subject, *lines):
    with world.database.transaction() as db:
        logs.write(db, subject, list(lines))


def test_lines_come_in_order_and_go_on_where_one_stopped(world):
    write(world, "build/a", "one", "two")
    write(world, "build/b", "other")
    write(world, "build/a", "three")
    cursor = world.all(LogLine)[1].id

    assert read(world, "build/a") == ["one", "two", "three"]
    assert read(world, "build/a", cursor) == ["three"]
    assert read(world, "build/a", limit=1) == ["one"]


def test_a_line_without_end_is_cut(world):
    write(world, "build/a", "x" * 10**6)
    assert read(world, "build/a") == ["x" * logs.LINE_MAX]


def test_what_is_forgotten_takes_nothing_else_with_it(world):
    write(world, "build/a", "one")
    write(world, "build/ab", "two")
    with world.database.transaction() as db:
        logs.forget(db, "build/a")
    assert (read(world, "build/a"), read(world, "build/ab")) == ([], ["two"])


def test_a_writer_writes_a_few_times_a_second_not_for_each_line(world):
    """Catches: ten thousand transactions for the output of one apt-get."""
    writer, count = LogWriter(world.database, "build/a"), []
    real = world.database.transaction
    world.database.transaction = lambda: (count.append(1), real())[1]
    for n in range(500):
        writer(f"line {n}")
    writer.flush()
    writer.flush()  # nothing is left to write

    assert read(world, "build/a", limit=1000) == [f"line {n}" for n in range(500)]
    assert len(count) <= 8


def test_lines_wait_while_the_database_is_away_and_stop_nobody(world):
    writer = LogWriter(world.database, "build/a")
    real = world.database.transaction

    def away():
        raise OperationalError("x", {}, Exception("gone"))

    world.database.transaction = away
    writer("one")
    writer.flush()
    world.database.transaction = real
    writer("two")
    writer.flush()

    assert read(world, "build/a") == ["one", "two"]


@pytest.mark.parametrize("text", ["é €", "", "a\tb", "\x1b[31mred\x1b[0m"])
def test_a_line_is_kept_as_it_came(world, text):
    write(world, "build/a", text)
    assert read(world, "build/a") == [text]


def test_a_nul_byte_in_the_output_of_a_program_loses_no_other_line(world):
    """Catches: PostgreSQL refuses NUL in a text; the whole batch would be tried for ever."""
    writer = LogWriter(world.database, "build/a")
    writer("before")
    writer("a\0b")
    writer("after")
    writer.flush()
    assert [line.replace("\0", "") for line in read(world, "build/a")] == ["before", "ab", "after"]
