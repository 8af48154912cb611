"""The supervisor: starts again what dies, and leaves nobody behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from daas.cli import supervisor
from support.waiting import until

RUN = "import sys; from daas.cli.supervisor import keep_running; sys.exit(keep_running({commands}))"


@pytest.fixture
def start(tmp_path):
    """Start a supervisor of these commands; it is killed after the test."""
    started = []

    def run(**commands):
        given = {name: [sys.executable, "-c", code] for name, code in commands.items()}
        code = RUN.format(commands=repr(given))
        started.append(subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path))
        return started[-1]

    yield run
    for one in started:
        one.kill()
        one.wait()


def noting(name, then):
    """Code that writes its process id to a file first."""
    return f"import os,time,signal; open('{name}','a').write(f'{{os.getpid()}}\\n'); {then}"


def pids(path):
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_that_dies_is_started_again_and_the_other_is_left_alone(start, tmp_path):
    start(dies=noting("dies", "time.sleep(60)"), lives=noting("lives", "time.sleep(60)"))
    until(lambda: pids(tmp_path / "dies") and pids(tmp_path / "lives"))

    os.kill(pids(tmp_path / "dies")[0], signal.SIGKILL)

    until(lambda: len(pids(tmp_path / "dies")) == 2)
    assert len(pids(tmp_path / "lives")) == 1


def test_a_child_that_dies_at_once_is_not_started_in_a_busy_loop(start, tmp_path):
    start(dies=noting("dies", "raise SystemExit(1)"))

    until(lambda: pids(tmp_path / "dies"))
    time.sleep(2.5)

    assert 2 <= len(pids(tmp_path / "dies")) <= 3  # at 0, 0.5, 1.5 s


def test_wrong_settings_end_it_all(start, tmp_path):
    made = start(wrong="raise SystemExit(2)", other=noting("other", "time.sleep(60)"))

    assert made.wait(10) == supervisor.MISCONFIGURED
    assert not any(is_alive(pid) for pid in pids(tmp_path / "other"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_children_and_ends_it(start, tmp_path, number):
    made = start(one=noting("one", "time.sleep(60)"))
    until(lambda: pids(tmp_path / "one"))

    began = time.monotonic()
    made.send_signal(number)

    assert made.wait(10) == 0
    assert time.monotonic() - began < 2
    assert not is_alive(pids(tmp_path / "one")[0])


def test_a_child_that_does_not_listen_is_killed_within_six_seconds(start, tmp_path):
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); open('deaf','w'); time.sleep(60)"
    made = start(one=noting("one", deaf))
    until(lambda: (tmp_path / "deaf").exists())

    began = time.monotonic()
    made.terminate()

    assert made.wait(10) == 0
    assert time.monotonic() - began < 6.5
    assert not is_alive(pids(tmp_path / "one")[0])


@pytest.mark.parametrize("is_followed", [True, False])
def test_a_child_ends_with_a_supervisor_that_was_killed(start, tmp_path, is_followed):
    """The negative control: without `follow` it would live on, and hold the port."""
    follows = "import daas.cli.supervisor as s; s.follow(os.getppid()); " * is_followed
    made = start(one=noting("one", f"{follows}open('up','w'); time.sleep(60)"))
    until(lambda: (tmp_path / "up").exists())
    pid = pids(tmp_path / "one")[0]

    made.kill()
    made.wait()

    if is_followed:
        until(lambda: not is_alive(pid))
    else:
        time.sleep(0.5)
        assert is_alive(pid)
        os.kill(pid, signal.SIGKILL)


def test_back_off_grows_with_each_death_and_ends():
    child = supervisor.Child("x", [sys.executable, "-c", "raise SystemExit(1)"])
    waits = []
    for _ in range(12):
        child.start_if_due(child.due_s)
        now_s = child.due_s
        until(lambda: child.is_gone)
        child.ended(now_s)
        waits.append(child.due_s - now_s)

    assert waits[:3] == [0.5, 1.0, 2.0] and waits[-1] == supervisor.BACK_OFF_MAX_S
