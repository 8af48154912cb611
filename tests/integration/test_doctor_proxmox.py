"""`daas doctor` on a simulated Proxmox VE: one thing is wrong at a time, and it is named with what
to do about it."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from pve_simulator import Simulator
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

from daas import wiring
from daas.cli.doctor import host, privileges, proxmox
from daas.cli.doctor.finding import Finding
from daas.cli.doctor.proxmox import Cluster, Wants
from daas.config import load
from daas.providers.proxmox import tasks
from daas.providers.proxmox.client import Access, Client

INSTANCE = "aaaaaaaaaabbbbbb"
TOKEN = "daas@pve!orchestrator"


class Lab:
    def __init__(self, sim: Simulator, major: int = 8):
        self.sim, self.major = sim, major
        self.root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        self.secret = ""
        self.settings: dict[str, str] = {"PROXMOX_URL": sim.url}
        self.wants: dict[str, Any] = {}

    def make_token(self, names: list[str], pool: str = "") -> None:
        """As the how-to does: a role, a user, and a token of the user's whole rights."""
        self.root.post("access/roles", {"roleid": "DaaS", "privs": " ".join(names)})
        self.root.post("access/users", {"userid": "daas@pve"})
        made = self.root.post("access/users/daas@pve/token/orchestrator", {"privsep": 0})
        self.secret = made["value"]
        acl = {"path": f"/pool/{pool}" if pool else "/", "users": "daas@pve", "roles": "DaaS"}
        self.root.put("access/acl", acl)

    def look(self) -> dict[str, Finding]:
        """What is found, the worst of each check."""
        given = {
            "DAAS_PROXMOX_CA_FILE": self.sim.ca_file,
            "DAAS_PROXMOX_TOKEN_ID": TOKEN,
            "DAAS_PROXMOX_TOKEN_SECRET": self.secret,
            **self.settings,
        }
        settings = load({key: value for key, value in given.items() if value})
        doors = wiring.proxmox_doors(settings)
        cluster = Cluster(
            doors, wiring.why_no_storage, wiring.choose_storage, host.certificate_fingerprint
        )
        wants = Wants(TOKEN, INSTANCE, **self.wants)
        order = {"ok": 0, "warn": 1, "fail": 2}
        found: dict[str, Finding] = {}
        for one in sorted(proxmox.look(cluster, wants), key=lambda f: order[f.result]):
            found[one.id] = one
        return found

    def complaints(self) -> dict[str, str]:
        return {f.id: f.result for f in self.look().values() if f.result != "ok"}


def world(**changes: Any) -> World:
    nodes = [NodeSpec(f"pve{number}") for number in (1, 2, 3)]
    return World(**{"cluster": "lab", "nodes": nodes, **changes})


