"""Recordings replay; one that was changed in a single place does not."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pve_simulator.replay import replay
from pve_simulator.replay.compare import Names, differences

RECORDINGS = Path(__file__).parent / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))
BEHAVIOUR = RECORDINGS / "api-behaviour.jsonl"


def run(world, recording):
    return subprocess.run(
        [sys.executable, "-m", "pve_simulator.cli", "replay", "--world", world, recording],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_replays(name):
    outcome = replay(RECORDINGS / f"{name}.yaml", RECORDINGS / f"{name}.jsonl")

    assert [e.n for e in outcome.exchanges if outcome.differences(e)] == []


def test_the_command_says_how_many_match():
    done = run(RECORDINGS / "cluster-2nodes.yaml", RECORDINGS / "cluster-2nodes.jsonl")

    assert done.stdout.splitlines()[-1] == "50/50 exchanges match"
    assert done.returncode == 0


def changed_reason(row):
    row["reason"] = "VM 9001 already exists"


def changed_status(row):
    row["status"] = 200


def changed_type(row):
    row["ctype"] = "text/html"


def changed_message(row):
    row["response"]["message"] = row["response"]["message"].replace("9001", "9002")


def number_for_text(row):
    row["response"]["data"]["memory"] = 256


def missing_key(row):
    del row["response"]["data"]["scsi0"]


def another_value(row):
    row["response"]["data"]["cores"] = 2


def key_too_many(row):
    row["response"]["data"]["sockets"] = 1


def another_exit(row):
    row["response"]["data"]["exitstatus"] = "OK"


def another_vm(row):
    row["response"]["data"][0]["vmid"] = 102


def row_too_few(row):
    row["response"]["data"].pop()


def running_counter(row):
    row["response"]["data"][0]["mem"] = 1000


def another_task_type(row):
    row["response"]["data"] = row["response"]["data"].replace("qmclone", "qmcreate")


def another_mac(row):
    row["response"]["data"]["net0"] = "virtio=BC:24:11:E0:58:3C,bridge=vmbr0"


@pytest.mark.parametrize(
    ("n", "mutilate"),
    [
        (40, changed_reason),
        (40, changed_status),
        (40, changed_type),
        (40, changed_message),
        (51, number_for_text),
        (51, missing_key),
        (51, another_value),
        (51, key_too_many),
        (63, another_exit),
        (23, another_vm),
        (23, row_too_few),
        (23, running_counter),
        (48, another_task_type),
        (51, another_mac),
    ],
)
def test_a_mutilated_recording_is_found_out(tmp_path, n, mutilate):
    rows = [json.loads(line) for line in BEHAVIOUR.read_text().splitlines()]
    mutilate(rows[n - 1])
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join(json.dumps(row) for row in rows))

    done = run(RECORDINGS / "api-behaviour.yaml", broken)

    assert done.returncode == 1
    assert f"exchange {n} at" in done.stdout or mutilate is another_mac
    assert not done.stdout.splitlines()[-1].startswith("117/")


def test_names_are_learned_once_and_for_all():
    names = Names("bc:24:11:00:00:01")
    first = "virtio=BC:24:11:AA:AA:AA"

    assert differences(first, "virtio=BC:24:11:BB:BB:BB", names) == []
    assert differences(first, "virtio=BC:24:11:CC:CC:CC", names) != []
    assert differences("bc:24:11:aa:aa:aa", "bc:24:11:bb:bb:bb", names) == []
    assert differences("virtio=BC:24:11:DD:DD:DD", "virtio=BC:24:11:BB:BB:BB", names) != []
    assert names.translate("net0=virtio=BC:24:11:AA:AA:AA") == "net0=virtio=BC:24:11:BB:BB:BB"
    # What the world file names has that name.
    assert differences("BC:24:11:00:00:01", "BC:24:11:00:00:02", names) != []


@pytest.mark.parametrize(
    ("expected", "got", "same"),
    [
        ({"cpu": 0.5}, {"cpu": 0}, True),
        ({"cpu": 0.5}, {"cpu": "0.5"}, False),
        ({"status": "stopped", "mem": 0}, {"status": "stopped", "mem": 7}, False),
        ({"maxmem": 1}, {"maxmem": 2}, False),
        ({"agent": "1"}, {"agent": 1}, False),
        ({"data": None}, {"data": ""}, False),
        ({"value": "UUID"}, {"value": "3d2c1f0a-0000-4000-8000-000000009001"}, True),
        ({"value": "UUID"}, {"value": "nothing"}, False),
        ({"content": "iso,images"}, {"content": "images,iso"}, True),
        ({"content": "iso,images"}, {"content": "images"}, False),
        ([{"key": "a"}, {"key": "b"}], [{"key": "b"}, {"key": "a"}], True),
        ([{"key": "a"}, {"key": "b"}], [{"key": "b"}, {"key": "c"}], False),
        ({"errors": "format error\na: x\nb: y\n"}, {"errors": "format error\nb: y\na: x\n"}, True),
    ],
)
def test_what_counts_as_the_same(expected, got, same):
    assert (differences(expected, got, Names()) == []) is same


def test_a_recording_may_say_what_the_clock_showed(tmp_path):
    name = "bpg-0.111-linked-clone-agent"
    rows = [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]
    for row in rows:
        row["t"] += 1795382320
        row["response"] = json.dumps(row["response"]) if row["response"] else ""
    absolute = tmp_path / "absolute.jsonl"
    absolute.write_text("\n".join(json.dumps(row) for row in rows))

    assert replay(RECORDINGS / f"{name}.yaml", absolute).matches


def test_who_asked_may_be_said(tmp_path):
    world_file = tmp_path / "world.yaml"
    text = (RECORDINGS / "api-behaviour.yaml").read_text()
    said = 'replay: {asker: "root@pam!tf", askers: {"2-3": nobody}}'
    world_file.write_text(f"{text}\n{said}\n")

    outcome = replay(world_file, BEHAVIOUR)

    assert outcome.played.wrong == [2, 3]
    assert outcome.played.askers[19] == "lim@pve!t2"


@pytest.mark.parametrize("line", ["{", '{"n": 1}', "[]"])
def test_what_is_no_recording_is_refused_by_line(tmp_path, line):
    broken = tmp_path / "broken.jsonl"
    broken.write_text(line)

    done = run(RECORDINGS / "api-behaviour.yaml", broken)

    assert done.returncode == 2
    assert "line 1 is no exchange" in done.stderr
