"""What is read out of one list: nodes and whose machines are on them, what can be cloned where,
which machines have ended, and whether a node went away under a run."""

import threading
import time
from typing import Any

import pytest

from daas import process
from daas.errors import Stopped, TemplateMissing, Unreachable
from daas.providers.proxmox import marks, nodes
from daas.providers.proxmox.cluster import Cluster
from daas.providers.proxmox.errors import Absent
from daas.providers.proxmox.guard import node_is_there
from daas.providers.proxmox.machine import Place
from daas.providers.proxmox.watcher import Watcher

GIB = 2**30
OURS = "daas;daas_here_desktop-abc234_n_1700000000"
IMAGE = ";".join(marks.image_words("here"))


class Wire:
    """Stands for the client: a list that the test writes, and templates' configurations."""

    def __init__(self, *rows: dict[str, Any], disks: str = "shared"):
        self.rows = [*rows]
        self.disks, self.asked, self.error = disks, [], None

    def get(self, path: str, **params: Any) -> Any:
        self.asked.append(path)
        if self.error:
            raise self.error
        if path == "cluster/resources":
            kinds = ("qemu", "lxc") if params.get("type") == "vm" else None
            return [row for row in self.rows if kinds is None or row["type"] in kinds]
        if path.endswith("/config"):
            number = path.split("/")[3]
            scsi0 = f"{self.disks}:{number}/base-{number}-disk-0.qcow2,size=8G"
            return {"template": 1, "scsi0": scsi0, "boot": "order=scsi0"}
        raise Absent(path)


def node(name: str, status: str = "online") -> dict[str, Any]:
    return {"type": "node", "node": name, "status": status, "maxcpu": 8, "maxmem": 64 * GIB}


def storage(name: str, on: str, shared: int = 1) -> dict[str, Any]:
    return {"type": "storage", "storage": name, "node": on, "shared": shared}


def vm(number: int, on: str = "pve1", **more: Any) -> dict[str, Any]:
    usual = {"status": "running", "name": f"vm-{number}", "maxcpu": 2, "maxmem": 4 * GIB}
    return {"type": "qemu", "vmid": number, "node": on, **usual, **more}


def image(number: int, on: str = "pve1", name: str = "tmpl-x-1") -> dict[str, Any]:
    return vm(number, on, name=name, template=1, status="stopped", tags=IMAGE)


def cluster(*rows: dict[str, Any], **more: Any) -> Cluster:
    return Cluster(Wire(*rows, **more), "here")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "is_foreign"),
    [
        (vm(100), True),
        (vm(100, type="lxc"), True),
        (vm(20001, tags=OURS), False),
        (vm(100, tags=OURS), False),  # ours, wherever its number is from
        (vm(20001, tags=OURS.replace("here", "there")), True),
        (vm(20001, name="", status="unknown", tags=""), False),  # being made, nobody can say
        (vm(100, name="", status="unknown", tags=""), True),
        (vm(20001, name="desktop-abc234"), False),
        (vm(20001, name="desktop-abc234", tags=IMAGE), False),
        (vm(20001, name="desktop-abc234", tags="production"), True),
        (vm(20001, name="database"), True),
    ],
)
def test_a_machine_is_ours_or_somebody_elses(row: dict[str, Any], is_foreign: bool) -> None:
    found = nodes.look(cluster(node("pve1"), row), Place(), "here")[0]

    assert found.foreign_numbers == (frozenset({row["vmid"]}) if is_foreign else frozenset())
    assert found.foreign_mib == (4096 if is_foreign else 0)
    assert found.foreign_cpus == (2 if is_foreign else 0)


def test_a_strangers_machine_that_is_off_takes_a_number_and_nothing_else() -> None:
    found = nodes.look(cluster(node("pve1"), vm(100, status="stopped")), Place(), "here")[0]

    assert found.foreign_numbers == {100} and found.foreign_mib == found.foreign_cpus == 0


def test_only_the_nodes_that_were_named_are_used_and_a_wrong_name_is_said() -> None:
    place = Place(nodes=("pve2", "pve9"))

    found = nodes.look(cluster(node("pve1"), node("pve2", "offline")), place, "here")

    assert [(one.name, one.is_online) for one in found] == [("pve2", False), ("pve9", False)]
    assert "offline" in found[0].why and "no node of that name" in found[1].why


def test_an_image_on_a_shared_storage_can_be_cloned_onto_all_nodes_that_have_it() -> None:
    rows = [node("pve1"), node("pve2"), node("pve3"), image(9000)]
    shared = [storage("shared", "pve1"), storage("shared", "pve2")]

    found = nodes.look(cluster(*rows, *shared), Place(), "here")

    assert [one.images for one in found] == [{"tmpl-x-1": "shared"}, {"tmpl-x-1": "shared"}, {}]


