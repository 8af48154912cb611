"""Template builds on a simulated Proxmox VE: what is around the guest is real; what happens inside
it is a double that says what it was asked."""

import struct
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pve_simulator.library import Simulator
from pve_simulator.world import NodeSpec, StorageSpec, VmSpec, World

from daas import process
from daas.errors import NotOurs, Refused, Stopped
from daas.providers.base import Baking, Progress
from daas.providers.playbook import Host
from daas.providers.proxmox import builder, tasks
from daas.providers.proxmox.bake import Bakery
from daas.providers.proxmox.client import Access, Client
from daas.providers.proxmox.cluster import Cluster
from daas.providers.proxmox.machine import Place

INSTANCE = "aaaaaaaaaabbbbbb"
IMAGE = "tmpl-tiny-1-aaaaaa"
GIB = 1 << 30
BOOT_S = 0.4
SIZES = {"small": {"cpus": 1, "memory_mib": 1024, "disk_gib": 6}}


def tiny_qcow2(path: Path, size: int = 2 * GIB) -> Path:
    """An empty disk of that size: version 2, 64 KiB clusters, a header and nothing else."""
    path.write_bytes(struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, size, *[0] * 7))
    return path


class Told:
    """The guest does what it is told. `fails` names a step that ends badly."""

    def __init__(self, fails: str = "", error: Exception | None = None):
        self.did: list[str] = []
        self.hosts: list[Host] = []
        self.variables: Mapping[str, Any] = {}
        self._fails, self._error = fails, error or Refused("the guest said no")

    def settle(self, host: Host, folder: Path, progress: Progress) -> None:
        assert (folder / "key").stat().st_mode & 0o077 == 0
        self.hosts.append(host)
        time.sleep(BOOT_S)  # a machine that is not up yet does not hear that it shall shut down
        self._do("settle")

    def bake(
        self, host: Host, folder: Path, variables: Mapping[str, Any], progress: Progress
    ) -> None:
        self.variables = variables
        self._do("bake")

    def seal(self, host: Host, folder: Path, progress: Progress) -> None:
        self._do("seal")

    def _do(self, step: str) -> None:
        self.did.append(step)
        if step == self._fails:
            raise self._error


class Lab:
    """A cluster, and whoever bakes on it."""

    def __init__(self, sim: Simulator, folder: Path, **place: Any):
        self.sim, self.folder = sim, folder
        access = Access((sim.url,), sim.token_id, sim.token_secret, sim.ca_file)
        self.client = Client(access)
        self.place = Place(**{"numbers": (20000, 20999), **place})
        self.image = tiny_qcow2(folder / "tiny.qcow2")
        self.lines: list[str] = []

    def bakery(self, inside: Any, instance: str = INSTANCE) -> Bakery:
        cluster = Cluster(self.client, instance)
        return Bakery(self.client, cluster, instance, self.place, inside)

    def baking(self, name: str = "tiny", instance: str = INSTANCE, **proxmox: Any) -> Baking:
        given = proxmox or {"image": str(self.image)}
        spec = {
            "base": {"kind": "cloud-image"},
            "provider": {"proxmox": given},
            "sizes": SIZES,
            "default_size": "small",
            "packages": ["hello"],
            "roles": [],
            "locale": "fr_FR.UTF-8",
            "keyboard": "fr",
            "timezone": "Europe/Paris",
            "shares": [],
            "policies": {},
            "variables": {},
        }
        return Baking(name, 1, spec, instance, str(self.folder / "builds" / name))

    def bake(self, inside: Any, **options: Any) -> str:
        instance = options.get("instance", INSTANCE)
        return self.bakery(inside, instance).bake(self.baking(**options), self.lines.append)

    def vms(self) -> dict[str, dict[str, Any]]:
        """Configuration by name."""
        vms = self.sim.cluster.vms.values()
        return {str(vm.config.get("name")): {**vm.config, "node": vm.node} for vm in vms}

    def volumes(self, content: str) -> list[str]:
        rows = self.client.get("nodes/pve1/storage/local/content", content=content)
        return [str(row["volid"]) for row in rows]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Simulator(World(), latencies="fast") as sim:
        yield Lab(sim, tmp_path)


