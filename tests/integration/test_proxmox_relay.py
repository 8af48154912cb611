"""The door through which Terraform speaks to Proxmox: nobody gets through with anything else than
the run's own secret, nothing is changed on the way, and nobody polls."""

import socket
import stat
import time
from urllib.parse import urlsplit

import pytest
import requests
from pve_simulator import Simulator

from daas.providers.proxmox.client import Access, Client
from daas.providers.proxmox.relay import Relay
from support.terraform import WORLD

TOKEN_ID = "root@pam!simulator"


@pytest.fixture
def sim():
    with Simulator(WORLD, latencies="fast") as simulator:
        yield simulator


@pytest.fixture
def relay(sim, tmp_path):
    return Relay(Client(Access((sim.url,), TOKEN_ID, sim.token_secret, sim.ca_file)), tmp_path)


def ask(relay, door, path, method="GET", secret=None, **options):
    headers = {"Authorization": f"PVEAPIToken={TOKEN_ID}={secret or door.secret}"}
    url = f"{door.url}/api2/json{path}"
    options = {"timeout": 30, "verify": relay.ca_file, **options}
    return requests.request(method, url, headers=headers, **options)


def direct(sim, path, method="GET", **options):
    headers = {"Authorization": f"PVEAPIToken={TOKEN_ID}={sim.token_secret}"}
    url = f"{sim.url}/api2/json{path}"
    return requests.request(method, url, headers=headers, verify=sim.ca_file, timeout=30, **options)


def test_the_secret_of_the_run_opens_the_door_and_is_not_the_tokens(relay, sim):
    with relay.door() as door:
        answer = ask(relay, door, "/version")

    assert answer.json()["data"]["version"].startswith("8.4")
    assert sim.token_secret not in (door.secret, repr(door))
    assert door.secret not in repr(door)


@pytest.mark.parametrize("secret", ["", "00000000-0000-0000-0000-000000000000", "the token's"])
def test_any_other_secret_is_refused_and_proxmox_is_not_asked(relay, sim, secret):
    shown = sim.token_secret if secret == "the token's" else secret or "="
    with relay.door() as door:
        answer = ask(relay, door, "/version", secret=shown)

    assert answer.status_code == 401
    assert sim.calls == []


def test_when_the_run_has_ended_a_provider_that_lingers_can_do_nothing(relay, sim):
    with relay.door() as door:
        ask(relay, door, "/version")
    answer = ask(relay, door, "/nodes/pve1/qemu/9000", "DELETE")

    assert answer.status_code == 401
    assert [call.request.method for call in sim.calls] == ["GET"]


@pytest.mark.parametrize(
    "method, path, body",
    [
        ("GET", "/nodes/pve1/qemu/9000/config", None),
        ("GET", "/nodes/pve1/qemu/4711/config", None),
        ("GET", "/cluster/nextid?vmid=9000", None),
        ("GET", "/no/such/path", None),
        ("PUT", "/nodes/pve1/qemu/9000/config", {"cores": "many"}),
        ("PUT", "/nodes/pve1/qemu/9000/config", {"description": "für Ada & Ben = 100 %"}),
    ],
    ids=str,
)
def test_an_answer_is_what_proxmox_said(relay, sim, method, path, body):
    wanted = direct(sim, path, method, data=body)
    with relay.door() as door:
        got = ask(relay, door, path, method, data=body)

    parts = [
        (a.status_code, a.reason, a.headers.get("Content-Type"), a.text) for a in (wanted, got)
    ]
    assert parts[0] == parts[1]


def test_whoever_asks_for_a_task_hears_of_its_end_at_once(relay, sim):
    sim.faults.set_latency("clone.linked", 1.2)
    with relay.door() as door:
        new = {"newid": 20000, "name": "desktop-aaaaaa"}
        upid = ask(relay, door, "/nodes/pve1/qemu/9000/clone", "POST", data=new).json()["data"]
        began = time.monotonic()
        ended = ask(relay, door, f"/nodes/pve1/tasks/{upid}/status").json()["data"]

    assert ended["exitstatus"] == "OK"
    assert 1.0 < time.monotonic() - began < 1.8


def test_a_task_that_does_not_end_is_told_as_running(relay, sim, monkeypatch):
    monkeypatch.setattr("daas.providers.proxmox.relay.HOLD_S", 0.5)
    sim.faults.hang_task("qmclone")
    with relay.door() as door:
        new = {"newid": 20000, "name": "desktop-aaaaaa"}
        upid = ask(relay, door, "/nodes/pve1/qemu/9000/clone", "POST", data=new).json()["data"]
        answer = ask(relay, door, f"/nodes/pve1/tasks/{upid}/status").json()["data"]
    sim.faults.unhang_tasks()

    assert answer["status"] == "running"


def test_a_dead_api_node_is_passed_over(sim, tmp_path):
    urls = ("https://127.0.0.1:1", sim.url)
    relay = Relay(Client(Access(urls, TOKEN_ID, sim.token_secret, sim.ca_file)), tmp_path)
    with relay.door() as door:
        answer = ask(relay, door, "/nodes/pve1/qemu/9000/clone", "POST", data={"newid": 20000})

    assert answer.status_code == 200
    assert len(sim.calls) == 1


def test_with_no_api_node_the_answer_is_proxmoxs_own_word_for_that(tmp_path):
    relay = Relay(Client(Access(("https://127.0.0.1:1",), TOKEN_ID, "x", None)), tmp_path)
    with relay.door() as door:
        answer = ask(relay, door, "/version")

    assert (answer.status_code, "refused" in answer.reason) == (596, True)


def test_the_certificate_of_proxmox_is_verified(sim, tmp_path):
    relay = Relay(Client(Access((sim.url,), TOKEN_ID, sim.token_secret, None)), tmp_path)
    with relay.door() as door:
        answer = ask(relay, door, "/version")

    assert answer.status_code == 596
    assert "certificate verify failed" in answer.reason
    assert sim.calls == []


def test_our_own_key_is_for_its_owner_and_kept(relay, tmp_path):
    with relay.door():
        before = relay.ca_file.read_bytes()
    again = Relay(relay._client, tmp_path)
    with again.door():
        pass

    assert again.ca_file.read_bytes() == before
    assert stat.S_IMODE(relay.ca_file.stat().st_mode) == 0o600


def test_a_connection_that_says_nothing_holds_nobody_up(relay):
    with relay.door() as door, socket.create_connection(("127.0.0.1", urlsplit(door.url).port)):
        answer = ask(relay, door, "/version", timeout=3)

    assert answer.status_code == 200


def test_whoever_waits_for_the_disks_hears_of_them_before_the_machine_starts(relay, sim):
    heard = []
    with relay.door(lambda: heard.append(len(sim.calls))) as door:
        ask(relay, door, "/nodes/pve1/qemu/9000/config")
        before = list(heard)
        ask(relay, door, "/nodes/pve1/qemu/9000/status/start", "POST")

    assert (before, heard) == ([], [1])


def test_a_run_goes_on_though_nobody_could_be_told(relay, sim):
    def away():
        raise RuntimeError("the database is away")

    with relay.door(away) as door:
        answer = ask(relay, door, "/nodes/pve1/qemu/9000/status/start", "POST")

    assert answer.status_code == 200