@pytest.fixture(params=["8.4.21", "9.0.3"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    major = int(request.param[0])
    with Simulator(world(version=request.param), latencies="fast") as sim:
        made = Lab(sim, major)
        made.make_token(privileges.role(major))
        yield made


@pytest.fixture
def eight() -> Iterator[Lab]:
    with Simulator(world(), latencies="fast") as sim:
        made = Lab(sim)
        made.make_token(privileges.role(8))
        yield made


def test_with_exactly_the_privileges_that_are_listed_all_is_well(lab: Lab) -> None:
    found = lab.look()

    assert {f.message for f in found.values() if f.result != "ok"} == set()
    assert {"proxmox.privileges", "proxmox.storage", "proxmox.bridge", "proxmox.vmids"} <= set(
        found
    )


@pytest.mark.parametrize("major", [8, 9])
def test_each_missing_privilege_is_named_with_the_command_that_gives_it(major: int) -> None:
    every = privileges.role(major)
    version = {8: "8.4.21", 9: "9.0.3"}[major]
    with Simulator(world(version=version), latencies="fast") as sim:
        lab = Lab(sim, major)
        lab.make_token(every)
        for lost in every:
            rest = [one for one in every if one != lost]
            lab.root.put("access/roles/DaaS", {"privs": " ".join(rest)})

            found = lab.look()

            id_ = "proxmox.privileges" + (".builds" if lost in privileges.BUILDS else "")
            assert lost in found[id_].message, lost
            assert f"pveum role modify DaaS --append 1 --privs '{lost}'" in found[id_].remedy
            assert found[id_].result == ("warn" if lost in privileges.BUILDS else "fail")


def test_the_privileges_of_the_other_version_do_not_help() -> None:
    with Simulator(world(version="9.0.3"), latencies="fast") as sim:
        lab = Lab(sim, 9)
        lab.make_token([one for one in privileges.role(8) if one != "VM.Monitor"])

        missing = lab.look()["proxmox.privileges"].message

    assert "VM.GuestAgent.Audit, VM.GuestAgent.Unrestricted on /vms/20000" in missing
    assert "VM.Monitor" not in missing


def test_a_token_of_separated_privileges_is_told_about_user_and_token(eight: Lab) -> None:
    made = eight.root.post("access/users/daas@pve/token/narrow", {"privsep": 1})
    eight.settings |= {"DAAS_PROXMOX_TOKEN_ID": "daas@pve!narrow"}
    eight.secret = made["value"]

    found = eight.look()["proxmox.privileges"]

    assert found.result == "fail" and "VM.Clone" in found.message
    assert "--users daas@pve --tokens" in found.remedy


def test_rights_on_a_pool_are_enough_for_its_desktops() -> None:
    with Simulator(world(), latencies="fast") as sim:
        lab = Lab(sim)
        lab.root.post("pools", {"poolid": "desks"})
        lab.make_token(privileges.role(8, has_pool=True), pool="desks")
        elsewhere = {"roleid": "DaaSHost", "privs": "Sys.Audit Datastore.AllocateSpace SDN.Use"}
        lab.root.post("access/roles", elsewhere)
        lab.root.put("access/acl", {"path": "/", "users": "daas@pve", "roles": "DaaSHost"})
        lab.wants = {"pool": "desks"}

        found = lab.look()

    assert "Datastore.Audit" in found["proxmox.privileges"].message
    assert "VM.Clone" not in found["proxmox.privileges"].message
    assert found["proxmox.pool"].result == "ok"


# ---- the way there


def test_nobody_at_the_address(eight: Lab) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    eight.settings["PROXMOX_URL"] = f"https://127.0.0.1:{port}"

    found = eight.look()

    assert list(found) == [f"proxmox.api.127.0.0.1:{port}"]
    (one,) = found.values()
    assert one.result == "fail" and "Nobody answers" in one.message and "curl -k" in one.remedy


def test_one_of_several_is_away(eight: Lab) -> None:
    eight.sim.faults.kill_node("pve2")
    eight.settings["PROXMOX_URL"] = f"{eight.sim.url_of('pve2')},{eight.sim.url}"

    found = eight.look()

    away = found[f"proxmox.api.{eight.sim.url_of('pve2').removeprefix('https://')}"]
    assert away.result == "warn" and "The others of PROXMOX_URL do" in away.message
    assert found["proxmox.privileges"].result == "ok"


def test_a_certificate_that_nobody_vouches_for(eight: Lab) -> None:
    eight.settings["DAAS_PROXMOX_CA_FILE"] = ""

    (one,) = eight.look().values()

    assert one.result == "fail" and "cannot be verified" in one.message
    assert "pve-root-ca.pem" in one.remedy and "fingerprint" in one.remedy


def test_a_certificate_that_was_renewed(eight: Lab) -> None:
    eight.sim.faults.change_certificate()

    (one,) = eight.look().values()

    assert one.result == "fail" and "DAAS_PROXMOX_CA_FILE" in one.remedy


def test_a_certificate_that_nobody_looks_at_is_warned_of(eight: Lab) -> None:
    eight.settings |= {"DAAS_PROXMOX_TLS_INSECURE": "true", "DAAS_PROXMOX_CA_FILE": ""}
    eight.wants = {"is_insecure": True}

    assert eight.complaints() == {"proxmox.tls": "warn"}


@pytest.mark.parametrize("wrong", ["secret", "name", "expired"])
def test_a_token_that_is_none(eight: Lab, wrong: str) -> None:
    if wrong == "secret":
        eight.secret = "00000000-0000-0000-0000-000000000000"
    elif wrong == "name":
        eight.settings["DAAS_PROXMOX_TOKEN_ID"] = "daas@pve!other"
    else:
        eight.sim.faults.expire_token(TOKEN)

    (one,) = eight.look().values()

    assert one.id == "proxmox.token" and one.result == "fail"
    assert "pveum user token add" in one.remedy and eight.secret not in one.message + one.remedy


# ---- what is there


def test_no_quorum(eight: Lab) -> None:
    eight.sim.faults.lose_quorum()

    assert eight.look()["proxmox.quorum"].result == "fail"


def test_a_node_is_away(eight: Lab) -> None:
    eight.sim.faults.kill_node("pve3")
    _until(lambda: "proxmox.nodes" in eight.complaints())

    found = eight.look()["proxmox.nodes"]

    assert found.result == "warn" and "pve3" in found.message


def test_a_node_that_does_not_exist_is_named(eight: Lab) -> None:
    eight.wants = {"nodes": ("pve1", "pve9")}

    found = eight.look()["proxmox.nodes"]

    assert found.result == "fail" and "pve9" in found.message and "pve1, pve2, pve3" in found.remedy


@pytest.mark.parametrize(
    "storages, wanted, said",
    [
        ([StorageSpec("local", content=["iso", "import"])], "", "does not take disk images"),
        ([StorageSpec("thick", "lvm", ["images"])], "", "lvm cannot make linked clones"),
        ([StorageSpec("local")], "fast", "there is no fast"),
        ([StorageSpec("local", size_gib=100, used_gib=99)], "", "99% full"),
    ],
    ids=["content", "type", "name", "room"],
)
def test_a_storage_that_cannot_serve(storages: Any, wanted: str, said: str) -> None:
    with Simulator(world(storages=storages), latencies="fast") as sim:
        lab = Lab(sim)
        lab.make_token(privileges.role(8))
        lab.wants = {"storage": wanted}

        found = lab.look()["proxmox.storage"]

    assert found.result == "fail" and said in found.message
    assert "DAAS_PROXMOX_STORAGE" in found.remedy


def test_a_storage_of_full_clones_serves_where_those_are_wanted() -> None:
    with Simulator(
        world(storages=[StorageSpec("thick", "lvm", ["images"])]), latencies="fast"
    ) as s:
        lab = Lab(s)
        lab.make_token(privileges.role(8))
        lab.wants = {"is_full_clone": True}

        assert lab.look()["proxmox.storage"].result == "ok"


def test_no_storage_takes_cloud_images() -> None:
    with Simulator(
        world(storages=[StorageSpec("local", content=["images"])]), latencies="fast"
    ) as s:
        lab = Lab(s)
        lab.make_token(privileges.role(8))

        found = lab.look()["proxmox.storage.import"]

    assert found.result == "warn" and "pvesm set local --content" in found.remedy


def test_a_bridge_that_a_node_lacks() -> None:
    nodes = [NodeSpec("pve1", bridges=["vmbr0", "vmbr2"]), NodeSpec("pve2"), NodeSpec("pve3")]
    with Simulator(world(nodes=nodes), latencies="fast") as sim:
        lab = Lab(sim)
        lab.make_token(privileges.role(8))
        lab.wants = {"bridge": "vmbr2"}

        found = lab.look()["proxmox.bridge"]

    assert found.result == "fail" and "pve2, pve3 has no bridge vmbr2" in found.message
    assert "vmbr0" in found.remedy and "DAAS_PROXMOX_NODES" in found.remedy


@pytest.mark.parametrize("count, result", [(1, "ok"), (6, "warn"), (10, "fail")])
def test_strangers_in_our_range_are_counted(count: int, result: str) -> None:
    vms = [VmSpec(20000 + n, "pve1", {"name": f"theirs-{n}"}) for n in range(count)]
    ours = VmSpec(19999, "pve1", {"name": "outside"})
    with Simulator(world(vms=[*vms, ours]), latencies="fast") as sim:
        lab = Lab(sim)
        lab.make_token(privileges.role(8))
        lab.wants = {"numbers": (20000, 20009), "max_sessions": 2}

        found = lab.look()["proxmox.vmids"]

    assert found.result == result and f"{count} are others'" in found.message


def test_our_own_machines_are_no_strangers(eight: Lab) -> None:
    order = {"vmid": 20000, "name": "desktop-abc123", "tags": f"daas;daas_{INSTANCE}_image"}
    tasks.post(eight.root, "nodes/pve1/qemu", order)

    assert "0 are others'" in eight.look()["proxmox.vmids"].message


def test_a_pool_that_is_not_there(eight: Lab) -> None:
    eight.wants = {"pool": "desks"}

    found = eight.look()["proxmox.pool"]

    assert found.result == "fail" and "pveum pool add desks" in found.remedy


def test_a_clock_that_is_off(eight: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert eight.look()["proxmox.clock"].result == "ok"
    real = proxmox.time

    monkeypatch.setattr(proxmox, "time", lambda: real() - 120)

    found = eight.look()["proxmox.clock"]
    assert found.result == "warn" and "s ahead of this machine" in found.message


def test_an_old_version_cannot_take_cloud_images() -> None:
    with Simulator(world(version="8.2.4"), latencies="fast") as sim:
        lab = Lab(sim)
        lab.make_token(privileges.role(8))

        found = lab.look()["proxmox.version"]

    assert found.result == "warn" and "8.4" in found.message


@pytest.mark.parametrize(
    "config, wrong",
    [
        ({"template": 1, "agent": "1"}, ""),
        ({"template": 1, "agent": "enabled=1,fstrim_cloned_disks=1"}, ""),
        ({"template": 1, "agent": "0"}, "qm set 9000 --agent 1"),
        ({"template": 1}, "qm set 9000 --agent 1"),
        ({"agent": "1"}, "qm template 9000"),
    ],
)
def test_what_is_wrong_with_an_image_is_said(config: dict[str, Any], wrong: str) -> None:
    with Simulator(world(vms=[VmSpec(9000, "pve1", {"name": "desk", **config})])) as sim:
        lab = Lab(sim)

        found = proxmox.images(lab.root.get)

    assert set(found) == {"desk"} and (found["desk"] == "" if not wrong else wrong in found["desk"])


def test_no_secret_is_said(eight: Lab) -> None:
    said = "".join(f.message + f.remedy for f in eight.look().values())

    assert eight.secret and eight.secret not in said


def _until(what: Any) -> None:
    for _ in range(100):
        if what():
            return
    raise AssertionError("it did not come")