def test_a_local_cloud_image_becomes_a_template_that_can_be_cloned(lab: Lab) -> None:
    inside = Told()

    made = lab.bake(inside)

    config = lab.vms()[IMAGE]
    assert made == IMAGE and list(lab.vms()) == [IMAGE]
    assert inside.did == ["settle", "bake", "seal"]
    assert config["template"] == 1 and "base-" in config["scsi0"] and "size=6G" in config["scsi0"]
    assert config["tags"] == f"daas;daas_{INSTANCE}_image"
    assert str(config["agent"]) == "1" and config["net0"].endswith("bridge=vmbr0")
    clone = {"newid": 20001, "name": "desktop-abc123", "full": 0}
    number = next(vmid for vmid, vm in lab.sim.cluster.vms.items() if vm.is_template)
    tasks.post(lab.client, f"nodes/pve1/qemu/{number}/clone", clone)


def test_nothing_of_the_build_is_left(lab: Lab) -> None:
    lab.bake(Told())

    config = lab.vms()[IMAGE]
    assert not {"ide2", "ipconfig0", "sshkeys", "ciuser", "cicustom"} & set(config)
    assert lab.volumes("iso") == []
    assert not (lab.folder / "builds/tiny").exists()
    assert len(lab.volumes("images")) == 1


def test_the_role_is_told_that_it_is_a_machine_and_what_the_template_says(lab: Lab) -> None:
    inside = Told()

    lab.bake(inside)

    assert inside.variables["desktop_is_container"] is False
    assert inside.variables["desktop_locale"] == "fr_FR.UTF-8"
    assert inside.variables["desktop_extra_packages"] == ["hello"]


def test_again_is_done_at_once(lab: Lab) -> None:
    lab.bake(Told())
    inside = Told()

    assert lab.bake(inside) == IMAGE
    assert inside.did == [] and len(lab.vms()) == 1


def test_the_address_comes_from_the_agent_where_dhcp_gives_it(lab: Lab) -> None:
    inside = Told()

    lab.bake(inside)

    assert inside.hosts[0].address.startswith("10.10.10.")
    assert inside.hosts[0].public_key.startswith("ssh-ed25519 ")


def test_a_static_address_needs_no_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder, "STOP_S", 4.0)
    with Simulator(World(), latencies="fast") as sim:
        lab = Lab(sim, tmp_path, build_addresses=("10.0.0.9",), gateway="10.0.0.1/24")
        sim.faults.keep_agent_down()
        inside = Told()

        lab.bake(inside)

        assert inside.hosts[0].address == "10.0.0.9"
        assert "ipconfig0" not in lab.vms()[IMAGE]


def test_two_builds_at_once_have_an_address_each(tmp_path: Path) -> None:
    """Catches: both take the first one, and the second desktop's keys end in the first's image."""
    addresses = ("10.0.0.8", "10.0.0.9")
    with Simulator(World(), latencies="fast") as sim:
        lab = Lab(sim, tmp_path, build_addresses=addresses, gateway="10.0.0.1/24")
        meeting = threading.Barrier(2, timeout=30)

        class Meets(Told):
            def bake(self, *args: Any) -> None:
                meeting.wait()  # both builders exist now
                super().bake(*args)

        insides, failed = {"one": Meets(), "two": Meets()}, []

        def build(name: str) -> None:
            try:
                lab.bake(insides[name], name=name, image=str(lab.image))
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=build, args=(name,)) for name in insides]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

        assert failed == []
        used = {inside.hosts[-1].address for inside in insides.values()}
        assert used == set(addresses)
        assert set(lab.vms()) == {"tmpl-one-1-aaaaaa", "tmpl-two-1-aaaaaa"}


