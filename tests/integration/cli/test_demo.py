"""`make demo` after its packages: from nothing to a desktop, again, and on another port."""

import json
import os
import re
import signal
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from support.command import DAAS, Product, free_port
from support.waiting import until

ROOT = Path(__file__).parents[3]


@pytest.fixture
def demo(bare, tmp_path):
    """Run the demo; what it left running is stopped after the test."""

    def run(port=None):
        if port:
            bare.port = port
        env = {**bare.environment, "DAAS_DEMO_BUILD": str(tmp_path / "build")}
        done = subprocess.run([*DAAS, "demo"], env=env, capture_output=True, text=True, timeout=120)
        return done, _json(tmp_path / "build/demo.json")

    yield run
    if found := _json(bare.data_dir / "serve.json"):
        os.kill(found["pid"], signal.SIGTERM)
        until(lambda: not bare.is_up(), 20)


def _json(path):
    return json.loads(path.read_text()) if path.exists() else None


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


def test_from_nothing_to_a_desktop_and_again_the_same_one(demo, bare, tmp_path):
    first, made = demo()
    again, same = demo()

    assert first.returncode == again.returncode == 0, first.stderr
    assert "building debian-12-xfce" in first.stderr and "building" not in again.stderr
    assert made["id"] == same["id"] and made["provider"] == "simulated"
    assert mode(tmp_path / "build/demo.json") == mode(made["password_file"]) == 0o600


def test_what_it_prints_is_ready_to_use_and_holds_no_secret(demo, bare):
    done, made = demo()

    token = Path(made["token_file"]).read_text().strip()
    password = Path(made["password_file"]).read_text().strip()
    answer = httpx.get(
        re.search(r"http://\S+$", made["curl"])[0], headers={"Authorization": f"Bearer {token}"}
    )
    shown = done.stdout + done.stderr + json.dumps(made)
    assert answer.json()["id"] == made["id"]
    assert "-H @" in made["curl"] and token not in made["curl"]
    assert "/from-stdin:force" in made["xfreerdp"] and made["password_file"] in made["xfreerdp"]
    assert {made["id"], made["user"], made["xfreerdp"], made["curl"]} <= set(
        re.split(r"\n *|  +", done.stdout)
    )
    assert token not in shown and password not in shown


def test_another_port_moves_the_service_there(demo, bare):
    demo()
    old, new = bare.port, free_port()

    done, made = demo(new)

    assert done.returncode == 0 and made["url"].endswith(f":{new}")
    assert not Product(bare.data_dir, old, bare.home).is_up()


def test_a_taken_port_is_one_sentence_that_names_the_setting(demo, product):
    done, made = demo(product.port)

    assert done.returncode == 2 and made is None
    assert f"ORCHESTRATOR_PORT={product.port + 1}" in done.stderr


def test_make_help_lists_what_there_is():
    done = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )

    for target in ("demo", "test", "check", "e2e", "bench", "dev", "clean"):
        assert f"make {target} " in done.stdout
