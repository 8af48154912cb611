"""What goes wrong on a cluster of Proxmox VE, and what comes of it: nothing of anybody else's is
touched, nothing of ours is left, and whoever waits is told for what."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pve_simulator.library import Simulator

from contract.labs import new_name, nothing
from contract.proxmox_lab import AWAITING, AWAITING_IMAGE, TEMPLATE, ProxmoxLab, world
from daas.errors import (
    Congested,
    DaasError,
    NotOurs,
    NotYet,
    NumberTaken,
    Refused,
    StepFailed,
    TemplateMissing,
    Unreachable,
)
from daas.providers.base import Provider, Spec, State
from daas.providers.proxmox import tasks
from daas.providers.proxmox.client import Access, Client
from daas.providers.proxmox.errors import Locked

CLONE = r"/clone$"


def held_ensure(
    pve: ProxmoxLab, spec: Spec, name: str, when: str, meanwhile: Callable[[], object], **hold: Any
) -> tuple[list[Exception], list[State]]:
    """Make a machine; `meanwhile` happens while the call of `hold` is on its way."""
    saved: list[State] = [{}]
    failed: list[Exception] = []

    def work() -> None:
        try:
            saved.append(pve.ours.ensure(name, spec, {}, saved.append))
        except (DaasError, NotYet) as error:
            failed.append(error)

    caught = pve.sim.faults.stop_at(1, when=when, **hold)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert caught.wait(20.0)
    meanwhile()
    pve.sim.faults.release(caught)
    thread.join(60.0)
    return failed, saved


def eventually(made: Callable[[], State], within_s: float = 20.0) -> State:
    """As the loop does: again, while it is only to be waited for."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return made()
        except NotYet:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture
def spare(pve: ProxmoxLab) -> Iterator[str]:
    """A template that a test may break."""
    order = {"vmid": 9200, "name": "tmpl-spare", "memory": 256, "cores": 1, "agent": 1}
    disks = {"scsi0": "shared:1", "boot": "order=scsi0", "net0": "virtio,bridge=vmbr0"}
    tasks.post(pve.client, "nodes/pve1/qemu", {**order, **disks})
    tasks.post(pve.client, "nodes/pve1/qemu/9200/template")
    time.sleep(0.4)
    yield "tmpl-spare"
    if 9200 in pve.sim.cluster.vms:
        pve.sim.faults.vanish_vm(9200)


# -- the clone ------------------------------------------------------------------------------------


def test_a_clone_that_was_accepted_and_failed_is_a_reason_and_leaves_nothing(
    pve: ProxmoxLab,
) -> None:
    pve.sim.faults.fail_task("qmclone", text="clone failed: the disk is odd")
    name = new_name()
    spec, saved = pve.spec(name), [State()]

    with pytest.raises(Refused, match="the disk is odd"):
        pve.ours.ensure(name, spec, {}, saved.append)
    pve.ours.destroy(name, saved[-1])

    assert pve.names() == set() and pve.volumes() == set()


def test_a_clone_that_failed_only_at_its_end_is_made_anew(pve: ProxmoxLab) -> None:
    pve.sim.faults.fail_task("qmclone", text="clone failed: got lock timeout", late=True)
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    with pytest.raises(Congested):
        pve.ours.ensure(name, spec, {}, saved.append)

    pve.ours.ensure(name, spec, saved[-1], saved.append)

    assert pve.names() == {name} and pve.is_on(name)


@pytest.mark.parametrize(
    "said",
    [
        "can't lock file '/var/lock/qemu-server/lock-20001.conf' - got timeout",
        "clone failed: cfs-lock 'storage-shared' error: got lock request timeout",
    ],
)
def test_a_lock_that_was_not_to_be_had_is_congestion(pve: ProxmoxLab, said: str) -> None:
    pve.sim.faults.fail_task("qmclone", text=said)
    name = new_name()

    with pytest.raises(Congested):
        pve.ours.ensure(name, pve.spec(name), {}, nothing)


def test_a_start_that_fails_says_why_and_is_tried_again(pve: ProxmoxLab) -> None:
    pve.sim.faults.fail_task("qmstart", text="start failed: QEMU exited with code 1")
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    with pytest.raises(Refused, match="QEMU exited with code 1"):
        pve.ours.ensure(name, spec, {}, saved.append)

    pve.ours.ensure(name, spec, saved[-1], saved.append)

    assert pve.names() == {name} and pve.is_on(name)