@pytest.mark.parametrize("step", ["settle", "bake", "seal"])
def test_a_build_that_fails_leaves_nothing_and_the_next_one_makes_it(lab: Lab, step: str) -> None:
    with pytest.raises(Refused, match="the guest said no"):
        lab.bake(Told(fails=step))

    assert lab.vms() == {} and lab.volumes("images") == [] and lab.volumes("iso") == []
    assert lab.bake(Told()) == IMAGE


class Killed(BaseException):
    """What `kill -9` is to a process: no `except` of ours sees it end well."""


WRITES = ("POST", "PUT", "DELETE")


def test_killed_after_any_call_the_next_build_makes_it(tmp_path: Path) -> None:
    """Every call that changes something is a place to die; what is left is cleaned up by name."""
    total = _calls_of_a_build(tmp_path / "count")

    def left_after(number: int) -> Any:
        with Simulator(World(), latencies="fast") as sim:
            lab = Lab(sim, _folder(tmp_path / str(number)))
            died = _die_after(lab, number)
            with pytest.raises(Killed):
                lab.bake(Told())
            died.clear()
            made = lab.bake(Told())
            return made, list(lab.vms()), lab.volumes("iso"), len(lab.volumes("images"))

    with ThreadPoolExecutor(6) as pool:
        left = dict(
            zip(range(1, total + 1), pool.map(left_after, range(1, total + 1)), strict=True)
        )

    assert {number: one for number, one in left.items() if one != (IMAGE, [IMAGE], [], 1)} == {}
    assert total >= 8


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _calls_of_a_build(folder: Path) -> int:
    with Simulator(World(), latencies="fast") as sim:
        lab = Lab(sim, _folder(folder))
        counted = _die_after(lab, 10_000)
        lab.bake(Told())
        return counted.seen


class _Death:
    """Writes go through until that many were carried out; from then on nothing does."""

    def __init__(self, after: int):
        self.after, self.seen, self.is_dead = after, 0, False

    def clear(self) -> None:
        self.after, self.is_dead = 10_000_000, False


def _die_after(lab: Lab, number: int) -> _Death:
    death, send = _Death(number), lab.client._send

    def watched(method: str, path: str, params: Mapping[str, Any]) -> Any:
        if death.is_dead:
            raise Killed()
        answer = send(method, path, params)
        if method in WRITES:
            death.seen += 1
            if death.seen >= death.after:
                death.is_dead = True
                raise Killed()
        return answer

    lab.client._send = watched  # type: ignore[method-assign]
    return death


def test_a_build_told_to_stop_stops_and_cleans_up(lab: Lab) -> None:
    lab.sim.faults.keep_agent_down()
    told = threading.Event()
    token = process.stop.set(told)
    timer = threading.Timer(2.0, told.set)
    timer.start()
    try:
        with pytest.raises(Stopped):
            lab.bake(Told())
    finally:
        process.stop.reset(token)
    lab.sim.faults.let_agents_up()

    assert lab.bake(Told()) == IMAGE and list(lab.vms()) == [IMAGE]


def test_a_stranger_under_the_builder_s_or_the_image_s_name_is_left_alone(lab: Lab) -> None:
    for name in ("bake-tiny-1-aaaaaa", IMAGE):
        order = {"vmid": 300, "name": name}
        tasks.post(lab.client, "nodes/pve1/qemu", order)

        with pytest.raises(NotOurs, match="300"):
            lab.bake(Told())

        assert list(lab.vms()) == [name]
        tasks.delete(lab.client, "nodes/pve1/qemu/300")


def test_another_installation_has_an_image_of_its_own(lab: Lab) -> None:
    lab.bake(Told())

    other = lab.bake(Told(), instance="ccccccccccdddddd")

    assert set(lab.vms()) == {IMAGE, other} and other != IMAGE


