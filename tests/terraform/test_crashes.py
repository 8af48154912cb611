"""Killed, stopped, beside itself: the state is kept, nobody lingers, nothing is done twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from daas import process
from daas.errors import Stopped
from daas.providers.terraform import workdir
from daas.providers.terraform.errors import TerraformFailed
from daas.providers.terraform.runner import Terraform
from support.terraform import NAME, SECRETS, TOFU, Site
from support.waiting import until

RUN = """
import json, sys
from pathlib import Path
from daas.providers.terraform.runner import Terraform
program, module, work, name, variables = sys.argv[1:]
terraform = Terraform(program, Path(module), Path(work), None, 1, {})
given = json.loads(variables)
print(terraform.apply(name, given, {"token_secret": "x"}, None, lambda s: None, lambda n: None))
"""


@pytest.fixture
def site(terraform):
    return Site(terraform)


def another(program, module, tmp_path, name=NAME, **variables):
    """A worker of its own that runs Terraform."""
    told = json.dumps({"vmid": 1, **variables})
    args = [sys.executable, "-c", RUN, program, str(module), str(tmp_path / "work"), name, told]
    return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def those_in(folder: Path) -> list[int]:
    """Processes that work there."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(link).startswith(str(folder)):
                found.append(int(link.parent.name))
        except OSError:
            continue
    return found


def test_eight_processes_race_for_one_golden_directory(program, module, tmp_path):
    racers = [another(program, module, tmp_path, f"desktop-{n}") for n in range(8)]
    said = [racer.communicate(timeout=120)[0] for racer in racers]

    assert [racer.returncode for racer in racers] == [0] * 8, said
    assert len([p for p in (tmp_path / "work/golden").iterdir() if p.is_dir()]) == 1


def test_a_module_that_was_changed_is_initialised_anew(site, module, tmp_path):
    site.apply()
    (module / "more.tf").write_text('output "more" { value = 5 }')
    outputs = site.apply()

    assert outputs["more"] == 5
    assert len([p for p in (tmp_path / "work/golden").iterdir() if p.is_dir()]) == 2


def test_of_a_killed_worker_the_state_is_taken_over_and_nobody_lingers(
    site, program, module, tmp_path
):
    runs = tmp_path / "work/runs"
    worker = another(program, module, tmp_path, command=f"touch {tmp_path}/begun; exec sleep 60")
    until(lambda: (tmp_path / "begun").exists(), 20)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    site.apply(vmid=1)

    until(lambda: those_in(runs) == [])
    assert sorted(site.resources()) == ["desktop", "network"]


def test_an_orphan_that_hangs_is_killed(site, program, module, tmp_path, monkeypatch):
    monkeypatch.setattr(workdir, "ORPHAN_S", 0.5)
    command = f"trap '' INT; touch {tmp_path}/hangs; while :; do sleep 0.2; done"
    worker = another(program, module, tmp_path, command=command)
    until(lambda: (tmp_path / "hangs").exists(), 20)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    orphans = those_in(tmp_path / "work/runs")
    site.apply(vmid=1)

    assert orphans != []
    assert not any(pid in orphans for pid in those_in(tmp_path / "work/runs"))


def test_a_killed_terraform_is_an_error_and_what_it_started_goes_with_it(site, program, tmp_path):
    def kill():
        until(lambda: (tmp_path / "begun").exists(), 20)
        for pid in those_in(tmp_path / "work/runs"):
            if "apply" in Path(f"/proc/{pid}/cmdline").read_text():
                os.kill(pid, signal.SIGKILL)

    threading.Thread(target=kill).start()
    with pytest.raises(TerraformFailed) as failed:
        site.apply(command=f"touch {tmp_path}/begun; exec sleep 60")

    assert failed.value.exit_code == -signal.SIGKILL
    until(lambda: those_in(tmp_path / "work/runs") == [])
    if not program.endswith("tofu"):  # that writes its state down at the end only
        assert "network" in site.resources()


def test_a_slot_of_a_killed_worker_is_free_again(program, module, tmp_path):
    worker = another(program, module, tmp_path, command=f"touch {tmp_path}/begun; exec sleep 60")
    until(lambda: (tmp_path / "begun").exists(), 20)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    site = Site(Terraform(program, module, tmp_path / "work", None, 1, {}))
    outputs = site.apply("desktop-bbbbbb")

    assert outputs == {"vmid": 20000}


def test_no_more_run_at_once_than_there_are_slots(program, module, tmp_path):
    terraform = Terraform(program, module, tmp_path / "work", None, 2, {})
    busy = tmp_path / "busy"
    busy.mkdir()
    command = f"touch {busy}/$$; ls {busy} | wc -l >>{tmp_path}/counts; sleep 0.4; rm {busy}/$$"
    with ThreadPoolExecutor(5) as pool:
        apply = lambda n: Site(terraform).apply(f"desktop-{n}", command=command)  # noqa: E731
        list(pool.map(apply, range(5)))

    counts = [int(line) for line in (tmp_path / "counts").read_text().split()]
    assert len(counts) == 5
    assert max(counts) == 2


def test_whoever_waits_for_a_slot_can_be_stopped(program, module, tmp_path):
    one = Terraform(program, module, tmp_path / "work", None, 1, {})
    busy = threading.Thread(
        target=lambda: Site(one).apply(command=f"touch {tmp_path}/begun; sleep 3")
    )
    busy.start()
    until(lambda: (tmp_path / "begun").exists(), 20)
    flag = threading.Event()
    token = process.stop.set(flag)
    threading.Timer(0.3, flag.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        Site(one).apply("desktop-bbbbbb")
    waited_s = time.monotonic() - began
    process.stop.reset(token)
    busy.join()

    assert waited_s < 1.0


def test_a_state_that_could_not_be_kept_is_there_at_the_next_try(site, tmp_path):
    """Catches: a directory that is removed although the database did not take the state."""

    def away(state: str) -> None:
        raise ConnectionError("the database is away")

    kept: list[str] = []
    with pytest.raises(ConnectionError):
        site.terraform.apply(NAME, {"vmid": 1}, SECRETS, None, away, site.notes.append)
    site.terraform.apply(NAME, {"vmid": 2}, SECRETS, None, kept.append, site.notes.append)

    first, second = (json.loads(state)["outputs"]["vmid"]["value"] for state in kept)
    assert (first, second) == (1, 2)
    assert list((tmp_path / "work/runs").iterdir()) == []


def test_directories_that_nobody_asks_for_again_go(site, tmp_path):
    runs = tmp_path / "work/runs"
    (runs / "desktop-gone-1").mkdir(parents=True)
    (runs / "desktop-gone-1.lock").touch()
    os.utime(runs / "desktop-gone-1.lock", (1, 1))
    site.apply()

    assert list(runs.iterdir()) == []


def test_the_program_of_the_other_kind_is_here():
    """Where only one of both is, half of these tests says nothing."""
    if not TOFU.exists():
        pytest.skip("build/tools/tofu is not here; see deploy/terraform-tools")
    assert subprocess.run([TOFU, "version"], capture_output=True, check=True).stdout