def test_a_machine_that_vanishes_while_it_is_made_is_made_anew(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    number = spec.number or 0

    failed, saved = held_ensure(
        pve, spec, name, "before", lambda: pve.sim.faults.vanish_vm(number), path="/status/start$"
    )
    state = eventually(lambda: pve.ours.ensure(name, spec, saved[-1], nothing))

    assert len(failed) == 1 and isinstance(failed[0], NotYet | Refused)
    assert pve.is_on(name) and state["vmid"] == number


def test_a_template_that_goes_while_it_is_cloned_is_missing(pve: ProxmoxLab, spare: str) -> None:
    name = new_name()
    spec = pve.spec(name, image=spare)

    failed, _ = held_ensure(
        pve, spec, name, "before", lambda: pve.sim.faults.vanish_vm(9200), path=CLONE
    )

    assert isinstance(failed[0], TemplateMissing) and "daas template build" in str(failed[0])


def test_a_full_storage_says_what_to_do(pve: ProxmoxLab) -> None:
    pve.sim.faults.fill_storage("shared")
    name = new_name()

    with pytest.raises(Refused, match=r"storage is full.*DAAS_PROXMOX_STORAGE"):
        pve.ours.ensure(name, pve.spec(name), {}, nothing)

    assert pve.names() == set()


# -- strangers ------------------------------------------------------------------------------------


def test_a_number_that_is_somebody_elses_is_taken_and_theirs_stays(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    pve.stranger(spec.number or 0)

    with pytest.raises(NumberTaken, match="their-database"):
        pve.ours.ensure(name, spec, {}, nothing)

    assert pve.names() == {"their-database"}


def test_a_number_taken_between_lease_and_clone_is_left_to_its_owner(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    number = spec.number or 0

    failed, saved = held_ensure(
        pve, spec, name, "before", lambda: pve.stranger(number), path=CLONE, method="POST"
    )
    second = pve.spec(name, tag=spec.tag)
    pve.ours.ensure(name, second, saved[-1], saved.append)

    assert isinstance(failed[0], NumberTaken)
    assert pve.names() == {"their-database", name} and pve.number("their-database") == number
    pve.ours.destroy(name, saved[-1])
    assert pve.names() == {"their-database"}


def test_a_strangers_machine_under_a_stale_number_of_ours_is_never_deleted(
    pve: ProxmoxLab,
) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.vanish_vm(state["vmid"])
    pve.stranger(state["vmid"])
    before = pve.volumes()

    with pytest.raises(NotOurs):
        pve.ours.destroy(name, state)

    assert pve.names() == {"their-database"} and pve.volumes() == before


def test_the_next_try_does_not_replace_a_stranger_whose_number_terraform_remembers(
    pve: ProxmoxLab,
) -> None:
    """Terraform knows a machine by its number alone, and replaces one that it takes for broken."""
    pve.sim.faults.fail_task("qmstart", text="start failed: odd")
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    with pytest.raises(Refused):
        pve.ours.ensure(name, spec, {}, saved.append)
    assert "terraform" in saved[-1], "it left a state with the machine in it"
    pve.sim.faults.vanish_vm(spec.number or 0)
    pve.stranger(spec.number or 0)

    with pytest.raises(NumberTaken):
        pve.ours.ensure(name, spec, saved[-1], saved.append)
    pve.ours.ensure(name, pve.spec(name, tag=spec.tag), saved[-1], saved.append)

    assert pve.names() == {"their-database", name}


@pytest.mark.parametrize("changed", ["name", "tags"])
def test_what_only_looks_half_made_is_a_strangers(pve: ProxmoxLab, changed: str) -> None:
    name = new_name()
    spec = pve.spec(name)
    clone = {"newid": spec.number, "name": name, "full": 0}
    tasks.post(pve.client, f"nodes/pve1/qemu/{TEMPLATE}/clone", clone)
    values = {"name": "theirs"} if changed == "name" else {"tags": f"daas_x_{name}_n_5"}
    pve.client.put(f"nodes/pve1/qemu/{spec.number}/config", values)

    with pytest.raises((NumberTaken, NotOurs)):
        pve.ours.ensure(name, spec, {}, nothing)

    assert spec.number in pve.sim.cluster.vms


def test_a_clone_of_another_template_with_our_name_is_a_strangers(pve: ProxmoxLab) -> None:
    name = new_name()
    spec, saved = pve.spec(name), [State()]
    pve.sim.faults.fail_task("qmclone", text="clone failed: once")
    with pytest.raises(Refused):
        pve.ours.ensure(name, spec, {}, saved.append)
    clone = {"newid": spec.number, "name": name, "full": 0}
    tasks.post(pve.client, f"nodes/pve1/qemu/{AWAITING}/clone", clone)

    with pytest.raises(NumberTaken):
        pve.ours.ensure(name, spec, saved[-1], nothing)

    assert spec.number in pve.sim.cluster.vms


def test_what_terraform_left_half_made_is_ours_and_made_anew(pve: ProxmoxLab) -> None:
    name = new_name()
    spec = pve.spec(name)
    clone = {"newid": spec.number, "name": name, "full": 0}
    tasks.post(pve.client, f"nodes/pve1/qemu/{TEMPLATE}/clone", clone)

    pve.ours.ensure(name, spec, {}, nothing)

    assert pve.names() == {name} and pve.is_on(name) and pve.size(name) == spec.size


# -- Terraform's state ----------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["lost", "corrupt", "sealed by another", "another machine's"])
def test_without_a_usable_state_all_goes_on(pve: ProxmoxLab, damage: str) -> None:
    name = new_name()
    spec = pve.spec(name)
    state = pve.ours.ensure(name, spec, {}, nothing)
    _, other = pve.made(pve.ours)
    state["terraform"] = {
        "lost": "",
        "corrupt": state["terraform"][: len(state["terraform"]) // 2],
        "sealed by another": "gAAAA",
        "another machine's": other["terraform"],
    }[damage]

    assert pve.ours.ensure(name, spec, state, nothing)["vmid"] == spec.number
    pve.ours.destroy(name, state)

    assert pve.names() == {other["name"]}


# -- rights and certificates ----------------------------------------------------------------------


def test_an_expired_token_is_said_to_be_one(pve: ProxmoxLab) -> None:
    provider = limited(pve, pve.sim, "expired", "Administrator")
    pve.sim.faults.expire_token("expired@pve!t1")
    name = new_name()

    for call in (provider.owned, lambda: provider.ensure(name, pve.spec(name), {}, nothing)):
        with pytest.raises(Refused, match="token has expired"):
            call()


PRIVILEGES = [
    ("8.4.21", "VM.Clone"),
    ("8.4.21", "VM.Allocate"),
    ("8.4.21", "VM.Config.Memory"),
    ("8.4.21", "VM.PowerMgmt"),
    ("8.4.21", "Datastore.AllocateSpace"),
    ("9.0.10", "VM.Clone"),
    ("9.0.10", "VM.PowerMgmt"),
]
RIGHTS = """VM.Allocate VM.Audit VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit
VM.Config.Disk VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.PowerMgmt
VM.Snapshot VM.Snapshot.Rollback Datastore.AllocateSpace Datastore.Audit Sys.Audit SDN.Use Pool.Audit
"""
AGENT = {"8": ["VM.Monitor"], "9": ["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"]}


def limited(lab: ProxmoxLab, sim: Simulator, user: str, role: str) -> Provider:
    """A provider with a token of that role and no other right."""
    root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
    if f"{user}@pve" not in {one["userid"] for one in root.get("access/users")}:
        root.post("access/users", {"userid": f"{user}@pve"})
    made = root.post(f"access/users/{user}@pve/token/t1", {"privsep": 0})
    root.put("access/acl", {"path": "/", "users": f"{user}@pve", "roles": role})
    access = Access((sim.url,), f"{user}@pve!t1", made["value"], sim.ca_file)
    client = Client(access)
    runner = lab.new_runner({"SSL_CERT_FILE": sim.ca_file})
    return lab.provider(client=client, terraform=runner)


def rights(version: str, without: str = "") -> str:
    return ",".join(one for one in [*RIGHTS.split(), *AGENT[version[0]]] if one != without)


@pytest.mark.parametrize(("version", "right"), PRIVILEGES)
def test_a_missing_privilege_is_named(pve: ProxmoxLab, version: str, right: str) -> None:
    with Simulator(world(version), latencies="fast") as sim:
        root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        root.post("access/roles", {"roleid": "Less", "privs": rights(version, right)})
        provider, name = limited(pve, sim, "few", "Less"), new_name()

        with pytest.raises(Refused, match=right.replace(".", r"\.")):
            provider.ensure(name, pve.spec(name), {}, nothing)


@pytest.mark.parametrize(
    ("version", "right"), [("8.4.21", "VM.Monitor"), ("9.0.10", "VM.GuestAgent.Unrestricted")]
)
def test_the_agents_privilege_is_named_as_this_version_calls_it(
    pve: ProxmoxLab, version: str, right: str
) -> None:
    with Simulator(world(version), latencies="fast") as sim:
        root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        root.post("access/roles", {"roleid": "Less", "privs": rights(version, right)})
        provider, name = limited(pve, sim, "few", "Less"), new_name()
        state = provider.ensure(name, pve.spec(name, image=AWAITING_IMAGE), {}, nothing)

        with pytest.raises(Refused, match=right.replace(".", r"\.")):
            provider.endpoints(state, 10.0, {"tls.key": b"x\n"})


@pytest.mark.parametrize("version", ["8.4.21", "9.0.10"])
def test_the_privileges_we_ask_for_are_enough(pve: ProxmoxLab, version: str) -> None:
    with Simulator(world(version), latencies="fast") as sim:
        root = Client(Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file))
        root.post("access/roles", {"roleid": "Daas", "privs": rights(version)})
        provider, name = limited(pve, sim, "daas", "Daas"), new_name()
        state = provider.ensure(name, pve.spec(name), {}, nothing)

        provider.endpoints(state, 10.0, {})
        provider.put(state, "/x", b"y", 0o600)
        provider.snapshot(state, "one")
        provider.restore(state, "one")
        provider.delete_snapshot(state, "one")
        provider.power(state, False)
        assert [one.name for one in provider.owned()] == [name] and provider.nodes()[0].images
        provider.destroy(name, state)

        assert provider.owned() == []


def test_a_changed_certificate_is_refused_before_anything_is_said(pve: ProxmoxLab) -> None:
    with Simulator(world(), latencies="fast") as sim:
        access = Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file)
        known = _copied(sim.ca_file)
        sim.faults.change_certificate()
        provider = pve.provider(
            client=Client(Access(access.urls, access.token_id, access.token_secret, known))
        )
        before = len(sim.calls)

        with pytest.raises(Refused, match=r"certificate of 127\.0\.0\.1:.*DAAS_PROXMOX_CA_FILE"):
            provider.owned()

        assert len(sim.calls) == before


def _copied(path: str) -> str:
    with open(path) as file, open(f"{path}.before", "w") as copy:
        copy.write(file.read())
    return f"{path}.before"


# -- nodes and the cluster ------------------------------------------------------------------------


def test_a_dead_node_is_waited_for_by_name_and_the_other_works_on(pve: ProxmoxLab) -> None:
    pve.sim.faults.kill_node("pve2")
    time.sleep(0.3)
    name = new_name()

    with pytest.raises(Unreachable, match="pve2"):
        pve.ours.ensure(name, pve.spec(name, node="pve2"), {}, nothing)
    pve.made(pve.ours)

    found = {node.name: node for node in pve.ours.nodes()}
    assert found["pve1"].is_online and not found["pve2"].is_online and found["pve2"].why


def test_a_node_that_dies_during_the_clone_is_waited_for_and_nothing_is_left(
    pve: ProxmoxLab,
) -> None:
    name = new_name()
    spec = pve.spec(name, node="pve2")

    failed, saved = held_ensure(
        pve, spec, name, "after", lambda: pve.sim.faults.kill_node("pve2"), path=CLONE
    )
    assert failed and isinstance(failed[0], NotYet), failed
    pve.sim.faults.revive_node("pve2")
    time.sleep(0.3)
    eventually(lambda: pve.ours.ensure(name, spec, saved[-1], saved.append))

    assert pve.names() == {name} and pve.is_on(name)


def test_a_machine_on_a_dead_node_waits_to_be_destroyed_until_it_is_back(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, node="pve2")
    pve.sim.faults.kill_node("pve2")
    time.sleep(0.3)
    with pytest.raises(Unreachable, match="pve2"):
        pve.ours.destroy(name, state)
    assert [one.is_on for one in pve.ours.owned()] == [True], "nobody knows: not taken for off"
    pve.sim.faults.revive_node("pve2")
    time.sleep(0.3)

    pve.ours.destroy(name, state)

    assert pve.names() == set() and pve.volumes() == set()


def test_without_quorum_all_that_writes_waits(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.lose_quorum()

    other = new_name()
    for call in (
        lambda: pve.ours.destroy(name, state),
        lambda: pve.ours.ensure(other, pve.spec(other), {}, nothing),
    ):
        with pytest.raises(Unreachable, match="quorum"):
            call()
    assert pve.names() == {name}
    pve.sim.faults.regain_quorum()
    pve.ours.destroy(name, state)
    assert pve.names() == set()


def test_a_storm_of_500_is_sat_out_by_what_only_looks(pve: ProxmoxLab) -> None:
    name, _ = pve.made(pve.ours)
    pve.sim.faults.storm(times=3, method="GET")

    assert [one.name for one in pve.ours.owned()] == [name]


def test_what_changes_something_is_not_done_twice_blindly(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours)
    pve.sim.faults.storm(times=1, method="POST", path="/snapshot$")

    with pytest.raises(Refused, match="simulated storm"):
        pve.ours.snapshot(state, "one")


# -- the end of a machine -------------------------------------------------------------------------


def test_a_destroy_that_ends_with_warnings_and_leaves_a_disk_is_finished(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.leave_disk()

    pve.ours.destroy(name, state)

    assert pve.names() == set() and pve.volumes() == set()


def test_a_disk_that_an_earlier_destroy_left_is_found_by_the_next(pve: ProxmoxLab) -> None:
    """The first one died between the end of the task and its look at what is left."""
    name, state = pve.made(pve.ours)
    pve.sim.faults.leave_disk()
    tasks.post(pve.client, f"{pve.path(name)}/status/stop")
    tasks.delete(pve.client, pve.path(name), {"purge": 1})
    assert pve.volumes() != set()

    pve.ours.destroy(name, state)

    assert pve.volumes() == set()


def test_a_disk_of_whoever_has_the_number_now_is_not_a_leftover(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.sim.faults.vanish_vm(state["vmid"])
    order = {"vmid": state["vmid"], "name": "theirs", "memory": 128, "scsi0": "shared:1"}
    tasks.post(pve.client, "nodes/pve1/qemu", order)

    with pytest.raises(NotOurs):
        pve.ours.destroy(name, state)

    assert len(pve.volumes()) == 1


@pytest.mark.parametrize("times", [1, 2])
def test_the_glitches_of_parallel_destroys_are_retried(pve: ProxmoxLab, times: int) -> None:
    name, _ = pve.made(pve.ours)
    pve.sim.faults.glitch_destroys(times)

    pve.ours.destroy(name, {})

    assert pve.names() == set()


def test_a_lock_that_nobody_holds_any_more_says_how_to_remove_it(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.config(name)["lock"] = "backup"

    with pytest.raises(NotYet, match=rf"qm unlock {state['vmid']}") as waits:
        pve.ours.destroy(name, {})

    assert not isinstance(waits.value, Locked) and pve.is_on(name)


def test_an_agent_that_never_comes_is_waited_for_and_named(pve: ProxmoxLab) -> None:
    pve.sim.faults.keep_agent_down()
    _, state = pve.made(pve.ours, image=AWAITING_IMAGE)
    began = time.monotonic()

    with pytest.raises(NotYet, match="guest agent"):
        pve.ours.endpoints(state, 1.0, {"tls.key": b"x\n"})

    assert 0.9 < time.monotonic() - began < 4.0


def test_a_machine_that_stopped_before_it_was_up_says_so(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, image=AWAITING_IMAGE)
    pve.shut_down(name)

    with pytest.raises(StepFailed, match="stopped before its desktop was up"):
        pve.ours.endpoints(state, 10.0, {"tls.key": b"x\n"})


def test_news_that_may_have_been_missed_is_said_to_be(pve: ProxmoxLab) -> None:
    told: list[str] = []
    pve.made(pve.ours)
    pve.ours.watch(told.append)
    pve.sim.faults.storm(seconds=4.0, method="GET", path="/cluster/resources")

    deadline = time.monotonic() + 12.0
    while "" not in told and time.monotonic() < deadline:
        time.sleep(0.1)

    assert "" in told


def test_a_machine_that_vanishes_is_told_to_whoever_watches(pve: ProxmoxLab) -> None:
    told: list[str] = []
    name, state = pve.made(pve.ours)
    pve.ours.watch(told.append)
    time.sleep(0.5)

    pve.sim.faults.vanish_vm(state["vmid"])

    deadline = time.monotonic() + 3.0
    while name not in told and time.monotonic() < deadline:
        time.sleep(0.05)
    assert name in told