def test_a_number_that_somebody_took_meanwhile_is_passed_over(lab: Lab) -> None:
    send, taken = lab.client._send, []

    def raced(method: str, path: str, params: Mapping[str, Any]) -> Any:
        if method == "POST" and path.endswith("/qemu") and not taken:
            taken.append(int(params["vmid"]))
            order = {"vmid": params["vmid"], "name": "strangers"}
            tasks.wait(lab.client, send("POST", path, order))
        return send(method, path, params)

    lab.client._send = raced  # type: ignore[method-assign]

    assert lab.bake(Told()) == IMAGE
    assert taken == [20999] and set(lab.vms()) == {IMAGE, "strangers"}


# ---- where the image comes from


def test_a_url_is_fetched_by_the_node_and_its_checksum_goes_along(lab: Lab) -> None:
    sha256 = "ab" * 32

    lab.bake(Told(), url="https://images.example/d12.qcow2#size=3G", sha256=sha256)

    call = next(call for call in lab.sim.calls if call.request.path.endswith("/download-url"))
    assert (
        call.request.params["checksum"] == sha256
        and call.request.params["checksum-algorithm"] == "sha256"
    )
    assert call.request.params["content"] == "import" and call.request.params["filename"].endswith(
        ".qcow2"
    )


def test_what_was_fetched_once_serves_all_templates_of_the_week(lab: Lab) -> None:
    url = "https://images.example/d12.qcow2"

    lab.bake(Told(), name="one", url=url)
    lab.bake(Told(), name="two", url=url)

    assert sum(call.request.path.endswith("/download-url") for call in lab.sim.calls) == 1
    assert len(lab.volumes("import")) == 1


def test_a_url_that_leads_nowhere_says_what_to_do(lab: Lab) -> None:
    with pytest.raises(Refused, match=r"cannot fetch .*provider\.proxmox\.image"):
        lab.bake(Told(), url="https://images.example/missing.qcow2")

    assert lab.vms() == {}


def test_a_local_file_is_uploaded_once(lab: Lab) -> None:
    lab.bake(Told(), name="one", image=str(lab.image))
    lab.bake(Told(), name="two", image=str(lab.image))

    uploads = [call for call in lab.sim.calls if call.request.path.endswith("/upload")]
    assert len(uploads) == 1 + 2  # the disk once, a CD for each build
    assert len(lab.volumes("import")) == 1


def test_a_larger_disk_than_the_smallest_size_stays_and_is_said(lab: Lab) -> None:
    tiny_qcow2(lab.image, 8 * GIB)

    lab.bake(Told())

    assert "size=8G" in lab.vms()[IMAGE]["scsi0"]
    assert any("8.0 GiB" in line for line in lab.lines)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"personalize": "agent"}, "does not say what it is made from"),
        ({"image": "/nowhere.qcow2"}, "cannot be read"),
        ({"url": "ftp://x/y"}, r"provider\.proxmox\.url"),
        ({"url": "https://x/y", "hardware": {"args": "-x"}}, r"provider\.proxmox\.hardware"),
        ({"colour": "blue"}, r"provider\.proxmox\.colour"),
        ({"url": "https://x/y", "storage": "nowhere"}, "there is no nowhere"),
        ({"url": "https://x/y", "import_storage": "nowhere"}, "content type import"),
    ],
)
def test_a_template_that_cannot_be_built_says_why(lab: Lab, given: Any, said: str) -> None:
    with pytest.raises(Refused, match=said):
        lab.bake(Told(), **given)

    assert lab.vms() == {}


def test_without_a_storage_for_images_it_says_which_setting_of_proxmox(tmp_path: Path) -> None:
    world = World(storages=[StorageSpec("local", content=["images", "iso"])])
    with Simulator(world, latencies="fast") as sim:
        lab = Lab(sim, tmp_path)

        with pytest.raises(Refused, match=r"pvesm set local --content .*import"):
            lab.bake(Told())


