"""What only a cluster of Proxmox VE can show: files by the agent, hibernation, images, counts."""

import ssl
import time

import pytest

from contract.labs import OURS, THEIRS, Killed, new_name, nothing
from contract.proxmox_lab import AWAITING_IMAGE, IMAGE, ProxmoxLab
from daas.errors import CommandFailed, NotOurs, NotYet, Refused, StepFailed
from daas.providers.base import State
from daas.providers.proxmox import guest, marks, tasks
from daas.providers.proxmox.client import Client
from daas.providers.rdp import rdp_tls_fingerprint
from daas.sessions import personal
from daas.sessions.personal import OneKey

MANY = 40


@pytest.fixture(scope="module")
def identity() -> tuple[dict[str, bytes], str]:
    stock = OneKey()
    stock.start()
    made = personal.make("desktop-abc234", "ada", "secret of Ada", stock)
    return {name: text.encode() for name, text in made.files.items()}, made.fingerprint


def fingerprint_at(where: str) -> str:
    host, _, port = where.rpartition(":")
    return rdp_tls_fingerprint(host, int(port), 2.0)


def test_a_desktop_shows_its_own_certificate_from_the_first_moment_on(
    pve: ProxmoxLab, identity: tuple[dict[str, bytes], str]
) -> None:
    files, fingerprint = identity
    name, state = pve.made(pve.ours, image=AWAITING_IMAGE)

    reached = pve.ours.endpoints(state, 10.0, files)

    assert fingerprint_at(reached["direct"]) == fingerprint
    assert pve.guest(name).files["/var/lib/daas/personal/user"] == files["user"]


def test_without_its_files_a_desktop_does_not_open_its_port(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours, image=AWAITING_IMAGE)

    with pytest.raises(NotYet, match="RDP port"):
        pve.ours.endpoints(state, 1.5, {})


def test_files_are_given_again_after_a_crash_between_any_two_calls(
    pve: ProxmoxLab, identity: tuple[dict[str, bytes], str]
) -> None:
    files, fingerprint = identity
    points = []
    for number in range(1, MANY):
        name, state = pve.made(pve.ours, image=AWAITING_IMAGE)
        with pve.killed_at(number) as (provider, _, point):
            try:
                provider.endpoints(state, 10.0, files)
                break
            except Killed as killed:
                points.append(str(killed))
        assert point.was_hit

        reached = pve.ours.endpoints(state, 10.0, files)

        assert fingerprint_at(reached["direct"]) == fingerprint, points
        pve.ours.destroy(name, state)
    assert any(point.endswith("agent/exec") for point in points), points


def test_private_files_are_in_no_list_of_commands(
    pve: ProxmoxLab, identity: tuple[dict[str, bytes], str]
) -> None:
    name, state = pve.made(pve.ours, image=AWAITING_IMAGE)

    pve.ours.endpoints(state, 10.0, identity[0])

    assert pve.guest(name).told == [[guest.PROGRAM, "personalize"]]


def test_the_address_that_dhcp_gave_is_told_by_the_agent(
    pve: ProxmoxLab, identity: tuple[dict[str, bytes], str]
) -> None:
    name, state = pve.made(pve.ours, image=AWAITING_IMAGE, address=None, gateway=None)

    reached = pve.ours.endpoints(state, 10.0, identity[0])

    assert reached["rdp"] == f"{pve.guest(name).address}:3389"


def test_a_template_that_is_not_ours_needs_only_an_open_port(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, options={"personalize": "none"})

    assert pve.ours.endpoints(state, 10.0, {"tls.key": b"x\n"})["rdp"]
    assert pve.guest(name).told == []


def test_a_template_without_our_program_says_what_to_do(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, image=AWAITING_IMAGE)
    pve.ours.run(state, ["true"])  # it is up
    pve.guest(name).has_program = False

    with pytest.raises(StepFailed, match="personalize: none"):
        pve.ours.endpoints(state, 5.0, {"tls.key": b"x\n"})


def test_files_that_the_guest_refuses_fail_with_its_words(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours, image=AWAITING_IMAGE)

    with pytest.raises(StepFailed, match=r"no tls\.key among"):
        pve.ours.endpoints(state, 10.0, {"hostname": b"x\n"})


