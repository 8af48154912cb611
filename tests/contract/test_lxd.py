"""What only a hypervisor with guests and an API of its own can show: LXD and Incus."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from contract.labs import OURS, Killed, new_name, nothing
from contract.lxd_lab import LxdLab
from daas.errors import CommandFailed, NotOurs, NotYet, Refused, StepFailed, Unreachable
from daas.providers.lxd.client import LxdClient
from daas.providers.lxd.machine import INSTANCE, NONCE, PERSONAL, SESSION

SECRET = b"a secret of Ada's"


def test_personal_files_are_there_and_only_the_guests_root_reads_them(lxd: LxdLab) -> None:
    name, state = lxd.made(lxd.ours, personal={"tls.key": SECRET})
    path = f"{PERSONAL}/tls.key"

    assert lxd.ours.run(state, ["cat", path]) == SECRET.decode()
    assert lxd.ours.run(state, ["stat", "-c", "%a %u", PERSONAL, path]) == "700 0\n600 0\n"
    with pytest.raises(CommandFailed):
        lxd.ours.run(state, ["setuidgid", "ada", "cat", path])
    with pytest.raises(CommandFailed):
        lxd.ours.run(state, ["rm", path])
    on_host = Path(lxd.work_dir, "sessions")
    assert on_host.stat().st_mode & 0o77 == 0
    assert (on_host / name / "personal/tls.key").stat().st_mode & 0o777 == 0o600


def test_personal_files_go_with_the_machine(lxd: LxdLab) -> None:
    name, state = lxd.made(lxd.ours, personal={"tls.key": SECRET})

    lxd.ours.destroy(name, state)

    assert not Path(lxd.work_dir, "sessions", name).exists()


def test_a_command_gets_its_secret_by_stdin_and_gives_output_and_exit_code(lxd: LxdLab) -> None:
    _, state = lxd.made(lxd.ours)

    assert lxd.ours.run(state, ["sh", "-c", "cat; echo heard >&2"], "secret") == "secret"
    with pytest.raises(CommandFailed) as failed:
        lxd.ours.run(state, ["sh", "-c", "echo why >&2; exit 3"])
    assert failed.value.exit_code == 3 and "why" in failed.value.tail
    with pytest.raises(CommandFailed) as failed:
        lxd.ours.run(state, ["no-such-program"])
    assert failed.value.exit_code == 127


def test_a_command_may_write_and_read_much_at_the_same_time(lxd: LxdLab) -> None:
    _, state = lxd.made(lxd.ours)
    much = "x" * 3_000_000

    assert lxd.ours.run(state, ["cat"], much) == much


def test_a_command_that_never_ends_is_given_up(lxd: LxdLab) -> None:
    name, _ = lxd.made(lxd.ours)

    with pytest.raises(Refused, match="did not end within 1 s"):
        lxd.client.exec(name, ["sleep", "60"], timeout_s=1.0)


def test_put_leaves_content_and_mode_also_where_a_file_was(lxd: LxdLab) -> None:
    _, state = lxd.made(lxd.ours)
    lxd.ours.put(state, "/etc/new/folder/file", b"public", 0o644)

    lxd.ours.put(state, "/etc/new/folder/file", SECRET, 0o600)

    assert lxd.ours.run(state, ["cat", "/etc/new/folder/file"]) == SECRET.decode()
    assert lxd.ours.run(state, ["stat", "-c", "%a %u", "/etc/new/folder/file"]) == "600 0\n"


def test_a_guest_cannot_fill_more_disk_than_its_size(lxd: LxdLab) -> None:
    _, state = lxd.made(lxd.ours)

    lxd.ours.run(state, ["fallocate", "-l", "200m", "/fits"])
    with pytest.raises(CommandFailed):
        lxd.ours.run(state, ["fallocate", "-l", "1100m", "/does-not"])


def test_a_machine_that_never_opens_its_port_is_waited_for_and_then_not(lxd: LxdLab) -> None:
    _, state = lxd.made(lxd.ours)
    free = lxd.gateway  # the host itself: nothing of ours listens there
    started = time.monotonic()

    with pytest.raises(NotYet, match="RDP port"):
        lxd.ours.endpoints({**state, "address": free}, 0.5, {})

    assert 0.4 < time.monotonic() - started < 2.0


def test_a_machine_that_stopped_by_itself_is_a_failure_that_says_so(lxd: LxdLab) -> None:
    name, state = lxd.made(lxd.ours)
    lxd.force_stop(name)

    with pytest.raises(StepFailed, match="stopped before"):
        lxd.ours.endpoints(state, 10.0, {})


def test_an_address_can_be_used_again_at_once(lxd: LxdLab) -> None:
    """Catches: a new card for an old address, which the host's ARP table does not know. A second
    machine keeps the bridge up, without which the kernel forgets the table by itself."""
    lxd.made(lxd.theirs, "contract-b", address=None)
    for _ in range(2):
        name, state = lxd.made(lxd.ours)
        started = time.monotonic()

        lxd.ours.endpoints(state, 10.0, {})

        assert time.monotonic() - started < 1.0
        lxd.ours.destroy(name, state)


def test_the_address_of_a_machine_counts_as_taken(lxd: LxdLab) -> None:
    assert lxd.address not in lxd.ours.nodes()[0].taken

    lxd.made(lxd.theirs, "contract-b")

    assert lxd.address in lxd.ours.nodes()[0].taken


def test_a_proxied_port_leads_to_the_desktop_until_it_is_destroyed(lxd: LxdLab) -> None:
    provider = lxd.provider(proxy_listen="0.0.0.0", proxy_port_base=14000)
    name, state = lxd.made(provider)

    host, _, port = provider.endpoints(state, 5.0, {})["rdp"].partition(":")
    socket.create_connection((host, int(port)), 2.0).close()
    provider.destroy(name, state)

    assert host not in ("0.0.0.0", lxd.address) and 14000 <= int(port) < 14256
    with pytest.raises(OSError):
        socket.create_connection((host, int(port)), 0.5)


def test_a_copy_that_was_never_started_is_made_again(lxd: LxdLab) -> None:
    """As a LXD leaves it that is killed in the middle of a copy: our tag, and who knows what."""
    name = new_name()
    spec = lxd.spec(name)
    tags = {INSTANCE: OURS, SESSION: name, NONCE: spec.tag.nonce}
    root = {"type": "disk", "path": "/", "pool": lxd.place.pool}
    order = {"name": name, "profiles": [], "config": tags, "devices": {"root": root}}
    lxd.client.do("POST", "/1.0/instances", {**order, "source": {"type": "none"}})

    state = lxd.ours.ensure(name, spec, {}, nothing)

    assert lxd.ours.endpoints(state, 5.0, {})["rdp"]


def test_a_copy_still_under_way_is_waited_for_and_not_made_twice(lxd: LxdLab) -> None:
    """Our process died in the copy, LXD did not: the next one finds the operation."""
    name = new_name()
    spec = lxd.spec(name)
    with lxd.killed_at(5) as (provider, save, point), contextlib.suppress(Killed):
        provider.ensure(name, spec, {}, save)

    lxd.ours.ensure(name, spec, {}, nothing)

    assert any(call.startswith("POST") for call in point.seen), point.seen
    assert lxd.is_on(name)


def test_destroy_killed_at_any_call_is_completed_by_the_next(lxd: LxdLab) -> None:
    points = []
    for number in range(1, 20):
        name, state = lxd.made(lxd.ours)
        with lxd.killed_at(number) as (provider, _, point):
            try:
                provider.destroy(name, state)
                break
            except Killed as killed:
                points.append(str(killed))
        assert point.was_hit

        lxd.ours.destroy(name, state)

        assert name not in lxd.names(), points
    assert len(points) >= 3, points


def test_a_hypervisor_that_is_not_there_is_unreachable_and_says_why(lxd: LxdLab) -> None:
    gone = lxd.provider(client=LxdClient("/run/no-such.socket"))
    state = {"name": new_name()}

    for call in (
        lambda: gone.ensure(state["name"], lxd.spec(state["name"]), {}, nothing),
        lambda: gone.destroy(state["name"], {}),
        lambda: gone.run(state, ["true"]),
        lambda: gone.owned(),
        lambda: gone.power(state, True),
        lambda: gone.images(),
    ):
        with pytest.raises(Unreachable, match="no socket at"):
            call()
    node = gone.nodes()[0]
    assert not node.is_online and "no socket at" in node.why


def test_a_socket_nobody_listens_on_is_unreachable(lxd: LxdLab, tmp_path: Path) -> None:
    path = str(tmp_path / "dead.socket")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)

    with pytest.raises(Unreachable, match="nothing listens"):
        lxd.provider(client=LxdClient(path)).owned()


def test_without_the_event_stream_operations_are_awaited_all_the_same(lxd: LxdLab) -> None:
    client = LxdClient(lxd.socket)
    client.events.close()
    provider = lxd.provider(client=client)

    name, state = lxd.made(provider)
    provider.destroy(name, state)

    assert name not in lxd.names()


def test_images_are_not_desktops_and_a_strangers_image_stays(lxd: LxdLab) -> None:
    baker = lxd.provider("contract-image")
    name, _ = lxd.made(lxd.ours)

    assert baker.images() == [lxd.image] and lxd.ours.images() == []
    assert lxd.image not in {one.name for one in baker.owned()}
    with pytest.raises(NotOurs):
        lxd.ours.delete_image(lxd.image)
    with pytest.raises(NotOurs):
        lxd.ours.delete_image(name)
    baker.delete_image("tmpl-contract-never-was")
