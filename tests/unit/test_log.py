"""Logs: one JSON object a line, with what is bound, and nothing of other threads."""

import json
import logging
import threading

import pytest

from daas import log


@pytest.fixture(autouse=True)
def _restore():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def lines(capsys):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_is_json_with_time_level_and_what_is_bound(capsys):
    log.setup("json")
    with log.bind(session="desktop-a", request="r1"):
        logging.getLogger("daas.x").info("made %s", "it")
    (line,) = lines(capsys)

    assert (line["event"], line["level"], line["logger"]) == ("made it", "info", "daas.x")
    assert (line["session"], line["request"]) == ("desktop-a", "r1")
    assert line["timestamp"].endswith("Z")


def test_what_was_bound_is_gone_afterwards_and_is_not_in_other_threads(capsys):
    """Catches: a worker's thread that writes the session before on the lines of the next."""
    log.setup("json")
    with log.bind(session="desktop-a"):
        thread = threading.Thread(target=logging.getLogger("x").warning, args=("other",))
        thread.start()
        thread.join()
    logging.getLogger("x").warning("after")

    assert [line.get("session") for line in lines(capsys)] == [None, None]


def test_an_exception_is_one_line_with_its_traceback(capsys):
    log.setup("json")
    try:
        1 / 0
    except ZeroDivisionError:
        logging.getLogger("x").exception("broke")
    (line,) = lines(capsys)

    assert "ZeroDivisionError" in line["exception"]


def test_where_stderr_is_no_terminal_auto_means_json(capsys):
    log.setup("auto")
    logging.getLogger("x").warning("a")
    assert lines(capsys)[0]["event"] == "a"


def test_for_people_it_is_text(capsys):
    log.setup("text")
    logging.getLogger("x").warning("a word")
    said = capsys.readouterr().err
    assert "a word" in said and not said.startswith("{")


def test_the_level_is_kept(capsys):
    log.setup("json", "warning")
    logging.getLogger("x").info("quiet")
    assert lines(capsys) == []
