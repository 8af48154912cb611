"""`daas init`, `serve`, `db`: the life of an installation."""

import json
import os
import signal
import socket
from pathlib import Path

import pytest

from daas.cli import server
from support.waiting import until

DAY_FILES = ("key", "instance", "token")


def children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def test_init_shows_the_token_once_and_keeps_it_in_a_private_file(bare):
    first, again = bare.run("init"), bare.run("init")

    token = first.stdout.strip()
    file = bare.data_dir / "secrets/token"
    assert token.startswith("daas_") and file.read_text().strip() == token
    assert {(bare.data_dir / "secrets" / n).stat().st_mode & 0o777 for n in DAY_FILES} == {0o600}
    assert str(file) in first.stderr
    assert again.returncode == 0 and again.stdout == "" and token not in again.stderr


def test_a_lost_token_can_be_replaced_on_the_machine_itself(bare):
    lost = bare.run("init").stdout.strip()

    made = bare.json("init", "--new-token")

    assert made["token"].startswith("daas_") and made["token"] != lost
    assert Path(made["token_file"]).read_text().strip() == made["token"]


def test_serve_without_init_says_to_run_it(bare):
    done = bare.run("serve")

    assert done.returncode == 2 and "daas init" in done.stderr


def test_serve_on_a_taken_port_says_how_to_choose_another(bare):
    bare.run("init")
    with socket.socket() as other:
        other.bind(("127.0.0.1", bare.port))
        other.listen()
        done = bare.run("serve")

    assert done.returncode == 2
    assert str(bare.port) in done.stderr and "ORCHESTRATOR_PORT" in done.stderr


def test_a_wrong_setting_is_named(bare):
    done = bare.run("init", DAAS_PROVIDER="vmware")

    assert done.returncode == 2 and "DAAS_PROVIDER" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_place_that_is_not_ours_is_one_sentence(bare):
    done = bare.run("init", DAAS_DATA_DIR="/proc/daas")

    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert "DAAS_DATA_DIR" in done.stderr


def test_serve_runs_both_parts_again_after_a_kill_and_ends_in_time(bare):
    bare.run("init")
    bare.serve()
    parts = children(bare.service.pid)
    assert len(parts) == 2

    os.kill(parts[0], signal.SIGKILL)
    until(lambda: len(children(bare.service.pid)) == 2, 20)
    until(bare.is_up, 30)
    assert parts[0] not in children(bare.service.pid)

    assert bare.stop() < 6
    assert bare.run("session", "list").returncode == 1  # nobody holds the port


def test_a_killed_serve_leaves_nobody_behind_who_holds_the_port(bare):
    bare.run("init")
    bare.serve()
    parts = children(bare.service.pid)

    bare.service.kill()
    bare.service.wait()

    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in parts), 10)
    server.check_port("127.0.0.1", bare.port)


def test_db_status_and_upgrade(bare):
    bare.run("init")
    current = bare.json("db", "status")
    again = bare.run("db", "upgrade")

    assert current["is_current"] and current["revision"] == current["needed"]
    assert again.returncode == 0


def test_db_status_of_an_empty_database_says_to_run_init(bare):
    bare.data_dir.mkdir()

    done = bare.run("db", "status")

    assert done.returncode == 1 and "daas init" in done.stderr


def test_it_runs_on_postgresql_too(bare, postgresql):
    with postgresql.new() as url:
        bare.database_url = url
        made = bare.json("init")
        bare.serve()
        found = {f["id"]: f for f in json.loads(bare.run("doctor", "--json").stdout)}
        assert bare.stop() < 6

    assert made["token"].startswith("daas_")
    assert {found[word]["result"] for word in ("database", "worker", "instance")} == {"ok"}


@pytest.mark.parametrize("word", ["init", "serve", "worker", "web"])
def test_help_says_what_each_part_does(bare, word):
    done = bare.run(word, "--help")

    assert done.returncode == 0 and f"Usage: daas {word}" in done.stdout