def test_much_goes_into_a_guest_in_pieces(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours)
    much = "0123456789abcdef" * 10_000

    pve.ours.put(state, "/root/much", much.encode(), 0o600)

    assert pve.ours.run(state, ["cat", "/root/much"]) == much
    assert pve.ours.run(state, ["cat"], much) == much


def test_a_command_that_fails_tells_exit_code_and_output(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours)

    with pytest.raises(CommandFailed) as failed:
        pve.ours.run(state, ["cat", "/gone"])
    assert failed.value.exit_code == 1 and "/gone" in failed.value.tail
    with pytest.raises(CommandFailed) as failed:
        pve.ours.run(state, ["no-such-program"])
    assert failed.value.exit_code == 127


def test_secrets_do_not_go_into_a_strangers_machine(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.change(name, tags="theirs")

    for call in (
        lambda: pve.ours.run(state, ["cat"], "secret"),
        lambda: pve.ours.put(state, "/x", b"secret", 0o600),
        lambda: pve.ours.endpoints(state, 1.0, {"tls.key": b"secret"}),
    ):
        with pytest.raises(NotOurs):
            call()
    assert pve.guest(name).told == []


def test_a_hibernated_machine_goes_on_where_it_was(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.ours.endpoints(state, 10.0, {})

    pve.ours.hibernate(state)
    pve.ours.hibernate(state)
    was_on = pve.is_on(name)
    pve.ours.power(state, True)

    assert not was_on and pve.is_on(name)
    assert pve.ours.endpoints(state, 0.5, {})["rdp"], "it had to boot"


def test_a_hibernated_machine_can_be_destroyed_with_all_of_its_disks(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.ours.endpoints(state, 10.0, {})
    pve.ours.hibernate(state)

    pve.ours.destroy(name, state)

    assert name not in pve.names() and pve.volumes() == set()


def test_a_machine_that_was_off_is_off_after_a_restore(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.ours.snapshot(state, "one")
    pve.ours.power(state, False)

    pve.ours.restore(state, "one")

    assert not pve.is_on(name)


def test_destroy_killed_at_any_call_is_completed_by_the_next(pve: ProxmoxLab) -> None:
    points = []
    for number in range(1, MANY):
        name, state = pve.made(pve.ours)
        with pve.killed_at(number) as (provider, _, point):
            try:
                provider.destroy(name, state)
                break
            except Killed as killed:
                points.append(str(killed))
        assert point.was_hit

        pve.ours.destroy(name, state)

        assert name not in pve.names() and pve.volumes() == set(), points
    assert any("terraform DELETE" in point for point in points), points
    assert any("content" in point for point in points), points


def test_a_migrated_machine_is_found_where_it_is(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours)
    pve.ours.power(state, False)
    tasks.post(pve.client, f"{pve.path(name)}/migrate", {"target": "pve2"})

    pve.ours.power(state, True)

    assert pve.is_on(name) and pve.path(name).startswith("nodes/pve2/")
    pve.ours.destroy(name, state)
    assert name not in pve.names()


def test_a_machine_is_made_on_the_node_it_is_to_be_on(pve: ProxmoxLab) -> None:
    name, state = pve.made(pve.ours, node="pve2")

    assert pve.path(name).startswith("nodes/pve2/") and state["node"] == "pve2"
    assert pve.ours.endpoints(state, 10.0, {})["rdp"]


def test_a_larger_disk_than_the_templates_is_given(pve: ProxmoxLab) -> None:
    name = new_name()
    size = pve.spec(name).size.__class__(cpus=2, memory_mib=512, disk_gib=3)

    pve.ours.ensure(name, pve.spec(name, size=size), {}, nothing)

    assert pve.size(name) == size


def test_looking_at_all_machines_takes_as_many_calls_as_there_are_nodes(pve: ProxmoxLab) -> None:
    for number in range(30000, 30200):
        vm = pve.sim.cluster.vms[9000].__class__(number, f"pve{number % 2 + 1}")
        vm.config = {"name": f"desktop-{number}", "memory": "256", "cores": 1}
        vm.config["tags"] = f"daas;daas_{OURS}_desktop-{number}_n_1700000000"
        pve.sim.cluster.vms[number] = vm
    asked: list[str] = []
    provider = pve.provider(client=Client(pve.access, heard=asked.append))
    provider.nodes()  # templates are known from here on
    asked.clear()

    owned = provider.owned()
    for_owned = len(asked)
    provider.nodes()

    assert len(owned) == 200 and for_owned <= 1 + 3, asked
    assert len(asked) - for_owned == 1, asked


def test_a_machine_in_its_first_seconds_is_not_shown_as_stopped(pve: ProxmoxLab) -> None:
    """Lists are 10 s old; a sweep that believed them would take a new desktop for stopped."""
    pve.sim.faults.set_latency("statd", 3600.0)
    try:
        time.sleep(0.5)
        name, _ = pve.made(pve.ours)

        assert [one.is_on for one in pve.ours.owned() if one.name == name] == [True]
    finally:
        pve.sim.faults.set_latency("statd", 0.2)


def test_nodes_tell_whose_machines_are_on_them(pve: ProxmoxLab) -> None:
    pve.stranger(25000)
    _, state = pve.made(pve.ours)
    theirs, _ = pve.made(pve.theirs, THEIRS)
    time.sleep(0.5)

    node = next(one for one in pve.ours.nodes() if one.name == "pve1")

    assert {25000, pve.number(theirs)} <= node.foreign_numbers
    assert state["vmid"] not in node.foreign_numbers
    assert node.foreign_mib == 256, "the stranger's is off, the other orchestrator's is on"


def test_a_shared_storage_is_one_word_for_all_nodes(pve: ProxmoxLab) -> None:
    found = {node.name: node.images for node in pve.ours.nodes()}

    assert found["pve1"] == found["pve2"]
    assert found["pve2"] == {IMAGE: "shared", AWAITING_IMAGE: "shared"}


def test_images_are_ours_and_stay_while_desktops_need_them(pve: ProxmoxLab) -> None:
    _, state = pve.made(pve.ours)

    assert pve.ours.images() == sorted([IMAGE, AWAITING_IMAGE]) and pve.theirs.images() == []
    with pytest.raises(Refused, match="still use"):
        pve.ours.delete_image(IMAGE)
    with pytest.raises(NotOurs):
        pve.theirs.delete_image(IMAGE)
    with pytest.raises(NotOurs):
        pve.ours.delete_image(state["name"])
    pve.ours.delete_image("tmpl-never-was")
    assert IMAGE in pve.ours.images()


def test_an_image_that_nobody_needs_can_be_deleted(pve: ProxmoxLab) -> None:
    order = {"vmid": 9100, "name": "tmpl-old", "memory": 64, "scsi0": "shared:1"}
    tasks.post(pve.client, "nodes/pve1/qemu", {**order, "tags": ";".join(marks.image_words(OURS))})
    tasks.post(pve.client, "nodes/pve1/qemu/9100/template")
    time.sleep(0.5)
    assert "tmpl-old" in pve.ours.images()

    pve.ours.delete_image("tmpl-old")

    assert "tmpl-old" not in pve.ours.images()


def test_the_state_tells_no_secret(pve: ProxmoxLab) -> None:
    saved: list[State] = []
    name = new_name()

    pve.ours.ensure(name, pve.spec(name, personal={"tls.key": b"private"}), {}, saved.append)

    assert pve.access.token_secret not in str(saved) and "private" not in str(saved)
    assert pve.access.token_secret[::-1] not in str(saved), (
        "within Terraform's, as the lab seals it"
    )
    assert not list(pve.work_dir.glob(f"runs/*{name}*")), "a run leaves nothing on disk"


def test_an_api_node_that_is_dead_is_skipped(pve: ProxmoxLab) -> None:
    dead = "https://127.0.0.1:1"
    access = pve.access.__class__((dead, *pve.access.urls), *list(vars(pve.access).values())[1:])
    client = Client(access)
    provider = pve.provider(client=client)

    name, state = pve.made(provider)
    provider.destroy(name, state)

    assert client.url == pve.sim.url
    assert name not in pve.names()


def test_a_connection_is_verified_against_the_authority_that_was_given(pve: ProxmoxLab) -> None:
    access = pve.access.__class__(pve.access.urls, pve.access.token_id, pve.access.token_secret)

    with pytest.raises(Refused, match="DAAS_PROXMOX_CA_FILE"):
        pve.provider(client=Client(access)).owned()
    assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