def test_local_images_have_a_lock_each_and_a_dead_nodes_are_not_there() -> None:
    rows = [node("pve1"), node("pve2"), node("pve3", "offline")]
    images = [image(9000, "pve1"), image(9001, "pve2"), image(9002, "pve3")]

    found = nodes.look(cluster(*rows, *images, disks="local"), Place(), "here")

    keys = [one.images for one in found]
    assert keys == [{"tmpl-x-1": "pve1/local"}, {"tmpl-x-1": "pve2/local"}, {}]


def test_a_machine_is_cloned_from_the_template_of_its_own_node_where_there_is_one() -> None:
    found = cluster(node("pve1"), node("pve2"), image(9000), image(9001, "pve2"), disks="local")
    view = found.look()

    assert found.image("tmpl-x-1", "pve2", view).number == 9001
    assert found.image("tmpl-x-1", "pve1", view).number == 9000


def test_an_image_that_cannot_be_had_says_why() -> None:
    rows = [node("pve1"), node("pve2"), node("pve3", "offline")]
    found = cluster(*rows, image(9000), image(9100, "pve3", "tmpl-far-1"), disks="local")
    view = found.look()

    with pytest.raises(TemplateMissing, match=r"not on a storage that pve2 reaches.*build"):
        found.image("tmpl-x-1", "pve2", view)
    with pytest.raises(TemplateMissing, match="is gone; build it again"):
        found.image("tmpl-y-1", "pve1", view)
    with pytest.raises(Unreachable, match="node pve3, which has the template tmpl-far-1"):
        found.image("tmpl-far-1", "pve3", view)


def test_a_template_is_read_once() -> None:
    found = cluster(node("pve1"), image(9000))
    wire: Any = found._client

    for _ in range(3):
        found.images(found.look())

    assert wire.asked.count("nodes/pve1/qemu/9000/config") == 1


def test_what_lists_show_of_a_young_machine_or_a_dead_node_is_not_believed() -> None:
    """A new machine is shown with its predecessor's name and state; a dead node's as it was."""
    rows = [
        vm(20001, tags=OURS, name="desktop-zzzzzz", status="stopped"),
        vm(20002, "pve2", tags=OURS.replace("abc", "xyz"), status="stopped"),
    ]
    found = cluster(*rows)
    wire: Any = found._client
    get = wire.get

    def look(path: str, **params: Any) -> Any:
        if path == "nodes/pve1/qemu":
            return [{"vmid": 20001, "name": "desktop-abc234", "status": "running"}]
        if path == "nodes/pve2/qemu":
            raise Unreachable(1.0, "node pve2")
        return get(path, **params)

    wire.get = look

    fresh = found.fresh(found.vms(), {"pve1", "pve2"})

    assert [(one.name, one.status) for one in fresh] == [
        ("desktop-abc234", "running"),
        ("vm-20002", "unknown"),
    ]


def test_what_ends_or_vanishes_is_told_once_and_silence_is_told_as_such() -> None:
    other = OURS.replace("abc234", "xyz234")
    found = cluster(vm(20001, tags=OURS), vm(20002, tags=other), vm(100))
    wire, told = found._client, []
    watcher = Watcher(found, "here", each_s=3600.0)
    watcher.listen(told.append)

    wire.rows[0]["status"] = "stopped"  # type: ignore[attr-defined]
    watcher._look()
    watcher._look()
    assert told == ["desktop-abc234"]
    wire.rows = wire.rows[:1]  # type: ignore[attr-defined]
    watcher._missed = True
    watcher._look()

    assert told == ["desktop-abc234", "", "desktop-xyz234"]
    watcher.close()


def test_a_run_is_stopped_when_its_node_goes_away() -> None:
    found = cluster(node("pve1", "offline"))

    with (
        pytest.raises(Unreachable, match="node pve1, which went offline"),
        node_is_there(found, "pve1", each_s=0.2),
    ):
        assert process.stop.get().wait(5.0)
        raise Stopped("terraform")


def test_a_run_is_stopped_when_its_step_is() -> None:
    stop = threading.Event()
    token = process.stop.set(stop)
    try:
        with pytest.raises(Stopped), node_is_there(cluster(node("pve1")), "pve1"):
            stop.set()
            assert process.stop.get().wait(5.0)
            raise Stopped("terraform")
    finally:
        process.stop.reset(token)


def test_a_short_run_costs_no_call_and_a_long_one_goes_on() -> None:
    found = cluster(node("pve1"))
    wire: Any = found._client

    with node_is_there(found, "pve1"):
        pass
    assert wire.asked == []
    with node_is_there(found, "pve1", each_s=0.2):
        time.sleep(0.7)
        assert not process.stop.get().is_set() and wire.asked