def test_a_storage_that_cannot_link_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    world = World(
        storages=[
            StorageSpec("local", content=["iso", "import"]),
            StorageSpec("thick", type="lvm", content=["images"]),
        ]
    )
    with Simulator(world, latencies="fast") as sim:
        lab = Lab(sim, tmp_path)

        with pytest.raises(Refused, match="thick: a storage of type lvm cannot make linked"):
            lab.bake(Told())

        assert lab.vms() == {} and lab.volumes("import") == []


# ---- several nodes


def nodes(count: int, storage: StorageSpec) -> World:
    files = StorageSpec("local", content=["iso", "import"])
    names = [f"pve{number}" for number in range(1, count + 1)]
    return World(nodes=[NodeSpec(name) for name in names], storages=[files, storage])


def images_on(lab: Lab) -> list[str]:
    return sorted(vm.node for vm in lab.sim.cluster.vms.values() if vm.is_template)


def test_each_node_with_disks_of_its_own_gets_an_image(tmp_path: Path) -> None:
    world = nodes(2, StorageSpec("disks", type="lvmthin", content=["images"]))
    with Simulator(world, latencies="fast") as sim:
        lab = Lab(sim, tmp_path)

        lab.bake(Told())

        assert images_on(lab) == ["pve1", "pve2"]


def test_a_shared_storage_gets_one_for_all(tmp_path: Path) -> None:
    world = nodes(2, StorageSpec("disks", type="nfs", content=["images"], shared=True))
    with Simulator(world, latencies="fast") as sim:
        lab = Lab(sim, tmp_path)

        lab.bake(Told())

        assert len(images_on(lab)) == 1


def test_a_node_that_is_away_does_not_stop_the_others_and_gets_its_own_later(
    tmp_path: Path,
) -> None:
    world = nodes(3, StorageSpec("disks", type="lvmthin", content=["images"]))
    with Simulator(world, latencies="fast") as sim:
        lab = Lab(sim, tmp_path)
        sim.faults.kill_node("pve2")
        _until_offline(lab, "pve2")
        lab.bake(Told())
        alone = images_on(lab)
        sim.faults.revive_node("pve2")
        _until_offline(lab, "pve2", False)

        lab.bake(Told())

        assert alone == ["pve1", "pve3"] and images_on(lab) == ["pve1", "pve2", "pve3"]


def _until_offline(lab: Lab, node: str, is_offline: bool = True) -> None:
    for _ in range(200):
        rows = {row["node"]: row["status"] for row in lab.client.get("nodes")}
        if (rows[node] == "offline") == is_offline:
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{node} did not change")


# ---- somebody's own template


def with_template(**config: Any) -> World:
    about = {
        "name": "ubuntu-22.04-template",
        "template": 1,
        "agent": "1",
        "scsi0": "local:9000/base-9000-disk-0.qcow2,size=8G",
        **config,
    }
    return World(vms=[VmSpec(9000, "pve1", about)])


@pytest.mark.parametrize("named", ["ubuntu-22.04-template", 9000])
def test_a_template_of_version_1_0_is_taken_as_it_is(tmp_path: Path, named: Any) -> None:
    with Simulator(with_template(), latencies="fast") as sim:
        lab, inside = Lab(sim, tmp_path), Told()
        before = lab.vms()

        made = lab.bake(inside, template=named)

        assert made == "ubuntu-22.04-template"
        assert inside.did == [] and lab.vms() == before


@pytest.mark.parametrize(
    "config, named, said",
    [
        ({}, "windows", "no template windows"),
        ({"agent": "0"}, 9000, "agent switched off.*qm set 9000 --agent 1"),
        ({"tags": f"daas;daas_{INSTANCE}_image"}, 9000, "was baked"),
    ],
)
def test_a_template_that_cannot_serve_is_refused(
    tmp_path: Path, config: dict[str, Any], named: Any, said: str
) -> None:
    with Simulator(with_template(**config), latencies="fast") as sim:
        lab = Lab(sim, tmp_path)

        with pytest.raises(Refused, match=said):
            lab.bake(Told(), template=named)
