"""Child processes: none outlives the step it serves, and none sees our secrets."""

import sys
import threading
import time
from pathlib import Path

import pytest

from daas import process
from daas.errors import CommandFailed, Stopped

PYTHON = sys.executable


@pytest.fixture
def flag():
    flag = threading.Event()
    token = process.stop.set(flag)
    yield flag
    process.stop.reset(token)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_process_is_killed_when_its_step_is_to_stop(flag):
    threading.Timer(0.3, flag.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        process.run(["sh", "-c", "sleep 60 & sleep 60"], timeout_s=60)
    assert time.monotonic() - began < 3


def test_what_the_child_itself_started_goes_with_it(flag, tmp_path):
    """Catches: kill of the child alone; `terraform` has plugins, `ansible-playbook` has ssh."""
    pids = tmp_path / "pids"
    script = f"sleep 60 & echo $! >> {pids}; echo $$ >> {pids}; wait"
    with pytest.raises(CommandFailed):
        process.run(["sh", "-c", script], timeout_s=0.5)

    assert [alive(int(pid)) for pid in pids.read_text().split()] == [False, False]


def test_one_that_ignores_being_asked_is_killed(flag, monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.3)
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="stopped after"):
        process.run(["sh", "-c", "trap '' INT TERM; while :; do sleep 0.1; done"], timeout_s=0.3)
    assert time.monotonic() - began < 3


def test_a_child_process_has_a_time_limit(flag):
    with pytest.raises(CommandFailed, match=r"^sleep \(stopped after 0 s\)"):
        process.run(["sleep", "60"], timeout_s=0.3)


def test_the_output_is_returned_whole(flag):
    """Catches: a pipe that is read only when the child has ended, and is full by then."""
    assert process.run([PYTHON, "-c", "print('x' * 300000)"], 20) == "x" * 300000 + "\n"


def test_each_line_is_handed_on_as_it_comes(flag):
    seen = []
    script = "import time; print('a', flush=True); time.sleep(0.4); print('b')"
    process.run([PYTHON, "-c", script], 20, on_line=lambda s: seen.append((s, time.monotonic())))

    assert [line for line, _ in seen] == ["a", "b"]
    assert seen[1][1] - seen[0][1] > 0.3


def test_a_failure_keeps_exit_code_and_tail_but_does_not_print_them(flag):
    with pytest.raises(CommandFailed) as failed:
        process.run(["sh", "-c", "echo secret; exit 3"], 5)
    assert (failed.value.exit_code, failed.value.tail) == (3, "secret\n")
    assert "secret" not in str(failed.value)


def test_a_tail_has_an_end(flag):
    with pytest.raises(CommandFailed) as failed:
        process.run([PYTHON, "-c", "print('x' * 99999); exit(1)"], 20)
    assert len(failed.value.tail) == process.TAIL


def test_our_own_settings_do_not_reach_a_child(flag, monkeypatch):
    monkeypatch.setenv("DAAS_DATABASE_URL", "postgresql+psycopg://daas:hunter2@db/daas")
    monkeypatch.setenv("NOT_OURS", "kept")
    said = process.run(["env"], 5, env={"TF_VAR_x": "given", "DAAS_LOG": "on purpose"})

    assert "hunter2" not in said
    assert "NOT_OURS=kept" in said and "TF_VAR_x=given" in said and "DAAS_LOG=on" in said


def test_a_secret_goes_by_stdin(flag):
    assert process.run(["cat"], 5, stdin=b"hunter2") == "hunter2"
    assert process.run(["cat"], 5) == ""  # and without one, nobody waits for a keyboard


def test_more_stdin_than_a_pipe_holds_is_no_deadlock(flag):
    assert len(process.run(["cat"], 10, stdin=b"x" * 1_000_000)) == 1_000_000


def test_a_program_that_is_not_there_is_named_with_the_remedy(flag):
    with pytest.raises(CommandFailed, match=r"no-such-program .*PATH") as failed:
        process.run(["no-such-program"], 5)
    assert failed.value.exit_code == 127


def test_a_child_runs_where_it_is_told_to(flag, tmp_path):
    assert process.run(["pwd"], 5, cwd=tmp_path) == f"{tmp_path}\n"


def test_output_that_is_no_utf_8_is_no_error(flag):
    assert process.run(["printf", r"\377"], 5) == "\ufffd"


def test_nobody_elses_stop_is_mine(flag):
    """Catches: one global flag: a delete of one session that stops the steps of all."""
    other = threading.Thread(target=flag.set)
    other.start()
    other.join()
    done = []
    thread = threading.Thread(target=lambda: done.append(process.run(["echo", "a"], 5)))
    thread.start()
    thread.join()

    assert done == ["a\n"]
